//! The files of a queue, as operators and their tools find them: whose they are, and what is said when some are damaged.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use mailrace_tests::{Directory, Engine, run, skip};

const SMALL: [&str; 2] = ["--set", "queue.segment_size=2MiB"];

/// All files and directories in a directory, and itself.
fn tree(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| found.extend(tree(&entry.unwrap().path())));
    }
    found
}

/// Commands of root in a queue of another user leave nothing that is root's: its engine could not open it.
#[test]
fn all_files_in_a_queue_belong_to_its_owner() {
    if !rustix::process::geteuid().is_root() {
        skip("only root can make files for others");
        return;
    }
    const OWNER: u32 = 6000;
    let directory = Directory::new();
    let queue = directory.path().join("mailrace-queue");
    fs::create_dir(&queue).unwrap();
    chown(&queue, Some(OWNER), Some(OWNER)).unwrap();
    let place = queue.to_str().unwrap();
    let command = |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--queue", place]).collect();
        run(directory.path(), &arguments)
    };
    assert!(command(&["queue", "list"]).status.success());
    assert_eq!(tree(&queue), std::slice::from_ref(&queue), "looking makes nothing");
    let owned = || {
        for path in tree(&queue) {
            let found = path.metadata().unwrap();
            assert_eq!((found.uid(), found.gid()), (OWNER, OWNER), "{}", path.display());
            // The maildrop is open to those who may submit.
            let is_closed = path == queue || path.ends_with("maildrop") || found.mode() & 0o7 == 0;
            assert!(is_closed, "{} has mode {:o}", path.display(), found.mode());
        }
    };
    assert_eq!(command(&["queue", "hold", "ALL"]).status.code(), Some(0));
    owned();
    let engine = Engine::start(&directory, &SMALL);
    let id = engine.client().queue("a@example.org", "b@localhost", "Subject: x\r\n\r\n");
    owned();
    engine.stop();
    for verb in ["hold", "release", "delete"] {
        assert!(command(&["queue", verb, &id]).status.success());
        owned();
    }
}

/// A queue with a message, in a directory of its own, and the segment that the message is in.
fn with_a_message(directory: &Directory) -> (String, PathBuf) {
    let engine = Engine::start(directory, &SMALL);
    let id = engine.client().queue("a@example.org", "b@localhost", "Subject: x\r\n\r\n");
    engine.stop();
    let segments = fs::read_dir(directory.path().join("mailrace-queue/segments")).unwrap();
    let mut used = segments.map(|entry| entry.unwrap().path());
    let path = used.find(|path| fs::read(path).unwrap()[4096..].iter().any(|byte| *byte != 0)).unwrap();
    (id, path)
}

/// What was lost is said by the reader and by each start, until it is acknowledged; all else works meanwhile.
#[test]
fn a_deleted_segment_is_reported_until_it_is_acknowledged() {
    let directory = Directory::new();
    let (id, path) = with_a_message(&directory);
    let name = path.file_name().unwrap().to_str().unwrap();
    let told =
        format!("segments/{name}, offset 0: the segment is missing; all intact messages are in the queue");
    fs::remove_file(&path).unwrap();
    let listed = directory.queue(&["list"]);
    assert!(
        listed.status.success() && listed.output.is_empty() && listed.errors.contains(&told),
        "{}",
        listed.errors
    );
    for round in 0..2 {
        let mut engine = Engine::start(&directory, &SMALL);
        assert!(engine.lines.iter().any(|line| line.contains(&told)), "{:?}", engine.lines);
        assert_eq!(engine.queue(&["cat", &id]).status.code(), Some(65));
        engine.client().queue("a@example.org", "b@localhost", "Subject: x\r\n\r\n");
        assert_eq!(directory.messages().len(), round + 1);
        let refused = engine.queue(&["acknowledge"]);
        assert_eq!(refused.status.code(), Some(69), "{}", refused.output);
        engine.signal(rustix::process::Signal::TERM);
        assert!(engine.wait().success());
    }
    let acknowledged = directory.queue(&["acknowledge"]);
    assert!(acknowledged.output.contains("1 acknowledged"), "{}", acknowledged.output);
    let engine = Engine::start(&directory, &SMALL);
    assert!(!engine.lines.iter().any(|line| line.contains("missing")), "{:?}", engine.lines);
    engine.stop();
}

/// A file in place of a segment cannot be read: the rest can, and the status says that it is not all.
#[test]
fn one_unexpected_file_does_not_make_the_queue_unavailable() {
    let directory = Directory::new();
    let (_, path) = with_a_message(&directory);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let engine = Engine::start(&directory, &SMALL);
    engine.client().queue("a@example.org", "b@localhost", "Subject: y\r\n\r\n");
    engine.stop();
    for command in [&["list"][..], &["stats"]] {
        let read = directory.queue(command);
        assert_eq!(read.status.code(), Some(74), "{}", read.errors);
        assert!(read.errors.contains(path.file_name().unwrap().to_str().unwrap()), "{}", read.errors);
        assert!(!read.output.is_empty());
    }
}

/// Directories that have the names of the manifest are moved aside; what is in them stays.
#[test]
fn a_directory_in_place_of_the_manifest_does_not_make_the_queue_unavailable() {
    let directory = Directory::new();
    let (id, _) = with_a_message(&directory);
    let queue = directory.path().join("mailrace-queue");
    fs::remove_file(queue.join("manifest")).unwrap();
    for name in ["manifest", "manifest.new"] {
        fs::create_dir(queue.join(name)).unwrap();
        fs::write(queue.join(name).join("kept"), name).unwrap();
    }
    let mut engine = Engine::start(&directory, &SMALL);
    assert!(engine.lines.iter().any(|line| line.contains("manifest, offset 0: ")), "{:?}", engine.lines);
    engine.stop();
    for name in ["manifest", "manifest.new"] {
        assert_eq!(fs::read_to_string(queue.join(format!("{name}.aside1/kept"))).unwrap(), name);
    }
    let list = directory.queue(&["list"]);
    assert!(list.output.contains(&id) && list.errors.is_empty(), "{}{}", list.output, list.errors);
    engine = Engine::start(&directory, &SMALL);
    assert!(!engine.lines.iter().any(|line| line.contains("manifest")), "{:?}", engine.lines);
    engine.stop();
}

/// Each command that writes marks without an engine goes on in the segment of the one before.
#[test]
fn commands_without_an_engine_share_a_segment() {
    let directory = Directory::new();
    let (id, path) = with_a_message(&directory);
    let segments = || fs::read_dir(path.parent().unwrap()).unwrap().count();
    let config = directory.write("mailrace.toml", "[queue]\nsegment_size = \"2MiB\"\n");
    let queue = directory.path().join("mailrace-queue");
    let before = segments();
    for round in 0..20 {
        let verb = if round % 2 == 0 { "hold" } else { "release" };
        let arguments =
            ["queue", verb, &id, "--config", config.to_str().unwrap(), "--queue", queue.to_str().unwrap()];
        let marked = run(directory.path(), &arguments);
        assert!(marked.status.success(), "{}", marked.errors);
    }
    assert!(segments() <= before + 1, "{} segments, {before} before", segments());
    assert_eq!(directory.messages().len(), 1);
}
