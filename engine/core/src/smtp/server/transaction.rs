//! One mail transaction: from MAIL to the end of its content (RFC 5321 §3.3).

use super::content::Decoder;
use crate::envelope::Envelope;

/// The transaction that MAIL started.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) envelope: Envelope,
    /// Bytes of memory of its recipients.
    pub(super) recipients_memory: usize,
    /// The reverse-path has passed `smtpd_reject_unlisted_sender`.
    pub(super) is_sender_listed: bool,
    /// Recipients that came after the limit.
    pub(super) surplus_recipients: u32,
    pub(super) decoder: Decoder,
    /// Bytes of content returned.
    pub(super) content_size: u64,
    /// Bytes in BDAT chunks.
    pub(super) chunks_size: u64,
}

/// State of BDAT (RFC 3030), inside a transaction or without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunking {
    /// No BDAT yet.
    None,
    /// Chunks are coming in.
    Open,
    /// A chunk was refused. Further ones are discarded, up to the last one, RSET, HELO or EHLO.
    Failed,
}

/// Reasons for dropping content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// BDAT outside a transaction.
    NeedRecipient,
    /// BDAT without recipients.
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
