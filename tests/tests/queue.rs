//! `mailrace queue`: choosing messages, marking them, and getting them out.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use mailrace_core::QueueId;
use mailrace_tests::{Directory, Engine, Finished, program};

const MESSAGE: &str = "From: a@example.org\r\nSubject: first\r\n\r\nFrom here\r\nbody\r\n";
/// An id of March 2025, which no queue of a test holds.
fn missing() -> String {
    QueueId::from_number(1_740_800_000_000_001_024).to_string()
}

/// `mailrace queue ...` with something on its standard input.
fn queue_with_input(directory: &Path, arguments: &[&str], input: &str) -> Finished {
    let mut child = Command::new(program())
        .current_dir(directory)
        .arg("queue")
        .args(arguments)
        .args(["--queue", "mailrace-queue"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Finished {
        status: output.status,
        output: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Sends messages in pipelined groups; their ids.
fn send(engine: &Engine, count: usize) -> Vec<String> {
    let mut client = engine.client();
    let one = format!("MAIL FROM:<>\r\nRCPT TO:<u@localhost>\r\nBDAT {} LAST\r\n{MESSAGE}", MESSAGE.len());
    let mut ids = Vec::new();
    for start in (0..count).step_by(100) {
        let group = (count - start).min(100);
        client.send(one.repeat(group).as_bytes());
        for _ in 0..group {
            client.expect("250 ");
            client.expect("250 ");
            let reply = client.reply();
            ids.push(reply.trim_end().rsplit(' ').next().unwrap().to_owned());
        }
    }
    ids
}

#[test]
fn missing_ids_do_not_affect_the_others() {
    let directory = Directory::new();
    let mut engine = Engine::start(&directory, &[]);
    let ids = send(&engine, 4);
    let missing = missing();
    let held = engine.queue(&["hold", &ids[0], &missing, "no-id", &ids[1], &ids[0]]);
    assert_eq!((held.output.as_str(), held.status.code()), ("2 put on hold\n", Some(65)), "{}", held.errors);
    assert!(held.errors.contains(&format!("there is no message {missing} in the queue")), "{}", held.errors);
    assert!(held.errors.contains("\"no-id\" is not a queue id"), "{}", held.errors);
    let event = engine.line_with("queue hold by user ");
    assert!(event.ends_with(": 2 done, 1 not in the queue, 0 failed"), "{event}");
    engine.stop();

    // The same without an engine.
    let deleted = directory.queue(&["delete", &missing, &ids[2], &ids[0]]);
    assert_eq!(
        (deleted.output.as_str(), deleted.status.code()),
        ("2 deleted\n", Some(65)),
        "{}",
        deleted.errors
    );
    assert!(deleted.errors.contains(&format!("there is no message {missing} in the queue")));
    assert!(deleted.errors.contains(": 2 done, 1 not in the queue, 0 failed"), "{}", deleted.errors);
    let left: Vec<_> = directory.messages().iter().map(|message| message["id"].clone()).collect();
    assert_eq!(left, [ids[1].as_str(), ids[3].as_str()]);
    let nothing = directory.queue(&["delete", &missing]);
    assert_eq!((nothing.output.as_str(), nothing.status.code()), ("0 deleted\n", Some(65)));
}

#[test]
fn ids_come_from_standard_input_in_any_number() {
    let directory = Directory::new();
    let mut engine = Engine::start(&directory, &[]);
    let ids = send(&engine, 2300);
    let listed = engine.queue(&["list"]).output;
    // The lines of a listing, all but one; and one that is gone in the middle of a long list.
    let lines: String =
        listed.lines().filter(|line| !line.contains(&ids[7])).flat_map(|line| [line, "\n"]).collect();
    let input = lines.replacen('\n', &format!("\n{}\n", missing()), 1);
    let held = queue_with_input(directory.path(), &["hold", "-"], &input);
    assert_eq!(
        (held.output.as_str(), held.status.code()),
        ("2299 put on hold\n", Some(65)),
        "{}",
        held.errors
    );
    // However many requests it took, it is one action.
    let event = engine.line_with("queue hold by user ");
    assert!(event.ends_with(": 2299 done, 1 not in the queue, 0 failed"), "{event}");
    let incoming: Vec<_> =
        directory.messages().into_iter().filter(|message| message["state"] == "incoming").collect();
    assert_eq!(incoming.len(), 1);
    assert_eq!(incoming[0]["id"], ids[7].as_str());
    engine.stop();
    let released = queue_with_input(directory.path(), &["release", "-"], &lines);
    assert_eq!(released.output, "2299 released\n", "{}", released.errors);
}

#[test]
fn filters_select_by_sender_recipient_age_and_state() {
    let directory = Directory::new();
    let engine = Engine::start(&directory, &[]);
    let mut client = engine.client();
    for (sender, recipient) in [
        ("a@example.org", "x@localhost"),
        ("A@Example.ORG", "y@localhost"),
        ("", "x@localhost"),
        ("b@example.net", "z@localhost"),
    ] {
        client.queue(sender, recipient, MESSAGE);
    }
    for (arguments, output) in [
        (&["hold", "--sender", "a@example.org"][..], "2 put on hold\n"),
        (&["release", "--state", "hold", "--recipient", "y@localhost"], "1 released\n"),
        (&["hold", "--older-than", "1h"], "0 put on hold\n"),
        (&["hold", "--newer-than", "1h", "--sender", "@example.net"], "1 put on hold\n"),
        (&["delete", "--state", "hold"], "2 deleted\n"),
        (&["delete", "--sender", "<>"], "1 deleted\n"),
        (&["delete", "--recipient", "@LOCALHOST", "ALL"], "1 deleted\n"),
    ] {
        let done = engine.queue(arguments);
        assert_eq!(
            (done.output.as_str(), done.status.code()),
            (output, Some(0)),
            "{arguments:?}: {}",
            done.errors
        );
    }
    assert_eq!(engine.queue(&["delete"]).status.code(), Some(2));
    engine.stop();
}

#[test]
fn messages_are_exported_once_and_deleted_when_they_are_durable() {
    let directory = Directory::new();
    let engine = Engine::start(&directory, &[]);
    let ids = send(&engine, 3);
    let path = |name: &str| directory.path().join(name);
    for _ in 0..2 {
        for (option, name) in [("--maildir", "box"), ("--mbox", "mbox"), ("--eml", "eml")] {
            let exported = engine.queue(&["export", option, name, &ids[0], &ids[1]]);
            assert!(exported.status.success(), "{}", exported.errors);
        }
    }
    let count = |name: &str| std::fs::read_dir(path(name)).unwrap().count();
    assert_eq!((count("box/new"), count("box/tmp"), count("eml")), (2, 0, 4));
    let content = engine.queue_octets(&["cat", "--exact", &ids[0]]);
    assert_eq!(std::fs::read(path("eml").join(format!("{}.eml", ids[0]))).unwrap(), content);
    let mbox = std::fs::read_to_string(path("mbox")).unwrap();
    assert_eq!(mbox.lines().filter(|line| line.starts_with("From ")).count(), 2, "{mbox}");
    assert_eq!(mbox.lines().filter(|line| *line == ">From here").count(), 2, "{mbox}");

    let exported = engine.queue(&["export", "--maildir", "box", "--delete", "ALL"]);
    assert_eq!(exported.output, "1 exported, 2 were there, 3 deleted\n", "{}", exported.errors);
    assert_eq!((count("box/new"), directory.messages().len()), (3, 0));
    let missing = engine.queue(&["export", "--maildir", "box", "--delete", &ids[0]]);
    assert_eq!((missing.output.as_str(), missing.status.code()), ("0 exported, 0 deleted\n", Some(65)));
    // Where nothing can be written, nothing is deleted.
    send(&engine, 1);
    std::fs::write(path("file"), "").unwrap();
    for (option, name) in [("--maildir", "file"), ("--mbox", "box"), ("--eml", "file")] {
        let failed = engine.queue(&["export", option, name, "--delete", "ALL"]);
        assert_eq!(failed.status.code(), Some(69), "{option}");
        assert!(failed.errors.contains(&format!("cannot export to {name}: ")), "{}", failed.errors);
    }
    engine.stop();
    // Without an engine, too.
    let exported = directory.queue(&["export", "--mbox", "mbox", "--delete", "--newer-than", "1h"]);
    assert!(exported.output.starts_with("1 exported, 1 deleted\n"), "{}", exported.errors);
    assert_eq!(directory.messages().len(), 0);
}
