//! What a worker holds at a moment, so that a test can tell whether all of it is needed.

use mailrace_core::QueueId;
use mailrace_spool::{Spool, State};

use super::engine::Engine;

/// What a worker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Open connections.
    pub connections: usize,
    /// Bytes of content, envelopes and input in memory.
    pub memory: usize,
    /// Connections that wait for room in the spool or for reading, and pending lookups.
    pub waiting: usize,
    /// Connections that clients are charged with.
    pub charged: usize,
    /// Local submissions in progress.
    pub submissions: usize,
    /// Marks are in progress.
    pub is_marking: bool,
    /// Nothing is read for lack of memory.
    pub is_choked: bool,
    /// What its spool holds.
    pub spool: mailrace_spool::Usage,
}

impl Usage {
    /// Whether the worker holds nothing and has nothing to do.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl<S: Spool> Engine<S> {
    pub(super) fn messages(&self) -> Vec<(QueueId, State)> {
        self.intake.spool().ids().collect()
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            connections: self.connections.iter().count(),
            memory: self.memory(),
            waiting: self.intake.waiting() + self.connections.reading.paused.len(),
            charged: self.accounts.connected(),
            submissions: self.submissions.len(),
            is_marking: !self.markings.is_empty(),
            is_choked: self.budget.is_choked,
            spool: self.intake.spool().usage(),
        }
    }
}
