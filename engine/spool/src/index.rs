//! Owns which messages are in a worker's queue, and which segments they need.

use std::collections::HashMap;

use mailrace_core::QueueId;

/// The state of a queued message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for its delivery.
    Incoming,
    /// Parked by an operator.
    Hold,
}

impl State {
    /// Its name in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Hold => "hold",
        }
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Sequences of the first and the last segment that hold a part of it.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Octets of content.
    pub(crate) octets: u64,
    pub(crate) state: State,
}

/// The messages of one worker.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: HashMap<QueueId, Entry>,
    octets: u64,
    held: u64,
}

impl Index {
    pub(crate) fn insert(&mut self, id: QueueId, entry: Entry) {
        self.octets += entry.octets;
        self.held += u64::from(entry.state == State::Hold);
        if let Some(before) = self.entries.insert(id, entry) {
            self.forget(before);
        }
    }

    pub(crate) fn remove(&mut self, id: QueueId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.forget(entry);
        Some(entry)
    }

    pub(crate) fn set_state(&mut self, id: QueueId, state: State) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.held -= u64::from(entry.state == State::Hold);
            self.held += u64::from(state == State::Hold);
            entry.state = state;
        }
    }

    pub(crate) fn get(&self, id: QueueId) -> Option<Entry> {
        self.entries.get(&id).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueId, Entry)> + '_ {
        self.entries.iter().map(|(id, entry)| (*id, *entry))
    }

    pub(crate) fn messages(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) const fn octets(&self) -> u64 {
        self.octets
    }

    pub(crate) const fn held(&self) -> u64 {
        self.held
    }

    fn forget(&mut self, entry: Entry) {
        self.octets -= entry.octets;
        self.held -= u64::from(entry.state == State::Hold);
    }
}
