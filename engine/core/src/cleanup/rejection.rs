//! Why a message may not enter, and the reply to its client.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::lookup::{LookupError, Ticket};
use crate::smtp::reply::{self, Reply};

/// Why a message may not enter the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It has [`super::Settings::hopcount_limit`] Received fields, ours included.
    TooManyHops,
    /// A check does not want its content: an enhanced status code and a text. 4.x.x is a 451 reply, 5.x.x a 550.
    Content(Box<[u8]>),
    /// Its content is not as it has to be, which this reply says.
    Improper(&'static Reply),
    /// An alias has no end, or becomes too many or too long addresses.
    AliasExpansion,
    /// A table could not be asked.
    LookupFailed,
    /// It has no recipient.
    NoRecipients,
}

impl Rejection {
    /// The reply without its line end.
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

    /// A short fixed name, for metrics.
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

/// Why the passes stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The message may not enter.
    Rejected(Rejection),
    /// A table has not answered this question yet: the same call again when it has.
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
