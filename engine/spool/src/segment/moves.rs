//! What a worker knows of its moves: which one is in progress, and what ends the copies that it leaves.
//!
//! The worker reads a message and writes its records as a copy to the segment that it fills. When that is durable, the
//! index switches to the copy, and the old segment has one message less. Until then, and after any failure, the message stays
//! where it was.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use mailrace_core::QueueId;
use mailrace_core::record::spool::Location;

use crate::ReadId;
use crate::segment::spool::Draft;

/// Stage of the move in progress.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its records arrive.
    Reading {
        draft: Draft,
        read: ReadId,
        envelope: Vec<u8>,
        /// The content of the next record, and whether it is the last one.
        piece: Option<(Vec<u8>, bool)>,
    },
    /// All of it is written, but not durable yet.
    Writing,
    /// The mark at `place`, with the state of its recipients, is being read.
    Noting { id: QueueId, place: Location, read: ReadId, payload: Option<Vec<u8>> },
}

/// What is moved out of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A message with a part in it.
    Message(QueueId),
    /// A mark in it, which says what became of a message's recipients.
    Progress(QueueId, Location),
}

/// A worker's moves.
#[derive(Debug)]
pub(crate) struct Moves {
    pub(crate) stage: Option<Stage>,
    chosen: Vec<Piece>,
    /// A segment may have become worth moving.
    pub(crate) may_begin: bool,
    /// Sequences of segments with an earlier last record of a message that was moved: a mark that it is done must
    /// stay for as long as one of them does.
    copies: HashMap<QueueId, Vec<u64>>,
    /// Marks in progress; those that say `done` also after they failed.
    marks: HashMap<QueueId, Marks>,
}

/// Marks of one message that are in progress.
#[derive(Debug, Default)]
struct Marks {
    open: u32,
    /// Order of the one that was started last.
    begun: u64,
    /// Order of the latest one that is durable.
    durable: u64,
}

impl Moves {
    pub(crate) fn new(copies: HashMap<QueueId, Vec<u64>>) -> Self {
        Self { stage: None, chosen: Vec::new(), may_begin: true, copies, marks: HashMap::new() }
    }

    /// Counts a mark as in progress; returns its place in the order of the message's marks.
    pub(crate) fn mark_begins(&mut self, id: QueueId) -> u64 {
        let marks = self.marks.entry(id).or_default();
        marks.open += 1;
        marks.begun += 1;
        marks.begun
    }

    /// Whether no later mark of the message was durable before this one. Writes end in any order, and the next start takes
    /// the mark that was written last.
    pub(crate) fn is_latest(&mut self, id: QueueId, order: u64) -> bool {
        let Some(marks) = self.marks.get_mut(&id) else { return false };
        let is_latest = order > marks.durable;
        marks.durable = marks.durable.max(order);
        is_latest
    }

    pub(crate) fn mark_ends(&mut self, id: QueueId) {
        if let Entry::Occupied(mut marks) = self.marks.entry(id) {
            marks.get_mut().open -= 1;
            if marks.get().open == 0 {
                marks.remove();
            }
        }
    }

    /// Whether a mark of the message is in progress, or may be on the disk.
    pub(crate) fn is_marked(&self, id: QueueId) -> bool {
        self.marks.contains_key(&id)
    }

    pub(crate) fn choose(&mut self, pieces: Vec<Piece>) {
        self.chosen = pieces;
    }

    /// Whether chosen pieces are left.
    pub(crate) const fn has_next(&self) -> bool {
        !self.chosen.is_empty()
    }

    pub(crate) fn next(&mut self) -> Option<Piece> {
        self.chosen.pop()
    }

    /// Leaves what was chosen where it is.
    pub(crate) fn give_up(&mut self) {
        self.chosen.clear();
    }

    /// Segments with other last records of the message than the one that counts.
    pub(crate) fn copies_of(&self, id: QueueId) -> impl Iterator<Item = u64> + '_ {
        self.copies.get(&id).into_iter().flatten().copied()
    }

    /// A copy of the message is being written there.
    pub(crate) fn copied(&mut self, id: QueueId, sequence: u64) {
        self.copies.entry(id).or_default().push(sequence);
    }

    /// Its copy counts from now on.
    pub(crate) fn went_over(&mut self, id: QueueId, before: u64, now: u64) {
        let copies = self.copies.entry(id).or_default();
        copies.retain(|sequence| *sequence != now);
        copies.push(before);
    }

    pub(crate) fn forget(&mut self, id: QueueId) {
        self.copies.remove(&id);
        self.marks.remove(&id);
    }

    pub(crate) fn segment_freed(&mut self, freed: u64) {
        self.copies.retain(|_, copies| {
            copies.retain(|sequence| *sequence != freed);
            !copies.is_empty()
        });
    }
}
