//! What an attempt has come to.

use mailrace_core::record::delivery::Status;

/// What became of a recipient in one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop has taken the message for it.
    Sent(Reason),
    /// It failed, and may succeed later.
    Deferred(Reason),
    /// It failed, and will always fail.
    Failed(Reason),
}

/// Why, for the log, for listings and for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// Enhanced status code (RFC 3463).
    pub status: Status,
    /// One line of text.
    pub text: Box<[u8]>,
}

/// What an attempt says about the destination, apart from the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// A server was there and answered, whatever it said to the message.
    Good,
    /// No server could be reached, or none was willing to talk.
    Failed(Reason),
}

impl Reason {
    /// A reason with a status of this class, subject and detail.
    #[must_use]
    pub fn new(class: u8, subject: u16, detail: u16, text: impl Into<Vec<u8>>) -> Self {
        Self { status: Status { class, subject, detail }, text: text.into().into_boxed_slice() }
    }
}

impl Outcome {
    /// Why.
    #[must_use]
    pub const fn reason(&self) -> &Reason {
        match self {
            Self::Sent(reason) | Self::Deferred(reason) | Self::Failed(reason) => reason,
        }
    }

    /// The word of Postfix's `status=`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Sent(_) => "sent",
            Self::Deferred(_) => "deferred",
            Self::Failed(_) => "bounced",
        }
    }
}
