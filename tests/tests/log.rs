//! The log, when whatever reads it does not.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mailrace_tests::{Client, Directory, Engine, program};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

/// An engine that waits for standard error waits for ever. What this asks for takes less than a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// More lines than a pipe and the engine's memory for them hold.
const MESSAGES: usize = 1500;
const MESSAGE: &str =
    "Subject: x\r\nMessage-Id: <a.message.id.that.makes.the.line.longer@client.example>\r\n\r\n";

/// Sends messages, a hundred at a time.
fn send(address: SocketAddr, messages: usize) {
    let one = format!(
        "MAIL FROM:<sender@example.org>\r\nRCPT TO:<recipient@localhost>\r\nBDAT {} LAST\r\n{MESSAGE}",
        MESSAGE.len()
    );
    let mut client = Client::introduced(address);
    for start in (0..messages).step_by(100) {
        let count = (messages - start).min(100);
        client.send(one.repeat(count).as_bytes());
        for _ in 0..count {
            client.expect("250 ");
            client.expect("250 ");
            client.expect("250 2.0.0 ");
        }
    }
}

fn require_whole(lines: &[String]) {
    let odd: Vec<_> = lines.iter().filter(|line| line.matches("Z mailrace").count() != 1).collect();
    assert!(odd.is_empty(), "{odd:#?}");
}

/// Whether a new connection may send to this recipient.
fn takes(engine: &Engine, recipient: &str) -> bool {
    let mut client = engine.client();
    client.say("MAIL FROM:<a@example.org>", "250 ");
    client.send(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
    client.reply().starts_with("250 ")
}

/// The value of a metric.
fn metric(engine: &Engine, name: &str) -> u64 {
    let text = engine.metrics();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is missing: {text}"))
}

/// Standard error is a pipe that is full: reload, metrics, submission and the end work as ever, and what was not logged
/// is counted.
#[test]
fn an_unread_standard_error_does_not_block_the_engine() {
    let directory = Directory::new();
    let text = |domain: &str| format!("relay_domains = [\"{domain}\"]\nmynetworks = []\n");
    let config = directory.write("mailrace.toml", &text("example.com"));
    let settings = ["engine.workers=1", "engine.log_memory=64KiB", "engine.metrics_listen=127.0.0.1:0"];
    let mut arguments = vec!["--config", config.to_str().unwrap()];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let mut engine = Engine::start(&directory, &arguments);
    send(engine.addresses[0], MESSAGES);

    let _ = directory.write("mailrace.toml", &text("example.net"));
    engine.signal(Signal::HUP);
    let start = Instant::now();
    while !takes(&engine, "b@example.net") {
        assert!(start.elapsed() < PATIENCE, "it does not reload");
    }
    let lost = metric(&engine, "mailrace_log_lines_lost_total");
    assert!(lost > 0, "the pipe was never full");

    let mut sendmail = Command::new(program());
    sendmail.current_dir(directory.path()).args(["sendmail", "-C"]).arg(&config).arg("b@localhost");
    let mut sendmail = sendmail.stdin(Stdio::piped()).spawn().unwrap();
    drop(sendmail.stdin.take());
    assert!(sendmail.wait().unwrap().success());
    let start = Instant::now();
    while directory.messages().len() < MESSAGES + 1 {
        assert!(start.elapsed() < PATIENCE, "it takes no submitted message");
    }

    engine.signal(Signal::TERM);
    let status = engine.wait_unread(PATIENCE);
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

/// When it is read again, what waited is whole, and a line says how many were lost.
#[test]
fn lost_lines_are_reported_when_standard_error_is_read_again() {
    let directory = Directory::new();
    let settings = ["engine.workers=1", "engine.log_memory=64KiB", "engine.metrics_listen=127.0.0.1:0"];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let mut engine = Engine::start(&directory, &arguments);
    send(engine.addresses[0], MESSAGES);
    let lost = metric(&engine, "mailrace_log_lines_lost_total");
    assert!(lost > 0, "the pipe was never full");
    // The log may have had room for a first report before it was full again.
    let mut reported = 0;
    while reported < lost {
        let line = engine.line_with("Z mailrace: warning: log_lines_lost=");
        let number = line.split("log_lines_lost=").nth(1).and_then(|rest| rest.split(':').next()).unwrap();
        reported += number.parse::<u64>().unwrap();
    }
    assert_eq!(reported, lost);
    let queued = |lines: &[String]| lines.iter().filter(|line| line.contains(": queued: ")).count();
    assert_eq!(queued(&engine.lines) + usize::try_from(lost).unwrap(), MESSAGES);
    // It flows again.
    let id = engine.client().queue("a@example.org", "b@localhost", MESSAGE);
    engine.line_with(&id);
    require_whole(&engine.lines);
    engine.stop();
}

/// What reads the log has gone.
#[test]
fn a_closed_standard_error_does_not_block_the_engine() {
    let directory = Directory::new();
    let mut engine = Engine::start(&directory, &[]);
    engine.close_errors();
    send(engine.addresses[0], 10);
    engine.signal(Signal::HUP);
    send(engine.addresses[0], 10);
    assert_eq!(directory.messages().len(), 20);
    engine.signal(Signal::TERM);
    let status = engine.wait_unread(PATIENCE);
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

/// The file that standard error goes to is on a full disk.
#[test]
fn a_full_disk_under_standard_error_does_not_block_the_engine() {
    let directory = Directory::new();
    // It cannot say where it listens.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(program());
    command.current_dir(directory.path()).args(["serve", "--listen", &address.to_string()]);
    for setting in ["engine.metrics_listen=", "queue.segment_size=1MiB", "queue.block_size=256KiB"] {
        command.args(["--set", setting]);
    }
    command.args(["--set", "smtpd_recipient_limit=200"]);
    let mut engine = command.stdin(Stdio::null()).stderr(full).spawn().unwrap();
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(engine.try_wait().unwrap().is_none() && start.elapsed() < PATIENCE, "it does not start");
    }
    Client::introduced(address).queue("a@example.org", "b@localhost", MESSAGE);
    let pid = Pid::from_raw(i32::try_from(engine.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let start = Instant::now();
    let status = loop {
        assert!(start.elapsed() < PATIENCE, "it does not end");
        if let Some(status) = engine.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success());
}

/// Another process with the same pipe has made it non-blocking: lines wait all the same, and none is cut.
#[test]
fn a_non_blocking_standard_error_truncates_no_line() {
    let directory = Directory::new();
    let (reader, writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    let mut command = Command::new(program());
    command.current_dir(directory.path()).args(["serve", "--listen", "127.0.0.1:0"]);
    for setting in ["engine.metrics_listen=", "queue.segment_size=1MiB", "queue.block_size=256KiB"] {
        command.args(["--set", setting]);
    }
    command.args(["--set", "smtpd_recipient_limit=200", "--set", "engine.log_memory=4MiB"]);
    let mut engine = command.stdin(Stdio::null()).stderr(writer).spawn().unwrap();
    drop(command);
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    while !line.contains("mailrace ready: ") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "it does not start");
    }
    let address = line.split_once("listening on ").unwrap().1.split_once(',').unwrap().0.parse().unwrap();
    std::thread::spawn(move || send(address, MESSAGES)).join().unwrap();
    let pid = Pid::from_raw(i32::try_from(engine.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(engine.wait().unwrap().success());
    require_whole(&rest.lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(rest.lines().filter(|line| line.contains(": queued: ")).count(), MESSAGES);
    assert!(rest.ends_with("Z mailrace: stopped\n"), "{rest}");
}
