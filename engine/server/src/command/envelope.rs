//! The JSON form of an envelope. Keys are added, never renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mailrace_core::message::date::Civil;
use mailrace_core::record::delivery::{Deferral, Progress, RecipientState};
use mailrace_core::{BodyType, Envelope, Origin, Protocol, QueueId, Recipient, Return, Timestamp};
use mailrace_spool::State;
use serde::Serialize;

/// State of a message with a recipient whose last attempt failed.
const DEFERRED: &str = "deferred";

/// What a listing says of a message.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    id: String,
    state: &'static str,
    /// RFC 3339, UTC.
    arrival: String,
    /// Bytes of content as stored.
    size: u64,
    sender: String,
    /// Those that are not done.
    recipients: Vec<String>,
    /// Of the same recipients.
    original_recipients: Vec<String>,
    /// What the last attempt met with, by recipient.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reasons: BTreeMap<String, String>,
    /// Why a submission was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What became of the recipients that were tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    progress: Vec<Tried>,
}

/// What became of one recipient.
#[derive(Debug, Serialize)]
struct Tried {
    recipient: String,
    state: &'static str,
    #[serde(flatten)]
    deferral: Option<Deferred>,
}

/// Why a recipient was not reached yet.
#[derive(Debug, Serialize)]
struct Deferred {
    /// RFC 3339, UTC.
    next_attempt: String,
    attempts: u32,
    /// RFC 3463.
    status: String,
    text: String,
}

/// All that is known of a message but its content.
#[derive(Debug, Serialize)]
pub(super) struct Full {
    #[serde(flatten)]
    summary: Summary,
    client_address: String,
    client_port: u16,
    /// The user who submitted it on this machine.
    user_id: Option<u32>,
    client_name: Option<String>,
    helo: String,
    protocol: &'static str,
    body: Option<&'static str>,
    smtputf8: bool,
    declared_size: Option<u64>,
    ret: Option<&'static str>,
    envid: Option<String>,
    /// `transport:destination` of a check's FILTER.
    content_filter: Option<String>,
    /// The address of a check's REDIRECT.
    redirect: Option<String>,
    dsn: Vec<Dsn>,
}

/// The wishes for reports of one recipient (RFC 3461).
#[derive(Debug, Serialize)]
struct Dsn {
    recipient: String,
    notify: Vec<&'static str>,
    orcpt: Option<String>,
}

impl Deferred {
    fn of(deferral: &Deferral) -> Self {
        Self {
            next_attempt: rfc3339(deferral.until),
            attempts: deferral.attempts,
            status: deferral.cause.status.to_string(),
            text: text(&deferral.cause.text, true),
        }
    }
}

impl Summary {
    pub(super) fn new(
        id: QueueId,
        state: &'static str,
        size: u64,
        origin: &Origin,
        envelope: &Envelope,
    ) -> Self {
        Self::with_id(id.to_string(), state, size, origin, envelope)
    }

    /// With what became of the recipients.
    pub(super) fn with_progress(mut self, envelope: &Envelope, progress: &Progress) -> Self {
        let states = progress.states(envelope.numbered().count()).unwrap_or_default();
        let tried = self.recipients.iter().zip(&states).filter_map(|(recipient, state)| {
            let (state, deferral) = match state {
                RecipientState::Untried => return None,
                RecipientState::Done => ("done", None),
                RecipientState::Due(_) => ("due", None),
                RecipientState::Reported => ("reported", None),
                RecipientState::Deferred(deferral) => ("deferred", Some(Deferred::of(deferral))),
            };
            Some(Tried { recipient: recipient.clone(), state, deferral })
        });
        self.progress = tried.collect();
        let deferred = self.progress.iter().filter_map(|tried| {
            tried.deferral.as_ref().map(|deferral| (tried.recipient.clone(), deferral.text.clone()))
        });
        self.reasons = deferred.collect();
        if self.state == State::Incoming.name() && !self.reasons.is_empty() {
            self.state = DEFERRED;
        }
        for addresses in [&mut self.recipients, &mut self.original_recipients] {
            let mut states = states.iter();
            addresses.retain(|_| states.next().is_none_or(|state| state.is_open()));
        }
        self
    }

    /// Of a submission that was set aside.
    pub(super) fn of_submission(
        id: String,
        state: &'static str,
        reason: &str,
        size: u64,
        origin: &Origin,
        envelope: &Envelope,
    ) -> Self {
        let reason = Some(text(reason.as_bytes(), true));
        Self { reason, ..Self::with_id(id, state, size, origin, envelope) }
    }

    fn with_id(id: String, state: &'static str, size: u64, origin: &Origin, envelope: &Envelope) -> Self {
        let text = |octets: &[u8]| text(octets, is_utf8(origin, envelope));
        Self {
            id,
            state,
            arrival: rfc3339(envelope.arrival),
            size,
            sender: text(&envelope.sender),
            recipients: envelope.recipients.iter().map(|recipient| text(&recipient.address)).collect(),
            original_recipients: envelope
                .recipients
                .iter()
                .map(|recipient| text(recipient.original()))
                .collect(),
            reasons: BTreeMap::new(),
            reason: None,
            progress: Vec::new(),
        }
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let sender = if self.sender.is_empty() { "<>" } else { &self.sender };
        // Many recipients may be deferred for the same reason, which is printed once.
        let reasons: BTreeSet<&str> =
            self.reason.iter().chain(self.reasons.values()).map(String::as_str).collect();
        let reason: String = reasons.iter().map(|reason| format!(" ({reason})")).collect();
        format!(
            "{} {:8} {} {:>9} {sender} -> {}{reason}",
            self.id,
            self.state,
            self.arrival,
            self.size,
            self.recipients.join(", ")
        )
    }
}

impl Full {
    pub(super) fn new(summary: Summary, origin: &Origin, envelope: &Envelope) -> Self {
        let text = |octets: &[u8]| text(octets, is_utf8(origin, envelope));
        Self {
            summary,
            client_address: origin.client_address.to_canonical().to_string(),
            client_port: origin.client_port,
            user_id: envelope.submitter.as_ref().map(|submitter| submitter.user_id),
            client_name: origin.client_name.as_deref().map(&text),
            helo: text(&origin.helo),
            protocol: match origin.protocol {
                Protocol::Smtp => "SMTP",
                Protocol::Esmtp => "ESMTP",
                Protocol::Local => "local",
            },
            body: match envelope.body {
                BodyType::Unstated => None,
                BodyType::SevenBit => Some("7BIT"),
                BodyType::EightBitMime => Some("8BITMIME"),
                BodyType::BinaryMime => Some("BINARYMIME"),
            },
            smtputf8: envelope.smtputf8,
            declared_size: envelope.declared_size,
            content_filter: envelope.content_filter.as_deref().map(&text),
            redirect: envelope.redirect.as_deref().map(&text),
            ret: envelope.ret.map(|ret| match ret {
                Return::Full => "FULL",
                Return::Headers => "HDRS",
            }),
            envid: envelope.envelope_id.as_deref().map(&text),
            dsn: envelope.recipients.iter().map(|recipient| dsn(recipient, text)).collect(),
        }
    }
}

fn dsn(recipient: &Recipient, text: impl Fn(&[u8]) -> String) -> Dsn {
    Dsn {
        recipient: text(&recipient.address),
        notify: recipient.notify.keywords().collect(),
        orcpt: recipient.dsn_original.as_deref().map(text),
    }
}

/// Whether the client itself said that addresses are UTF-8 (RFC 6531). A local submission cannot say so: there
/// SMTPUTF8 was found in the content, and addresses are the bytes that were given.
fn is_utf8(origin: &Origin, envelope: &Envelope) -> bool {
    envelope.smtputf8 && origin.protocol != Protocol::Local
}

/// The bytes as text from which they can be read back: a backslash is `\\`, CR, LF and TAB are `\r`, `\n`, `\t`, and `\xHH`
/// is any other byte that is no printable letter. Beyond ASCII there are letters only where `is_utf8` says so.
pub(super) fn text(octets: &[u8], is_utf8: bool) -> String {
    let mut out = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                '\r' => out.push_str("\\r"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                letter if !letter.is_control() && (is_utf8 || letter.is_ascii()) => out.push(letter),
                letter => push_octets(&mut out, letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        push_octets(&mut out, chunk.invalid());
    }
    out
}

fn push_octets(out: &mut String, octets: &[u8]) {
    for octet in octets {
        // Writing to a String does not fail.
        let _ = write!(out, "\\x{octet:02x}");
    }
}

fn rfc3339(time: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::new(time, 0);
    let microsecond = time.unix_microseconds() % 1_000_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{microsecond:06}Z")
}

/// One object on a line.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use mailrace_core::record::delivery::Cause;

    use super::*;

    #[test]
    fn printed_addresses_lose_no_byte() {
        for (octets, plain, utf8) in [
            (&b"a b@c.example"[..], "a b@c.example", "a b@c.example"),
            ("j\u{f6}rg".as_bytes(), "j\\xc3\\xb6rg", "j\u{f6}rg"),
            (b"j\xf6rg\xc3", "j\\xf6rg\\xc3", "j\\xf6rg\\xc3"),
            (b"a\\b\\x41", "a\\\\b\\\\x41", "a\\\\b\\\\x41"),
            (b"\r\n\t\0\x7f\x1b", "\\r\\n\\t\\x00\\x7f\\x1b", "\\r\\n\\t\\x00\\x7f\\x1b"),
            ("\u{85}".as_bytes(), "\\xc2\\x85", "\\xc2\\x85"),
        ] {
            assert_eq!(text(octets, false), plain);
            assert_eq!(text(octets, true), utf8);
        }
    }

    #[test]
    fn prints_utf8_only_if_the_client_declared_it() {
        let envelope = Envelope { smtputf8: true, ..Envelope::default() };
        let local = Origin { protocol: Protocol::Local, ..Origin::default() };
        assert!(is_utf8(&Origin::default(), &envelope));
        assert!(!is_utf8(&local, &envelope));
        assert!(!is_utf8(&Origin::default(), &Envelope::default()));
    }

    #[test]
    fn only_recipients_that_were_tried_have_progress() {
        let recipient = |address: &[u8]| Recipient { address: address.to_vec(), ..Recipient::default() };
        let recipients = [&b"new@example.org"[..], b"later@example.org", b"done@example.org"].map(recipient);
        let envelope = Envelope { recipients: recipients.to_vec(), ..Envelope::default() };
        let summary = |progress: &Progress| {
            let id = QueueId::from_number(1_740_800_000_000_000_000 << 10);
            let summary = Summary::new(id, "incoming", 0, &Origin::default(), &envelope);
            json(&summary.with_progress(&envelope, progress))
        };
        assert!(!summary(&Progress::default()).contains("progress"));
        let deferral = Deferral {
            until: Timestamp::from_unix_microseconds(1_740_800_000_000_000),
            attempts: 2,
            cause: Cause::new(4, 4, 1, "timed out"),
        };
        let states = [RecipientState::Untried, RecipientState::Deferred(deferral), RecipientState::Done];
        let text = summary(&Progress::of(&states).unwrap());
        let expected = concat!(
            r#""progress":[{"recipient":"later@example.org","state":"deferred","#,
            r#""next_attempt":"2025-03-01T03:33:20.000000Z","attempts":2,"status":"4.4.1","text":"timed out"},"#,
            r#"{"recipient":"done@example.org","state":"done"}]"#
        );
        assert!(text.contains(expected), "{text}");
        let expected = concat!(
            r#""recipients":["new@example.org","later@example.org"],"#,
            r#""original_recipients":["new@example.org","later@example.org"],"#,
            r#""reasons":{"later@example.org":"timed out"}"#
        );
        assert!(text.contains(expected) && text.contains(r#""state":"deferred""#), "{text}");
        let id = QueueId::from_number(1 << 50);
        let held = Summary::new(id, "hold", 0, &Origin::default(), &envelope);
        let held = held.with_progress(&envelope, &Progress::of(&states).unwrap());
        assert!(held.line().contains(" hold "), "an operator's hold counts");
        assert!(held.line().ends_with("new@example.org, later@example.org (timed out)"));
    }
    #[test]
    fn recipients_that_were_expanded_are_not_listed() {
        let [recipients, expanded] = [b"one@example.org", b"all@example.org"]
            .map(|address| vec![Recipient { address: address.to_vec(), ..Recipient::default() }]);
        let envelope = Envelope { recipients, expanded, ..Envelope::default() };
        let listed = |states: &[RecipientState]| {
            let summary = Summary::new(QueueId::from_number(1), "incoming", 0, &Origin::default(), &envelope);
            let summary = summary.with_progress(&envelope, &Progress::of(states).unwrap());
            (summary.recipients, summary.progress.len())
        };
        let one = || vec!["one@example.org".to_owned()];
        assert_eq!(listed(&[]), (one(), 0));
        assert_eq!(listed(&[RecipientState::Untried, RecipientState::Reported]), (one(), 0));
        assert_eq!(listed(&[RecipientState::Done, RecipientState::Reported]), (Vec::new(), 1));
    }
}
