//! Queues on file systems that cannot keep what they are given.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use mailrace_tests::{Directory, Engine, run, skip};

/// What the engine says of a queue in `path`, beside its metrics of that.
fn said(directory: &Directory, path: &Path) -> (Vec<String>, String) {
    let queue = path.to_str().unwrap();
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--queue", queue];
    for setting in [
        "engine.metrics_listen=127.0.0.1:0",
        "queue.segment_size=1MiB",
        "queue.block_size=256KiB",
        "smtpd_recipient_limit=200",
    ] {
        arguments.extend(["--set", setting]);
    }
    let mut engine = Engine::start_plainly(directory.path(), &arguments);
    let text = engine.metrics();
    engine.signal(rustix::process::Signal::TERM);
    assert!(engine.wait().success());
    let metrics = text.lines().filter(|line| line.starts_with("mailrace_queue_file_system_info{"));
    (std::mem::take(&mut engine.lines), metrics.collect::<Vec<_>>().join("\n"))
}

/// Requires one warning at the start with `reason`, the same of `check`, and the metrics.
fn require_warning(path: &Path, kind: &str, durable: &str, reason: &str) {
    let directory = Directory::new();
    let (lines, metrics) = said(&directory, path);
    let warnings: Vec<_> = lines.iter().filter(|line| line.contains("set directory in [queue]")).collect();
    assert_eq!(warnings.len(), 1, "{lines:#?}");
    let warning = format!("{} is on {kind}, {reason}", path.display());
    assert!(warnings[0].contains(&format!("Z mailrace: warning: {warning}")), "{warnings:?}");
    for part in ["queue", "segments", "maildrop"] {
        let wanted = format!("{{directory=\"{part}\",type=\"{kind}\",durable=\"{durable}\"}} 1");
        assert!(metrics.contains(&wanted), "{metrics}");
    }
    let setting = format!("queue.directory={}", path.display());
    let checked = run(directory.path(), &["check", "--set", &setting]);
    assert!(checked.status.success());
    let lines: Vec<&str> = checked.output.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with(&format!("warning: {warning}")), "{lines:?}");
    assert_eq!(lines[1], "configuration OK");
}

/// A file system that is unmounted when the value is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `mount -t KIND -o OPTIONS none PATH`; `None`, said loudly, where this user may not.
    fn new(kind: &str, options: &str, path: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", kind, "-o", options, "none"]).arg(&path).output();
        match output {
            Ok(output) if output.status.success() => return Some(Self(path)),
            // A container has no right to, whatever is installed in it.
            output => eprintln!("SKIPPED: cannot mount {kind}: {output:?}"),
        }
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn warns_about_a_queue_in_memory() {
    let directory = Directory::new();
    if !rustix::process::geteuid().is_root() {
        return skip("only root may mount");
    }
    let Some(memory) = Mounted::new("tmpfs", "size=64m", directory.path().join("memory")) else { return };
    let reason = "which keeps files only in memory: accepted mail is lost";
    require_warning(&memory.0.join("queue"), "tmpfs", "no", reason);

    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| memory.0.join(name));
    [&lower, &upper, &work].into_iter().for_each(|path| std::fs::create_dir(path).unwrap());
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let Some(overlay) = Mounted::new("overlay", &options, merged) else { return };
    let reason = "whose upper directory is on tmpfs, which keeps files only in memory: accepted mail is lost";
    require_warning(&overlay.0.join("queue"), "overlay", "no", reason);
}

#[test]
fn checks_separately_mounted_queue_directories() {
    let directory = Directory::new();
    if !rustix::process::geteuid().is_root() {
        return skip("only root may mount");
    }
    let maildrop = directory.path().join("mailrace-queue/maildrop");
    let Some(maildrop) = Mounted::new("tmpfs", "size=16m,mode=3733", maildrop) else { return };
    let (lines, metrics) = said(&directory, &directory.path().join("mailrace-queue"));
    let warning = format!("warning: {} is on tmpfs, ", maildrop.0.display());
    assert_eq!(lines.iter().filter(|line| line.contains(&warning)).count(), 1, "{lines:#?}");
    assert!(metrics.contains("{directory=\"maildrop\",type=\"tmpfs\",durable=\"no\"} 1"), "{metrics}");
    assert!(!metrics.contains("{directory=\"segments\",type=\"tmpfs\""), "{metrics}");
}
