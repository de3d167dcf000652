//! The same messages through real Postfix and through Mailrace: the same content must be queued.
//!
//! Needs the Debian package postfix, and root to start a private instance; skipped loudly without.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use mailrace_peers::{Peer, Postfix, Setting};
use mailrace_tests::{Client, Directory, Engine, has_postfix};

/// What Postfix's configuration here says too.
const CONFIGURATION: &str = "myhostname = \"mx.example.com\"\nmydomain = \"example.com\"\nmyorigin = \"example.com\"\n\
    mydestination = [\"mx.example.com\", \"localhost\"]\nrelay_domains = [\"example.com\"]\nmynetworks = []\n\
    message_size_limit = \"50MiB\"\n";

/// Content as a client writes it.
fn contents() -> Vec<Vec<u8>> {
    let mut contents: Vec<Vec<u8>> = [
        "From: a@example.org\r\nTo: b@example.com\r\nSubject: plain\r\nDate: x\r\nMessage-Id: <1@x>\r\n\r\nbody\r\n",
        "\r\nonly a body\r\n",
        "no header at all\r\nbut a body\r\n",
        "Subject: only a header section\r\n",
        "",
        ".\r\n..\r\n.x\r\n",
        "Bcc: secret@example.com\r\nReturn-Path: <x@y>\r\nContent-Length: 5\r\nSubject: dropped\r\n\r\nbody\r\n",
        "Resent-Bcc: secret@example.com\r\nResent-To: c@example.com\r\nSubject: resent\r\n\r\nbody\r\n",
        "Resent-From: c@example.com\r\nFrom: a@example.org\r\nSubject: resent\r\n\r\nbody\r\n",
        "From a@example.org Thu Jan  1 00:00:00 1970\r\nSubject: a mailbox line\r\n\r\nbody\r\n",
        ">From a@example.org Thu Jan  1 00:00:00 1970\r\nSubject: another\r\n\r\nbody\r\n",
        "Subject : blank before the colon\r\nX-Empty:\r\nX-Folded:\r\n\ta\r\n  b\r\n\r\nbody\r\n",
        "Subject: continued\r\n \r\n still it\r\n\r\nbody\r\n",
        " begins with a continuation\r\nSubject: x\r\n\r\nbody\r\n",
        "Subject: x\r\nnot a field\r\nX-Late: y\r\n\r\nbody\r\n",
        "sUBJECT: odd case\r\ndATE: y\r\nmessage-ID: <2@x>\r\nFROM: z@example.org\r\n\r\nbody\r\n",
        "Subject: stray\rcarriage\rreturns\r\n\r\nbody\rwith\r them\r\n",
        "Subject: eight bits\r\n\r\nGr\u{fc}\u{df}e, \u{65e5}\u{672c}\r\n",
        "To: undisclosed recipients:;\r\n\r\nbody\r\n",
        "Received: from x by y; z\r\nReceived: from v by w; z\r\nX-A: b\r\n\r\nbody\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    contents.push(format!("X-Long: {}\r\nSubject: x\r\n\r\nbody\r\n", "x".repeat(5000)).into_bytes());
    contents.push(
        format!("X-Long: x\r\n{}Subject: x\r\n\r\nbody\r\n", format!(" {}\r\n", "y".repeat(70)).repeat(2000))
            .into_bytes(),
    );
    contents
        .push(format!("Subject: x\r\n\r\n{}\r\n{}\r\n", "z".repeat(2048), "z".repeat(99_999)).into_bytes());
    contents.push(
        format!("{}Subject: x\r\n\r\nbody\r\n", "Received: from x by y; z\r\n".repeat(48)).into_bytes(),
    );
    contents.push(
        format!("{}Subject: x\r\n\r\nbody\r\n", "Received: from x by y; z\r\n".repeat(60)).into_bytes(),
    );
    contents.push(b"Subject: nul\0octets\r\nX-B: c\r\n\r\nbody\0with\0them\r\n".to_vec());
    contents
}

#[test]
fn queued_content_matches_postfix() {
    if !has_postfix() {
        return;
    }
    let directory = Directory::new();
    let config = directory.write("mailrace.toml", CONFIGURATION);
    let engine = Engine::start(&directory, &["--config", config.to_str().unwrap()]);
    let setting = Setting { directory: directory.path().to_path_buf(), cpu: None, congestion_control: None };
    let postfix = Postfix::start(&setting).unwrap();
    let mut count = 0;
    for content in contents() {
        let theirs = Client::introduced(postfix.address()).offer("a@example.org", "b@example.com", &content);
        let ours = Client::introduced(engine.addresses[0]).offer("a@example.org", "b@example.com", &content);
        let shown = String::from_utf8_lossy(&content[..content.len().min(300)]).into_owned();
        assert_eq!(ours.get(..9), theirs.get(..9), "{shown:?}: ours: {ours}, Postfix's: {theirs}");
        if !theirs.starts_with("250") {
            continue;
        }
        let (their_id, our_id) = (id_of(&theirs), id_of(&ours));
        let their_content = postfix.content(&their_id).unwrap();
        let our_content = engine.queue_octets(&["cat", &our_id]);
        assert_eq!(normal(&our_content, &our_id), normal(&their_content, &their_id), "{shown:?}");
        count += 1;
    }
    assert!(count > 20, "only {count} were compared");
    engine.stop();
}

fn id_of(reply: &str) -> String {
    reply.rsplit(' ').next().unwrap().to_owned()
}

/// Without what differs by nature: the software's name, queue ids, dates that the system made, ports.
fn normal(content: &[u8], id: &str) -> String {
    let text = String::from_utf8_lossy(content).replace(id, "ID").replace("(Postfix)", "(Mailrace)");
    // Postfix asks /etc/hosts for the client's name.
    let text = text.replace("(localhost [127.0.0.1])", "(unknown [127.0.0.1])");
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let is_dated =
            line.starts_with("Date: ") && line.ends_with(')') || line.contains("for <b@example.com>; ");
        let is_named = line.starts_with("Message-Id: <20") && line.contains(".ID@");
        lines.push(match line.split_once(": ") {
            Some((name, _)) if is_dated || is_named => format!("{name}: made here"),
            _ if is_dated => line.split_once("; ").unwrap().0.to_owned(),
            _ => line.to_owned(),
        });
    }
    lines.join("\n")
}
