//! Which messages are in a worker's queue, and which segments they need.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use mailrace_core::QueueId;
use mailrace_core::record::spool::Location;

/// The state of a queued message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for its delivery.
    Incoming,
    /// Put on hold by an operator.
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
    /// Bytes of content.
    pub(crate) octets: u64,
    pub(crate) state: State,
}

impl Entry {
    /// Place of its last record.
    pub(crate) const fn place(&self) -> Location {
        Location { sequence: self.last, offset: self.offset }
    }
}

/// The messages of one worker. A message takes 25 bytes in a table that is 7/16 to 7/8 full.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: HashMap<QueueId, Packed, BuildHasherDefault<IdHasher>>,
    /// Entries with a number that does not fit into [`Packed`].
    wide: HashMap<QueueId, Entry>,
    /// For messages whose recipients were tried, the mark with their state.
    progress: HashMap<QueueId, Location, BuildHasherDefault<IdHasher>>,
    octets: u64,
    held: u64,
}

/// An entry whose numbers are small, as nearly all are.
#[derive(Clone, Copy, Debug)]
struct Packed {
    last: u32,
    offset: u32,
    octets: u32,
    /// Difference between the last and the first segment.
    span: u16,
    state: State,
    /// The numbers are in the table of wide entries.
    is_wide: bool,
}

impl Packed {
    /// `None`: a number does not fit.
    fn of(entry: &Entry) -> Option<Self> {
        Some(Self {
            last: u32::try_from(entry.last).ok()?,
            offset: entry.offset,
            octets: u32::try_from(entry.octets).ok()?,
            span: u16::try_from(entry.last.checked_sub(entry.first)?).ok()?,
            state: entry.state,
            is_wide: false,
        })
    }

    const fn wide(state: State) -> Self {
        Self { last: 0, offset: 0, octets: 0, span: 0, state, is_wide: true }
    }

    fn entry(self) -> Entry {
        Entry {
            first: u64::from(self.last) - u64::from(self.span),
            last: u64::from(self.last),
            offset: self.offset,
            octets: u64::from(self.octets),
            state: self.state,
        }
    }
}

/// Spreads queue ids over the table. The engine chooses them, so a client cannot make them collide.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, number: u64) {
        // The high bits of the product are mixed best, and a table uses both ends.
        let product = u128::from(number ^ self.0) * 0x9e37_79b9_7f4a_7c15;
        #[expect(clippy::cast_possible_truncation, reason = "both halves of the product are folded into one")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        self.0 = low ^ high;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Index {
    /// One with room for this number of messages.
    pub(crate) fn with_capacity(messages: u64) -> Self {
        let messages = usize::try_from(messages).unwrap_or(0);
        Self {
            entries: HashMap::with_capacity_and_hasher(messages, BuildHasherDefault::default()),
            ..Self::default()
        }
    }

    pub(crate) fn insert(&mut self, id: QueueId, entry: Entry) {
        self.octets += entry.octets;
        self.held += u64::from(entry.state == State::Hold);
        let packed = Packed::of(&entry);
        if let Some(before) = self.entries.insert(id, packed.unwrap_or_else(|| Packed::wide(entry.state))) {
            self.forget(id, before);
        }
        if packed.is_none() {
            self.wide.insert(id, entry);
        }
    }

    pub(crate) fn remove(&mut self, id: QueueId) -> Option<Entry> {
        let packed = self.entries.remove(&id)?;
        Some(self.forget(id, packed))
    }

    pub(crate) fn set_state(&mut self, id: QueueId, state: State) {
        if let Some(entry) = self.get(id) {
            self.insert(id, Entry { state, ..entry });
        }
    }

    pub(crate) fn get(&self, id: QueueId) -> Option<Entry> {
        self.entries.get(&id).map(|packed| self.unpack(id, packed))
    }

    /// The mark that says what became of the message's recipients.
    pub(crate) fn progress(&self, id: QueueId) -> Option<Location> {
        self.progress.get(&id).copied()
    }

    /// Lets the mark at `place` count. Returns the one that did until now.
    pub(crate) fn set_progress(&mut self, id: QueueId, place: Location) -> Option<Location> {
        self.progress.insert(id, place)
    }

    /// Forgets what became of the message's recipients. Returns the mark that said it.
    pub(crate) fn remove_progress(&mut self, id: QueueId) -> Option<Location> {
        self.progress.remove(&id)
    }

    /// All marks that say what became of a message's recipients.
    pub(crate) fn all_progress(&self) -> impl Iterator<Item = (QueueId, Location)> + '_ {
        self.progress.iter().map(|(id, place)| (*id, *place))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueId, Entry)> + '_ {
        self.entries.iter().map(|(id, packed)| (*id, self.unpack(*id, packed)))
    }

    /// Gives back memory that entries which were removed took.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
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

    /// Removes the rest of an entry that left the table of packed entries.
    fn forget(&mut self, id: QueueId, packed: Packed) -> Entry {
        let entry = if packed.is_wide { self.wide.remove(&id).expect(HAS_WIDE) } else { packed.entry() };
        self.octets -= entry.octets;
        self.held -= u64::from(entry.state == State::Hold);
        entry
    }

    fn unpack(&self, id: QueueId, packed: &Packed) -> Entry {
        if packed.is_wide { *self.wide.get(&id).expect(HAS_WIDE) } else { packed.entry() }
    }
}

const HAS_WIDE: &str = "a wide entry is in both tables";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_any_size_read_back() {
        let small = Entry { first: 7, last: 9, offset: 4160, octets: 4096, state: State::Hold };
        let entries = [
            small,
            Entry { last: 1 << 40, first: 1 << 40, ..small },
            Entry { first: 1, last: 1 << 20, ..small },
            Entry { octets: 5 << 30, ..small },
        ];
        for entry in entries {
            let mut index = Index::default();
            let id = QueueId::from_number(5);
            index.insert(id, entry);
            assert_eq!(index.get(id), Some(entry));
            index.set_state(id, State::Incoming);
            assert_eq!((index.held(), index.octets(), index.messages()), (0, entry.octets, 1));
            // A copy replaces it, whatever its size.
            index.insert(id, small);
            assert_eq!((index.get(id), index.octets()), (Some(small), small.octets));
            assert_eq!(index.remove(id), Some(small));
            assert_eq!((index.octets(), index.held(), index.wide.len(), index.get(id)), (0, 0, 0, None));
        }
    }

    #[test]
    fn an_entry_takes_24_bytes() {
        assert_eq!(size_of::<(QueueId, Packed)>(), 24);
    }
}
