//! Draining, reloading, crashing.

use std::collections::BTreeSet;
use std::sync::mpsc;

use mailrace_tests::{Client, Directory, Engine};
use rustix::process::Signal;

#[test]
fn sigterm_finishes_a_message_and_ends_other_sessions() {
    let directory = Directory::new();
    let mut engine = Engine::start(&directory, &[]);
    let mut idle = engine.client();
    let mut busy = engine.client();
    busy.say("MAIL FROM:<a@example.org>", "250 ");
    busy.say("RCPT TO:<b@localhost>", "250 ");
    busy.say("DATA", "354 ");
    busy.send(b"Subject: x\r\n\r\n");
    engine.signal(Signal::TERM);
    idle.expect("421 4.3.2 ");
    busy.say(".", "250 2.0.0 Ok: queued as ");
    assert!(engine.wait().success(), "{:#?}", engine.lines);
    assert_eq!(directory.messages().len(), 1);
}

#[test]
fn sighup_applies_a_changed_configuration() {
    let directory = Directory::new();
    let text = |domain| {
        format!("myhostname = \"mx.example.com\"\nmynetworks = []\nrelay_domains = [\"{domain}\"]\n")
    };
    let config = directory.write("mailrace.toml", &text("example.com"));
    let arguments = ["--config", config.to_str().unwrap(), "--set", "engine.log_format=json"];
    let mut engine = Engine::start(&directory, &arguments);
    let mut client = engine.client();
    client.say("MAIL FROM:<a@example.org>", "250 ");
    client.say("RCPT TO:<b@example.com>", "250 ");
    client.say("RCPT TO:<b@example.net>", "554 5.7.1 ");

    let _ = directory.write("mailrace.toml", "relay_domain = []\n");
    engine.signal(Signal::HUP);
    engine.event("reload_failed");
    let _ = directory.write("mailrace.toml", &text("example.net"));
    engine.signal(Signal::HUP);
    engine.event("reloaded");
    // Settings arrive at a worker before whatever comes later on a new connection.
    let mut client = engine.client();
    client.say("MAIL FROM:<a@example.org>", "250 ");
    client.say("RCPT TO:<b@example.net>", "250 ");
    client.say("RCPT TO:<b@example.com>", "554 5.7.1 ");
    engine.stop();
}

#[test]
fn accepted_mail_survives_a_kill() {
    let directory = Directory::new();
    let mut accepted = BTreeSet::new();
    for round in 0..5 {
        let engine = Engine::start(&directory, &[]);
        let (sender, ids) = mpsc::channel();
        let address = engine.addresses[0];
        for _ in 0..4 {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut client = Client::introduced(address);
                loop {
                    client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@localhost>\r\nDATA\r\n");
                    let replies = [client.reply(), client.reply(), client.reply()];
                    if !replies[2].starts_with("354 ") {
                        return;
                    }
                    client.send(format!("Subject: x\r\n\r\n{}\r\n.\r\n", "x".repeat(700)).as_bytes());
                    let reply = client.reply();
                    if !reply.starts_with("250 ") || sender.send(reply).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Killed in the midst of the work, wherever it is then.
        let before = accepted.len();
        let wanted = before + 50 + 37 * round;
        let mut take = |reply: String| {
            accepted.insert(reply.rsplit(' ').next().unwrap().to_owned());
        };
        let mut count = before;
        while count < wanted {
            take(ids.recv().unwrap());
            count += 1;
        }
        engine.kill();
        ids.iter().for_each(take);
    }
    let listed: Vec<String> =
        directory.messages().iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect();
    let held: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), held.len(), "a message is there twice");
    let lost: Vec<_> = accepted.difference(&held).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), accepted.len());
}
