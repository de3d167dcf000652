//! Reasons for rejecting a message, and the replies to its client.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::lookup::{LookupError, Ticket};
use crate::smtp::reply::{self, Reply};

/// Reason for rejecting a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The message has [`super::Settings::hopcount_limit`] Received fields, including ours.
    TooManyHops,
    /// A check rejects the content, with an enhanced status code and a text. 4.x.x leads to a 451 reply, 5.x.x to a 550.
    Content(Box<[u8]>),
    /// The content violates the rules that this reply names.
    Improper(&'static Reply),
    /// An alias loops, or expands to too many or too long addresses.
    AliasExpansion,
    /// A lookup failed.
    LookupFailed,
    /// The message has no recipient.
    NoRecipients,
}

impl Rejection {
    /// Returns the reply without its line end.
    #[must_use]
    pub fn reply(&self) -> Cow<'static, [u8]> {
        match self {
            Self::TooManyHops => reply::TOO_MANY_HOPS.line(),
            Self::Content(text) => {
                let code: &[u8] = if text.starts_with(b"4") { b"451 " } else { b"550 " };
                let mut reply = Vec::with_capacity(text.len() + 4);
                reply.extend_from_slice(code);
                reply.extend_from_slice(text);
                Cow::Owned(reply)
            }
            Self::Improper(reply) => reply.line(),
            Self::AliasExpansion => reply::ALIAS_EXPANSION.line(),
            Self::LookupFailed => reply::QUEUE_WRITE_ERROR.line(),
            Self::NoRecipients => reply::NO_RECIPIENTS.line(),
        }
    }

    /// Returns a short fixed name for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooManyHops => "too_many_hops",
            Self::Content(_) | Self::Improper(_) => "content_rejected",
            Self::AliasExpansion => "alias_expansion",
            Self::LookupFailed => "lookup_failed",
            Self::NoRecipients => "no_recipients",
        }
    }
}

/// Reason why the passes stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The message is rejected.
    Rejected(Rejection),
    /// A table has not answered this lookup yet. Repeat the call when the answer is available.
    Pending(Ticket),
}

impl From<Rejection> for Halt {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<LookupError> for Halt {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Unavailable => Self::Rejected(Rejection::LookupFailed),
            LookupError::Pending(ticket) => Self::Pending(ticket),
        }
    }
}
