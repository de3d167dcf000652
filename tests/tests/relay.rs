//! Mail leaves the queue for the next hop that `relayhost` names.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::net::SocketAddr;
use std::thread;

use mailrace_tests::{Directory, Engine, NextHop};

/// An engine with this next hop, for mail to `example.net` from anyone. Deferred mail waits for long enough that the engine
/// can be stopped meanwhile.
fn start(directory: &Directory, relayhost: SocketAddr) -> Engine {
    let text = format!(
        "relayhost = \"[{}]:{}\"\nmyhostname = \"mx.example.com\"\nrelay_domains = \"example.net\"\nminimal_backoff_time = \"10s\"\n",
        relayhost.ip(),
        relayhost.port()
    );
    let config = directory.write("mailrace.toml", &text);
    Engine::start(directory, &["--config", config.to_str().unwrap()])
}

#[test]
fn a_message_goes_to_the_next_hop_and_leaves_the_queue() {
    let (directory, next_hop) = (Directory::new(), NextHop::new());
    let mut engine = start(&directory, next_hop.address());
    let session = thread::spawn(move || (next_hop.session(|_| None), next_hop));
    let id = engine.client().queue("a@example.org", "b@example.net", "Subject: x\r\n\r\n..dot\r\n");
    let (sent, _next_hop) = session.join().unwrap();
    let commands = sent.commands;
    assert_eq!(commands[0], "EHLO mx.example.com");
    assert!(commands[1].starts_with("MAIL FROM:<a@example.org> SIZE="), "{commands:?}");
    assert_eq!(commands[2..], ["RCPT TO:<b@example.net>", "DATA"]);
    assert!(sent.content.contains("\nSubject: x\n"), "{}", sent.content);
    assert!(sent.content.ends_with("\n\n.dot\n"), "{}", sent.content);
    let delivery = engine.line_with("status=sent");
    assert!(delivery.contains(&format!(" mailrace: {id}: to=<b@example.net>, relay=127.0.0.1[127.0.0.1]:")));
    assert!(delivery.ends_with("dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as NEXT)"), "{delivery}");
    engine.line_with(&format!("{id}: removed"));
    assert!(directory.messages().is_empty());
    engine.stop();
}

#[test]
fn what_was_refused_for_now_is_sent_again_by_the_next_life() {
    let (directory, next_hop) = (Directory::new(), NextHop::new());
    let mut engine = start(&directory, next_hop.address());
    let refused = |command: &str| command.contains("later@").then_some("450 4.2.1 come back");
    let session = thread::spawn(move || (next_hop.session(refused), next_hop));
    let mut client = engine.client();
    for line in ["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "RCPT TO:<later@example.net>"] {
        client.say(line, "250 ");
    }
    client.say("DATA", "354 ");
    client.say("Subject: x\r\n\r\nx\r\n.", "250 ");
    let (_, next_hop) = session.join().unwrap();
    engine.line_with("status=sent");
    engine.line_with("status=deferred");
    // The mark is durable before the engine ends.
    engine.stop();
    let messages = directory.messages();
    let [message] = &messages[..] else { panic!("one message waits: {messages:?}") };
    assert_eq!(message["state"], "deferred");
    assert_eq!(message["recipients"], serde_json::json!(["later@example.net"]));
    let reason = message["reasons"]["later@example.net"].as_str().unwrap();
    assert!(reason.ends_with("said: 450 4.2.1 come back (in reply to RCPT TO command)"), "{reason}");
    let engine = start(&directory, next_hop.address());
    let sent = next_hop.session(|_| None);
    assert_eq!(sent.commands[2..], ["RCPT TO:<later@example.net>", "DATA"]);
    engine.stop();
    assert!(directory.messages().is_empty());
}

#[test]
fn a_next_hop_that_is_not_there_leaves_the_message_in_the_queue() {
    let directory = Directory::new();
    let address = NextHop::new().address();
    let mut engine = start(&directory, address);
    engine.client().queue("a@example.org", "b@example.net", "Subject: x\r\n\r\nx\r\n");
    let line = engine.line_with("status=deferred");
    let reason = format!("(connect to 127.0.0.1[127.0.0.1]:{}: Connection refused)", address.port());
    assert!(line.contains("relay=none") && line.ends_with(&reason), "{line}");
    engine.stop();
    assert_eq!(directory.messages()[0]["state"], "deferred");
}

/// Mail for this host has no transport yet: it stays, with the reason.
#[test]
fn mail_for_this_host_stays() {
    let (directory, next_hop) = (Directory::new(), NextHop::new());
    let mut engine = start(&directory, next_hop.address());
    engine.client().queue("a@example.org", "b@localhost", "Subject: x\r\n\r\nx\r\n");
    let line = engine.line_with("status=deferred");
    assert!(line.ends_with("dsn=4.3.0, status=deferred (mail transport unavailable)"), "{line}");
    engine.stop();
}

#[test]
fn held_mail_is_sent_once_it_is_released() {
    let (directory, next_hop) = (Directory::new(), NextHop::new());
    let before = Engine::start(&directory, &["--set", "relay_domains=example.net"]);
    before.client().queue("a@example.org", "b@example.net", "Subject: x\r\n\r\nx\r\n");
    assert!(before.queue(&["hold", "ALL"]).status.success());
    before.stop();
    let engine = start(&directory, next_hop.address());
    assert!(engine.queue(&["release", "ALL"]).status.success());
    assert_eq!(next_hop.session(|_| None).commands[2], "RCPT TO:<b@example.net>");
    engine.stop();
    assert!(directory.messages().is_empty());
}
