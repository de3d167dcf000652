//! Owns the JSON form of an envelope. Keys are added, never renamed.

use mailrace_core::message::date::Civil;
use mailrace_core::{BodyType, Envelope, Notify, Origin, Protocol, QueueId, Recipient, Return, Timestamp};
use serde::Serialize;

/// What a listing says of a message.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    id: String,
    state: &'static str,
    /// RFC 3339, UTC.
    arrival: String,
    /// Octets of content as stored.
    size: u64,
    sender: String,
    recipients: Vec<String>,
    original_recipients: Vec<String>,
}

/// All that is known of a message but its content.
#[derive(Debug, Serialize)]
pub(super) struct Full {
    #[serde(flatten)]
    summary: Summary,
    client_address: String,
    client_port: u16,
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

impl Summary {
    pub(super) fn new(id: QueueId, state: &'static str, size: u64, envelope: &Envelope) -> Self {
        Self {
            id: id.to_string(),
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
        }
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let sender = if self.sender.is_empty() { "<>" } else { &self.sender };
        format!(
            "{} {:8} {} {:>9} {sender} -> {}",
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
        Self {
            summary,
            client_address: origin.client_address.to_canonical().to_string(),
            client_port: origin.client_port,
            client_name: origin.client_name.as_deref().map(text),
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
            content_filter: envelope.content_filter.as_deref().map(text),
            redirect: envelope.redirect.as_deref().map(text),
            ret: envelope.ret.map(|ret| match ret {
                Return::Full => "FULL",
                Return::Headers => "HDRS",
            }),
            envid: envelope.envelope_id.as_deref().map(text),
            dsn: envelope.recipients.iter().map(dsn).collect(),
        }
    }
}

fn dsn(recipient: &Recipient) -> Dsn {
    let words = [
        (Notify::NEVER, "NEVER"),
        (Notify::SUCCESS, "SUCCESS"),
        (Notify::FAILURE, "FAILURE"),
        (Notify::DELAY, "DELAY"),
    ];
    Dsn {
        recipient: text(&recipient.address),
        notify: words
            .iter()
            .filter(|(wish, _)| recipient.notify.contains(*wish))
            .map(|(_, word)| *word)
            .collect(),
        orcpt: recipient.dsn_original.as_deref().map(text),
    }
}

/// Addresses that are no UTF-8 are shown with replacement characters.
fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
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
