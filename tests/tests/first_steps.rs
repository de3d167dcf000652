//! What a new user does first.

use mailrace_tests::{Directory, Engine, run};

const MESSAGE: &str = "From: a@example.org\r\nSubject: first\r\n\r\n..a line with a dot\r\nbody\r\n";

#[test]
fn a_message_is_sent_listed_read_and_deleted() {
    let directory = Directory::new();
    // A machine may have any names for itself.
    let engine = Engine::start(&directory, &["--set", "smtpd_peername_lookup=no"]);
    let id = engine.client().queue("a@example.org", "b@localhost", MESSAGE);

    let listed = engine.queue(&["list"]).output;
    assert!(listed.contains(&id) && listed.contains("a@example.org -> b@localhost"), "{listed}");
    let content = engine.queue(&["cat", &id]).output;
    assert!(content.starts_with("Received: from client.example (unknown [127.0.0.1])\n"), "{content}");
    assert!(content.contains("\nFrom: a@example.org\nSubject: first\n"), "{content}");
    assert!(content.ends_with("\n\n.a line with a dot\nbody\n"), "{content}");
    let exact = engine.queue(&["cat", "--exact", &id]).output;
    assert_eq!(exact.replace("\r\n", "\n"), content);
    let envelope: serde_json::Value =
        serde_json::from_str(&engine.queue(&["cat", "--envelope", &id]).output).unwrap();
    for (key, value) in [
        ("id", id.as_str()),
        ("state", "incoming"),
        ("sender", "a@example.org"),
        ("helo", "client.example"),
        ("protocol", "ESMTP"),
        ("client_address", "127.0.0.1"),
    ] {
        assert_eq!(envelope[key], value, "{envelope}");
    }
    assert_eq!(envelope["size"], exact.len());
    assert_eq!(envelope["recipients"], serde_json::json!(["b@localhost"]));

    assert_eq!(engine.queue(&["delete", &id]).output, "1 deleted\n");
    assert_eq!(directory.messages(), Vec::<serde_json::Value>::new());
    let gone = engine.queue(&["cat", &id]);
    assert_eq!(gone.status.code(), Some(65));
    engine.stop();
}

#[test]
fn the_queue_is_the_same_with_and_without_an_engine() {
    let directory = Directory::new();
    let engine = Engine::start(&directory, &[]);
    let mut client = engine.client();
    let ids: Vec<String> =
        (0..3).map(|number| client.queue("", &format!("u{number}@localhost"), MESSAGE)).collect();
    assert_eq!(engine.queue(&["hold", &ids[1]]).output, "1 put on hold\n");
    let running = (directory.messages(), engine.queue(&["stats"]).output);
    engine.stop();
    let stopped = (directory.messages(), directory.queue(&["stats"]).output);
    assert_eq!(running, stopped);
    let states: Vec<_> = stopped.0.iter().map(|message| message["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["incoming", "hold", "incoming"]);

    assert_eq!(directory.queue(&["release", "ALL"]).output, "1 released\n");
    assert_eq!(directory.queue(&["delete", &ids[0]]).output, "1 deleted\n");
    let engine = Engine::start(&directory, &[]);
    let left: Vec<_> = directory.messages();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|message| message["state"] == "incoming" && message["sender"] == ""));
    assert_eq!(engine.queue(&["delete", "ALL"]).output, "2 deleted\n");
    engine.kill();
    let engine = Engine::start(&directory, &[]);
    assert_eq!(directory.messages().len(), 0);
    engine.stop();
}

#[test]
fn a_large_message_is_unchanged() {
    let directory = Directory::new();
    let engine = Engine::start(&directory, &[]);
    let body: String = (0..100_000).map(|number| format!("line {number} of a large message\r\n")).collect();
    let id = engine.client().queue("a@example.org", "b@localhost", &format!("Subject: large\r\n\r\n{body}"));
    let content = engine.queue(&["cat", "--exact", &id]).output;
    assert!(content.split_once("\r\n\r\n").unwrap().1 == body, "the body is not what was sent");
    engine.stop();
}

#[test]
fn a_message_is_cleaned_offline_as_in_the_engine() {
    let directory = Directory::new();
    let message = directory.write("message", "Bcc: secret@example.com\nSubject: x\n\nbody\n");
    let cleaned = run(directory.path(), &["clean", "--sender", "a@example.org", message.to_str().unwrap()]);
    assert!(cleaned.status.success(), "{}", cleaned.errors);
    for name in ["Received: ", "From: a@example.org", "Message-Id: <", "Date: "] {
        assert!(cleaned.output.contains(name), "{name} is missing: {}", cleaned.output);
    }
    assert!(!cleaned.output.contains("secret"), "{}", cleaned.output);
    assert!(cleaned.output.ends_with("\n\nbody\n"));
}
