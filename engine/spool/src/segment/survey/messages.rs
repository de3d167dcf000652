//! The messages in all segments, assembled from their records and changed by their marks.

use std::collections::{HashMap, HashSet};

use mailrace_core::QueueId;
use mailrace_core::record::spool::{Location, Mark, RecordHeader, RecordKind};

use crate::segment::index::{Entry, Index, State};

/// Messages whose records are complete.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// Includes those that are out of the queue, until [`Messages::into_live`].
    index: Index,
    /// Marks that say what became of a message's recipients; the last one of each message.
    progress: HashMap<QueueId, Location>,
    /// Ids of messages that are out of the queue.
    done: HashSet<QueueId>,
    /// Sequences of all segments with a last record of a message, for those that were moved.
    copies: HashMap<QueueId, Vec<u64>>,
    /// Chunks, by place.
    chunks: HashMap<Location, Part>,
    /// Last records of messages in several records, until all chunks are known.
    ends: Vec<(Location, Part, State)>,
}

/// A complete record.
#[derive(Clone, Copy, Debug)]
struct Part {
    id: QueueId,
    part: u32,
    previous: Option<Location>,
    content_size: u64,
}

impl Messages {
    /// Takes the record at `place`, whose payload is valid.
    pub(super) fn add(&mut self, place: Location, header: &RecordHeader) {
        let RecordHeader { id, part, previous, content_size, .. } = *header;
        let record = Part { id, part, previous, content_size };
        match header.kind {
            RecordKind::Chunk => drop(self.chunks.insert(place, record)),
            RecordKind::Message => {
                let state = if header.is_held { State::Hold } else { State::Incoming };
                if part == 0 && previous.is_none() {
                    self.insert(place.sequence, place, &record, state);
                } else {
                    self.ends.push((place, record, state));
                }
            }
            RecordKind::Mark | RecordKind::Other(_) => {}
        }
    }

    /// Assembles messages in several records, after all segments are read.
    pub(super) fn join(&mut self) {
        for (place, end, state) in std::mem::take(&mut self.ends) {
            if let Some(first) = self.first_segment(place, &end) {
                self.insert(first, place, &end, state);
            }
        }
        self.chunks = HashMap::new();
    }

    /// Applies a mark at `place`; marks are given in the order of their places.
    pub(super) fn apply(&mut self, place: Location, id: QueueId, mark: Mark) {
        let Some(entry) = self.index.get(id) else { return };
        let follows = entry.place() < place;
        match mark {
            Mark::Done => drop(self.done.insert(id)),
            // A copy after the mark has the state in its own record.
            Mark::Hold if follows => self.index.set_state(id, State::Hold),
            Mark::Release if follows => self.index.set_state(id, State::Incoming),
            Mark::Hold | Mark::Release => {}
        }
    }

    /// Takes the mark at `place`, which says what became of a message's recipients.
    pub(super) fn add_progress(&mut self, id: QueueId, place: Location) {
        let last = self.progress.entry(id).or_insert(place);
        *last = place.max(*last);
    }

    /// The last mark of each message that says what became of its recipients, whether or not the message is there.
    pub(crate) fn all_progress(&self) -> impl Iterator<Item = (QueueId, Location)> + '_ {
        self.progress.iter().map(|(id, place)| (*id, *place))
    }

    /// Whether there is a message with this id, whether or not it is out of the queue.
    pub(crate) fn has(&self, id: QueueId) -> bool {
        self.index.get(id).is_some()
    }

    /// Sequences of all segments with a last record of the message.
    pub(crate) fn copies_of(&self, id: QueueId) -> impl Iterator<Item = u64> + '_ {
        let several = self.copies.get(&id);
        let one = self.index.get(id).filter(|_| several.is_none()).map(|entry| entry.last);
        several.into_iter().flatten().copied().chain(one)
    }

    /// Sequences of segments with a last record of a message in the queue, other than the record that counts.
    pub(crate) fn moved(&self) -> HashMap<QueueId, Vec<u64>> {
        let live = self.copies.iter().filter(|(id, _)| !self.done.contains(id));
        let moved = live.filter_map(|(id, copies)| {
            let last = self.index.get(*id)?.last;
            Some((*id, copies.iter().copied().filter(|copy| *copy != last).collect::<Vec<u64>>()))
        });
        moved.filter(|(_, copies)| !copies.is_empty()).collect()
    }

    /// The messages in the queue.
    pub(crate) fn into_live(mut self) -> Index {
        for id in &self.done {
            self.index.remove(*id);
        }
        for (id, place) in self.progress {
            if self.index.get(id).is_some() {
                self.index.set_progress(id, place);
            }
        }
        self.index.shrink();
        self.index
    }

    /// Of a moved message, the later copy counts if it is complete.
    fn insert(&mut self, first: u64, place: Location, end: &Part, state: State) {
        let entry =
            Entry { first, last: place.sequence, offset: place.offset, octets: end.content_size, state };
        if let Some(before) = self.index.get(end.id) {
            let copies = self.copies.entry(end.id).or_insert_with(|| vec![before.last]);
            copies.push(place.sequence);
            if before.place() > place {
                return;
            }
        }
        self.index.insert(end.id, entry);
    }

    /// Returns the sequence of the segment with the first record of the message that ends at `place`; `None` if a record is missing.
    fn first_segment(&self, place: Location, end: &Part) -> Option<u64> {
        let mut at = place;
        let (mut previous, mut number, mut size) = (end.previous, end.part, end.content_size);
        while let Some(place) = previous {
            let part = self.chunks.get(&place)?;
            if part.id != end.id || part.part.checked_add(1) != Some(number) || part.content_size > size {
                return None;
            }
            at = place;
            (previous, number, size) = (part.previous, part.part, part.content_size);
        }
        (number == 0).then_some(at.sequence)
    }
}
