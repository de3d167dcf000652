//! Settings of the passes, with Postfix's names and defaults.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::address::{Destinations, Rewriting};
use crate::lookup::Maps;
use crate::message::date::Zone;
use crate::octet_table::OctetTable;

use super::drop_headers::FieldNames;

/// Settings of the cleanup passes. All messages share them; a reload replaces them as a whole.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this host, used in Received and Message-Id.
    pub myhostname: Vec<u8>,
    /// Name of the software, used in Received.
    pub mail_name: Vec<u8>,
    /// Completion of addresses.
    pub rewriting: Arc<Rewriting>,
    /// Domains whose mailboxes are looked up without their domain.
    pub destinations: Arc<Destinations>,
    /// Characters that separate a mailbox from its extension.
    pub recipient_delimiter: Vec<u8>,
    /// Canonical tables for all addresses.
    pub canonical: Canonical,
    /// Canonical tables for senders.
    pub sender_canonical: Canonical,
    /// Canonical tables for recipients.
    pub recipient_canonical: Canonical,
    /// Whether results of canonical tables keep an extension that the matched key does not have
    /// (`propagate_unmatched_extensions`).
    pub propagates_canonical_extension: bool,
    /// Masquerading of domains.
    pub masquerade: Masquerade,
    /// Virtual aliases.
    pub virtual_alias: VirtualAlias,
    /// Blind copies.
    pub bcc: Bcc,
    /// Maximum number of recipients per message that are checked for duplicates; duplicates beyond it pass. 0: no limit.
    pub duplicate_filter_limit: usize,
    /// Whether recipients with different original addresses are distinct.
    pub enable_original_recipient: bool,
    /// Header and body checks.
    pub checks: Checks,
    /// MIME parsing.
    pub mime: Mime,
    /// Number of Received fields, including ours, at which a message is refused.
    pub hopcount_limit: u32,
    /// Maximum size of a field in bytes, including folded lines; the rest is cut off.
    pub header_size_limit: usize,
    /// Maximum number of tokens per address field; the rest is dropped when the field is rewritten.
    pub header_address_token_limit: usize,
    /// Maximum length of a line that is processed as one record, in bytes.
    pub line_length_limit: usize,
    /// Whether missing fields are also added to mail from remote clients.
    pub always_add_missing_headers: bool,
    /// Field to add to a message without a recipient field; empty: none.
    pub undisclosed_recipients_header: Vec<u8>,
    /// Names of fields to remove.
    pub message_drop_headers: FieldNames,
    /// Bytes to remove from content; `None`: none.
    pub message_strip_characters: Option<Box<OctetSet>>,
    /// Bytes that cause content to be refused; `None`: none.
    pub message_reject_characters: Option<Box<OctetSet>>,
    /// Whether UTF-8 in local mail makes it require SMTPUTF8 (`smtputf8_autodetect_classes`).
    pub detects_smtputf8: bool,
    /// Time zone for dates.
    pub zone: Zone,
}

impl Settings {
    /// The settings for mail of the system itself: no checks, no blind copies, no refused characters, and no search for UTF-8,
    /// as Postfix has it for its bounces.
    #[must_use]
    pub fn internal(&self) -> Self {
        Self {
            checks: Checks::default(),
            bcc: Bcc::default(),
            message_strip_characters: None,
            message_reject_characters: None,
            detects_smtputf8: false,
            ..self.clone()
        }
    }
}

/// Canonical tables, which rewrite one address to one address.
#[derive(Clone, Debug, Default)]
pub struct Canonical {
    /// The tables.
    pub maps: Maps,
    /// Classes of addresses that the tables rewrite.
    pub classes: Classes,
}

/// Classes of addresses, by where they occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// MAIL.
    pub envelope_sender: bool,
    /// RCPT.
    pub envelope_recipient: bool,
    /// Sender fields such as From.
    pub header_sender: bool,
    /// Recipient fields such as To.
    pub header_recipient: bool,
}

/// Settings of masquerading.
#[derive(Clone, Debug, Default)]
pub struct Masquerade {
    /// Domains in order; `true` marks a domain that is excluded.
    pub domains: Vec<(bool, Vec<u8>)>,
    /// Local-parts that are not masqueraded, in lower case.
    pub exceptions: Vec<Vec<u8>>,
    /// Classes of addresses that are masqueraded.
    pub classes: Classes,
}

/// Settings of virtual aliases.
#[derive(Clone, Debug)]
pub struct VirtualAlias {
    /// The tables.
    pub maps: Maps,
    /// Whether results keep an extension that the matched key does not have (`propagate_unmatched_extensions`).
    pub propagates_extension: bool,
    /// Maximum number of recipients that one recipient may expand to.
    pub expansion_limit: usize,
    /// Maximum nesting depth.
    pub recursion_limit: usize,
    /// Maximum length of a result, in bytes.
    pub address_length_limit: usize,
    /// Maximum number of lookups per message in tables on servers, in addition to 20 per recipient.
    pub question_limit: usize,
}

/// Recipients of blind copies.
#[derive(Clone, Debug, Default)]
pub struct Bcc {
    /// Receives a copy of every message; empty: none.
    pub always: Vec<u8>,
    /// Tables by reverse-path.
    pub sender_maps: Maps,
    /// Tables by recipient.
    pub recipient_maps: Maps,
}

/// Tables of header and body checks.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Tables for the message header section.
    pub header: Maps,
    /// Tables for MIME fields in it, and for the header sections of parts.
    pub mime_header: Maps,
    /// Tables for the header sections of attached messages.
    pub nested_header: Maps,
    /// Tables for body lines.
    pub body: Maps,
    /// Number of bytes of each part's body that are checked; 0: all.
    pub body_size_limit: usize,
}

impl Settings {
    /// Returns the size in bytes at which the front of an endless field is written.
    pub(super) const fn cut_field_size(&self) -> usize {
        self.header_size_limit + self.line_length_limit
    }

    /// Returns whether any table may defer its answer.
    pub(super) fn may_wait(&self) -> bool {
        self.all_maps().into_iter().any(Maps::may_wait)
    }

    /// Returns the tables of all parameters. The pattern names every field, so that a new one cannot be forgotten.
    fn all_maps(&self) -> [&Maps; 10] {
        let Self {
            myhostname: _,
            mail_name: _,
            rewriting: _,
            destinations: _,
            recipient_delimiter: _,
            canonical,
            sender_canonical,
            recipient_canonical,
            propagates_canonical_extension: _,
            masquerade: _,
            virtual_alias,
            bcc,
            duplicate_filter_limit: _,
            enable_original_recipient: _,
            checks,
            mime: _,
            hopcount_limit: _,
            header_size_limit: _,
            header_address_token_limit: _,
            line_length_limit: _,
            always_add_missing_headers: _,
            undisclosed_recipients_header: _,
            message_drop_headers: _,
            message_strip_characters: _,
            message_reject_characters: _,
            detects_smtputf8: _,
            zone: _,
        } = self;
        let Canonical { maps: canonical, classes: _ } = canonical;
        let Canonical { maps: sender_canonical, classes: _ } = sender_canonical;
        let Canonical { maps: recipient_canonical, classes: _ } = recipient_canonical;
        let VirtualAlias {
            maps: virtual_alias,
            propagates_extension: _,
            expansion_limit: _,
            recursion_limit: _,
            address_length_limit: _,
            question_limit: _,
        } = virtual_alias;
        let Bcc { always: _, sender_maps, recipient_maps } = bcc;
        let Checks { header, mime_header, nested_header, body, body_size_limit: _ } = checks;
        [
            canonical,
            sender_canonical,
            recipient_canonical,
            virtual_alias,
            sender_maps,
            recipient_maps,
            header,
            mime_header,
            nested_header,
            body,
        ]
    }
}

/// Settings of MIME parsing (RFC 2045).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mime {
    /// Whether to treat content as a header section followed by lines.
    pub is_disabled: bool,
    /// Maximum nesting depth of multiparts.
    pub nesting_limit: usize,
    /// Number of bytes of a boundary that are compared.
    pub boundary_length_limit: usize,
    /// Whether to refuse multipart and message types with an encoding such as base64.
    pub strict_encoding_domain: bool,
    /// Whether to refuse header fields with 8-bit characters.
    pub strict_7bit_headers: bool,
    /// Whether to refuse bodies with undeclared 8-bit characters.
    pub strict_8bit_body: bool,
    /// Whether to detect content that declares an 8-bit encoding.
    pub detects_8bit: bool,
}

/// A set of byte values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OctetSet(OctetTable<bool>);

impl OctetSet {
    /// Creates the set of these bytes.
    #[must_use]
    pub fn of(octets: &[u8]) -> Self {
        let mut set = OctetTable::filled(false);
        octets.iter().for_each(|octet| set.set(*octet, true));
        Self(set)
    }

    /// Returns whether the set contains `octet`.
    #[must_use]
    pub const fn contains(&self, octet: u8) -> bool {
        self.0.get(octet)
    }
}

impl Default for VirtualAlias {
    fn default() -> Self {
        Self {
            maps: Maps::default(),
            propagates_extension: true,
            expansion_limit: 1000,
            question_limit: 5000,
            recursion_limit: 1000,
            address_length_limit: 1000,
        }
    }
}

impl Default for Mime {
    fn default() -> Self {
        Self {
            is_disabled: false,
            nesting_limit: 100,
            boundary_length_limit: 2048,
            strict_encoding_domain: false,
            strict_7bit_headers: false,
            strict_8bit_body: false,
            detects_8bit: true,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let names: [&[u8]; 4] = [b"bcc", b"content-length", b"resent-bcc", b"return-path"];
        Self {
            myhostname: b"localhost".to_vec(),
            mail_name: b"Mailrace".to_vec(),
            rewriting: Arc::default(),
            destinations: Arc::default(),
            recipient_delimiter: vec![],
            canonical: Canonical::default(),
            sender_canonical: Canonical::default(),
            recipient_canonical: Canonical::default(),
            propagates_canonical_extension: true,
            masquerade: Masquerade::default(),
            virtual_alias: VirtualAlias::default(),
            bcc: Bcc::default(),
            duplicate_filter_limit: 1000,
            enable_original_recipient: true,
            checks: Checks { body_size_limit: 51_200, ..Checks::default() },
            mime: Mime::default(),
            hopcount_limit: 50,
            header_size_limit: 102_400,
            header_address_token_limit: 10_240,
            line_length_limit: 2048,
            always_add_missing_headers: false,
            undisclosed_recipients_header: vec![],
            message_drop_headers: names.into_iter().collect(),
            message_strip_characters: None,
            message_reject_characters: None,
            detects_smtputf8: true,
            zone: Zone::default(),
        }
    }
}
