//! Lookup tables while the engine runs: changed, broken, slow, made by Postfix.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use mailrace_dev::program::command;
use mailrace_tests::{Client, Directory, Engine, run, skip};
use rustix::process::Signal;
use serde_json::Value;

/// To whom the last message in the queue goes.
fn last_recipients(directory: &Directory) -> Vec<String> {
    recipients(directory.messages().last().unwrap())
}

fn recipients(envelope: &Value) -> Vec<String> {
    texts(&envelope["recipients"])
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_changed_table_is_reloaded_unless_it_is_invalid() {
    let directory = Directory::new();
    let _ = directory.write("virtual", "a@localhost one@localhost\n");
    let config = directory.write("mailrace.toml", "virtual_alias_maps = [\"texthash:virtual\"]\n");
    let arguments = ["--config", config.to_str().unwrap(), "--set", "engine.table_check_period=1s"];
    let mut engine = Engine::start_with_events(&directory, &arguments);
    // One connection sees it all.
    let mut client = engine.client();
    let mut goes_to = |wanted: &str| {
        client.queue("s@example.org", "a@localhost", "Subject: x\r\n\r\n");
        assert_eq!(last_recipients(&directory), [wanted]);
    };
    goes_to("one@localhost");
    let _ = directory.write("virtual", "a@localhost two@localhost\n");
    engine.event("tables_reloaded");
    goes_to("two@localhost");
    let _ = directory.write("virtual", "# broken\na@localhost\n");
    let errors = texts(&engine.event("tables_not_reloaded")["errors"]);
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(error.contains("/virtual:2: texthash:virtual: has no value; write"), "{error}");
    goes_to("two@localhost");
    let said = engine.lines.len();
    let _ = directory.write("virtual", "a@localhost three@localhost\n");
    engine.event("tables_reloaded");
    goes_to("three@localhost");
    assert!(engine.events().skip(said).all(|event| event["event"] != "tables_not_reloaded"));
    engine.stop();
}

/// A server of tcp_table(5) that reports the questions it receives, and gives the answers it is set to.
struct Server {
    port: u16,
    questions: Receiver<(String, Sender<String>)>,
}

fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, questions) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            std::thread::spawn(move || serve(&stream, &sender));
        }
    });
    Server { port, questions }
}

fn serve(mut stream: &TcpStream, questions: &Sender<(String, Sender<String>)>) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let (answer, answers) = mpsc::channel();
        let key = line.strip_prefix("get ").unwrap().to_owned();
        if questions.send((key, answer)).is_err() {
            return;
        }
        // A question that is never answered ends the connection with the test.
        let Ok(reply) = answers.recv() else { return };
        stream.write_all(format!("{reply}\n").as_bytes()).unwrap();
    }
}

impl Server {
    /// Answers `500` until it is asked for `key`; how to answer that.
    fn asked_for(&self, key: &str) -> Sender<String> {
        loop {
            let (asked, answer) = self.questions.recv().unwrap();
            if asked == key {
                return answer;
            }
            answer.send("500 none".to_owned()).unwrap();
        }
    }
}

fn offer(client: &mut Client, recipient: &str) {
    client.say("MAIL FROM:<s@example.org>", "250 ");
    client.say(&format!("RCPT TO:<{recipient}>"), "250 ");
    client.say("DATA", "354 ");
    client.send(b"Subject: x\r\n\r\n.\r\n");
}

#[test]
fn a_message_that_waits_for_a_table_delays_no_other() {
    let directory = Directory::new();
    let server = server();
    let maps = format!("virtual_alias_maps=tcp:127.0.0.1:{}", server.port);
    let engine = Engine::start(&directory, &["--set", &maps, "--set", "engine.workers=1"]);
    let (mut slow, mut quick) = (engine.client(), engine.client());
    offer(&mut slow, "slow@localhost");
    let slow_answer = server.asked_for("slow@localhost");
    offer(&mut quick, "quick@localhost");
    server.asked_for("quick@localhost").send("200 target@localhost".to_owned()).unwrap();
    // The result is looked up in its turn.
    server.asked_for("target@localhost").send("500 none".to_owned()).unwrap();
    server.asked_for("target").send("500 none".to_owned()).unwrap();
    server.asked_for("@localhost").send("500 none".to_owned()).unwrap();
    quick.expect("250 ");
    assert_eq!(last_recipients(&directory), ["target@localhost"]);
    slow_answer.send("200 quick@localhost".to_owned()).unwrap();
    // What was answered before is not asked again.
    slow.expect("250 ");
    assert_eq!(last_recipients(&directory), ["target@localhost"]);
    engine.stop();
}

#[test]
fn tables_list_own_domains() {
    let directory = Directory::new();
    let _ = directory.write("virtual", "virtual.example -\na@virtual.example b@localhost\n");
    let server = server();
    let config = format!(
        "mynetworks = []\nvirtual_alias_maps = [\"texthash:virtual\"]\nrelay_domains = [\"relay.example\", \"tcp:127.0.0.1:{}\"]\n",
        server.port
    );
    let config = directory.write("mailrace.toml", &config);
    let engine = Engine::start(&directory, &["--config", config.to_str().unwrap()]);
    let mut client = engine.client();
    client.say("MAIL FROM:<s@example.org>", "250 ");
    client.say("RCPT TO:<x@relay.example>", "250 ");
    // More than one command waits, in its order.
    client
        .send(b"RCPT TO:<x@asked.example>\r\nRCPT TO:<a@virtual.example>\r\nRCPT TO:<y@virtual.example>\r\n");
    client.send(b"RCPT TO:<y@other>\r\n");
    server.asked_for("asked.example").send("200 yes".to_owned()).unwrap();
    client.expect("250 2.1.5 ");
    server.asked_for("other").send("500 no".to_owned()).unwrap();
    client.expect("250 2.1.5 ");
    client.expect(
        "550 5.1.1 <y@virtual.example>: Recipient address rejected: User unknown in virtual alias table",
    );
    client.expect("554 5.7.1 <y@other>: Relay access denied");
    engine.stop();
}

#[test]
fn a_table_that_does_not_answer_causes_451() {
    let directory = Directory::new();
    let server = server();
    let maps = format!("virtual_alias_maps=tcp:127.0.0.1:{}", server.port);
    let arguments = ["--set", &maps, "--set", "engine.lookup_timeout=1s"];
    let mut engine = Engine::start_with_events(&directory, &arguments);
    let mut client = engine.client();
    offer(&mut client, "a@localhost");
    let unanswered = server.asked_for("a@localhost");
    client.expect("451 4.3.0 ");
    let event = engine.event("table_unavailable");
    assert_eq!(event["table"], format!("tcp:127.0.0.1:{}", server.port));
    assert_eq!(event["reason"], "no answer within 1s");
    drop(unanswered);
    assert!(directory.messages().is_empty());
    // The session goes on.
    client.say("NOOP", "250 ");
    engine.stop();
}

#[test]
fn reads_tables_made_by_postmap() {
    let directory = Directory::new();
    let wanted: BTreeMap<String, String> = (0..3000)
        .map(|number| (format!("user{number}@example.com"), format!("mailbox{number}@example.net")))
        .collect();
    let long: Vec<String> = (0..200).map(|number| format!("member{number}@lists.example.org")).collect();
    let mut text: String = wanted.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
    text += &format!("all@example.com {}\n", long.join(", "));
    let _ = directory.write("virtual", &text);
    // Its configuration belongs to no user.
    let _ = directory.write("main.cf", "compatibility_level = 3.6\n");
    for kind in ["lmdb", "cdb"] {
        let made = command("postmap")
            .args(["-c", directory.path().to_str().unwrap(), &format!("{kind}:virtual")])
            .current_dir(directory.path())
            .output();
        match made {
            Ok(made) if made.status.success() => {}
            other => {
                skip(&format!(
                    "tables of kind {kind} need the packages postfix and postfix-{kind}: {other:?}"
                ));
                continue;
            }
        }
        let maps = format!("virtual_alias_maps={kind}:{}", directory.path().join("virtual").display());
        for (given, wanted) in wanted.iter().step_by(271) {
            assert_eq!(aliases(directory.path(), &maps, given), [wanted.as_str()], "{kind}");
        }
        assert_eq!(aliases(directory.path(), &maps, "all@example.com"), long, "{kind}");
        assert_eq!(aliases(directory.path(), &maps, "none@example.com"), ["none@example.com"], "{kind}");
        let file = directory.path().join(format!("virtual.{kind}"));
        let mut octets = std::fs::read(&file).unwrap();
        octets.truncate(octets.len() / 3);
        std::fs::write(&file, octets).unwrap();
        let refused = run(directory.path(), &["check", "--set", &maps]);
        assert_eq!(refused.status.code(), Some(78), "{}{}", refused.output, refused.errors);
        assert!(refused.errors.contains("damaged"), "{}", refused.errors);
    }
}

fn aliases(directory: &Path, maps: &str, recipient: &str) -> Vec<String> {
    let message = directory.join("message");
    std::fs::write(&message, "Subject: x\n\n").unwrap();
    let cleaned = run(
        directory,
        &["clean", "--envelope", "--set", maps, "--recipient", recipient, message.to_str().unwrap()],
    );
    assert!(cleaned.status.success(), "{}", cleaned.errors);
    recipients(&serde_json::from_str(&cleaned.output).unwrap())
}

/// A server of tcp_table(5) that answers by itself, and counts what it is asked.
fn server_that_says(answer: impl Fn(&str) -> String + Send + Clone + 'static) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer, count) = (stream.unwrap(), answer.clone(), Arc::clone(&count));
            std::thread::spawn(move || {
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let Ok(line) = line else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    let reply = answer(line.strip_prefix("get ").unwrap());
                    if stream.write_all(format!("{reply}\n").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, asked)
}

/// The number in front of an address, and one more.
fn next(key: &str) -> usize {
    1 + key.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().unwrap_or_default()
}

#[test]
fn an_endless_chain_of_aliases_ends() {
    let directory = Directory::new();
    let (port, asked) = server_that_says(|key| format!("200 {}@localhost", next(key)));
    let maps = format!("virtual_alias_maps=tcp:127.0.0.1:{port}");
    // Too little for the chain: what it has asked is not remembered for it there.
    let cache = "engine.lookup_cache_size=65536";
    let engine = Engine::start(&directory, &["--set", &maps, "--set", cache]);
    let mut client = engine.client();
    offer(&mut client, "0@localhost");
    client.expect("451 4.6.0 ");
    // virtual_alias_recursion_limit.
    assert_eq!(asked.load(Ordering::Relaxed), 1000);
    engine.stop();
}

#[test]
fn exponential_aliases_stop_at_the_lookup_limit() {
    let directory = Directory::new();
    let (port, asked) = server_that_says(|key| {
        format!("200 {0}a{key},{0}b{key}", next(key)).replace("@localhost", "") + "@localhost"
    });
    let maps = format!("virtual_alias_maps=tcp:127.0.0.1:{port}");
    let arguments = ["--set", &maps, "--set", "engine.alias_question_limit=100"];
    let engine = Engine::start(&directory, &arguments);
    let mut client = engine.client();
    offer(&mut client, "0@localhost");
    client.expect("451 4.6.0 ");
    // 20 more for the recipient; some are not sent when the bound is passed.
    let asked = asked.load(Ordering::Relaxed);
    assert!((60..=130).contains(&asked), "{asked} questions");
    engine.stop();
}

#[test]
fn a_table_that_is_not_a_regular_file_blocks_nothing() {
    let directory = Directory::new();
    let table = directory.write("virtual", "a@localhost one@localhost\n");
    let config = directory.write("mailrace.toml", "virtual_alias_maps = [\"texthash:virtual\"]\n");
    let arguments = ["--config", config.to_str().unwrap(), "--set", "engine.table_check_period=1s"];
    let mut engine = Engine::start_with_events(&directory, &arguments);
    let fifo = |path: &Path| {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    };
    let huge = |path: &Path| std::fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    let zero = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    type Make<'m> = &'m dyn Fn(&Path);
    let cases: [(Make<'_>, &str); 4] = [
        (&fifo, "is a FIFO, not a regular file"),
        (&|path: &Path| std::fs::create_dir(path).unwrap(), "is a directory, not a regular file"),
        (&zero, "is a device, not a regular file"),
        (&huge, "more than the 1073741824 that are allowed"),
    ];
    for (make, reason) in cases {
        if table.is_dir() {
            std::fs::remove_dir(&table).unwrap()
        } else {
            std::fs::remove_file(&table).unwrap()
        }
        make(&table);
        let errors = texts(&engine.event("tables_not_reloaded")["errors"]);
        assert!(errors.iter().any(|error| error.contains(reason)), "{errors:?}");
        // The old table is in force, and a reload says the same.
        let mut client = engine.client();
        client.queue("s@example.org", "a@localhost", "Subject: x\r\n\r\n");
        assert_eq!(last_recipients(&directory), ["one@localhost"]);
        engine.signal(Signal::HUP);
        let errors = texts(&engine.event("reload_failed")["errors"]);
        assert!(errors.iter().any(|error| error.contains(reason)), "{errors:?}");
        let refused = run(directory.path(), &["check", "--config", config.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(78));
        assert!(refused.errors.contains(reason), "{}", refused.errors);
    }
    engine.stop();
    // The configuration itself.
    std::fs::remove_file(&config).unwrap();
    fifo(&config);
    let refused = run(directory.path(), &["check", "--config", config.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(refused.errors.contains("is a FIFO, not a regular file"), "{}", refused.errors);
}

#[test]
fn waits_for_a_table_that_is_being_written() {
    let directory = Directory::new();
    let _ = directory.write("virtual", "a@localhost one@localhost\n");
    let config = directory.write("mailrace.toml", "virtual_alias_maps = [\"texthash:virtual\"]\n");
    let arguments = ["--config", config.to_str().unwrap(), "--set", "engine.table_check_period=1s"];
    let mut engine = Engine::start_with_events(&directory, &arguments);
    let _ = directory.write("virtual", "b@localhost two@localhost\na@localhost two@local");
    // After a while it is taken as it is, which is said.
    let note = engine.event("configuration_note");
    let note = note["message"].as_str().unwrap();
    assert!(note.contains("virtual:2: texthash:virtual: the last line has no line end"), "{note}");
    engine.event("tables_reloaded");
    let _ = directory.write("virtual", "a@localhost three@localhost\n");
    engine.event("tables_reloaded");
    let mut client = engine.client();
    client.queue("s@example.org", "a@localhost", "Subject: x\r\n\r\n");
    assert_eq!(last_recipients(&directory), ["three@localhost"]);
    engine.stop();
}

/// A reload in the middle of that waits for the rest; what it would have read first would send mail elsewhere.
#[test]
fn a_reload_waits_for_a_table_that_is_being_written() {
    let directory = Directory::new();
    let _ = directory.write("virtual", "a@localhost one@localhost\n");
    let config = directory.write("mailrace.toml", "virtual_alias_maps = [\"texthash:virtual\"]\n");
    let arguments = ["--config", config.to_str().unwrap(), "--set", "engine.table_check_period=1h"];
    let mut engine = Engine::start_with_events(&directory, &arguments);
    for (cut, rest) in [("a@localhost two@local", "host\n"), ("a@localhost", " three@localhost\n")] {
        let path = directory.write("virtual", cut);
        engine.signal(Signal::HUP);
        // The old table is in force for as long as it takes; a reload that did not wait would be over by then.
        for _ in 0..3 {
            let mut client = engine.client();
            client.queue("s@example.org", "a@localhost", "Subject: x\r\n\r\n");
            assert!(last_recipients(&directory)[0].ends_with("@localhost"));
        }
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(rest.as_bytes()).unwrap();
        engine.event("reloaded");
        let mut client = engine.client();
        client.queue("s@example.org", "a@localhost", "Subject: x\r\n\r\n");
        let expected = format!("{cut}{rest}");
        let expected = expected.trim_end().rsplit(' ').next().unwrap();
        assert_eq!(last_recipients(&directory), [expected]);
    }
    // One that stays so is taken as it is, which is said.
    let _ = directory.write("virtual", "a@localhost four@localhost");
    engine.signal(Signal::HUP);
    engine.event("configuration_note");
    engine.event("reloaded");
    engine.stop();
}

#[test]
fn check_reports_each_table_error_once() {
    let directory = Directory::new();
    let _ = directory.write("checks", "/^A:/ REJEKT spam\n/^B:/ REJECT $1\n/^(C):/ $1\n");
    let _ = directory.write("actions", "/^A:/ REJEKT spam\n/^B:/ FILTER smtp\n/^(C):/ $1\n/^D:/ 550 no\n");
    let _ = directory.write("virtual", "a\nb c\nd\n");
    let check = |text: &str| {
        let config = directory.write("mailrace.toml", text);
        run(directory.path(), &["check", "--config", config.to_str().unwrap()])
    };
    let lines = |errors: &str, part: &str| errors.lines().filter(|line| line.contains(part)).count();
    let wrong = check("header_checks = [\"regexp:checks\"]\nvirtual_alias_maps = [\"hash:virtual\"]\n");
    assert_eq!(wrong.status.code(), Some(78));
    for (part, count) in [
        ("checks:2: regexp:checks: the pattern has no group $1", 1),
        ("virtual:1: hash:virtual: has no value", 1),
        ("virtual:3: hash:virtual: has no value", 1),
        ("checks:1: regexp:checks: \"REJEKT\" is not an action", 1),
        ("mailrace.toml:", 4),
    ] {
        assert_eq!(lines(&wrong.errors, part), count, "{part} in {}", wrong.errors);
    }
    let wrong = check("header_checks = [\"regexp:actions\"]\nvirtual_alias_maps = [\"bad\"]\n");
    assert_eq!(lines(&wrong.errors, "does not name a lookup table"), 1, "{}", wrong.errors);
    let wrong = check("header_checks = [\"regexp:actions\"]\n");
    assert_eq!(wrong.status.code(), Some(78));
    assert_eq!(
        lines(&wrong.errors, "actions:1: regexp:actions: \"REJEKT\" is not an action"),
        1,
        "{}",
        wrong.errors
    );
    assert_eq!(lines(&wrong.errors, "actions:2: regexp:actions: FILTER has no transport:destination"), 1);
    assert_eq!(lines(&wrong.errors, "mailrace.toml:"), 2, "{}", wrong.errors);
    let warned = check(
        "header_checks = [\"regexp:actions\"]\nvirtual_alias_maps = [\"hash:virtual\"]\n[engine]\ntable_errors = \"warn\"\n",
    );
    assert_eq!(warned.status.code(), Some(0), "{}", warned.errors);
    let said = format!("{}{}", warned.output, warned.errors);
    assert_eq!(lines(&said, "warning: "), 4, "{said}");
    assert_eq!(lines(&said, "virtual:3: hash:virtual: has no value; the line is skipped"), 1, "{said}");
}

#[test]
fn lookup_prints_the_value_of_a_key() {
    let directory = Directory::new();
    let _ = directory.write("virtual", "a@localhost one@localhost\nB two three\n");
    let lookup = |arguments: &[&str]| run(directory.path(), &[&["lookup"], arguments].concat());
    let table = format!("hash:{}", directory.path().join("virtual").display());
    let found = lookup(&[&table, "b"]);
    assert_eq!(
        (found.status.code(), found.output.as_str(), found.errors.as_str()),
        (Some(0), "two three\n", "")
    );
    let missing = lookup(&[&table, "c"]);
    assert_eq!((missing.status.code(), missing.output.as_str(), missing.errors.as_str()), (Some(1), "", ""));
    let wrong = lookup(&["pcre:{{/(/ x}}", "c"]);
    assert_eq!(wrong.status.code(), Some(78));
    assert!(wrong.errors.contains("rule 1: invalid pattern"), "{}", wrong.errors);
    let (port, _) =
        server_that_says(|key| if key == "known" { "200 value".into() } else { "400 later".into() });
    let table = format!("proxy:tcp:127.0.0.1:{port}");
    assert_eq!(lookup(&[&table, "known"]).output, "value\n");
    let unanswered = lookup(&[&table, "unknown"]);
    assert_eq!(unanswered.status.code(), Some(75), "{}", unanswered.errors);
}

#[test]
fn a_table_can_have_five_thousand_patterns() {
    let directory = Directory::new();
    let rules: String = (0..5000)
        .map(|number| {
            format!("/^Subject:.*\\b(cheap{number}|free) (viagra|casino{number})\\b/ REJECT {number}\n")
        })
        .collect();
    let _ = directory.write("checks", &rules);
    for kind in ["pcre", "regexp"] {
        let table = format!("{kind}:{}", directory.path().join("checks").display());
        let found = run(directory.path(), &["lookup", &table, "subject: so FREE casino4711!"]);
        assert_eq!(found.output, "REJECT 4711\n", "{}", found.errors);
        let missing = run(directory.path(), &["lookup", &table, "subject: so free casinos"]);
        assert_eq!(missing.status.code(), Some(1), "{}", missing.errors);
    }
}
