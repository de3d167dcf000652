//! Settings of the passes; names and defaults are Postfix's.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::address::{Destinations, Rewriting};
use crate::lookup::Maps;
use crate::message::date::Zone;
use crate::octet_table::OctetTable;

use super::drop_headers::FieldNames;

/// Settings of the cleanup passes, shared by all messages; replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host's name, in Received and Message-Id.
    pub myhostname: Vec<u8>,
    /// The software's name, in Received.
    pub mail_name: Vec<u8>,
    /// How addresses become complete.
    pub rewriting: Arc<Rewriting>,
    /// Whose mailboxes are looked up without their domain.
    pub destinations: Arc<Destinations>,
    /// Octets that separate a mailbox from its extension.
    pub recipient_delimiter: Vec<u8>,
    /// Rewrites all addresses.
    pub canonical: Canonical,
    /// Rewrites addresses of senders.
    pub sender_canonical: Canonical,
    /// Rewrites addresses of recipients.
    pub recipient_canonical: Canonical,
    /// Whether an extension that a canonical table did not ask for is kept (`propagate_unmatched_extensions`).
    pub propagates_canonical_extension: bool,
    /// Hides hosts behind their domain.
    pub masquerade: Masquerade,
    /// Replaces recipients.
    pub virtual_alias: VirtualAlias,
    /// Copies of mail.
    pub bcc: Bcc,
    /// Recipients of one message that are compared to find duplicates; beyond, duplicates pass. 0: no limit.
    pub duplicate_filter_limit: usize,
    /// Whether recipients with different original addresses are different.
    pub enable_original_recipient: bool,
    /// What content must not have.
    pub checks: Checks,
    /// How content is read.
    pub mime: Mime,
    /// Number of Received fields, ours included, that is too many.
    pub hopcount_limit: u32,
    /// Octets of one field, folded lines included; the rest is cut off.
    pub header_size_limit: usize,
    /// Tokens of one address field; the rest is left out when the field is written anew.
    pub header_address_token_limit: usize,
    /// Octets of a line that are looked at as one.
    pub line_length_limit: usize,
    /// Add missing fields also to mail from strangers.
    pub always_add_missing_headers: bool,
    /// Added when no recipient field is there; empty: nothing is.
    pub undisclosed_recipients_header: Vec<u8>,
    /// Names of fields that do not enter the queue.
    pub message_drop_headers: FieldNames,
    /// Octets that are taken out of content; `None`: none are.
    pub message_strip_characters: Option<Box<OctetSet>>,
    /// Octets that content is refused for; `None`: none are.
    pub message_reject_characters: Option<Box<OctetSet>>,
    /// Whether UTF-8 in mail from this system makes it mail for SMTPUTF8 (`smtputf8_autodetect_classes`).
    pub detects_smtputf8: bool,
    /// For dates.
    pub zone: Zone,
}

/// Tables that rewrite addresses one to one.
#[derive(Clone, Debug, Default)]
pub struct Canonical {
    /// The tables.
    pub maps: Maps,
    /// Which addresses they rewrite.
    pub classes: Classes,
}

/// Where an address stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// MAIL.
    pub envelope_sender: bool,
    /// RCPT.
    pub envelope_recipient: bool,
    /// From and the like.
    pub header_sender: bool,
    /// To and the like.
    pub header_recipient: bool,
}

/// What hides hosts behind their domain.
#[derive(Clone, Debug, Default)]
pub struct Masquerade {
    /// Domains in their order; with `true` one that is left alone.
    pub domains: Vec<(bool, Vec<u8>)>,
    /// Local-parts that are left alone, in lower case.
    pub exceptions: Vec<Vec<u8>>,
    /// Which addresses are hidden.
    pub classes: Classes,
}

/// What replaces recipients.
#[derive(Clone, Debug)]
pub struct VirtualAlias {
    /// The tables.
    pub maps: Maps,
    /// Whether an extension that no table asked for is kept (`propagate_unmatched_extensions`).
    pub propagates_extension: bool,
    /// Recipients that one becomes at most.
    pub expansion_limit: usize,
    /// How often one may be replaced.
    pub recursion_limit: usize,
    /// Octets of a result at most.
    pub address_length_limit: usize,
    /// Questions that a message may put to tables that have to ask a server, beside 20 for each of its recipients.
    pub question_limit: usize,
}

/// Who gets copies.
#[derive(Clone, Debug, Default)]
pub struct Bcc {
    /// Of everything; empty: none.
    pub always: Vec<u8>,
    /// By the reverse-path.
    pub sender_maps: Maps,
    /// By each recipient.
    pub recipient_maps: Maps,
}

/// Tables of what content must not have, and what is done then.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// For the header section.
    pub header: Maps,
    /// For fields of MIME there, and the header sections of parts.
    pub mime_header: Maps,
    /// For the header sections of attached messages.
    pub nested_header: Maps,
    /// For lines of the body.
    pub body: Maps,
    /// Octets of each part's body that are looked at; 0: all.
    pub body_size_limit: usize,
}

impl Settings {
    /// Octets of a field that has no end, after which its front goes out.
    pub(super) const fn cut_field_size(&self) -> usize {
        self.header_size_limit + self.line_length_limit
    }

    /// Whether any table may have to be waited for.
    pub(super) fn may_wait(&self) -> bool {
        self.all_maps().into_iter().any(Maps::may_wait)
    }

    /// The tables of all parameters. Every field is named, so that a new one cannot be forgotten.
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

/// How content is read as MIME (RFC 2045).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mime {
    /// Content is a header section and lines.
    pub is_disabled: bool,
    /// Multipart within multipart.
    pub nesting_limit: usize,
    /// Octets of a boundary that are compared.
    pub boundary_length_limit: usize,
    /// Refuse multipart and message parts in base64 and the like.
    pub strict_encoding_domain: bool,
    /// Refuse fields beyond ASCII.
    pub strict_7bit_headers: bool,
    /// Refuse bodies beyond ASCII that do not say so.
    pub strict_8bit_body: bool,
    /// Note content that says it is beyond ASCII.
    pub detects_8bit: bool,
}

/// A set of octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OctetSet(OctetTable<bool>);

impl OctetSet {
    /// The set of these.
    #[must_use]
    pub fn of(octets: &[u8]) -> Self {
        let mut set = OctetTable::filled(false);
        octets.iter().for_each(|octet| set.set(*octet, true));
        Self(set)
    }

    /// Whether it is in it.
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
