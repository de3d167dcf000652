//! What a message waits for, and for how long.

use std::time::Duration;

use mailrace_io::Instant;

/// The present wait of a message, and what counts of those before.
#[derive(Debug)]
pub(super) struct Waiting {
    what: WaitsFor,
    /// Time that the message has waited for answers of tables, up to the present wait.
    asked: Duration,
}

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// More of its content.
    Content,
    /// Room in the spool.
    Room,
    /// The answer of a table, which was asked at this time.
    Answer(Instant),
    /// Durability: the spool has had all of it since this time.
    Durability(Instant),
}

impl Waiting {
    /// For the first of its content.
    pub(super) const fn new() -> Self {
        Self { what: WaitsFor::Content, asked: Duration::ZERO }
    }

    /// Starts to wait for this.
    pub(super) fn start(&mut self, what: WaitsFor) {
        // A message that is twice in the line for room would be committed twice.
        assert!(self.what == WaitsFor::Content, "a message waits for one thing");
        self.what = what;
    }

    /// Ends the wait.
    pub(super) fn end(&mut self, now: Instant) {
        assert!(!self.is_settling(), "what the spool has is not given to it again");
        if let WaitsFor::Answer(since) = std::mem::replace(&mut self.what, WaitsFor::Content) {
            self.asked += now.since(since);
        }
    }

    /// Whether the message has to wait, although the spool does not have all of it.
    pub(super) const fn is_stuck(&self) -> bool {
        matches!(self.what, WaitsFor::Room | WaitsFor::Answer(_))
    }

    /// Whether it waits for room in the spool.
    pub(super) fn is_for_room(&self) -> bool {
        self.what == WaitsFor::Room
    }

    /// Whether the spool has all of the message.
    pub(super) const fn is_settling(&self) -> bool {
        matches!(self.what, WaitsFor::Durability(_))
    }

    /// How long the spool has had all of the message.
    pub(super) fn latency(&self, now: Instant) -> Duration {
        match self.what {
            WaitsFor::Durability(since) => now.since(since),
            WaitsFor::Content | WaitsFor::Room | WaitsFor::Answer(_) => Duration::ZERO,
        }
    }

    /// Whether the message may wait for one more answer of a table.
    pub(super) fn may_ask(&self) -> bool {
        self.asked <= ANSWER_PATIENCE
    }
}

/// Longest total time of lookups for one message; then its client gets 451 4.3.0.
const ANSWER_PATIENCE: Duration = Duration::from_secs(100);
