//! The sink as its clients see it.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use mailrace_peers::{self as peers, Server};
use rustix::process::Signal;

struct Sink(Server);

impl Sink {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailrace-sink"));
        command.args(["--listen", "127.0.0.1:0", "--json", "--connections", "64"]).args(arguments);
        Self(Server::sink(command.stdout(Stdio::piped())).unwrap())
    }

    fn client(&self) -> Client {
        let mut client = Client(peers::Client::connect(self.0.addresses[0], PATIENCE).unwrap());
        assert!(client.reply().starts_with("220 "));
        assert!(client.say(b"EHLO client.example\r\n").starts_with("250 "));
        client
    }

    /// Ends it: what it took, and what it said.
    fn end(mut self) -> (serde_json::Value, String) {
        self.0.signal(Signal::TERM).unwrap();
        let mut counts = String::new();
        self.0.take_output().unwrap().read_to_string(&mut counts).unwrap();
        let ready = self.0.lines.len();
        assert!(self.0.wait().unwrap().success());
        (serde_json::from_str(&counts).unwrap(), self.0.lines[ready..].join("\n"))
    }
}

struct Client(peers::Client);

impl Client {
    fn say(&mut self, bytes: &[u8]) -> String {
        self.0.send(bytes).unwrap();
        self.reply()
    }

    /// The last line of the next reply.
    fn reply(&mut self) -> String {
        self.0.reply().unwrap().last_line().trim_end().to_owned()
    }

    fn begin(&mut self, parameters: &str) {
        assert!(
            self.say(format!("MAIL FROM:<a@example.org>{parameters}\r\n").as_bytes()).starts_with("250 ")
        );
        assert!(self.say(b"RCPT TO:<b@example.com>\r\n").starts_with("250 "));
    }

    fn data(&mut self, content: &[u8]) -> String {
        self.begin("");
        assert!(self.say(b"DATA\r\n").starts_with("354 "));
        self.say(&[content, b".\r\n"].concat())
    }

    fn chunks(&mut self, parameters: &str, chunks: &[&[u8]]) -> String {
        self.begin(parameters);
        let mut all = Vec::new();
        for chunk in chunks {
            all.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
            all.extend_from_slice(chunk);
        }
        all.extend_from_slice(b"BDAT 0 LAST\r\n");
        self.0.send(&all).unwrap();
        for _ in chunks {
            let reply = self.reply();
            assert!(reply.starts_with("250 "), "{reply}");
        }
        self.reply()
    }
}

/// Removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mailrace-sink-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn strict_mode_accepts_only_crlf() {
    let directory = Directory::new("strict");
    let sink = Sink::start(&["--strict", "--store", directory.0.to_str().unwrap()]);
    let mut client = sink.client();
    let clean = b"Subject: x\r\n\r\n..dot\r\ntext\r\n";
    assert!(client.data(clean).starts_with("250 "));
    for (content, fault) in [
        (&b"Subject: x\n\r\ntext\r\n"[..], "bare <LF> in line 1"),
        (b"Subject: x\r\n\r\ntext\nmore\r\n", "bare <LF> in line 3"),
        (b"Subject: x\r\n\r\nte\rxt\r\n", "bare <CR> in line 3"),
        (b"Subject: x\r\n\r\ntext\r\r\n", "bare <CR> in line 3"),
    ] {
        let reply = client.data(content);
        assert!(reply.starts_with("550 5.5.2 ") && reply.contains(fault), "{content:?}: {reply}");
        let reply = client.chunks("", &[content]);
        assert!(reply.starts_with("550 5.5.2 ") && reply.contains(fault), "{content:?}: {reply}");
    }
    // A line end may be cut by the end of a chunk.
    assert!(client.chunks("", &[b"Subject: x\r", b"\n\r\ntext\r", b"\n"]).starts_with("250 "));
    let reply = client.chunks("", &[b"Subject: x\r\n\r\n", b"text"]);
    assert!(reply.starts_with("550 5.5.2 ") && reply.contains("no <CR><LF> at the end of line 3"), "{reply}");
    let reply = client.chunks("", &[b"Subject: x\r\n\r\ntext\r"]);
    assert!(reply.starts_with("550 5.5.2 ") && reply.contains("bare <CR> in line 3"), "{reply}");
    // Lines mean nothing in a binary body.
    assert!(client.chunks(" BODY=BINARYMIME", &[b"Subject: x\r\n\r\na\nb\rc"]).starts_with("250 "));
    // Commands are lines, too, also where they come in pieces.
    assert!(client.say(b"NOOP\n").starts_with("500 5.5.2 "));
    assert!(client.say(b"NO\rOP\r\n").starts_with("500 5.5.2 "));
    client.0.send(b"NO").unwrap();
    assert!(client.say(b"OP\r\n").starts_with("250 "));
    let (counts, _) = sink.end();
    assert_eq!((&counts["messages"], &counts["refused"]), (&3.into(), &10.into()), "{counts}");
    let mut contents: Vec<Vec<u8>> = std::fs::read_dir(&directory.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some("eml".as_ref()))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    contents.sort();
    assert_eq!(
        contents,
        [
            &b"Subject: x\r\n\r\n.dot\r\ntext\r\n"[..],
            b"Subject: x\r\n\r\na\nb\rc",
            b"Subject: x\r\n\r\ntext\r\n",
        ]
    );
}

#[test]
fn accepts_any_line_end_without_strict_mode() {
    let sink = Sink::start(&[]);
    let mut client = sink.client();
    assert!(client.data(b"Subject: x\n\ntext\r\r\n").starts_with("250 "));
    assert!(client.chunks("", &[b"text"]).starts_with("250 "));
    let (counts, _) = sink.end();
    assert_eq!((&counts["messages"], &counts["refused"]), (&2.into(), &0.into()), "{counts}");
}

fn refused(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } =
        Command::new(env!("CARGO_BIN_EXE_mailrace-sink")).args(arguments).output().unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).unwrap()
}

#[test]
fn errors_name_their_subject() {
    let sink = Sink::start(&[]);
    let address = sink.0.addresses[0].to_string();
    let error = refused(&["--listen", &address]);
    assert!(error.contains(&format!("cannot listen on {address}: ")), "{error}");
    let directory = Directory::new("errors");
    let file = directory.0.join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("below");
    let error = refused(&["--listen", "127.0.0.1:0", "--store", below.to_str().unwrap()]);
    assert!(error.contains(&format!("directory {}: ", below.display())), "{error}");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let directory = Directory::new("gone");
    let sink = Sink::start(&["--store", directory.0.to_str().unwrap()]);
    std::fs::remove_dir(&directory.0).unwrap();
    assert!(sink.client().data(b"Subject: x\r\n\r\n").starts_with("451 "));
    let (counts, errors) = sink.end();
    assert_eq!(counts["not_stored"], 1);
    let path = errors.strip_prefix("mailrace-sink: ").and_then(|rest| rest.split_once(": ")).unwrap().0;
    assert_eq!(Path::new(path).parent(), Some(directory.0.as_path()), "{errors}");
    assert!(path.ends_with(".eml"), "{errors}");
}

#[test]
fn a_delay_may_have_a_unit() {
    for (text, milliseconds) in [("50", 50), ("50ms", 50), ("0.05s", 50)] {
        let sink = Sink::start(&["--delay", text]);
        let mut client = sink.client();
        let started = std::time::Instant::now();
        assert!(client.data(b"Subject: x\r\n\r\n").starts_with("250 "));
        assert!(started.elapsed().as_millis() >= milliseconds, "{text}");
    }
}

/// How long the sink may take for a reply.
const PATIENCE: Duration = Duration::from_secs(30);
