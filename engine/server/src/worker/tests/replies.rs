//! The replies of the catalogue that no dialogue gives: about places, memory, and mail that no session brings.

use std::collections::BTreeSet;

use mailrace_core::smtp::reply::{self, Reply};

use super::submission::submit;
use super::*;

/// The name of the reply outside of dialogues that `line` is, to the byte.
fn name_of(line: &[u8]) -> &'static str {
    let host = settings().smtp.myhostname;
    let written = |reply: &'static Reply| {
        let mut out = Vec::new();
        reply.write(&mut out, &host);
        out
    };
    let found = reply::OUTSIDE.iter().find(|(_, reply)| written(reply) == line);
    found.map_or_else(|| panic!("{:?} is another reply", line.escape_ascii().to_string()), |(name, _)| *name)
}

/// The reply to the last of some connections, each from its address, where `change` says how many there may be.
fn told_last(addresses: &[&str], change: impl FnOnce(&mut WorkerSettings)) -> Vec<u8> {
    let mut settings = settings();
    change(&mut settings);
    let mut rig = Rig::new(settings);
    let clients: Vec<Peer> = addresses.iter().map(|address| rig.connect_from(address)).collect();
    let last = clients.last().unwrap();
    let told = last.take();
    assert!(last.is_closed(), "{}", told.escape_ascii());
    told
}

/// The reply to the client with most connections when a newcomer needs its slot.
fn told_when_a_place_is_given_up() -> Vec<u8> {
    let mut rig = Rig::new(WorkerSettings { max_connections: 8, ..settings() });
    let clients: Vec<Peer> = (0..8).map(|_| rig.connect_from("192.0.2.1")).collect();
    clients.iter().for_each(|client| drop(client.take()));
    assert!(rig.connect_from("203.0.113.1").take().starts_with(b"220 "));
    clients.iter().find(|client| client.is_closed()).unwrap().take()
}

/// The reply to a client that holds most of the memory when others need it.
fn told_when_memory_is_short() -> Vec<u8> {
    let client_allowance = Duration::ZERO;
    let mut rig = Rig::new(WorkerSettings { client_allowance, ..settings() });
    let talk = |rig: &mut Rig, address: &str, recipients: &str| {
        let client = rig.connect_from(address);
        rig.say(&client, b"EHLO a.example\r\n");
        rig.say(&client, format!("MAIL FROM:<a@b.example>\r\n{recipients}").as_bytes());
        client
    };
    let many = format!("RCPT TO:<{}@example.com>\r\n", "u".repeat(1900)).repeat(200);
    let greedy = talk(&mut rig, "192.0.2.1", &many);
    let few = "RCPT TO:<u@example.com>\r\n".repeat(50);
    for number in 0..250 {
        if greedy.is_closed() {
            return greedy.take();
        }
        // Its connection stays open in the worker's table.
        talk(&mut rig, &format!("198.18.{number}.1"), &few);
    }
    panic!("memory is not short");
}

/// What a submission is refused with.
fn told_of_submission(recipients: usize) -> Vec<u8> {
    let mut rig = Rig::new(settings());
    match submit(&mut rig, b"Subject: s\r\n\r\n", recipients) {
        SubmissionState::Refused(line) => [&line[..], b"\r\n"].concat(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_reply_outside_of_dialogues_is_given() {
    let lines = [
        told_last(&["192.0.2.1", "198.51.100.1", "192.0.2.1"], |settings| settings.max_connections = 2),
        told_last(&["192.0.2.1"; 2], |settings| settings.connection_count_limit = 1),
        told_when_a_place_is_given_up(),
        told_when_memory_is_short(),
        told_of_submission(0),
        told_of_submission(5000),
    ];
    let given: BTreeSet<&str> = lines.iter().map(|line| name_of(line)).collect();
    let all: BTreeSet<&str> = reply::OUTSIDE.iter().map(|(name, _)| *name).collect();
    assert_eq!(given, all);
}

#[test]
fn an_envelope_that_no_batch_holds_is_refused_in_the_dialogue_too() {
    let settings = settings();
    let smtp = smtp::Settings { smtpd_recipient_limit: 2000, ..settings.smtp };
    let mut rig = Rig::new(WorkerSettings { smtp, content_memory: 8 << 20, ..settings });
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    rig.say(&client, b"MAIL FROM:<a@b.example>\r\n");
    for number in 0..1000 {
        let recipient = format!("RCPT TO:<{}{number}@example.com>\r\n", "u".repeat(100));
        let reply = rig.say(&client, recipient.as_bytes());
        assert_eq!(reply, "250 2.1.5 Ok\r\n");
    }
    client.send(b"BDAT 14 LAST\r\nSubject: s\r\n\r\n");
    rig.settle();
    assert_eq!(name_of(&client.take()), "ENVELOPE_TOO_LARGE");
    assert_eq!(rig.queue(), []);
    // The session continues with another message.
    let replies = rig.say(&client, &transaction("x"));
    assert!(replies.contains("250 2.0.0 Ok"), "{replies}");
}

#[test]
fn each_reply_that_is_delayed_for_an_error_is_sent_after_its_own_delay() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    drop(client.take());
    // The session delays its replies from the tenth error on.
    client.send(&b"MAIL\r\n".repeat(13));
    rig.settle();
    let mut counts = Vec::new();
    for _ in 0..6 {
        rig.worker.io.pass(Duration::from_millis(1001));
        rig.settle();
        counts.push(client.take().split(|byte| *byte == b'\n').count() - 1);
    }
    assert_eq!(counts.iter().sum::<usize>(), 13, "{counts:?}");
    assert!(counts.iter().filter(|count| **count > 0).count() >= 3, "{counts:?}");
}
