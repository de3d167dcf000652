//! Owns which messages are in a worker's queue, and which segments they need.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

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

    /// The state of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Incoming, Self::Hold].into_iter().find(|state| state.name() == name)
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Sequences of the first and the last segment that hold a part of it.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Offset of its last record in the last of them.
    pub(crate) offset: u32,
    /// Octets of content.
    pub(crate) octets: u64,
    pub(crate) state: State,
}

/// The messages of one worker.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: HashMap<QueueId, Entry, BuildHasherDefault<IdHasher>>,
    octets: u64,
    held: u64,
}

/// Spreads queue ids over the table. They are our own numbers: nobody can choose them to collide.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, number: u64) {
        // Of the product the high bits are the mixed ones, and a table looks at both ends.
        let product = u128::from(number ^ self.0) * 0x9e37_79b9_7f4a_7c15;
        #[expect(clippy::cast_possible_truncation, reason = "both halves of the product are folded into one")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        self.0 = low ^ high;
    }

    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.write_u64(u64::from(*octet)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
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
