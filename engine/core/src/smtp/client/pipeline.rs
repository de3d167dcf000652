//! Queue of the replies that a client awaits, in the order of its commands.

use alloc::collections::VecDeque;

/// Command or event that a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The connection.
    Greeting,
    /// EHLO.
    Ehlo,
    /// LHLO.
    Lhlo,
    /// HELO.
    Helo,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA.
    Data,
    /// BDAT without LAST.
    Chunk,
    /// The end of content after DATA, or BDAT with LAST.
    Content,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
    /// Another command, whose reply changes nothing.
    Other,
}

impl Awaited {
    /// Returns whether `code` means success.
    #[must_use]
    pub const fn is_answered_by(self, code: u16) -> bool {
        match self {
            Self::Data => code == 354,
            _ => code / 100 == 2,
        }
    }

    /// Returns whether PIPELINING allows another command before the reply (RFC 2920 §3.1).
    const fn may_be_followed(self) -> bool {
        matches!(self, Self::Mail | Self::Recipient | Self::Chunk | Self::Content | Self::Reset)
    }
}

/// Awaited replies, the next one first.
#[derive(Debug)]
pub(super) struct Pipeline(VecDeque<Awaited>);

impl Pipeline {
    /// Creates the queue of a new connection.
    pub(super) fn new() -> Self {
        Self(VecDeque::from([Awaited::Greeting]))
    }

    pub(super) fn push(&mut self, awaited: Awaited) {
        self.0.push_back(awaited);
    }

    pub(super) fn pop(&mut self) {
        self.0.pop_front();
    }

    /// Starts again with a new connection.
    pub(super) fn restart(&mut self) {
        self.0.clear();
        self.0.push_back(Awaited::Greeting);
    }

    pub(super) fn next(&self) -> Option<Awaited> {
        self.0.front().copied()
    }

    /// Returns whether no further reply is awaited after the next one.
    pub(super) fn is_at_last(&self) -> bool {
        self.0.len() <= 1
    }

    pub(super) fn contains(&self, awaited: Awaited) -> bool {
        self.0.contains(&awaited)
    }

    /// Returns whether another command may be sent now.
    pub(super) fn is_open(&self, is_pipelining: bool) -> bool {
        self.0.back().is_none_or(|last| is_pipelining && last.may_be_followed())
    }
}
