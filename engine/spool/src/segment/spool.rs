//! A worker's way into the queue: messages and marks become records, and settle when these are durable.

use mailrace_core::queue_id::QueueIdSource;
use mailrace_core::record::delivery::Progress;
use mailrace_core::record::spool::{Location, Mark, Noted, RecordKind, record_size};
use mailrace_core::{QueueId, Timestamp};
use mailrace_io::{Block, Disk, Io, Token};

use super::batch::{Batch, Pending};
use super::index::{Entry, Index, State};
use super::moves::Moves;
use super::read::{Holder, SegmentReader, Source, Target};
use super::segments::{Segment, Segments};
use super::settling::{Settling, Undone};
use super::writer::{NewRecord, Writer};
use crate::{
    MarkError, Place, Reader, Reads, Refusal, Settings, Spool, SpoolError, Store, TOKEN_SPOOL, Usage, Writes,
};

/// A worker's spool over the files of `D`.
#[derive(Debug)]
pub struct SegmentSpool<D: Disk> {
    ids: QueueIdSource,
    pub(super) index: Index,
    pub(super) segments: Segments<D::File>,
    pub(super) writer: Writer,
    pub(super) settling: Settling,
    pub(super) moves: Moves,
    /// Reads what is moved.
    pub(super) reads: SegmentReader<D>,
}

/// A message being received.
#[derive(Debug)]
pub struct Draft {
    pub(super) id: QueueId,
    parts: u32,
    previous: Option<Location>,
    pub(super) content_size: u64,
    /// Sequences of the segments with its first and its last part.
    first: u64,
    last: u64,
    pub(super) first_batch: u64,
}

impl Draft {
    /// Returns its entry in the index after its last record is written.
    pub(super) fn entry(&self, state: State) -> Entry {
        let offset = self.previous.map_or(0, |place| place.offset);
        Entry { first: self.first, last: self.last, offset, octets: self.content_size, state }
    }

    /// The message's id.
    #[must_use]
    pub const fn id(&self) -> QueueId {
        self.id
    }
}

/// A piece of a message, which becomes a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) kind: RecordKind,
    pub(super) is_held: bool,
    /// Empty in a chunk.
    pub(super) envelope: &'a [u8],
    pub(super) content: &'a [&'a [u8]],
}

impl Record<'_> {
    fn content_size(&self) -> usize {
        self.content.iter().map(|slice| slice.len()).sum()
    }
}

/// What a spool has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Batches submitted.
    pub batches: u64,
    /// Bytes in them, padding included.
    pub octets: u64,
    /// Batches whose write failed.
    pub failures: u64,
}

/// What a spool holds and has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Messages in the queue.
    pub messages: u64,
    /// Bytes of their content.
    pub octets: u64,
    /// Messages on hold.
    pub held: u64,
    /// Since the start.
    pub written: Written,
}

/// Parts that a worker's spool is made of.
pub(crate) struct Parts<D: Disk> {
    pub(crate) settings: Settings,
    pub(crate) worker: u16,
    pub(crate) next_batch: u64,
    pub(crate) ids: QueueIdSource,
    pub(crate) index: Index,
    pub(crate) segments: Segments<D::File>,
    pub(crate) moves: Moves,
    pub(crate) reads: SegmentReader<D>,
}

impl<D: Disk> SegmentSpool<D> {
    pub(crate) fn new(parts: Parts<D>) -> Self {
        let Parts { settings, worker, next_batch, ids, index, segments, moves, reads } = parts;
        let writer = Writer::new(settings, worker, next_batch);
        let mut spool = Self { ids, index, segments, writer, settling: Settling::default(), moves, reads };
        spool.free_segments();
        spool
    }

    /// Writes a record of `draft`, all of it or nothing.
    pub(super) fn put(&mut self, draft: &mut Draft, piece: &Record<'_>) -> Result<(), Refusal> {
        let content_size = piece.content_size();
        self.writer.make_room(&mut self.segments, record_size(piece.envelope.len() + content_size))?;
        if draft.parts > 0 && self.settling.has_failed_from(draft.first_batch) {
            return Err(Refusal::Failed);
        }
        let record = NewRecord {
            kind: piece.kind,
            is_held: piece.is_held,
            id: draft.id,
            envelope_length: piece.envelope.len(),
            part: draft.parts,
            previous: draft.previous,
            content_size: draft.content_size + content_size as u64,
        };
        let put = self.writer.put(&record, &[&[piece.envelope], piece.content]);
        let sequence = put.place.sequence;
        if piece.kind == RecordKind::Message {
            self.segments.used(sequence).uses.endings += 1;
        }
        if draft.parts == 0 {
            (draft.first, draft.first_batch) = (sequence, put.batch);
            self.segments.hold(sequence, sequence);
        } else if draft.last != sequence {
            assert!(draft.last < sequence, "a message goes on in a later segment");
            self.segments.hold(draft.last + 1, sequence);
        }
        draft.last = sequence;
        draft.parts += 1;
        draft.content_size = record.content_size;
        draft.previous = Some(put.place);
        Ok(())
    }

    /// Seals the segment of a failed write, and fails everything that was gathered for it.
    fn fail(&mut self, batch: Batch) {
        let tail = &mut self.segments.used(batch.header.sequence).tail;
        (tail.is_sealed, tail.is_noted) = (true, true);
        let lost = self.writer.fail(&mut self.segments, batch);
        self.segments.may_free = true;
        self.settling.failed_batches.extend(lost.iter().map(|batch| batch.number));
        for pending in lost.into_iter().flat_map(|batch| batch.pending) {
            self.settle(pending, false);
        }
    }

    /// Settles messages in several batches that are all complete.
    fn settle_waiting(&mut self) {
        let first_open = self.writer.first_under_way().unwrap_or(u64::MAX);
        while let Some((pending, is_durable)) = self.settling.next_complete(first_open) {
            self.settle(pending, is_durable);
        }
    }

    fn settle(&mut self, pending: Pending, is_durable: bool) {
        let result = if is_durable { Ok(()) } else { Err(SpoolError) };
        let tag = match pending {
            Pending::Message { tag, id, entry, .. } if is_durable => {
                self.index.insert(id, entry);
                tag
            }
            Pending::Message { tag, id, entry, .. } => {
                self.release(entry.first, entry.last);
                self.settling.undone.push_back(Undone { tag, id, last: entry.last });
                return;
            }
            Pending::Undone { tag } => {
                self.settling.settled.push_back((tag, Err(SpoolError)));
                return;
            }
            Pending::Move { id, entry, .. } => return self.settle_move(id, entry, is_durable),
            Pending::Progress { tag, id, place } => {
                self.settle_progress(id, place, is_durable);
                let Some(tag) = tag else { return };
                tag
            }
            Pending::Mark { tag, id, mark, order } => {
                if is_durable && (mark == Mark::Done || self.moves.is_latest(id, order)) {
                    self.apply(id, mark);
                }
                // A failed `done` may be on the disk nevertheless. Then no copy may follow it, because marks are dropped
                // after the records that they are about.
                if is_durable || mark != Mark::Done {
                    self.moves.mark_ends(id);
                }
                tag
            }
        };
        self.settling.settled.push_back((tag, result));
    }

    /// Marks messages whose write failed: parts of them on the disk must not come back as a message, because their clients
    /// send them again after the reply. The reply waits for the durable mark. If even that cannot be written, a duplicate
    /// is the lesser evil.
    fn mark_undone(&mut self) {
        while let Some(Undone { tag, id, last }) = self.settling.undone.front().copied() {
            match self.writer.put_mark(&mut self.segments, id, Mark::Done, &[last]) {
                Ok(()) => self.writer.settles_with_last(Pending::Undone { tag }),
                Err(Refusal::Busy) => return,
                Err(_) => self.settling.settled.push_back((tag, Err(SpoolError))),
            }
            self.settling.undone.pop_front();
        }
    }

    /// Writes the state of a message's recipients. `tag`: `None` for a copy of the mark that counts.
    pub(super) fn put_progress(
        &mut self,
        id: QueueId,
        payload: &[u8],
        tag: Option<u64>,
    ) -> Result<(), Refusal> {
        let place = self.writer.put_note(&mut self.segments, id, payload)?.place;
        self.segments.used(place.sequence).uses.endings += 1;
        self.segments.hold(place.sequence, place.sequence);
        self.writer.settles_with_last(Pending::Progress { tag, id, place });
        Ok(())
    }

    /// Writes end in any order; of several marks the one that was written last counts, as for the next start.
    fn settle_progress(&mut self, id: QueueId, place: Location, is_durable: bool) {
        let before = self.index.progress(id);
        let counts = is_durable && self.index.get(id).is_some() && before.is_none_or(|before| before < place);
        let unneeded = if counts { self.index.set_progress(id, place) } else { Some(place) };
        if let Some(Location { sequence, .. }) = unneeded {
            self.release(sequence, sequence);
        }
    }

    fn apply(&mut self, id: QueueId, mark: Mark) {
        match mark {
            Mark::Done => {
                if let Some(entry) = self.index.remove(id) {
                    self.release(entry.first, entry.last);
                    self.moves.forget(id);
                }
                if let Some(Location { sequence, .. }) = self.index.remove_progress(id) {
                    self.release(sequence, sequence);
                }
            }
            Mark::Hold => self.index.set_state(id, State::Hold),
            Mark::Release => self.index.set_state(id, State::Incoming),
        }
    }

    /// Ends a message's part in the segments from `first` to `last`.
    pub(super) fn release(&mut self, first: u64, last: u64) {
        self.moves.may_begin |= self.segments.release(first, last);
    }

    /// What a reader needs for records in the segments from `first` to `last`.
    pub(super) fn source_of(&self, id: QueueId, target: Target, first: u64, last: u64) -> Source {
        let mut segments: Vec<Holder> =
            self.segments.table.range(first..=last).map(|(_, segment)| segment.holder()).collect();
        if let Target::Message { progress: Some(place), .. } = target
            && !(first..=last).contains(&place.sequence)
        {
            segments.extend(self.segments.table.get(&place.sequence).map(Segment::holder));
        }
        Source { id, target, segments }
    }

    fn free_segments(&mut self) {
        for sequence in self.segments.free() {
            self.moves.segment_freed(sequence);
        }
    }
}

impl<D: Disk> Store for SegmentSpool<D> {
    type Source = Source;

    fn ids(&self) -> impl Iterator<Item = (QueueId, State)> {
        self.index.iter().map(|(id, entry)| (id, entry.state))
    }

    fn place(&self, id: QueueId) -> Option<Place> {
        let entry = self.index.get(id)?;
        Some(Place { end: entry.place(), state: entry.state, progress: self.index.progress(id) })
    }

    fn source(&self, id: QueueId) -> Option<Source> {
        let entry = self.index.get(id)?;
        let (end, progress) = (entry.place(), self.index.progress(id));
        let target = Target::Message { end, octets: entry.octets, progress };
        Some(self.source_of(id, target, entry.first, entry.last))
    }

    fn mark(&mut self, id: QueueId, mark: Mark, tag: u64) -> Result<(), MarkError> {
        let entry = self.index.get(id).ok_or(MarkError::NotFound)?;
        let copies = self.moves.copies_of(id).chain([entry.last]).collect::<Vec<u64>>();
        self.writer.put_mark(&mut self.segments, id, mark, &copies).map_err(MarkError::Refused)?;
        let order = self.moves.mark_begins(id);
        self.writer.settles_with_last(Pending::Mark { tag, id, mark, order });
        Ok(())
    }

    fn note(&mut self, id: QueueId, progress: &Progress, tag: u64) -> Result<(), MarkError> {
        self.index.get(id).ok_or(MarkError::NotFound)?;
        let mut payload = vec![Noted::PROGRESS];
        progress.encode(&mut payload).map_err(|_| MarkError::Refused(Refusal::TooLarge))?;
        self.put_progress(id, &payload, Some(tag)).map_err(MarkError::Refused)
    }

    fn stats(&self) -> Stats {
        Stats {
            messages: self.index.messages(),
            octets: self.index.octets(),
            held: self.index.held(),
            written: self.writer.written,
        }
    }
}

impl<D: Disk> Spool for SegmentSpool<D> {
    type Draft = Draft;

    fn next_id(&mut self, wall: Timestamp) -> QueueId {
        self.ids.next(wall)
    }

    fn begin(&self, id: QueueId) -> Draft {
        Draft { id, parts: 0, previous: None, content_size: 0, first: 0, last: 0, first_batch: 0 }
    }

    fn piece_size_max(&self) -> usize {
        self.writer.piece_size_max()
    }

    fn fits(&self, envelope: &[u8], size: usize) -> bool {
        record_size(envelope.len() + size) <= self.writer.record_size_max()
    }

    fn append(&mut self, draft: &mut Draft, content: &[&[u8]]) -> Result<(), Refusal> {
        self.put(draft, &Record { kind: RecordKind::Chunk, is_held: false, envelope: &[], content })
    }

    fn commit(
        &mut self,
        mut draft: Draft,
        state: State,
        envelope: &[u8],
        content: &[&[u8]],
        tag: u64,
    ) -> Result<(), (Draft, Refusal)> {
        let is_held = state == State::Hold;
        let piece = Record { kind: RecordKind::Message, is_held, envelope, content };
        if let Err(refusal) = self.put(&mut draft, &piece) {
            return Err((draft, refusal));
        }
        let entry = draft.entry(state);
        let pending = Pending::Message { tag, id: draft.id, entry, first_batch: draft.first_batch };
        self.writer.settles_with_last(pending);
        Ok(())
    }

    fn abandon(&mut self, draft: Draft) {
        if draft.parts > 0 {
            let in_each = draft.content_size / (draft.last - draft.first + 1);
            for (_, segment) in self.segments.table.range_mut(draft.first..=draft.last) {
                segment.uses.given_up += in_each;
            }
            self.release(draft.first, draft.last);
        }
    }

    fn completed(&mut self, token: Token, block: Block, result: std::io::Result<()>) {
        let batch = self.writer.completed(token.0 & !TOKEN_SPOOL, block);
        self.segments.batch_ended(batch.header.sequence);
        match result {
            Ok(()) => {
                let tail = &mut self.segments.used(batch.header.sequence).tail;
                tail.records += u64::from(batch.records);
                for pending in self.settling.durable(batch.number, batch.pending) {
                    self.settle(pending, true);
                }
            }
            Err(_) => self.fail(batch),
        }
        self.settle_waiting();
    }

    fn read_completed(&mut self, token: Token, buffer: Vec<u8>, result: std::io::Result<usize>) {
        self.reads.completed(token, buffer, result);
    }

    fn next_settled(&mut self) -> Option<(u64, Result<(), SpoolError>)> {
        self.mark_undone();
        self.settling.settled.pop_front()
    }

    fn is_idle(&self) -> bool {
        self.writer.is_idle() && self.settling.is_idle() && self.reads.is_idle()
    }

    fn has_room(&self) -> bool {
        self.writer.has_room()
    }

    fn has_room_for_chunks(&self) -> bool {
        self.writer.has_room_for_chunks()
    }

    fn blocks_in_use(&self) -> usize {
        self.writer.blocks_in_use()
    }

    fn usage(&self) -> Usage {
        self.usage_now()
    }
}

impl<D: Disk, I: Io<Disk = D>> Writes<I> for SegmentSpool<D> {
    fn use_memory_of(&mut self, io: &mut I) {
        self.writer.use_memory_of(io);
    }

    fn advance(&mut self, io: &mut I) {
        // Files that could not be opened end moves, which nothing else would wake the worker for.
        self.reads.advance(io);
        self.advance_moves();
        self.mark_undone();
        self.writer.submit(&mut self.segments, io);
        // Moves that have begun are read.
        self.reads.advance(io);
        if self.moves.stage.is_none() {
            self.reads.close_unused(io);
        }
    }

    fn detach_sealed(&mut self, io: &mut I) {
        if self.segments.may_free {
            self.segments.detach_sealed(io);
            self.free_segments();
        }
    }
}

/// A worker that ends reports the ends of its segments, except of those that it
/// was writing when it was stopped.
impl<D: Disk> Drop for SegmentSpool<D> {
    fn drop(&mut self) {
        self.writer.undo_empty(&mut self.segments);
        self.segments.note_ends();
    }
}
