//! Local submission: `mailrace sendmail`, the maildrop, and the engine that takes mail out of it.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mailrace_peers::{Postfix, Setting};
use mailrace_tests::{Directory, Engine, Finished, has_postfix, program, run, skip};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const CONFIGURATION: &str = "myhostname = \"mx.example.com\"\nmydomain = \"example.com\"\nmyorigin = \"example.com\"\n\
    mydestination = [\"mx.example.com\", \"localhost\"]\nmessage_size_limit = \"1MiB\"\n";

const MESSAGE: &str = "To: b@localhost\nSubject: x\n\nbody\n";

/// `mailrace sendmail` with the configuration in `directory` and these arguments, fed with `message`.
fn sendmail(directory: &Directory, arguments: &[&str], message: &str) -> Finished {
    let mut command = Command::new(program());
    command.arg("sendmail").arg("-C").arg(directory.path().join("mailrace.toml")).args(arguments);
    feed(command, message)
}

fn feed(mut command: Command, message: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have seen enough.
    let _ = child.stdin.take().unwrap().write_all(message.as_bytes());
    let output = child.wait_with_output().unwrap();
    Finished {
        status: output.status,
        output: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

fn accepted(finished: &Finished) {
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(finished.errors, "");
}

/// An engine with the configuration in `directory`, whose queue only its arguments name.
fn engine(directory: &Directory) -> Engine {
    let config = directory.path().join("mailrace.toml");
    Engine::start_with_events(directory, &["--config", config.to_str().unwrap()])
}

fn configured() -> Directory {
    let directory = Directory::new();
    let _ = directory.write("mailrace.toml", CONFIGURATION);
    directory
}

/// The same with a queue that the configuration names, so that it is found without an engine.
fn configured_with_queue(lines: &str) -> Directory {
    let directory = Directory::new();
    let text = format!("{CONFIGURATION}{lines}[queue]\ndirectory = \"mailrace-queue\"\n");
    let _ = directory.write("mailrace.toml", &text);
    directory
}

fn maildrop(directory: &Directory) -> PathBuf {
    directory.path().join("mailrace-queue/maildrop")
}

/// The names of files in the maildrop, in their order.
fn dropped(directory: &Directory) -> Vec<String> {
    let entries = fs::read_dir(maildrop(directory)).unwrap();
    let mut names: Vec<String> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until no file of the maildrop is wanted any more.
fn wait_until_gone(directory: &Directory, is_wanted: impl Fn(&str) -> bool) {
    let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, maildrop(directory), WatchFlags::DELETE | WatchFlags::MOVED_FROM).unwrap();
    while dropped(directory).iter().any(|name| is_wanted(name)) {
        let mut files = [PollFd::new(&watch, PollFlags::IN)];
        let period = Timespec { tv_sec: 30, tv_nsec: 0 };
        assert!(poll(&mut files, Some(&period)).unwrap() > 0, "nothing is taken: {:?}", dropped(directory));
        let mut octets = [0_u8; 4096];
        while rustix::io::read(&watch, &mut octets).is_ok_and(|count| count > 0) {}
    }
}

fn envelope(engine: &Engine, id: &str) -> Value {
    serde_json::from_str(&engine.queue(&["cat", "--envelope", id]).output).unwrap()
}

/// The queue id of the next message that is queued.
fn queued(engine: &mut Engine) -> String {
    engine.event("queued")["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_submitted_message_is_cleaned_and_queued() {
    let directory = configured();
    let mut engine = engine(&directory);
    let message = "From somebody Thu Jan  1 00:00:00 1970\nTo: b@localhost, Joe <joe>\nBcc: secret\nSubject: x\n\n\
        a line\r\n..dots\n.\nnot this\n";
    accepted(&sendmail(&directory, &["-t", "-F", "Joe Q. Doe", "-f", "joe@example.org"], message));
    let id = queued(&mut engine);
    let envelope = envelope(&engine, &id);
    for (key, value) in [
        ("sender", json!("joe@example.org")),
        ("recipients", json!(["b@localhost", "joe@example.com", "secret@example.com"])),
        ("original_recipients", json!(["b@localhost", "joe", "secret"])),
        ("protocol", json!("local")),
        ("user_id", json!(rustix::process::getuid().as_raw())),
    ] {
        assert_eq!(envelope[key], value, "{envelope}");
    }
    let content = engine.queue(&["cat", &id]).output;
    let received = format!(
        "Received: by mx.example.com (Mailrace, from userid {})\n\tid {id}; ",
        rustix::process::getuid().as_raw()
    );
    assert!(content.starts_with(&received), "{content}");
    assert!(
        content.contains("\nTo: b@localhost, Joe <joe@example.com>\nSubject: x\nMessage-Id: <"),
        "{content}"
    );
    assert!(content.contains("\nFrom: \"Joe Q. Doe\" <joe@example.org>\n"), "{content}");
    assert!(content.ends_with("\n\na line\n..dots\n"), "{content}");
    engine.stop();
    assert_eq!(dropped(&directory), [""; 0]);
}

#[test]
fn options_set_envelope_fields() {
    let directory = configured();
    let mut engine = engine(&directory);
    let arguments =
        ["-GR", "hdrs", "-NSUCCESS,delay", "-V", "id 1", "-B8BITMIME", "-ti", "-f", "<>", "a, b@localhost"];
    let message = "To: c\nResent-To: d\nResent-From: e\n\nbody\n.\nmore\n";
    accepted(&sendmail(&directory, &arguments, message));
    let id = queued(&mut engine);
    let envelope = envelope(&engine, &id);
    let wishes = json!(["SUCCESS", "DELAY"]);
    for (key, value) in [
        ("sender", json!("")),
        ("recipients", json!(["a@example.com", "b@localhost", "d@example.com"])),
        ("ret", json!("HDRS")),
        ("envid", json!("id 1")),
        ("body", json!("8BITMIME")),
    ] {
        assert_eq!(envelope[key], value, "{envelope}");
    }
    assert!(envelope["dsn"].as_array().unwrap().iter().all(|dsn| dsn["notify"] == wishes), "{envelope}");
    // From elsewhere: nothing is completed or added.
    let content = engine.queue(&["cat", &id]).output;
    assert!(content.ends_with("\nTo: c\nResent-To: d\nResent-From: e\n\nbody\n.\nmore\n"), "{content}");
    engine.stop();
}

#[test]
fn works_when_called_as_sendmail() {
    let directory = configured();
    let mut engine = engine(&directory);
    let name = directory.path().join("sendmail");
    symlink(program(), &name).unwrap();
    let mut command = Command::new(name);
    command.arg("-C").arg(directory.path().join("mailrace.toml")).args(["--", "-odd@localhost"]);
    accepted(&feed(command, MESSAGE));
    let id = queued(&mut engine);
    assert_eq!(envelope(&engine, &id)["recipients"], json!(["-odd@localhost"]));
    engine.stop();
}

#[test]
fn mailq_and_newaliases_report_what_is_supported() {
    let directory = configured_with_queue("");
    let running = engine(&directory);
    let as_program = |name: &str| {
        let path = directory.path().join(name);
        symlink(program(), &path).unwrap();
        let mut command = Command::new(path);
        command.arg("-C").arg(directory.path().join("mailrace.toml"));
        feed(command, "")
    };
    let empty = as_program("mailq");
    assert!(empty.status.success() && empty.output == "Mail queue is empty\n", "{empty:?}");
    accepted(&sendmail(&directory, &["b@localhost"], MESSAGE));
    wait_until_gone(&directory, |_| true);
    let listed = sendmail(&directory, &["-bp"], "");
    accepted(&listed);
    assert_eq!(listed.output, running.queue(&["list"]).output);
    assert!(listed.output.contains("b@localhost"), "{listed:?}");
    running.stop();
    let aliases = as_program("newaliases");
    assert_eq!(aliases.status.code(), Some(69), "{aliases:?}");
    let said = "sendmail: fatal: -bi (newaliases) is not supported: there is no alias database to build";
    assert!(aliases.errors.starts_with(said), "{aliases:?}");
}

/// The name that a From field gets is any user's to choose.
#[test]
fn a_display_name_in_from_has_no_hidden_characters() {
    let directory = configured();
    let mut running = engine(&directory);
    let name = "J\u{1b}[31moe\u{202e}\u{9b}\u{200b}\r\nBcc: x";
    accepted(&sendmail(&directory, &["-F", name, "-f", "joe@example.org", "b@localhost"], "\nx\n"));
    let id = queued(&mut running);
    let content = running.queue(&["cat", &id]).output;
    assert!(content.contains("\nFrom: \"J?[31moe???  Bcc: x\" <joe@example.org>\n"), "{content}");
    // The same from the environment.
    let mut command = Command::new(program());
    command.arg("sendmail").arg("-C").arg(directory.path().join("mailrace.toml")).args([
        "-f",
        "a@b",
        "b@localhost",
    ]);
    accepted(&feed(
        {
            command.env("NAME", name);
            command
        },
        "\nx\n",
    ));
    let id = queued(&mut running);
    let content = running.queue(&["cat", &id]).output;
    assert!(content.contains("\nFrom: \"J?[31moe???  Bcc: x\" <a@b>\n"), "{content}");
    running.stop();
}

/// `mailrace sendmail` that has its message but for the end, in a directory that shows it.
fn interrupted(directory: &Directory, wrapper: &[&str]) -> Child {
    let mut command = Command::new(wrapper.first().map_or_else(|| program().as_os_str(), OsStr::new));
    command.args(wrapper.get(1..).unwrap_or_default());
    if !wrapper.is_empty() {
        command.arg(program());
    }
    command.arg("sendmail").arg("-C").arg(directory.path().join("mailrace.toml")).arg("b@localhost");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Once the pipe is full the program has read, so its handlers are installed.
    child.stdin.as_mut().unwrap().write_all("a line of the body\n".repeat(20_000).as_bytes()).unwrap();
    child
}

#[test]
fn a_signal_ends_a_submission_without_a_trace() {
    let directory = configured_with_queue("");
    engine(&directory).stop();
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::ALARM,
        Signal::XCPU,
        Signal::USR1,
        Signal::VTALARM,
    ] {
        // Under nohup, or after &, a shell has some of them ignored.
        let mut child = interrupted(&directory, &["env", "--default-signal"]);
        // Its end would be the message's end.
        let input = child.stdin.take();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        drop(input);
        assert_eq!((status.code(), dropped(&directory)), (Some(75), vec![]), "{signal:?}: {status:?}");
    }
    // The caller gone, and its end of the pipe with it: what came is a message, as in Postfix.
    let mut child = interrupted(&directory, &[]);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(dropped(&directory).len(), 1);
    // Only a file without a name is gone whatever happens.
    let has_unnamed_files = rustix::fs::open(
        maildrop(&directory),
        rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::WRONLY,
        rustix::fs::Mode::RUSR,
    );
    if has_unnamed_files.is_ok() {
        let mut child = interrupted(&directory, &[]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(dropped(&directory).len(), 1);
    }
}

#[test]
fn a_file_size_limit_leaves_no_trace() {
    let directory = configured_with_queue("");
    engine(&directory).stop();
    for blocks in ["0", "16", "64"] {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -f $0; exec \"$@\"", blocks]).arg(program());
        command.arg("sendmail").arg("-C").arg(directory.path().join("mailrace.toml")).arg("b@localhost");
        let finished = feed(command, &"a line of the body\n".repeat(20_000));
        assert_eq!(finished.status.code(), Some(75), "{blocks}: {finished:?}");
        assert_eq!(dropped(&directory), [""; 0], "{blocks}");
    }
}

/// A signal that the caller ignores (nohup) ends nothing.
#[test]
fn a_signal_ignored_by_the_caller_stays_ignored() {
    let directory = configured_with_queue("");
    engine(&directory).stop();
    let mut child = interrupted(&directory, &["nohup"]);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(dropped(&directory).len(), 1);
}

#[test]
fn mail_waits_until_an_engine_runs() {
    let directory = configured_with_queue("");
    engine(&directory).stop();
    for number in 0..3 {
        accepted(&sendmail(&directory, &[&format!("u{number}@localhost")], MESSAGE));
    }
    assert_eq!(dropped(&directory).len(), 3);
    let engine = engine(&directory);
    wait_until_gone(&directory, |_| true);
    engine.stop();
    // In their order.
    let recipients: Vec<Value> = directory.messages().iter().map(|it| it["recipients"][0].clone()).collect();
    assert_eq!(recipients, ["u0@localhost", "u1@localhost", "u2@localhost"]);
}

#[test]
fn a_graceful_stop_duplicates_no_submission() {
    const COUNT: usize = 12;
    let directory = configured_with_queue("");
    engine(&directory).stop();
    (0..COUNT).for_each(|_| accepted(&sendmail(&directory, &["b@localhost"], MESSAGE)));
    for _ in 0..COUNT {
        if dropped(&directory).is_empty() {
            break;
        }
        let mut engine = engine(&directory);
        // In the midst of it.
        queued(&mut engine);
        engine.stop();
    }
    assert_eq!(dropped(&directory), [""; 0]);
    assert_eq!(directory.messages().len(), COUNT);
}

#[test]
fn a_failed_submission_leaves_nothing() {
    let directory = configured_with_queue("");
    let fails = |arguments: &[&str], message: &str, status: i32, wanted: &str| {
        let finished = sendmail(&directory, arguments, message);
        assert_eq!(finished.status.code(), Some(status), "{arguments:?}: {finished:?}");
        assert!(
            finished.errors.starts_with("sendmail: ") && finished.errors.contains(wanted),
            "{finished:?}"
        );
    };
    fails(&["b@localhost"], MESSAGE, 75, "sendmail: fatal: ");
    fails(&["b@localhost"], MESSAGE, 75, "there is no queue in ");
    engine(&directory).stop();
    fails(&["-fme", "-t"], "Subject: x\n\n", 75, "fatal: me(");
    fails(&["-t"], "Subject: x\n\n", 75, "): No recipient addresses found in message header\n");
    fails(
        &["-i"],
        MESSAGE,
        75,
        "): Recipient addresses must be specified on the command line or via the -t option\n",
    );
    fails(&["-n"], MESSAGE, 75, "fatal: -n option not supported\n");
    fails(
        &["-t"],
        &format!("To: {}\n\n", "x@y, ".repeat(30_000)),
        75,
        "unable to extract recipients: message header",
    );
    fails(&["-t"], &format!("To: {}@y\n\n", "x".repeat(3000)), 75, "an address is longer than");
    fails(&["-t"], &format!("To: {}\n\n", "a@b,\n ".repeat(10_241)), 75, "extract_recipient_limit");
    fails(
        &["b@localhost"],
        &"a line of 32 octets with its end\n".repeat(40_000),
        75,
        "message file too big\n",
    );
    fails(&["-bv"], "", 69, "-bv is not supported: ");
    fails(
        &["-N", "never,success", "b@localhost"],
        MESSAGE,
        64,
        "bad -N option value: never cannot be combined",
    );
    fails(
        &["-f", "a\u{1b}b@example.com", "b@localhost"],
        MESSAGE,
        65,
        "a?b@example.com has control characters",
    );
    fails(&["-t"], "To: \"a\u{202e}b\"@localhost\n\n", 65, "has control characters");
    let nowhere = run(directory.path(), &["sendmail", "-C", "missing.toml", "b@localhost"]);
    assert_eq!(nowhere.status.code(), Some(75), "{nowhere:?}");
    assert_eq!(dropped(&directory), [""; 0]);
    accepted(&sendmail(&directory, &["-q30m"], ""));
    assert_eq!(dropped(&directory), [""; 0]);
}

#[test]
fn submitted_mail_survives_kills_of_the_engine() {
    let directory = configured_with_queue("");
    let mut running = Some(engine(&directory));
    let mut wanted = BTreeSet::new();
    for round in 0..3 {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let directory = &directory;
                let addresses: Vec<String> =
                    (0..3).map(|number| format!("u{round}{thread}{number}@localhost")).collect();
                wanted.extend(addresses.clone());
                scope.spawn(move || {
                    for address in addresses {
                        accepted(&sendmail(directory, &[&address], MESSAGE));
                    }
                });
            }
            // Killed in the midst of the work, wherever it is then.
            let mut killed = running.take().unwrap();
            for _ in 0..2 + round {
                queued(&mut killed);
            }
            killed.kill();
            running = Some(engine(&directory));
        });
    }
    let running = running.unwrap();
    wait_until_gone(&directory, |_| true);
    running.stop();
    let held: BTreeSet<String> =
        directory.messages().iter().map(|it| it["recipients"][0].as_str().unwrap().to_owned()).collect();
    assert_eq!(held, wanted);
}

#[test]
fn a_refused_submission_is_kept_and_reported() {
    let lines =
        "header_checks = [\"regexp:checks\"]\nvirtual_alias_maps = [\"inline:{ one=two, two=one }\"]\n";
    let directory = configured_with_queue(lines);
    let _ = directory.write("checks", "/^Subject: bad/ REJECT not here\n");
    let mut running = engine(&directory);
    accepted(&sendmail(&directory, &["b@localhost"], "Subject: bad\n\n"));
    let event = running.event("submission_refused");
    assert_eq!(event["reply"], "550 5.7.1 not here");
    assert_eq!(event["to"], json!(["b@localhost"]));
    assert!(event["uid"].is_u64(), "{event}");
    wait_until_gone(&directory, |_| true);
    // The list has it, and why.
    let listed = directory.messages();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(event["file"], id);
    for (key, value) in [
        ("state", json!("refused")),
        ("reason", json!("550 5.7.1 not here")),
        ("recipients", json!(["b@localhost"])),
    ] {
        assert_eq!(listed[0][key], value, "{listed:?}");
    }
    assert!(running.queue(&["list"]).output.trim_end().ends_with(" -> b@localhost (550 5.7.1 not here)"));
    assert_eq!(running.queue(&["cat", &id]).output, "Subject: bad\n\n");
    let envelope_of = running.queue(&["cat", "--envelope", &id]).output;
    assert!(envelope_of.contains("\"user_id\":"), "{envelope_of}");
    let hold = running.queue(&["hold", &id]);
    assert!(hold.status.code() == Some(65) && hold.errors.contains("cannot be put on hold"), "{hold:?}");
    // What is wrong for now stays, and is tried again.
    accepted(&sendmail(&directory, &["one@example.com"], MESSAGE));
    assert_eq!(running.event("deferred")["reply"], "451 4.6.0 Alias expansion error");
    running.stop();
    assert_eq!(dropped(&directory).len(), 1);
    let text = fs::read_to_string(directory.path().join("mailrace.toml")).unwrap();
    let _ = directory.write("mailrace.toml", &text.replace("two=one", "two=three"));
    let mut running = engine(&directory);
    let id = queued(&mut running);
    assert_eq!(envelope(&running, &id)["recipients"], json!(["three@example.com"]));
    wait_until_gone(&directory, |_| true);
    running.stop();
    assert_eq!(directory.messages().len(), 2);
}

/// What was refused is tried again when it is released, and goes when it is deleted.
#[test]
fn refused_submissions_are_released_and_deleted() {
    let directory = configured_with_queue("header_checks = [\"regexp:checks\"]\n");
    let _ = directory.write("checks", "/^Subject: bad/ REJECT not here\n");
    let mut running = engine(&directory);
    for number in 0..3 {
        let to = format!("u{number}@localhost");
        accepted(&sendmail(&directory, &[&to], "Subject: bad\n\n"));
        running.event("submission_refused");
    }
    wait_until_gone(&directory, |_| true);
    running.stop();
    let ids = |directory: &Directory| -> Vec<String> {
        directory.messages().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    let refused = ids(&directory);
    let [one, two, three] = refused.as_slice() else { panic!("{refused:?}") };
    // Without an engine too.
    let deleted = directory.queue(&["delete", one, &"0".repeat(32)]);
    assert_eq!(deleted.status.code(), Some(65), "{deleted:?}");
    assert!(deleted.output.contains("1 refused submission deleted"), "{deleted:?}");
    assert!(deleted.errors.contains(&format!("no refused submission {}", "0".repeat(32))), "{deleted:?}");
    assert_eq!(ids(&directory), [two.as_str(), three]);
    // Released to the same checks it is refused again, to others it is queued.
    let mut running = engine(&directory);
    accepted(&running.queue(&["release", two]));
    running.event("submission_refused");
    wait_until_gone(&directory, |_| true);
    running.stop();
    assert_eq!(ids(&directory).len(), 2);
    let _ = directory.write("checks", "/^Subject: other/ REJECT\n");
    let mut running = engine(&directory);
    accepted(&running.queue(&["release", three]));
    let id = queued(&mut running);
    assert_eq!(envelope(&running, &id)["recipients"], json!(["u2@localhost"]));
    wait_until_gone(&directory, |_| true);
    running.stop();
    // ALL is about the queue.
    assert_eq!(directory.queue(&["delete", "ALL"]).output, "1 deleted\n");
    assert_eq!(ids(&directory), [two.as_str()]);
}

#[test]
fn invalid_drop_files_are_set_aside() {
    let directory = configured_with_queue("");
    engine(&directory).stop();
    accepted(&sendmail(&directory, &["b@localhost"], MESSAGE));
    let good = fs::read(maildrop(&directory).join(&dropped(&directory)[0])).unwrap();
    let path = |digit: char| maildrop(&directory).join(digit.to_string().repeat(32));
    fs::write(path('1'), "garbage").unwrap();
    let mut damaged = good.clone();
    damaged[70] ^= 1;
    fs::write(path('2'), &damaged).unwrap();
    fs::write(path('3'), &good[..good.len() - 1]).unwrap();
    // Another user's secrets under names in the maildrop.
    let secrets = ["one", "two"].map(|name| directory.path().join(name));
    secrets.iter().for_each(|secret| fs::write(secret, &good).unwrap());
    symlink(&secrets[0], path('4')).unwrap();
    fs::hard_link(&secrets[1], path('5')).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path('6'),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    fs::create_dir(path('7')).unwrap();
    // Neither is a name of a message.
    fs::write(maildrop(&directory).join("0123.refused"), "x").unwrap();
    fs::write(maildrop(&directory).join(format!("{}.new", "8".repeat(32))), "x").unwrap();
    // An earlier release has refused it.
    fs::write(maildrop(&directory).join(format!("{}.refused", "9".repeat(32))), &good).unwrap();

    let running = engine(&directory);
    wait_until_gone(&directory, |name| name.len() == 32 && !name.starts_with('7'));
    wait_until_gone(&directory, |name| name.starts_with('9'));
    running.stop();
    // Others may hold something; a directory does not even look like a message.
    let left = ["0123.refused".to_owned(), "7".repeat(32), format!("{}.new", "8".repeat(32))];
    assert_eq!(dropped(&directory), left);
    let reasons: Vec<(String, String, String)> = directory
        .messages()
        .iter()
        .filter(|it| !it["reason"].is_null())
        .map(|it| ["id", "state", "reason"].map(|key| it[key].as_str().unwrap().to_owned()).into())
        .collect();
    let wanted = [
        ('1', "corrupt", "it is not a drop file"),
        ('2', "corrupt", "it is damaged"),
        ('3', "corrupt", "it is damaged"),
        ('5', "corrupt", "it has another name too"),
        ('9', "refused", "refused by an earlier release"),
    ];
    let wanted = wanted
        .map(|(digit, state, reason)| (digit.to_string().repeat(32), state.to_owned(), reason.to_owned()));
    assert_eq!(reasons, wanted);
    // Links are gone, and what they led to is there.
    assert!(secrets.iter().all(|secret| fs::read(secret).unwrap() == good));
    assert_eq!(directory.messages().len(), 1 + wanted.len());
}

/// A user that is not root.
const NOBODY: u32 = 65534;

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

#[test]
fn every_user_may_submit_and_none_may_list() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can be two users");
    }
    let directory = configured();
    let mut running = engine(&directory);
    let copy = directory.install(program());
    let submit = || {
        let mut command = as_nobody(&copy);
        command.arg("sendmail").arg("-C").arg(directory.path().join("mailrace.toml")).arg("b@localhost");
        feed(command, MESSAGE)
    };
    accepted(&submit());
    let id = queued(&mut running);
    assert_eq!(envelope(&running, &id)["user_id"], NOBODY);
    assert!(running.queue(&["cat", &id]).output.contains(&format!(", from userid {NOBODY})\n")));
    for what in ["mailrace-queue/maildrop", "mailrace-queue", "mailrace-queue/segments"] {
        let mut command = as_nobody(Path::new("ls"));
        command.arg(directory.path().join(what));
        assert!(!feed(command, "").status.success(), "{what}");
    }
    let mut command = as_nobody(&copy);
    command.args(["queue", "delete", &id, "--queue"]).arg(directory.path().join("mailrace-queue"));
    assert!(!feed(command, "").status.success());
    assert_eq!(directory.messages().len(), 1);
    // Only for a group.
    fs::set_permissions(maildrop(&directory), fs::Permissions::from_mode(0o3730)).unwrap();
    let refused = submit();
    assert_eq!(refused.status.code(), Some(75), "{refused:?}");
    running.stop();
    assert_eq!(maildrop(&directory).metadata().unwrap().mode() & 0o7777, 0o3730);
}

/// Another user's engine says that it runs with our configuration: it gets none of our mail.
#[test]
fn finds_only_trustworthy_engines() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can be two users");
    }
    let directory = configured();
    let (copy, config) = (directory.install(program()), directory.path().join("mailrace.toml"));
    let queue = directory.path().join("theirs");
    fs::create_dir(&queue).unwrap();
    chown(&queue, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = as_nobody(&copy);
    command.args(["serve", "--listen", "127.0.0.1:0", "--set", "engine.metrics_listen="]);
    command.args(["--set", "queue.segment_size=1MiB", "--set", "queue.block_size=256KiB"]);
    command.args(["--set", "smtpd_recipient_limit=200", "--config"]).arg(&config).arg("--queue").arg(&queue);
    let mut engine = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(engine.stderr.take().unwrap()).lines();
    let said: Vec<String> =
        lines.map(Result::unwrap).take_while(|line| !line.contains("mailrace ready: ")).collect();
    assert!(engine.try_wait().unwrap().is_none(), "it did not start: {said:?}");
    let refused = sendmail(&directory, &["b@localhost"], MESSAGE);
    // The configuration's owner may be believed.
    chown(&config, Some(NOBODY), None).unwrap();
    let taken = sendmail(&directory, &["b@localhost"], MESSAGE);
    engine.kill().unwrap();
    engine.wait().unwrap();
    assert!(refused.status.code() == Some(75) && refused.errors.contains("there is no queue"), "{refused:?}");
    accepted(&taken);
}

#[test]
fn submissions_are_counted() {
    let directory = configured();
    let config = directory.path().join("mailrace.toml");
    let engine = Engine::start(
        &directory,
        &["--config", config.to_str().unwrap(), "--set", "engine.metrics_listen=127.0.0.1:0"],
    );
    accepted(&sendmail(&directory, &["b@localhost"], MESSAGE));
    fs::write(maildrop(&directory).join("1".repeat(32)), "garbage").unwrap();
    accepted(&sendmail(&directory, &["b@localhost"], MESSAGE));
    wait_until_gone(&directory, |name| name.len() == 32);
    let text = engine.metrics();
    for (result, count) in [("queued", 2), ("refused", 1), ("deferred", 0), ("discarded", 0)] {
        let line = format!("mailrace_submissions_total{{result=\"{result}\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
    }
    engine.stop();
}

/// Real Postfix's `sendmail` and ours: the same arguments and message must have the same recipients and content.
#[test]
fn submissions_match_postfix() {
    if !has_postfix() {
        return;
    }
    let directory = configured();
    let mut running = engine(&directory);
    let setting = Setting { directory: directory.path().to_path_buf(), cpu: None, congestion_control: None };
    let postfix = Postfix::start_with(&setting, "mail_name = Mailrace\n").unwrap();
    let list = "To: joe, \"a, b\" <x@host> (c),\n g: u@a.example.com;, <>\nCc: p%q,h!u\nBcc: secret@host\nSubject: x\n\nbody\n";
    let cases: &[(&[&str], &str)] = &[
        (&["-t"], list),
        (&["-t", "-f", "Joe Q. <joe@host>", "-F", "Joe \"Q.\" Doe"], list),
        (&["-t", "-F", "  Joe   Doe "], "Resent-To: r\nTo: c\nResent-Cc: q\nFrom: f\n\nx\n"),
        (&["-t", "a@b, c", "(nobody)"], "To: d\n\nx\n"),
        (&["-G", "-f", "", "a@b"], "To: c\nFrom: d\n\nx\n"),
        (&["-f", "<>", "-F", "Joe", "a@b"], "\nno header\n"),
        (&["-i", "a@b"], "no header\n.\nend"),
        (&["a@b"], "From x\n>>From y\nSubject: x\r\n\r\nbody\rwith\r\r\n.\r\nnot this\n"),
        (&["a@b"], " begins with a blank\nSubject: x\n\nx\n"),
        (&["-t"], "To: j\u{f6}rg\nSubject: Gr\u{fc}\u{df}e\n\nx\n"),
        (&["-N", "never", "-B7BIT", "--", "-a@b"], "X-Long: x\n\nz\n"),
        (&["-t"], "Cc: a\nnot a field\nTo: b\n\nx\n"),
        (&["-t"], "Subject: x\n\nTo: b\n"),
        (&["-t"], "To: (nobody)\n\nx\n"),
        (&[], "To: a\n\nx\n"),
        (&["-bz"], "x"),
        (&["-Vxy", "a"], "x"),
    ];
    for (arguments, message) in cases {
        let theirs = postfix.submit(arguments, message.as_bytes()).unwrap();
        let ours = sendmail(&directory, arguments, message);
        let their_id = match theirs {
            Ok(id) => id,
            Err(said) => {
                let (status, said) = said.split_once(": ").unwrap();
                assert_eq!(ours.status.code().unwrap().to_string(), status, "{arguments:?} {message:?}");
                assert_eq!(ours.errors.trim_end(), said, "{arguments:?} {message:?}");
                continue;
            }
        };
        assert!(ours.status.success(), "{arguments:?} {message:?}: {ours:?}");
        let our_id = queued(&mut running);
        let their_content = postfix.content(&their_id).unwrap();
        let our_content = running.queue_octets(&["cat", &our_id]);
        assert_eq!(
            normal(&our_content, &our_id),
            normal(&their_content, &their_id),
            "{arguments:?} {message:?}"
        );
        assert_eq!(
            recipients(&envelope(&running, &our_id)),
            their_recipients(&postfix.envelope(&their_id).unwrap()),
            "{arguments:?} {message:?}"
        );
    }
    running.stop();
}

fn recipients(envelope: &Value) -> Vec<(String, String)> {
    let all = |key: &str| {
        let texts = envelope[key].as_array().unwrap().iter();
        texts.map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    all("recipients").into_iter().zip(all("original_recipients")).collect()
}

/// Those that postcat shows, in the escapes of our JSON.
fn their_recipients(shown: &[u8]) -> Vec<(String, String)> {
    let all = |name: &str| {
        let lines =
            shown.split(|octet| *octet == b'\n').filter_map(|line| line.strip_prefix(name.as_bytes()));
        lines.map(escaped).collect::<Vec<_>>()
    };
    all("recipient: ").into_iter().zip(all("original_recipient: ")).collect()
}

fn escaped(octets: &[u8]) -> String {
    let letter = |octet: &u8| {
        if octet.is_ascii() { char::from(*octet).to_string() } else { format!("\\x{octet:02x}") }
    };
    octets.iter().map(letter).collect()
}

/// Without what differs by nature: queue ids, and dates that were made here, which end with the zone's name.
fn normal(content: &[u8], id: &str) -> String {
    let text = String::from_utf8_lossy(content).replace(id, "ID");
    let is_made = |line: &&str| line.contains("Message-Id: <20") || line.ends_with(" (UTC)");
    let lines = text.split('\n').map(|line| match line.split_once([':', ';']) {
        Some((front, _)) if is_made(&line) => format!("{front} made here"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Another user has filled the maildrop with what no engine can take. Mail of others is taken at once, the log stays short,
/// and what holds nothing is gone.
#[test]
fn one_user_cannot_block_the_mail_of_others() {
    const FILES: u64 = 4000;
    if !rustix::process::geteuid().is_root() {
        return skip("only root can be two users");
    }
    let directory = configured_with_queue("");
    engine(&directory).stop();
    let path = maildrop(&directory);
    for number in 0..FILES {
        let name = |kind: char| path.join(format!("{kind}{number:031x}"));
        symlink("x", name('0')).unwrap();
        fs::write(name('1'), "x").unwrap();
        fs::write(name('2'), "").unwrap();
        fs::create_dir(path.join(format!("1{number:031x}.refused"))).unwrap();
        for kind in ['1', '2'] {
            chown(name(kind), Some(NOBODY), Some(NOBODY)).unwrap();
            fs::set_permissions(name(kind), fs::Permissions::from_mode(0o0)).unwrap();
        }
    }
    // Before the engine comes and after.
    accepted(&sendmail(&directory, &["before@localhost"], MESSAGE));
    let mut running = engine(&directory);
    accepted(&sendmail(&directory, &["after@localhost"], MESSAGE));
    let queued = [running.event("queued"), running.event("queued")];
    assert!(queued.iter().any(|event| event["to"] == json!(["before@localhost"])), "{queued:?}");
    wait_until_gone(&directory, |name| name.len() == 32 && !name.starts_with('2'));
    running.signal(Signal::TERM);
    running.event("stopped");
    let is_theirs = |event: &Value| event["uid"] == NOBODY;
    let lines =
        running.events().filter(|event| is_theirs(event) || event["event"] == "maildrop_removed").count();
    assert!(lines <= 150, "{lines} lines");
    // The engine logs how many lines it left out before it ends.
    let told: Vec<Value> = running.events().filter(|event| event["event"] == "lines_left_out").collect();
    assert!(told.iter().any(is_theirs), "{told:?}");
    running.wait();
    // Each bad file is set aside once; one that is empty may be written to yet.
    assert_eq!(directory.messages().len() as u64, FILES + 2);
    assert_eq!(dropped(&directory).iter().filter(|name| name.len() == 32).count() as u64, FILES);
}

/// More messages wait for a server that does not answer than may be under way. Another that does not need it comes after
/// them, of the same user, and is queued while all of them wait.
#[test]
fn mail_that_waits_for_a_table_delays_no_other() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let lines = format!(
        "virtual_alias_maps = [\"regexp:known\", \"socketmap:inet:127.0.0.1:{port}:v\"]\n\
         [engine]\nlookup_timeout = \"60s\"\nsubmissions_in_flight = 4\n"
    );
    let directory = configured_with_queue(&lines);
    let _ = directory.write("known", "/^good@localhost$/ good@localhost\n/^root@/ root@localhost\n");
    engine(&directory).stop();
    for number in 0..20 {
        accepted(&sendmail(
            &directory,
            &["-f", "root@localhost", &format!("slow{number}@localhost")],
            MESSAGE,
        ));
    }
    accepted(&sendmail(&directory, &["-f", "root@localhost", "good@localhost"], MESSAGE));
    let mut running = engine(&directory);
    assert_eq!(running.event("queued")["to"], json!(["good@localhost"]));
    assert!(running.events().all(|event| event["event"] != "deferred"), "the server has not failed yet");
    assert_eq!(dropped(&directory).len(), 20);
    running.stop();
    assert_eq!(dropped(&directory).len(), 20);
    drop(server);
}

/// A check orders a message to be dropped: its file is removed, too.
#[test]
fn a_submission_discarded_by_a_check_is_removed() {
    let directory = configured_with_queue("header_checks = [\"regexp:checks\"]\n");
    let _ = directory.write("checks", "/^Subject: unwanted/ DISCARD\n");
    let running = engine(&directory);
    accepted(&sendmail(&directory, &["user@localhost"], "Subject: unwanted\n\ntext\n"));
    wait_until_gone(&directory, |name| name.len() == 32);
    running.stop();
    assert!(directory.messages().is_empty());
}

/// All recipients that a batch holds are queued; more are refused before the program promises anything, or kept where they
/// are seen.
#[test]
fn a_message_with_too_many_recipients_is_always_reported() {
    let directory = configured_with_queue("smtpd_recipient_limit = 200\n");
    let path = directory.path().join("mailrace.toml");
    let text = fs::read_to_string(&path).unwrap() + "block_size = \"256KiB\"\n";
    fs::write(&path, &text).unwrap();
    let mut running = engine(&directory);
    let to = |count: usize| (0..count).map(|number| format!("u{number}@example.com")).collect::<Vec<_>>();
    let submit = |count: usize| {
        let to = to(count);
        sendmail(&directory, &to.iter().map(String::as_str).collect::<Vec<_>>(), MESSAGE)
    };
    accepted(&submit(6000));
    assert_eq!(running.event("queued")["nrcpt"], 6000);
    let refused = submit(20_000);
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    assert!(
        refused.errors.contains("20000 recipients are more than a batch holds (block_size)"),
        "{refused:?}"
    );
    wait_until_gone(&directory, |_| true);
    // The engine has another limit than the configuration says.
    fs::write(&path, text.replace("256KiB", "16MiB")).unwrap();
    accepted(&submit(20_000));
    let reply = &running.event("submission_refused")["reply"];
    assert_eq!(reply, "552 5.3.4 Error: more recipients than a batch holds (block_size)");
    wait_until_gone(&directory, |_| true);
    running.stop();
    assert_eq!(directory.messages().iter().filter(|it| it["state"] == "refused").count(), 1);
}

#[test]
fn a_message_that_is_certain_to_be_refused_is_refused_immediately() {
    let directory = configured_with_queue("");
    engine(&directory).stop();
    let loops = format!("{}Subject: x\n\n", "Received: by x\n".repeat(60));
    let refused = sendmail(&directory, &["b@localhost"], &loops);
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    assert!(refused.errors.contains("554 5.4.0 Error: too many hops"), "{refused:?}");
    assert_eq!(dropped(&directory), [""; 0]);
}

/// The largest message with the line end that its last line gets: what `sendmail` takes the engine takes.
#[test]
fn message_size_limit_is_the_same_everywhere() {
    let directory = configured_with_queue("");
    let mut running = engine(&directory);
    let largest = format!("{}\n", "x".repeat(1022)).repeat(1024);
    let largest = largest.strip_suffix('\n').unwrap();
    accepted(&sendmail(&directory, &["b@localhost"], &format!("\n{}", &largest[2..])));
    queued(&mut running);
    let refused = sendmail(&directory, &["b@localhost"], &format!("\n{}", &largest[1..]));
    assert_eq!(refused.status.code(), Some(75), "{refused:?}");
    running.stop();
    assert_eq!(directory.messages().len(), 1);
}

/// What Symfony Mailer and others do with a local `sendmail`.
#[test]
fn a_session_on_standard_input_submits_messages() {
    let directory = configured();
    let mut running = engine(&directory);
    let dialogue = "EHLO x\r\nMAIL FROM:<joe@example.org> RET=HDRS ENVID=id\r\n\
        RCPT TO:<far@example.net> NOTIFY=NEVER ORCPT=rfc822;old@example.net\r\nDATA\r\nSubject: one\r\n\r\n..dot\r\nb\rc\r\n.\r\n\
        MAIL FROM:<>\r\nRCPT TO:<b@localhost>\r\nBDAT 17\r\nSubject: two\r\n\r\n\rBDAT 4 LAST\r\n\nb\r\n\
        MAIL FROM:<a@b>\r\nRCPT TO:<b@localhost>\r\nDATA\r\nSubject: no\r\n";
    let finished = sendmail(&directory, &["-bs"], dialogue);
    accepted(&finished);
    let codes: Vec<&str> =
        finished.output.lines().filter(|it| it.get(3..4) == Some(" ")).map(|it| &it[..3]).collect();
    // The last message has no end: it is none.
    let wanted = ["220", "250", "250", "250", "354", "250", "250", "250", "250", "250", "250", "250", "354"];
    assert_eq!(codes, wanted, "{}", finished.output);
    let ids = [queued(&mut running), queued(&mut running)];
    let [one, two] = ids.map(|id| (envelope(&running, &id), running.queue(&["cat", &id]).output));
    for (key, value) in [
        ("sender", json!("joe@example.org")),
        ("recipients", json!(["far@example.net"])),
        ("ret", json!("HDRS")),
        ("envid", json!("id")),
        (
            "dsn",
            json!([{"recipient": "far@example.net", "notify": ["NEVER"], "orcpt": "rfc822;old@example.net"}]),
        ),
    ] {
        assert_eq!(one.0[key], value, "{}", one.0);
    }
    assert!(one.1.ends_with("\n\n.dot\nb c\n") && one.1.contains("Subject: one\n"), "{}", one.1);
    assert!(two.1.ends_with("\n\n\nb\n") && two.1.contains("Subject: two\n"), "{}", two.1);
    assert_eq!(two.0["sender"], "");
    running.stop();
    assert_eq!(dropped(&directory), [""; 0]);
}
