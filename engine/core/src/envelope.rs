//! Owns the envelope: what MAIL and RCPT said, and where the message came from.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::{QueueId, Sharer, Timestamp};

/// Where a message came from: fixed for a session once the client has greeted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub client_address: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The client's verified name; `None` is written `unknown`.
    pub client_name: Option<Box<[u8]>>,
    /// The argument of EHLO or HELO as given; empty if there was none.
    pub helo: Box<[u8]>,
    /// The protocol of the transaction.
    pub protocol: Protocol,
    /// Whom its part of shared bounds is counted for.
    pub speaker: Speaker,
}

/// Whom a session's part of shared bounds is counted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaker {
    /// The client that has the address.
    #[default]
    Client,
    /// This connection alone: a proxy at the address may speak for other clients.
    Connection,
    /// A user of this machine; all of them are one client.
    User,
}

/// Who submitted a message on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submitter {
    /// The user's number.
    pub user_id: u32,
    /// The user's name, for a From field that is missing; empty: none. Not kept in the queue.
    pub full_name: Vec<u8>,
}

impl Origin {
    /// A client that has not greeted yet.
    #[must_use]
    pub fn new(client_address: IpAddr, client_port: u16) -> Self {
        // A boxed slice of length zero does not allocate.
        Self {
            client_address,
            client_port,
            client_name: None,
            helo: Box::default(),
            protocol: Protocol::Smtp,
            speaker: Speaker::Client,
        }
    }

    /// The client and network that its part of shared bounds is counted for.
    #[must_use]
    pub fn sharer(&self) -> Sharer {
        match self.speaker {
            Speaker::Client => Sharer::of_client(self.client_address),
            Speaker::Connection => Sharer::of_connection(self.client_address, self.client_port),
            Speaker::User => Sharer::OF_USERS,
        }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
    }
}

/// How the client speaks; the keyword of `with` in Received (RFC 3848, RFC 6531).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HELO or no greeting.
    #[default]
    Smtp,
    /// EHLO.
    Esmtp,
    /// Not from the network: submitted on this machine.
    Local,
}

/// What MAIL and RCPT said of one message (RFC 5321 §2.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// When MAIL was taken.
    pub arrival: Timestamp,
    /// The reverse-path in internal form (unquoted, no brackets); empty: the null reverse-path.
    pub sender: Vec<u8>,
    /// In the order of acceptance, duplicates included.
    pub recipients: Vec<Recipient>,
    /// Recipients that virtual aliases have replaced and whose expansion is to be reported. Only in the queue.
    pub expanded: Vec<Recipient>,
    /// BODY= of MAIL (RFC 6152, RFC 3030).
    pub body: BodyType,
    /// SMTPUTF8 of MAIL (RFC 6531).
    pub smtputf8: bool,
    /// RET= of MAIL (RFC 3461 §4.3).
    pub ret: Option<Return>,
    /// ENVID= of MAIL, xtext decoded (RFC 3461 §4.4).
    pub envelope_id: Option<Box<[u8]>>,
    /// SIZE= of MAIL in bytes (RFC 1870).
    pub declared_size: Option<u64>,
    /// What is known of the content besides its bytes.
    pub content: ContentTraits,
    /// `transport:destination` of a check's FILTER.
    pub content_filter: Option<Box<[u8]>>,
    /// The address of a check's REDIRECT, in internal form: everything goes there.
    pub redirect: Option<Box<[u8]>>,
    /// Who submitted it on this machine; `None` for mail from the network.
    pub submitter: Option<Box<Submitter>>,
    /// The message that this report is about.
    pub reports: Option<QueueId>,
}

/// What is known of content besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentTraits {
    /// The first line of the content is taken as it is: one that begins with a space continues our trace field, and none
    /// is looked at as a line of a mailbox file. So does Postfix with content that came by BDAT, or in which a stuffed
    /// dot or a CR came first. Not kept in the queue.
    pub has_raw_start: bool,
    /// No field has a byte above 127, in the header section of the message, of a part or of an attached message. False
    /// before cleanup and in records of older releases: then it is not known. Kept in the queue if SMTPUTF8 is given.
    pub has_ascii_header: bool,
}

impl Envelope {
    /// Whether a transaction with these recipients, in internal form, requires SMTPUTF8 of the server (RFC 6531 §3.2): it
    /// was given, and the sender, a recipient or a field really is beyond ASCII.
    pub fn needs_smtputf8<'r>(&self, recipients: impl IntoIterator<Item = &'r [u8]>) -> bool {
        let is_ascii = || self.sender.is_ascii() && recipients.into_iter().all(<[u8]>::is_ascii);
        self.smtputf8 && !(self.content.has_ascii_header && is_ascii())
    }

    /// Returns the recipients whose states a message's progress notes, in the order of their numbers: those that are
    /// delivered to, then those that were expanded.
    pub fn numbered(&self) -> impl Iterator<Item = &Recipient> {
        self.recipients.iter().chain(&self.expanded)
    }
}

/// An envelope as it goes into the queue.
#[derive(Debug)]
pub struct QueuedEnvelope<'a> {
    /// As MAIL and RCPT said it.
    pub given: &'a Envelope,
    /// The reverse-path after rewriting, in internal form.
    pub sender: &'a [u8],
    /// After rewriting, expansion and comparison.
    pub recipients: ArenaVec<'a, QueuedRecipient<'a>>,
    /// As in [`Envelope::expanded`].
    pub expanded: ArenaVec<'a, QueuedRecipient<'a>>,
    /// What the content is.
    pub body: BodyType,
    /// As in [`Envelope::smtputf8`]; also found in the content where that counts.
    pub smtputf8: bool,
    /// As in [`ContentTraits::has_ascii_header`].
    pub has_ascii_header: bool,
    /// As in [`Envelope::content_filter`].
    pub content_filter: Option<&'a [u8]>,
    /// As in [`Envelope::redirect`].
    pub redirect: Option<&'a [u8]>,
}

/// A recipient as it goes into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedRecipient<'a> {
    /// In internal form.
    pub address: &'a [u8],
    /// As first given, in internal form.
    pub original: &'a [u8],
    /// What it wishes to be told.
    pub notify: Notify,
    /// As in [`Recipient::dsn_original`].
    pub dsn_original: Option<&'a [u8]>,
}

impl<'a> QueuedEnvelope<'a> {
    /// An envelope that nothing was done to.
    #[must_use]
    pub fn unchanged(arena: &'a Bump, given: &'a Envelope) -> Self {
        let unchanged =
            |recipients: &'a [Recipient]| ArenaVec::from_iter_in(recipients.iter().map(Into::into), arena);
        Self {
            given,
            sender: &given.sender,
            recipients: unchanged(&given.recipients),
            expanded: unchanged(&given.expanded),
            body: given.body,
            smtputf8: given.smtputf8,
            has_ascii_header: given.content.has_ascii_header,
            content_filter: given.content_filter.as_deref(),
            redirect: given.redirect.as_deref(),
        }
    }
}

impl<'a> From<&'a Recipient> for QueuedRecipient<'a> {
    fn from(recipient: &'a Recipient) -> Self {
        Self {
            address: &recipient.address,
            original: recipient.original(),
            notify: recipient.notify,
            dsn_original: recipient.dsn_original.as_deref(),
        }
    }
}

/// One forward-path and the wishes that came with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// The address after rewriting, in internal form.
    pub address: Vec<u8>,
    /// The address as first given, in internal form; `None` when it is the same as `address`.
    pub original: Option<Box<[u8]>>,
    /// NOTIFY= of RCPT (RFC 3461 §4.1); empty when not given.
    pub notify: Notify,
    /// ORCPT= of RCPT as `type;address`, xtext decoded (RFC 3461 §4.2).
    pub dsn_original: Option<Box<[u8]>>,
}

impl Recipient {
    /// The address as first given.
    #[must_use]
    pub fn original(&self) -> &[u8] {
        self.original.as_deref().unwrap_or(&self.address)
    }
}

/// BODY= of MAIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// Not said.
    #[default]
    Unstated,
    /// `7BIT`.
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
    /// `BINARYMIME`: line ends are data.
    BinaryMime,
}

/// RET= of MAIL: what a failure report returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// The whole message.
    Full,
    /// The header section.
    Headers,
}

/// NOTIFY= of RCPT as Postfix counts it: NEVER 1, SUCCESS 2, FAILURE 4, DELAY 8; 0 is not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify(u8);

impl Notify {
    /// No report at all.
    pub const NEVER: Self = Self(1);
    /// A report of delivery.
    pub const SUCCESS: Self = Self(2);
    /// A report of failure.
    pub const FAILURE: Self = Self(4);
    /// A report of delay.
    pub const DELAY: Self = Self(8);

    /// The sum of the wishes; unknown bits are dropped.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 15)
    }

    /// The sum of the wishes.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Both wishes together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all wishes of `other` are in this one.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The keywords of the wishes (RFC 3461 §4.1).
    pub fn keywords(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (Self::NEVER, "NEVER"),
            (Self::SUCCESS, "SUCCESS"),
            (Self::FAILURE, "FAILURE"),
            (Self::DELAY, "DELAY"),
        ];
        all.into_iter().filter(move |(wish, _)| self.contains(*wish)).map(|(_, keyword)| keyword)
    }

    /// Whether nothing was wished.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smtputf8_is_needed_only_for_what_is_beyond_ascii() {
        let (ascii, utf8) = (b"a@example.org".as_slice(), "\u{e9}@example.org".as_bytes());
        let needs = |smtputf8, has_ascii_header, sender: &[u8], recipients: &[&[u8]]| {
            let content = ContentTraits { has_ascii_header, ..ContentTraits::default() };
            let envelope = Envelope { smtputf8, content, sender: sender.to_vec(), ..Envelope::default() };
            envelope.needs_smtputf8(recipients.iter().copied())
        };
        assert!(!needs(true, true, ascii, &[ascii, ascii]));
        assert!(!needs(true, true, b"", &[]));
        assert!(needs(true, false, ascii, &[ascii]), "a field may need it");
        assert!(needs(true, true, utf8, &[ascii]));
        assert!(needs(true, true, ascii, &[ascii, utf8]));
        assert!(!needs(false, false, utf8, &[utf8]), "not given");
    }
    #[test]
    fn expanded_recipients_are_numbered_after_the_others() {
        let recipient = |name: &u8| Recipient { address: alloc::vec![*name], ..Recipient::default() };
        let [recipients, expanded] = [b"ab", b"cd"].map(|names| names.iter().map(recipient).collect());
        let envelope = Envelope { recipients, expanded, ..Envelope::default() };
        assert_eq!(envelope.numbered().map(|it| it.address[0]).collect::<Vec<u8>>(), b"abcd");
    }
}
