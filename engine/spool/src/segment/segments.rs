//! The segments of one worker: which one is written, what each is needed for, and when it is given back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};
use mailrace_core::record::spool::{SEGMENT_HEADER_SIZE, SegmentHeader};
use mailrace_io::{Disk, FileId, Io};

use super::keeper::{Note, Ready};
use super::read::Holder;
use crate::{Refusal, Shared};

/// A segment that this worker writes, or that holds its messages.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    pub(crate) file: Option<Attached<F>>,
    pub(crate) tail: Tail,
    pub(crate) uses: Uses,
    /// It is kept for repair, as is everything that its messages may need.
    pub(crate) is_damaged: bool,
}

/// How far a segment is written.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Where the next batch goes.
    pub(crate) end: u64,
    /// Records in it that are durable.
    pub(crate) records: u64,
    /// Batches that are gathering or being written.
    pub(crate) batches: usize,
    /// No further batch is started in it.
    pub(crate) is_sealed: bool,
    /// The manifest has its end, or will not get it in this run: after a failed write its content is uncertain.
    pub(crate) is_noted: bool,
}

/// What a segment is needed for.
#[derive(Debug)]
pub(crate) struct Uses {
    /// Messages in the queue, and messages coming in, that have a part in it; and marks in it that say what became of a
    /// message's recipients.
    pub(crate) parts: usize,
    /// Value of `parts` when messages were last moved out of it.
    pub(crate) parts_tried: usize,
    /// Sequences of the segments whose messages its marks are about; ascending.
    pub(crate) marks: Vec<u64>,
    /// Messages that ended in it, and marks about recipients, whatever became of them.
    pub(crate) endings: usize,
    /// Bytes of content in it whose message was abandoned in this run.
    pub(crate) given_up: u64,
}

/// A segment's file.
#[derive(Debug)]
pub(crate) enum Attached<F> {
    /// Not known to the ring yet.
    No(F),
    Yes(FileId),
}

impl Uses {
    const fn new(marks: Vec<u64>, endings: usize) -> Self {
        Self { parts: 0, parts_tried: usize::MAX, marks, endings, given_up: 0 }
    }
}

impl<F> Segment<F> {
    /// Returns one that is ready for records.
    fn ready(Ready { file, name, header }: Ready<F>) -> Self {
        let tail = Tail {
            end: SEGMENT_HEADER_SIZE as u64,
            records: 0,
            batches: 0,
            is_sealed: false,
            is_noted: false,
        };
        let file = Some(Attached::No(file));
        Self { name, header, file, tail, uses: Uses::new(Vec::new(), 0), is_damaged: false }
    }

    /// Returns one of an earlier run.
    pub(crate) const fn found(name: String, header: SegmentHeader, marks: Vec<u64>, endings: usize) -> Self {
        let tail = Tail { end: header.size, records: 0, batches: 0, is_sealed: true, is_noted: true };
        Self { name, header, file: None, tail, uses: Uses::new(marks, endings), is_damaged: false }
    }

    /// Reopens it, so that batches follow those of an earlier run.
    pub(crate) fn go_on(&mut self, file: F, end: u64, records: u64) {
        self.file = Some(Attached::No(file));
        (self.tail.end, self.tail.records) = (end, records);
        (self.tail.is_sealed, self.tail.is_noted) = (false, false);
    }

    /// Closes it for further batches.
    pub(crate) fn end_here(&mut self) {
        self.file = None;
        (self.tail.is_sealed, self.tail.is_noted) = (true, true);
    }

    /// What a reader of its records needs.
    pub(crate) fn holder(&self) -> Holder {
        Holder { path: self.name.clone(), header: self.header }
    }

    /// Bytes that are left for batches.
    pub(super) const fn left(&self) -> u64 {
        self.header.size - self.tail.end
    }

    /// Whether all writes to it have ended and none will follow.
    pub(super) const fn is_settled(&self) -> bool {
        self.tail.is_sealed && self.tail.batches == 0
    }

    /// Whether an eighth of its messages is left, or less. Abandoned content counts as messages of a 1,024th of the
    /// segment each, so that abandoned content next to a message that stays does not keep a segment on the disk.
    pub(super) const fn is_nearly_empty(&self) -> bool {
        let given_up = self.uses.given_up * 1024 / self.header.size;
        self.uses.parts as u64 * 8 <= self.uses.endings as u64 + given_up
    }

    /// Tells the keeper where it ends, once all that was written to it is durable.
    fn note_end(&mut self, notes: &Sender<Note>) {
        if self.tail.batches == 0 && !std::mem::replace(&mut self.tail.is_noted, true) {
            let Tail { end, records, .. } = self.tail;
            // The keeper ends only with the process.
            let _ = notes.send(Note::Closed { sequence: self.header.sequence, end, records });
        }
    }
}

/// A segment stays in the table while it has batches or parts.
const STAYS: &str = "a segment that is in use stays";

/// All segments of one worker.
#[derive(Debug)]
pub(crate) struct Segments<F> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ready: Receiver<Ready<F>>,
    pub(crate) notes: Sender<Note>,
    /// By sequence; the greatest is the one being written, unless it is sealed.
    pub(crate) table: BTreeMap<u64, Segment<F>>,
    /// A segment may have lost its last use since they were last freed.
    pub(crate) may_free: bool,
}

impl<F> Segments<F> {
    /// The segment with this sequence.
    ///
    /// # Panics
    /// If it is not there: it is in use.
    pub(super) fn used(&mut self, sequence: u64) -> &mut Segment<F> {
        self.table.get_mut(&sequence).expect(STAYS)
    }

    /// The segment being written if it has `size` bytes left, else the next one.
    ///
    /// # Errors
    /// [`Refusal::Full`] or [`Refusal::Busy`] where there is none.
    pub(super) fn for_batch(&mut self, size: usize) -> Result<u64, Refusal> {
        if let Some((sequence, segment)) = self.table.iter_mut().next_back()
            && !segment.tail.is_sealed
        {
            if segment.left() >= size as u64 {
                return Ok(*sequence);
            }
            segment.tail.is_sealed = true;
            self.may_free |= segment.tail.batches == 0;
        }
        let Ok(ready) = self.ready.try_recv() else {
            return Err(if self.shared.is_full() { Refusal::Full } else { Refusal::Busy });
        };
        let sequence = ready.header.sequence;
        let before = self.table.insert(sequence, Segment::ready(ready));
        assert!(before.is_none(), "each use of a segment has a sequence of its own");
        Ok(sequence)
    }

    /// Notes that a batch has ended.
    pub(super) fn batch_ended(&mut self, sequence: u64) {
        let segment = self.used(sequence);
        segment.tail.batches -= 1;
        let may_free = segment.is_settled();
        self.may_free |= may_free;
    }

    /// Counts a message as a part of the segments from `first` to `last`.
    pub(super) fn hold(&mut self, first: u64, last: u64) {
        for (_, segment) in self.table.range_mut(first..=last) {
            segment.uses.parts += 1;
        }
    }

    /// Ends a message's part in the segments from `first` to `last`. Returns whether one of them is nearly empty.
    pub(super) fn release(&mut self, first: u64, last: u64) -> bool {
        let mut is_nearly_empty = false;
        for (_, segment) in self.table.range_mut(first..=last) {
            segment.uses.parts -= 1;
            self.may_free |= segment.tail.is_sealed && segment.uses.parts == 0;
            is_nearly_empty |= segment.is_nearly_empty();
        }
        is_nearly_empty
    }

    /// Closes the files of segments that will not be written again.
    pub(super) fn detach_sealed<I: Io>(&mut self, io: &mut I)
    where
        I::Disk: Disk<File = F>,
    {
        for segment in self.table.values_mut().filter(|segment| segment.is_settled()) {
            if let Some(Attached::Yes(file)) = segment.file {
                drop(io.detach(file));
            }
            segment.file = None;
            segment.note_end(&self.notes);
        }
    }

    /// Returns unneeded segments to the keeper: no message has a part in them, and the messages that their marks are
    /// about are in no segment, so that none comes back without the marks. Returns their sequences.
    pub(super) fn free(&mut self) -> Vec<u64> {
        let mut freed = Vec::new();
        if !std::mem::take(&mut self.may_free) {
            return freed;
        }
        let candidates: Vec<u64> = self.table.keys().copied().collect();
        for sequence in candidates {
            if self.table.get(&sequence).is_some_and(|segment| self.is_needed(sequence, segment)) {
                continue;
            }
            if let Some(segment) = self.table.remove(&sequence) {
                freed.push(sequence);
                // The keeper ends only with the process.
                let _ = self.notes.send(Note::Freed { sequence, path: segment.name });
            }
        }
        freed
    }

    fn is_needed(&self, sequence: u64, segment: &Segment<F>) -> bool {
        let is_used =
            !segment.is_settled() || segment.uses.parts > 0 || segment.file.is_some() || segment.is_damaged;
        is_used || segment.uses.marks.iter().any(|mark| *mark != sequence && self.table.contains_key(mark))
    }

    /// Tells the keeper the ends of all segments to which no write is in progress.
    pub(super) fn note_ends(&mut self) {
        self.table.values_mut().for_each(|segment| segment.note_end(&self.notes));
    }
}
