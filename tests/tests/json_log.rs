//! The log in JSON: every kind of event, read by a parser that takes no key twice, and held against the table of events in
//! docs/operations.md.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mailrace_tests::{Client, Directory, Engine, JSON_LOG, NextHop, program, run, skip};
use rustix::process::Signal;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// Events that cannot be brought about here, or not without root or a fault in the program.
const ELSEWHERE: [&str; 17] = [
    // Unit tests of the worker and its telemetry: no limit binds this machine's own addresses.
    "too_many_connections",
    "accept_failed",
    // tests/faults.rs: disks that fail.
    "write_failed",
    // tests/kernel.rs: without io_uring.
    "epoll",
    "no_direct_writes",
    // tests/file_system.rs: what is mounted decides.
    "file_system",
    // Races with other processes and faults of the maildrop's file system.
    "maildrop_unreadable",
    "maildrop_removed",
    "maildrop_replaced",
    "maildrop_retry",
    "maildrop_stuck",
    // tests/submission.rs: a user with many bad files.
    "lines_left_out",
    // Tests of the spool's recovery.
    "stranger",
    // Unit tests of pattern tables: texts that cost a search more than its limit.
    "pattern_given_up",
    // Actions that look right and are not: tables refuse most of them.
    "unusable action",
    // Bugs.
    "worker_failed",
    "panic",
];

/// A JSON value in which no object has a key twice.
#[derive(Debug)]
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Value;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("JSON without null and fractions")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(Strict(value)) = items.next_element()? {
                    values.push(value);
                }
                Ok(values.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
                let mut map = Map::new();
                while let Some((key, Strict(value))) = members.next_entry::<String, Strict>()? {
                    if map.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{key} is there twice")));
                    }
                }
                Ok(map.into())
            }
        }
        deserializer.deserialize_any(Reader).map(Strict)
    }
}

fn parse(line: &str) -> Value {
    match serde_json::from_str(line) {
        Ok(Strict(value @ Value::Object(_))) => value,
        other => panic!("not an object: {other:?}: {line}"),
    }
}

/// The keys of each event, as the operators' manual has them.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| event | further keys | when |\n|---|---|---|\n").unwrap();
    let names =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        let keys: BTreeSet<String> = names(cells[2]).into_iter().collect();
        names(cells[1]).into_iter().map(move |event| (event, keys.clone()))
    })
    .collect()
}

/// Holds a line against the manual; the event's name.
fn check(line: &Value, documented: &BTreeMap<String, BTreeSet<String>>) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("{key}: {line}")).to_owned();
    let (time, event) = (text("time"), text("event"));
    let shape: String =
        time.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{line}");
    let keys = documented.get(&event).unwrap_or_else(|| panic!("{event} is not documented: {line}"));
    let is_about_mail = line.get("id").is_some();
    if is_about_mail {
        assert!(text("id").bytes().all(|byte| byte.is_ascii_alphanumeric()), "{line}");
    } else {
        assert!(["info", "warning", "error"].contains(&text("level").as_str()), "{line}");
        assert!(!text("message").is_empty());
    }
    for (key, value) in line.as_object().unwrap() {
        let is_common = match key.as_str() {
            "time" | "event" | "bytes" | "sizes" => true,
            "id" => is_about_mail,
            "level" | "message" => !is_about_mail,
            _ => false,
        };
        assert!(is_common || keys.contains(key), "{event} has {key}, which is not documented: {line}");
        match key.as_str() {
            "to" | "listen" | "errors" | "backtrace" | "queue_ids" => assert!(value.is_array(), "{line}"),
            "nrcpt" | "size" | "uid" | "commit_us" | "workers" | "messages" | "octets" | "segments"
            | "offset" | "lines" | "missing" | "failures" => assert!(value.is_u64(), "{key}: {line}"),
            "bytes" | "sizes" => assert!(value.is_object(), "{line}"),
            _ => assert!(value.is_string(), "{key}: {line}"),
        }
    }
    event
}

/// Waits until `is_done`.
fn wait_until(what: &str, mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// Submits a message with `sendmail -C config`.
fn submit(config: &str, content: &str) {
    let mut command = Command::new(program());
    let mut child =
        command.args(["sendmail", "-C", config, "b@localhost"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Whether a client may send to `recipient` now.
fn is_taken(address: SocketAddr, recipient: &str) -> bool {
    let mut client = Client::introduced(address);
    client.say("MAIL FROM:<a@example.org>", "250 ");
    client.send(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
    client.reply().starts_with("250 ")
}

/// A server of a socketmap that knows nothing, on its own thread until the process ends.
fn serve_nothing(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer_nothing(stream.unwrap()));
        }
    });
}

fn answer_nothing(stream: TcpStream) {
    let mut bytes = BufReader::new(stream.try_clone().unwrap()).bytes().map_while(Result::ok);
    let mut stream = stream;
    loop {
        let digits: String = bytes.by_ref().take_while(|byte| *byte != b':').map(char::from).collect();
        let Ok(size) = digits.parse::<usize>() else { return };
        let _question: Vec<u8> = bytes.by_ref().take(size + 1).collect();
        if stream.write_all(b"9:NOTFOUND ,").is_err() {
            return;
        }
    }
}

/// What a check has to say of fields that no client should send.
const CHECKS: &str = "\
/^X-Warn:/ WARN \"quoted\" \\ and \t tab\n\
/^X-Info:/ INFO\n\
/^X-Filter:/ FILTER smtp:[192.0.2.1]\n\
/^X-Pass:/ PASS\n\
/^X-Discard:/ DISCARD\n\
/^X-Hold:/ HOLD\n\
/^X-Prepend:/ PREPEND X-Before: x\n\
/^X-Replace:/ REPLACE X-After: x\n\
/^X-Redirect:/ REDIRECT c@localhost\n\
/^X-Bcc:/ BCC d@localhost\n\
/^X-Strip:/ STRIP\n\
/^X-Reject:/ REJECT not here\n";

/// Mail of every kind.
fn send_mail(engine: &mut Engine) {
    let mut client = engine.client();
    // One field each: some end what comes after them.
    for line in CHECKS.lines() {
        let name = line.split(['^', ':']).nth(1).unwrap();
        let content = format!("{name}: a \\ \"b\"\r\nMessage-Id: <\u{1}{name}>\r\n\r\n");
        client.offer("a@example.org", "b@localhost", content.as_bytes());
    }
    let odd = b"X-Warn: \xff\x1b[31m\xed\xa0\x80\xe2\x80\xae\r\n\r\n";
    client.offer("a@example.org", "b@localhost", odd);
    let long = format!("X-Info: {}\r\n\r\n", "x".repeat(9000).as_str());
    client.offer("a@example.org", "b@localhost", long.as_bytes());
    // More recipients than one line lists.
    client.say("MAIL FROM:<\"a\\\"b\\\\c\"@example.org>", "250 ");
    for number in 0..RECIPIENTS {
        client.say(&format!("RCPT TO:<{}>", recipient(number)), "250 ");
    }
    client.say("DATA", "354 ");
    client.say("Subject: many\r\n\r\n.", "250 ");
    drop(client);
    let mut silent = engine.client();
    silent.expect("421 ");
}

const RECIPIENTS: usize = 200;

fn recipient(number: usize) -> String {
    format!("{number}+{}@localhost", "x".repeat(150))
}

/// A life of an engine with as many kinds of events as it can have; its lines.
fn a_full_life(directory: &Directory) -> Vec<String> {
    let _ = directory.write("checks", CHECKS);
    let _ = directory.write("virtual", "x@localhost y@localhost\nx@localhost z@localhost\n");
    // A server that does not answer yet.
    let server = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = |more: &str| {
        format!(
            "mynetworks = []\nrelay_domains = [\"socketmap:inet:{server}:domains\"]\nsmtpd_timeout = \"1s\"\n\
             header_checks = [\"regexp:checks\"]\nvirtual_alias_maps = [\"texthash:virtual\"]\n{more}"
        )
    };
    let queue = "[queue]\ndirectory = \"mailrace-queue\"\n";
    let config = directory.write("mailrace.toml", &text(queue));
    let config = config.to_str().unwrap();
    let more =
        ["engine.log_connections=yes", "engine.table_check_period=1s", "engine.metrics_listen=127.0.0.1:0"];
    let mut arguments = vec!["--config", config];
    arguments.extend(JSON_LOG);
    more.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let mut engine = Engine::start(directory, &arguments);
    send_mail(&mut engine);
    let held = run(directory.path(), &["queue", "hold", "--config", config, "--state", "incoming"]);
    assert!(held.status.success(), "{}", held.errors);
    engine.event("queue_action");

    // Another engine with this configuration; its control socket and its maildrop are in the way.
    let other = Directory::new();
    fs::create_dir_all(other.path().join("mailrace-queue/control/x")).unwrap();
    fs::write(other.path().join("mailrace-queue/maildrop"), "").unwrap();
    let metrics = format!("engine.metrics_listen={}", engine.metrics_address());
    let mut second_arguments = arguments.clone();
    second_arguments.extend(["--set", &metrics]);
    let second = Engine::start(&other, &second_arguments);
    let mut lines = stopped(second);

    submit(config, "Subject: submitted\n\n");
    engine.line_with("\"uid\":");
    submit(config, "X-Reject: 1\n\n");
    engine.event("submission_refused");
    fs::write(directory.path().join("mailrace-queue/maildrop").join("1".repeat(32)), "garbage").unwrap();
    engine.signal(Signal::HUP);
    engine.event("reloaded");

    change_tables(&mut engine, directory, server);

    let _ = directory.write("mailrace.toml", "smtpd_timeot = 1\nx\u{1b} = 2\n");
    engine.signal(Signal::HUP);
    engine.event("reload_failed");
    let _ = directory.write("mailrace.toml", &text("[engine]\nmax_connections = 100\n"));
    engine.signal(Signal::HUP);
    engine.event("restart_needed");

    // The queue's directory goes away and comes back.
    let (here, away) = (directory.path().join("mailrace-queue"), directory.path().join("away"));
    fs::rename(&here, &away).unwrap();
    engine.event("queue_unavailable");
    fs::rename(&away, &here).unwrap();
    engine.event("queue_available");
    lines.extend(stopped(engine));
    lines
}

/// Tables: wrong, right, silent, back.
fn change_tables(engine: &mut Engine, directory: &Directory, server: SocketAddr) {
    let _ = directory.write("virtual", "x@localhost\n");
    engine.event("tables_not_reloaded");
    let _ = directory.write("virtual", "x@localhost z@localhost\n");
    engine.event("tables_reloaded");
    assert!(!is_taken(engine.addresses[0], "b@relayed.example"));
    engine.event("table_unavailable");
    serve_nothing(server);
    wait_until("the table's server is not asked again", || {
        is_taken(engine.addresses[0], "b@relayed.example");
        std::thread::sleep(Duration::from_millis(50));
        engine.metrics().contains("relay_denied")
    });
    engine.event("table_available");
}

fn stopped(mut engine: Engine) -> Vec<String> {
    engine.signal(Signal::TERM);
    assert!(engine.wait().success());
    std::mem::take(&mut engine.lines)
}

/// A start that finds its queue damaged, with a submission that cannot be queued for now; its lines.
fn a_damaged_start(directory: &Directory) -> Vec<String> {
    let mark = b"a mark in the content";
    let engine = Engine::start(directory, &[]);
    let mut client = engine.client();
    client.queue("a@example.org", "b@localhost", &format!("X: {}\r\n\r\n", String::from_utf8_lossy(mark)));
    // A last record that is damaged is one that a crash left.
    client.queue("a@example.org", "b@localhost", "X: another\r\n\r\n");
    drop(client);
    engine.stop();
    for entry in fs::read_dir(directory.path().join("mailrace-queue/segments")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = memchr::memmem::find(&bytes, mark) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let config = directory.write(
        "mailrace.toml",
        "queue_minfree = 9000000000000000000\n[queue]\ndirectory = \"mailrace-queue\"\n",
    );
    submit(config.to_str().unwrap(), "Subject: submitted\n\n");
    let mut arguments = vec!["--config", config.to_str().unwrap()];
    arguments.extend(JSON_LOG);
    let mut engine = Engine::start(directory, &arguments);
    engine.event("deferred");
    stopped(engine)
}

/// The lines of an engine that tries a message once, which the second server defers, and reports it.
fn a_delivery(directory: &Directory) -> Vec<String> {
    let (absent, next_hop) = (NextHop::new().address().port(), NextHop::new());
    let relayhost = format!("relayhost=[127.0.0.1]:{absent}, [127.0.0.1]:{}", next_hop.address().port());
    let mut arguments = JSON_LOG.to_vec();
    arguments.extend(["--set", &relayhost, "--set", "relay_domains=example.net"]);
    arguments.extend(["--set", "maximal_queue_lifetime=0"]);
    let mut engine = Engine::start(directory, &arguments);
    let sessions = std::thread::spawn(move || {
        next_hop.session(|command| command.contains("<b@").then_some("450 4.2.1 later"));
        next_hop.session(|_| None)
    });
    engine.client().queue("a@example.org", "b@example.net", "Subject: x\r\n\r\nx\r\n");
    let report = sessions.join().unwrap();
    assert!(report.commands[1].starts_with("MAIL FROM:<> "), "{:?}", report.commands);
    assert_eq!(report.commands[2], "RCPT TO:<a@example.org>");
    engine.event("removed");
    stopped(engine)
}

/// The lines of an engine whose log is not read for a while.
fn a_blocked_log(directory: &Directory) -> Vec<String> {
    let mut arguments = JSON_LOG.to_vec();
    arguments.extend(["--set", "engine.workers=1", "--set", "engine.log_memory=64KiB"]);
    let mut engine = Engine::start(directory, &arguments);
    let mut client = engine.client();
    let content = format!("Message-Id: <{}@client.example>\r\n\r\n", "x".repeat(300));
    let one = format!(
        "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@localhost>\r\nBDAT {} LAST\r\n{content}",
        content.len()
    );
    // A pipe holds 64 KiB, as does the memory for lines.
    for _ in 0..6 {
        client.send(one.repeat(100).as_bytes());
        (0..300).for_each(|_| drop(client.expect("250 ")));
    }
    drop(client);
    engine.event("log_lines_lost");
    stopped(engine)
}

#[test]
fn every_line_is_json_and_documented() {
    let documented = documented();
    let (first, second, third) = (Directory::new(), Directory::new(), Directory::new());
    let mut lines = a_full_life(&first);
    lines.extend(a_damaged_start(&second));
    lines.extend(a_blocked_log(&third));
    lines.extend(a_delivery(&Directory::new()));
    let bad = third.write("bad.toml", "smtpd_timeot = 1\n[engine]\nlog_format = \"json\"\n");
    for arguments in [
        &["serve", "--config", bad.to_str().unwrap()][..],
        &["serve", "--listen", "192.0.2.1:1", JSON_LOG[0], JSON_LOG[1]],
        &["serve", "--set", "nonsense", JSON_LOG[0], JSON_LOG[1]],
    ] {
        let failed = run(third.path(), arguments);
        assert!(!failed.status.success());
        lines.extend(failed.errors.lines().map(str::to_owned));
    }
    let values: Vec<Value> = lines.iter().map(|line| parse(line)).collect();
    let seen: BTreeSet<String> = values.iter().map(|line| check(line, &documented)).collect();
    let unseen: Vec<&String> = documented.keys().filter(|event| !seen.contains(*event)).collect();
    let unexplained: Vec<_> = unseen.iter().filter(|event| !ELSEWHERE.contains(&event.as_str())).collect();
    assert!(unexplained.is_empty(), "no line has {unexplained:?}");

    // Nothing is lost.
    let with = |event: &str| -> Vec<&Value> { values.iter().filter(|line| line["event"] == event).collect() };
    let many = with("queued").into_iter().find(|line| line["nrcpt"] == RECIPIENTS).unwrap();
    assert_eq!(many["from"], "a\"b\\c@example.org");
    let further = with("recipients").into_iter().filter(|line| line["id"] == many["id"]);
    let listed: Vec<&Value> =
        std::iter::once(many).chain(further).flat_map(|line| line["to"].as_array().unwrap()).collect();
    assert!(listed.len() > many["to"].as_array().unwrap().len());
    assert!(listed.into_iter().map(|to| to.as_str().unwrap().to_owned()).eq((0..RECIPIENTS).map(recipient)));
    let odd = with("warning").into_iter().find(|line| line.get("bytes").is_some()).unwrap();
    assert_eq!(odd["header"], "X-Warn: \u{fffd}\u{1b}[31m\u{fffd}\u{fffd}\u{fffd}\u{202e}");
    assert_eq!(odd["bytes"], json!({"header": "582d5761726e3a20ff1b5b33316deda080e280ae"}));
    assert_eq!(odd["text"], "\"quoted\" \\ and \t tab");
    let long = with("info").into_iter().find(|line| line.get("sizes").is_some()).unwrap();
    assert_eq!(long["sizes"], json!({"header": "X-Info: ".len() + 9000}));
    require_jq(&lines);
}

/// What operators read such logs with.
fn require_jq(lines: &[String]) {
    let command = Command::new("jq")
        .args(["-c", "[.time, .event]"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut jq) = command else { return skip("jq is not installed (apt-get install jq)") };
    let mut input = jq.stdin.take().unwrap();
    let text = lines.join("\n");
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = jq.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), lines.len());
}
