//! Owns one mail transaction: from MAIL to the end of its content (RFC 5321 §3.3).

use super::content::Decoder;
use crate::envelope::Envelope;

/// What MAIL began.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) envelope: Envelope,
    /// Octets of memory that its recipients hold.
    pub(super) recipients_memory: usize,
    /// Recipients that were refused.
    pub(super) refused_recipients: u32,
    /// Recipients that came after the limit.
    pub(super) surplus_recipients: u32,
    pub(super) chunking: Chunking,
    pub(super) decoder: Decoder,
    /// Octets of content handed out.
    pub(super) content_size: u64,
    /// Octets in BDAT chunks.
    pub(super) chunks_size: u64,
}

/// How far BDAT has come (RFC 3030).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunking {
    /// No BDAT yet.
    None,
    /// Chunks are coming in.
    Open,
    /// A chunk was refused: nothing more is taken.
    Failed,
}

/// Why content is read and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// BDAT, and nobody to send to.
    NeedRecipient,
    /// BDAT, and no recipient was accepted.
    NoValidRecipients,
    /// BDAT after one that was refused.
    AfterError,
    /// Over `message_size_limit`.
    TooBig,
    /// A bare LF where that is refused.
    BareNewline,
    /// BDAT with size 0 that is not the last.
    NullChunk,
}
