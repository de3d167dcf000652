//! Real Postfix and Mailrace with the same configuration: the same message must get the same reply, the same envelope
//! and the same content.
//!
//! Each folder of `tests/differential` is a configuration: `main.cf` for Postfix and `mailrace.toml` for Mailrace say
//! the same, `{here}` is the folder with its tables. Needs the Debian packages postfix and postfix-pcre, and root to
//! start private instances; skipped loudly without.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use mailrace_core::{BodyType, Envelope, QueueId};
use mailrace_dev::program::command;
use mailrace_io::OsDisk;
use mailrace_peers::{Peer, Postfix, Setting};
use mailrace_spool::reader::Queue;
use mailrace_tests::{Client, Directory, Engine, has_postfix, skip};

/// What every configuration says besides.
const MAIN_CF: &str = "mail_name = Mailrace\nmynetworks = 127.0.0.0/8\nsmtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 10000\n";
const MAILRACE_TOML: &str = "myhostname = \"mx.example.com\"\nmydomain = \"example.com\"\nmyorigin = \"example.com\"\n\
    mydestination = [\"mx.example.com\", \"localhost\"]\nrelay_domains = [\"example.com\"]\n\
    mynetworks = [\"127.0.0.0/8\"]\nmessage_size_limit = \"50MiB\"\nsmtpd_error_sleep_time = \"0s\"\n\
    smtpd_hard_error_limit = 10000\n";

const NO_PCRE: &str = "Postfix has no pcre tables here (Debian: apt-get install postfix-pcre)";

/// Who sends, and who is sent to.
const ENVELOPES: &[(&str, &[&str])] = &[
    ("a@example.org", &["b@example.com"]),
    ("", &["postmaster"]),
    ("joe", &["joe", "JOE", "joe@example.com", "joe+x"]),
    ("MAILER-DAEMON", &["fan", "list", "fan"]),
    ("help+h@host", &["list+q@example.com", "selfref+s", "chain1+c"]),
    ("any@old.example.com", &["any@gone.example.net", "u@example.org", "user@example.org"]),
    ("job@cron.example.com", &["p+1@desk.example.com", "q+q@example.org", "tagged+abc@example.org"]),
    ("\"a b\"@example.com", &["\"a b\"@example.com", "\"a b\"", "x!y", "p%q", "@r1:jane"]),
    ("u@a.example.com", &["u@a.example.com", "root@b.example.com", "u@secret.example.com"]),
    ("loop1", &["loop1", "two", "bare@example.net", "fred+lists"]),
    ("two+t", &["many"]),
    ("a@example.org", &["b@example.com", "loop1"]),
    ("a@example.org", &["deep1", "b@example.com"]),
    ("a@example.org", &["deep2"]),
    ("a@example.org", &["deep3"]),
    ("u@x.secret.example.com", &["u@x.secret.example.com", "u@x.y.example.com"]),
    ("jane", &["fan", "jane@example.com", "jane@host"]),
    ("root+w", &["u@host.", "u@sub.old.example.com", "z+e@all.example.net"]),
];

/// Values of `X-Check`, each of which a table answers with an action.
const ACTIONS: [&str; 25] = [
    "reject",
    "reject-text",
    "reject-status",
    "later",
    "odd-status",
    "discard",
    "hold",
    "warn",
    "info",
    "ignore",
    "strip",
    "prepend",
    "bad-prepend",
    "replace (this)",
    "to-from",
    "to-bcc",
    "redirect",
    "bad-redirect",
    "bcc",
    "filter",
    "bad-filter",
    "pass",
    "dunno",
    "ok",
    "unknown",
];

/// Header sections and bodies as a client writes them, and what the client says of the body.
fn contents() -> Vec<Vec<u8>> {
    let address_lists = "To: joe, Jane Roe <jane>, \"a, b\" <x@host> (c),\r\n g: list+q, u@a.example.com;, fan\r\n\
        Cc: root@b.example.com, @r1:u@h, h!u, p%q, \"joe\"@example.com\r\nFrom: joe (Joe) \r\n\
        Reply-To: help+h@example.com\r\nResent-To: any@old.example.com,\r\n\tjob@cron.example.com\r\n\
        Errors-To: <>\r\nX-To: joe\r\nSender : p+1@desk.example.com\r\n";
    let mut texts = vec![
        "From: a@example.org\r\nTo: b@example.com\r\nSubject: plain\r\nDate: x\r\nMessage-Id: <1@x>\r\n\r\nbody\r\n".to_owned(),
        "\r\nonly a body\r\n".to_owned(),
        "no header at all\r\nbut a body\r\n".to_owned(),
        "Subject: only a header section\r\n".to_owned(),
        String::new(),
        "Bcc: secret@example.com\r\nReturn-Path: <x@y>\r\nContent-Length: 5\r\nX-Drop: x\r\nSubject: dropped\r\n\r\nbody\r\n".to_owned(),
        "Resent-Bcc: secret@example.com\r\nResent-To: c@example.com\r\nSubject: resent\r\n\r\nbody\r\n".to_owned(),
        "Resent-From: c@example.com\r\nFrom: a@example.org\r\nSubject: resent\r\n\r\nbody\r\n".to_owned(),
        "From a@example.org Thu Jan  1 00:00:00 1970\r\nSubject: a mailbox line\r\n\r\nbody\r\n".to_owned(),
        "From a\0b\r\nSubject: a mailbox line with NUL\r\n\r\nbody\r\n".to_owned(),
        "Subject: two CRs\r\r\n\r\nbody\r\r\r\n\r\r\n".to_owned(),
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX-Part: 1\0x\r\n\r\n1\0x\r\n--b--\r\n".to_owned(),
        "Content-Transfer-Encoding: 8bit\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX-Part : 1\0x\r\n\r\n1\0x\r\n--b--\r\n".to_owned(),
        "From: u@a.example.com, >\r\nTo: Jane <jane>,\r\n >\r\nCc: fan@x;.. ,>\r\n\r\nbody\r\n".to_owned(),
        // Where lists are folded.
        (20..50).map(|size| format!("To: {}@example.com, joe,\r\n {}\r\n", "a".repeat(size), "b".repeat(90 - size))).collect(),
        "Subject : blank before the colon\r\nX-Empty:\r\nX-Folded:\r\n\ta\r\n  b\r\n\r\nbody\r\n".to_owned(),
        "Subject: stray\rcarriage\rreturns\r\n\r\nbody\rwith\r them\r\n".to_owned(),
        "Subject: Gr\u{fc}\u{df}e\r\n\r\nbody\r\n".to_owned(),
        "Subject: eight bits\r\n\r\nGr\u{fc}\u{df}e, \u{65e5}\u{672c}\r\n".to_owned(),
        "Content-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}\u{df}e\r\n".to_owned(),
        "Content-Transfer-Encoding: base64\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n".to_owned(),
        "Content-Transfer-Encoding: quoted-printable\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx\r\n".to_owned(),
        "Content-Type: message/partial\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: in\r\n\r\nx\r\n".to_owned(),
        "To: undisclosed recipients:;\r\n\r\nbody\r\n".to_owned(),
        "Subject: a\r\n folded b\r\n\r\nbody\r\n".to_owned(),
        "Subject: Stop it\r\n\r\nbody\r\n".to_owned(),
        "Subject: stop it\r\n\r\nbody\r\n".to_owned(),
        format!("{address_lists}\r\nbody\r\n"),
        "To: a@b\r\n ,c\r\n\t, d@e (x\r\n y)\r\nFrom: \"A\r\n B\" <joe>\r\n\r\nbody\r\n".to_owned(),
        "Subject: lines\r\n\r\nplace\r\ndrop this\r\nreplace that\r\nprefix reject\r\nboooody\r\n\r\ncopy\r\n--x\r\nlast\r\n".to_owned(),
        "Subject: lines\r\n\r\nreject this\r\n".to_owned(),
        "Subject: lines\r\n\r\nhold this\r\n".to_owned(),
        "Subject: lines\r\n\r\nfirst\r\ndiscard this\r\n".to_owned(),
        format!("Subject: lines\r\n\r\n{}", (1000..2000).map(|number| format!("{number}x\r\n")).collect::<String>()),
        format!("X-Long: {}\r\nSubject: x\r\n\r\nbody\r\n", "x".repeat(5000)),
        format!("X-Long: x\r\n{}Subject: x\r\n\r\nbody\r\n", format!(" {}\r\n", "y".repeat(70)).repeat(2000)),
        format!("To: {}\r\nSubject: x\r\n\r\nbody\r\n", (0..300).map(|n| format!("user{n}@host{n}")).collect::<Vec<_>>().join(",\r\n ")),
        format!("To: {}x@host\r\n\r\nbody\r\n", "(comment) ".repeat(40)),
        format!("Subject: x\r\n\r\n{}\r\n{}\r\n", "z".repeat(2048), "z".repeat(99_999)),
        format!("{}Subject: x\r\n\r\nbody\r\n", "Received: from x by y; z\r\n".repeat(48)),
        format!("{}Subject: x\r\n\r\nbody\r\n", "Received: from x by y; z\r\n".repeat(60)),
        format!("{}Subject: x\r\n\r\nbody\r\n", "Received: from x by y; z\r\n".repeat(4)),
        "Subject: nul\0octets\r\nX-B: c\0\r\n d\r\nTo: joe\0, jane\r\n\r\nbody\0with\0them\r\n".to_owned(),
        "Subject: tilde ~\r\n\r\nbody\r\n".to_owned(),
        "Subject: x\r\n\r\n\u{1}body qx\r\n".to_owned(),
        "%X=-A: b\r\n=%: y\r\n\r\nx~\r\n".to_owned(),
    ];
    texts.extend(multiparts());
    for action in ACTIONS {
        texts.push(format!("X-A: b\r\nX-Check: {action}\r\nX-Check: reject\r\n\r\nbody\r\n"));
        texts.push(format!("X-A: b\r\nX-Check: {action}\r\nX-Z: c\r\n\r\nbody\r\n"));
    }
    // A field's colon stands within the first line_length_limit bytes.
    for size in [2046, 2047, 2048, 2049, 5000] {
        texts.push(format!("X-A: b\r\n{}: name\r\nX-Z: c\r\n\r\nbody\r\n", "N".repeat(size)));
    }
    texts.into_iter().map(String::into_bytes).collect()
}

/// Contents of several parts.
fn multiparts() -> Vec<String> {
    let mixed = |part: &str| {
        format!(
            "Subject: mixed\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"outer\"\r\n\r\npreamble\r\n\
             --outer\r\n{part}\r\n--outer--\r\nepilogue\r\n"
        )
    };
    let nested = "Content-Type: multipart/alternative;\r\n\tboundary=inner\r\n\r\n--inner\r\nX-Part: 1\r\n\r\none\r\n\
        --inner\r\nContent-Type: text/html; name=a\r\nContent-Transfer-Encoding: 8bit\r\n\r\ntw\u{f6}\r\n--inner--\r\n";
    let deep: String = (0..6)
        .map(|depth| format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n"))
        .collect();
    vec![
        mixed("\r\nplain"),
        mixed("Content-Type: text/html\r\nContent-Disposition: inline\r\nX-Part: 1\r\n\r\n<p>"),
        mixed("Content-Type: application/x; name=\"a.exe\"\r\n\r\nMZ"),
        mixed("Content-Description: stop\r\n\r\nx"),
        mixed(nested),
        mixed(&format!(
            "Content-Type: message/rfc822\r\n\r\nReceived: x\r\nSubject: in\r\nContent-Type: text/plain\r\n\r\nin\r\n--outer\r\n{nested}"
        )),
        mixed("Content-Type: message/rfc822\r\n\r\nX-Nested-Stop: x\r\n\r\nin"),
        mixed(
            "Content-Type: message/global\r\nContent-Transfer-Encoding: base64\r\n\r\nX-Nested-Stop: x\r\n\r\nin",
        ),
        mixed("X-Part: folded\r\n more\r\nnot a field\r\nX-Late: y\r\n\r\nx"),
        mixed(
            "Content-Type: multipart/digest; boundary=\"outer2\"\r\n\r\n--outer2\r\n\r\nSubject: in a digest\r\n\r\nx\r\n--outerX\r\nX-Part: y\r\n\r\nz",
        ),
        format!("{deep}Content-Type: text/plain\r\n\r\ndeep\r\n"),
    ]
}

/// Who sends, and whose recipients are only asked about, one by one.
const SENDERS: [&str; 7] = [
    "a@example.org",
    "",
    "nobody@example.com",
    "joe@example.com",
    "nobody@alias.example",
    "nobody@box.example",
    "user@here.example",
];

/// Recipients that exist and others, of each class.
const RECIPIENTS: [&str; 41] = [
    "postmaster",
    "PostMaster@here.example",
    "postmaster+x@here.example",
    "postmaster@example.com",
    "postmaster@alias.example",
    "mailer-daemon@mx.example.com",
    "double-bounce@here.example",
    "nobody",
    "joe",
    "user@here.example",
    "USER+x@mx.example.com",
    "full@here.example",
    "full@mx.example.com",
    "\"q s\"@here.example",
    "any@all.here.example",
    "nobody@[127.0.0.1]",
    "user@[127.0.0.1]",
    "postmaster@[127.0.0.1]",
    "user@example.com",
    "User+x@Example.COM",
    "nobody@example.com",
    "nobody@sub.example.com",
    "user@sub.example.com",
    "\"a b\"@example.com",
    "\"c d\"@example.com",
    "@r1:nobody@example.com",
    "nobody%example.com@here.example",
    "example.com!user",
    "nobody@example.com.",
    "anyone@relay2.example",
    "recipient@example.com",
    "sender@example.com",
    "both@example.com",
    "aliased+x@example.com",
    "info@alias.example",
    "nobody@alias.example",
    "bob+x@box.example",
    "nobody@box.example",
    "user@box.example",
    "down@example.com",
    "x@elsewhere.example",
];

/// Both systems with one configuration.
struct Pair {
    name: String,
    postfix: Postfix,
    engine: Engine,
    ours: Client,
    theirs: Client,
    taken: Vec<Taken>,
    differences: String,
    directory: Directory,
}

/// A message that both took.
struct Taken {
    what: String,
    our_id: String,
    their_id: String,
}

impl Pair {
    fn start(folder: &Path) -> Self {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let directory = Directory::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
        }
        let here = directory.path().to_str().unwrap().to_owned();
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap().replace("{here}", &here);
        let main_cf = format!("{MAIN_CF}{}", read("main.cf"));
        for word in main_cf.split_ascii_whitespace().filter(|word| word.starts_with("hash:")) {
            let table = word.trim_end_matches(',');
            assert!(command("postmap").arg(table).status().unwrap().success(), "{table}");
        }
        let own = read("mailrace.toml");
        let is_set =
            |line: &&str| line.split_once(" =").is_some_and(|(name, _)| own.contains(&format!("{name} =")));
        let base: String = MAILRACE_TOML.split_inclusive('\n').filter(|line| !is_set(line)).collect();
        let mut toml = format!("{base}{own}");
        if !toml.contains("recipient_delimiter") {
            // As in the private Postfix.
            toml.push_str("recipient_delimiter = \"+\"\n");
        }
        let config = directory.write("mailrace.toml", &toml);
        let engine = Engine::start(&directory, &["--config", config.to_str().unwrap()]);
        let setting =
            Setting { directory: directory.path().to_path_buf(), cpu: None, congestion_control: None };
        let postfix = Postfix::start_with(&setting, &main_cf).unwrap();
        let (ours, theirs) = (Client::introduced(engine.addresses[0]), Client::introduced(postfix.address()));
        Self { name, postfix, engine, ours, theirs, taken: Vec::new(), differences: String::new(), directory }
    }

    fn offer(&mut self, sender: &str, recipients: &[&str], content: &[u8]) {
        let theirs = offer(&mut self.theirs, sender, recipients, content);
        let ours = offer(&mut self.ours, sender, recipients, content);
        let what = format!("{}: from {sender:?} to {recipients:?}: {:?}", self.name, shown(content));
        let (their_id, our_id) = (id_of(&theirs), id_of(&ours));
        if ours.replace(&our_id, "ID") != theirs.replace(&their_id, "ID") {
            let _ = writeln!(self.differences, "{what}\n  Postfix says {theirs}\n  Mailrace says {ours}");
        } else if theirs.starts_with("250") {
            self.taken.push(Taken { what, our_id, their_id });
        }
    }

    /// Asks about recipients, by RCPT and by VRFY.
    fn ask(&mut self, sender: &str) {
        for command in ["RSET".to_owned(), format!("MAIL FROM:<{sender}>")] {
            self.ours.say(&command, "250 ");
            self.theirs.say(&command, "250 ");
        }
        for command in RECIPIENTS
            .iter()
            .flat_map(|address| [format!("RCPT TO:<{address}>"), format!("VRFY <{address}>")])
        {
            let [ours, theirs] = [&mut self.ours, &mut self.theirs].map(|client| {
                client.send(format!("{command}\r\n").as_bytes());
                client.reply()
            });
            if ours != theirs {
                let what = format!("{}: from {sender:?}: {command}", self.name);
                let _ = writeln!(self.differences, "{what}\n  Postfix says {theirs}\n  Mailrace says {ours}");
            }
        }
    }

    /// Compares what was queued; what differs.
    fn compare(mut self) -> String {
        self.engine.stop();
        let disk = OsDisk::new(&self.directory.path().join("mailrace-queue")).unwrap();
        let queue = Queue::read(&disk, true).unwrap();
        let out = &mut self.differences;
        for Taken { what, our_id, their_id } in &self.taken {
            let id = QueueId::parse(our_id.as_bytes()).unwrap();
            let entry = queue.entry(id).unwrap();
            let our_state = entry.as_ref().map(|entry| entry.state.name());
            let their_state =
                self.postfix.is_held(their_id).map(|is_held| if is_held { "hold" } else { "incoming" });
            if our_state != their_state {
                let _ = writeln!(out, "{what}\n  Postfix has it {their_state:?}\n  Mailrace {our_state:?}");
            }
            let (Some(entry), Some(_)) = (entry, their_state) else { continue };
            let theirs = self.postfix.envelope(their_id).unwrap();
            let (ours, theirs) =
                (summary(&entry.envelope), summary_of_postcat(&String::from_utf8_lossy(&theirs)));
            if ours != theirs {
                let _ = writeln!(out, "{what}\n  Postfix's envelope  {theirs}\n  Mailrace's envelope {ours}");
            }
            let mut content = Vec::new();
            queue.content(id, &mut content).unwrap();
            let content = String::from_utf8_lossy(&content).replace("\r\n", "\n");
            let ours = normal(&content, our_id);
            let theirs = normal(&String::from_utf8_lossy(&self.postfix.content(their_id).unwrap()), their_id);
            if ours != theirs {
                let place = theirs.lines().zip(ours.lines()).position(|(one, other)| one != other);
                let line = |text: &str| place.and_then(|place| text.lines().nth(place)).map(str::to_owned);
                let (theirs, ours) = (line(&theirs), line(&ours));
                let _ = writeln!(out, "{what}\n  line {place:?}\n  Postfix  {theirs:?}\n  Mailrace {ours:?}");
            }
        }
        eprintln!("{}: {} messages compared", self.name, self.taken.len());
        self.differences
    }
}

#[test]
fn results_match_postfix() {
    if !has_postfix() {
        return;
    }
    // One configuration alone, for debugging.
    let only = std::env::var("ONLY").ok();
    let kinds = command("postconf").arg("-m").output().map(|output| output.stdout).unwrap_or_default();
    let has_pcre = String::from_utf8_lossy(&kinds).lines().any(|kind| kind == "pcre");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("differential");
    assert!(only.as_ref().is_none_or(|only| root.join(only).is_dir()), "there is no such configuration");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let contents = contents();
    let mut differences = String::new();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        if name.starts_with("pcre") && !has_pcre {
            skip(&format!("{name}: {NO_PCRE}"));
            continue;
        }
        let mut pair = Pair::start(&folder);
        SENDERS.iter().for_each(|sender| pair.ask(sender));
        for (index, content) in contents.iter().enumerate() {
            // Postfix loses the text after the NUL also where NULs are to be taken out.
            if name == "stripped-characters" && content.starts_with(b"From a\0") {
                continue;
            }
            let (sender, recipients) =
                ENVELOPES[if index % 4 == 0 { index / 4 % ENVELOPES.len() } else { 0 }];
            pair.offer(sender, recipients, content);
        }
        for (sender, recipients) in ENVELOPES {
            pair.offer(sender, recipients, b"Subject: x\r\n\r\nx\r\n");
        }
        differences.push_str(&pair.compare());
    }
    assert!(differences.is_empty(), "\n{differences}");
}

/// Offers a message; the reply to its end, or the first refusal.
fn offer(client: &mut Client, sender: &str, recipients: &[&str], content: &[u8]) -> String {
    client.say("RSET", "250");
    client.say(&format!("MAIL FROM:<{sender}>"), "250 ");
    for recipient in recipients {
        client.send(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
        let reply = client.reply();
        if !reply.starts_with("250") {
            return reply;
        }
    }
    client.say("DATA", "354 ");
    let mut stuffed = Vec::with_capacity(content.len() + 16);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed.extend_from_slice(b".\r\n");
    client.send(&stuffed);
    client.reply()
}

fn shown(content: &[u8]) -> String {
    String::from_utf8_lossy(&content[..content.len().min(160)]).into_owned()
}

fn id_of(reply: &str) -> String {
    match reply.split_once("queued as ") {
        Some((_, id)) => id.to_owned(),
        None => "no id".to_owned(),
    }
}

/// What is to be the same of an envelope, as text.
fn summary(envelope: &Envelope) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let recipients: Vec<String> =
        envelope.recipients.iter().map(|recipient| text(&recipient.address)).collect();
    let originals: Vec<String> =
        envelope.recipients.iter().map(|recipient| text(recipient.original())).collect();
    format!(
        "<{}> to {recipients:?}, first {originals:?}, filter {:?}, redirect {:?}, 8bit {}",
        text(&envelope.sender),
        text(envelope.content_filter.as_deref().unwrap_or_default()),
        text(envelope.redirect.as_deref().unwrap_or_default()),
        envelope.body == BodyType::EightBitMime,
    )
}

fn summary_of_postcat(text: &str) -> String {
    let all = |name: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix(name))
            .map(|value| value.trim_start().to_owned())
            .collect()
    };
    let last = |name: &str| all(name).pop().unwrap_or_default();
    let is_eight_bit = all("named_attribute: encoding=").last().is_some_and(|encoding| encoding == "8bit");
    format!(
        "<{}> to {:?}, first {:?}, filter {:?}, redirect {:?}, 8bit {is_eight_bit}",
        last("sender:"),
        all("recipient:"),
        all("original_recipient:"),
        last("content_filter:"),
        last("redirect_to:"),
    )
}

/// Without what differs by nature: queue ids, dates that the system made, ports.
fn normal(content: &str, id: &str) -> String {
    let text = content.replace(id, "ID");
    // Postfix asks /etc/hosts for the client's name.
    let text = text.replace("(localhost [127.0.0.1])", "(unknown [127.0.0.1])");
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let is_made = line.starts_with("Message-Id: <20") && line.contains(".ID@")
            || line.starts_with("Resent-Message-Id: <20") && line.contains(".ID@");
        // Dates that were made here end with the zone's name.
        let is_dated = line.ends_with(" (UTC)");
        lines.push(match line.split_once(": ") {
            Some((name, _)) if is_made => format!("{name}: made here"),
            _ if is_dated => {
                let end = line.rfind(", ").map_or(0, |comma| comma.saturating_sub(3));
                format!("{}made here", &line[..end])
            }
            _ => line.to_owned(),
        });
    }
    lines.join("\n")
}
