//! What an attempt has come to.

use mailrace_core::record::delivery::{Action, Cause};

/// What became of a recipient in one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was delivered. The action is what a report would say; `None`: the next hop sends reports itself.
    Sent(Cause, Option<Action>),
    /// It failed, and may succeed later.
    Deferred(Cause),
    /// It failed, and will always fail.
    Failed(Cause),
}

/// What an attempt says about the destination, apart from the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// A server was there and answered, whatever it said to the message.
    Good,
    /// No server could be reached, or none was willing to talk.
    Failed(Cause),
}

impl Outcome {
    /// Why.
    #[must_use]
    pub const fn cause(&self) -> &Cause {
        match self {
            Self::Sent(cause, _) | Self::Deferred(cause) | Self::Failed(cause) => cause,
        }
    }

    /// The word of Postfix's `status=`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Sent(..) => "sent",
            Self::Deferred(_) => "deferred",
            Self::Failed(_) => "bounced",
        }
    }

    /// The same failure, which may pass (`soft_bounce`).
    #[must_use]
    pub fn softened(self) -> Self {
        match self {
            Self::Failed(mut cause) => {
                cause.status.class = 4;
                Self::Deferred(cause)
            }
            other => other,
        }
    }
}
