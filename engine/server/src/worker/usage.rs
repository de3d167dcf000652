//! Owns what a worker holds at a moment, so that a test can tell whether all of it is needed.

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
    /// Connections that wait for room in the spool or to be read from again, and questions that any waits for.
    pub waiting: usize,
    /// Connections that clients are charged with.
    pub charged: usize,
    /// Messages of this machine that are under way.
    pub submissions: usize,
    /// Marks are under way.
    pub is_marking: bool,
    /// Nothing is read, for want of memory.
    pub is_choked: bool,
    /// What its spool holds.
    pub spool: mailrace_spool::Usage,
}

impl Usage {
    /// Whether nobody wants anything of the worker, and it holds nothing.
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
            waiting: self.intake.waiting() + self.reading.paused.len(),
            charged: self.accounts.connected(),
            submissions: self.submissions.len(),
            is_marking: !self.markings.is_empty(),
            is_choked: self.budget.is_choked,
            spool: self.intake.spool().usage(),
        }
    }
}
