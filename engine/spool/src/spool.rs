//! Owns a worker's way into the queue: records gather in a batch, batches are written, messages settle.

mod moving;
mod usage;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};
use mailrace_core::queue_id::QueueIdSource;
use mailrace_core::record::spool::{
    BATCH_HEADER_SIZE, BatchHeader, Location, Mark, RECORD_ALIGNMENT, RECORD_HEADER_SIZE, RecordHeader,
    RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader, checksum, record_size,
};
use mailrace_core::{QueueId, Timestamp};
use mailrace_io::{BLOCK_ALIGNMENT, Block, Disk, FileId, Io, Operation, Token};

use crate::index::{Entry, Index, State};
use crate::keeper::{Note, Ready};
use crate::mover::Moves;
use crate::{MarkError, Refusal, Settings, Shared, SpoolError};

pub use usage::{Holding, Usage};

/// Set in the token of every write of a spool.
pub const TOKEN_SPOOL: u64 = 1 << 63;

/// A worker's spool over the files of `D`.
#[derive(Debug)]
pub struct SegmentSpool<D: Disk> {
    settings: Settings,
    shared: Arc<Shared>,
    ready: Receiver<Ready<D::File>>,
    notes: Sender<Note>,
    worker: u16,
    ids: QueueIdSource,
    index: Index,
    /// Segments of this worker by sequence; the greatest is the one being written, unless it is sealed.
    segments: BTreeMap<u64, Segment<D::File>>,
    /// What is being filled.
    gathering: Option<Batch>,
    /// Filled and not yet submitted.
    sealed: VecDeque<Batch>,
    /// Submitted and not yet complete, by number.
    under_way: BTreeMap<u64, Batch>,
    /// Free memory for batches.
    blocks: Vec<Block>,
    next_batch: u64,
    /// Earlier batches are of an earlier run, or one of them failed.
    durable_from: u64,
    /// Numbers of batches whose write failed.
    failed_batches: Vec<u64>,
    /// Messages in chunks, and copies of such, whose last batch is durable, that wait for an earlier batch.
    behind: Vec<(u64, Pending)>,
    settled: VecDeque<(u64, Result<(), SpoolError>)>,
    /// Messages whose write failed, for which no mark is written yet that says that they are out.
    undone: VecDeque<Undone>,
    written: Written,
    /// Something happened that may have left a segment to nobody.
    may_free: bool,
    moves: Moves,
}

/// A segment that this worker writes, or that holds its messages.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    pub(crate) file: Option<Attached<F>>,
    /// Where the next batch goes.
    pub(crate) end: u64,
    /// Nothing is written to it any more.
    pub(crate) is_sealed: bool,
    /// Batches that are gathered or under way.
    pub(crate) batches: usize,
    /// Messages in the queue, and messages coming in, that have a part in it.
    pub(crate) parts: usize,
    /// Sequences of the segments whose messages its marks speak of; ascending.
    pub(crate) marks: Vec<u64>,
    /// Messages that ended in it, whatever became of them.
    pub(crate) messages: usize,
    /// Bytes of content in it that was given up before its message ended, in this life.
    pub(crate) given_up: u64,
    /// As many as `parts` when messages were last moved out of it.
    pub(crate) parts_tried: usize,
    /// Records in it that are durable.
    pub(crate) records: u64,
    /// The manifest knows its end, or never will in this life: of a write that failed nobody knows what is there.
    pub(crate) is_noted: bool,
    /// It stays as it is, for repair, and so does what its messages may need.
    pub(crate) is_damaged: bool,
}

impl<F> Segment<F> {
    /// One of an earlier run.
    pub(crate) const fn found(name: String, header: SegmentHeader, marks: Vec<u64>, messages: usize) -> Self {
        Self {
            name,
            header,
            file: None,
            end: header.size,
            is_sealed: true,
            batches: 0,
            parts: 0,
            marks,
            messages,
            given_up: 0,
            parts_tried: usize::MAX,
            records: 0,
            is_noted: true,
            is_damaged: false,
        }
    }

    /// Lets batches follow what an earlier life wrote.
    pub(crate) fn go_on(&mut self, file: F, end: u64, records: u64) {
        self.file = Some(Attached::No(file));
        (self.end, self.records) = (end, records);
        (self.is_sealed, self.is_noted) = (false, false);
    }

    /// Lets no batch follow.
    pub(crate) fn end_here(&mut self) {
        self.file = None;
        (self.is_sealed, self.is_noted) = (true, true);
    }
}

impl<F> Segment<F> {
    /// Nothing is written to it any more, or under way.
    const fn is_settled(&self) -> bool {
        self.is_sealed && self.batches == 0
    }

    /// Says where it ends, when all that was written to it is durable.
    fn note_end(&mut self, notes: &Sender<Note>) {
        if self.batches == 0 && !std::mem::replace(&mut self.is_noted, true) {
            let Self { header: SegmentHeader { sequence, .. }, end, records, .. } = *self;
            // The keeper is gone only when the process ends.
            let _ = notes.send(Note::Closed { sequence, end, records });
        }
    }

    /// An eighth of its messages is left, or less. What was given up counts as messages of a 1,024th of the segment each:
    /// nobody keeps a segment on the disk by giving content up beside a message that stays.
    const fn is_nearly_empty(&self) -> bool {
        let given_up = self.given_up * 1024 / self.header.size;
        self.parts as u64 * 8 <= self.messages as u64 + given_up
    }
}

#[derive(Debug)]
pub(crate) enum Attached<F> {
    /// Not known to the ring yet.
    No(F),
    Yes(FileId),
}

/// One write.
#[derive(Debug)]
struct Batch {
    number: u64,
    sequence: u64,
    salt: u64,
    offset: u64,
    /// Octets that the segment has for it.
    room: usize,
    records: u32,
    /// Octets of chunks in it.
    chunks: usize,
    block: Option<Block>,
    pending: Vec<Pending>,
}

/// What settles with a batch.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Message {
        tag: u64,
        id: QueueId,
        entry: Entry,
        first_batch: u64,
    },
    Mark {
        tag: u64,
        id: QueueId,
        mark: Mark,
        /// Its place among the marks of the message.
        order: u64,
    },
    /// The mark for a message whose write failed.
    Undone {
        tag: u64,
    },
    /// A copy of a message, to take the place of the one that it was made from.
    Move {
        id: QueueId,
        entry: Entry,
        first_batch: u64,
    },
}

impl Pending {
    /// The first batch with a part of the message.
    const fn first_batch(&self) -> Option<u64> {
        match self {
            Self::Message { first_batch, .. } | Self::Move { first_batch, .. } => Some(*first_batch),
            Self::Mark { .. } | Self::Undone { .. } => None,
        }
    }
}

/// A message whose write failed. Some of it may be on the disk all the same.
#[derive(Clone, Copy, Debug)]
struct Undone {
    tag: u64,
    id: QueueId,
    /// Sequence of the segment with its last record.
    last: u64,
}

/// A message that is coming in.
#[derive(Debug)]
pub struct Draft {
    id: QueueId,
    parts: u32,
    previous: Option<Location>,
    content_size: u64,
    first: u64,
    last: u64,
    first_batch: u64,
}

impl Draft {
    /// What the index holds of it once its last record is written.
    fn entry(&self, state: State) -> Entry {
        let offset = self.previous.map_or(0, |place| place.offset);
        Entry { first: self.first, last: self.last, offset, octets: self.content_size, state }
    }

    /// The message's id.
    #[must_use]
    pub const fn id(&self) -> QueueId {
        self.id
    }
}

/// What a spool has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Batches submitted.
    pub batches: u64,
    /// Octets in them, padding included.
    pub octets: u64,
    /// Batches whose write failed.
    pub failures: u64,
}

/// What a spool holds and has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Messages in the queue.
    pub messages: u64,
    /// Octets of their content.
    pub octets: u64,
    /// Those that are parked.
    pub held: u64,
    /// Since the start.
    pub written: Written,
}

/// What a worker's spool is opened with.
pub(crate) struct Parts<D: Disk> {
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) ready: Receiver<Ready<D::File>>,
    pub(crate) notes: Sender<Note>,
    pub(crate) worker: u16,
    pub(crate) ids: QueueIdSource,
    pub(crate) index: Index,
    pub(crate) segments: BTreeMap<u64, Segment<D::File>>,
    pub(crate) moves: Moves,
    pub(crate) next_batch: u64,
}

impl<D: Disk> SegmentSpool<D> {
    pub(crate) fn new(parts: Parts<D>) -> Self {
        let Parts { settings, shared, ready, notes, worker, ids, index, segments, moves, next_batch } = parts;
        let blocks = (0..settings.blocks).map(|_| Block::new(settings.block_size)).collect();
        let mut spool = Self {
            settings,
            shared,
            ready,
            notes,
            worker,
            ids,
            index,
            segments,
            gathering: None,
            sealed: VecDeque::new(),
            under_way: BTreeMap::new(),
            blocks,
            next_batch,
            durable_from: next_batch,
            failed_batches: Vec::new(),
            behind: Vec::new(),
            settled: VecDeque::new(),
            undone: VecDeque::new(),
            written: Written::default(),
            may_free: true,
            moves,
        };
        spool.free_segments();
        spool
    }

    /// An id for a message that came at `wall`.
    pub fn next_id(&mut self, wall: Timestamp) -> QueueId {
        self.ids.next(wall)
    }

    /// Begins a message.
    #[must_use]
    pub const fn begin(&self, id: QueueId) -> Draft {
        Draft { id, parts: 0, previous: None, content_size: 0, first: 0, last: 0, first_batch: 0 }
    }

    /// Octets of content that [`SegmentSpool::append`] and [`SegmentSpool::commit`] take at once.
    #[must_use]
    pub const fn piece_size_max(&self) -> usize {
        self.settings.block_size / 2
    }

    /// Whether [`SegmentSpool::commit`] takes so many octets of content with this envelope at once.
    #[must_use]
    pub fn fits(&self, envelope: &[u8], size: usize) -> bool {
        record_size(envelope.len() + size) <= self.settings.block_size - BATCH_HEADER_SIZE
    }

    /// Adds a piece of content as a chunk: all of it, or nothing with an error.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn append(&mut self, draft: &mut Draft, content: &[&[u8]]) -> Result<(), Refusal> {
        let length = size_of_all(content);
        self.make_room(record_size(length))?;
        self.put(draft, RecordKind::Chunk, false, 0, length, |batch| {
            batch.chunks += length;
            content.iter().for_each(|slice| batch.extend(slice));
        })?;
        draft.content_size += length as u64;
        Ok(())
    }

    /// Adds the last piece of content and the envelope ([`mailrace_core::record::envelope`]): with it the message
    /// exists. `tag` comes back from [`SegmentSpool::next_settled`] when everything is durable, or could not be made
    /// so.
    ///
    /// # Errors
    /// [`Refusal`], and the draft.
    pub fn commit(
        &mut self,
        mut draft: Draft,
        state: State,
        envelope: &[u8],
        content: &[&[u8]],
        tag: u64,
    ) -> Result<(), (Draft, Refusal)> {
        let length = envelope.len() + size_of_all(content);
        if let Err(refusal) = self.make_room(record_size(length)) {
            return Err((draft, refusal));
        }
        draft.content_size += (length - envelope.len()) as u64;
        let is_held = state == State::Hold;
        let put = self.put(&mut draft, RecordKind::Message, is_held, envelope.len(), length, |batch| {
            batch.extend(envelope);
            content.iter().for_each(|slice| batch.extend(slice));
        });
        if let Err(refusal) = put {
            draft.content_size -= (length - envelope.len()) as u64;
            return Err((draft, refusal));
        }
        let entry = draft.entry(state);
        let pending = Pending::Message { tag, id: draft.id, entry, first_batch: draft.first_batch };
        self.gathering.as_mut().expect("the record was put into it").pending.push(pending);
        Ok(())
    }

    /// Forgets a message that did not come in whole. Its chunks are no message.
    pub fn abandon(&mut self, draft: Draft) {
        if draft.parts > 0 {
            let in_each = draft.content_size / (draft.last - draft.first + 1);
            for (_, segment) in self.segments.range_mut(draft.first..=draft.last) {
                segment.given_up += in_each;
            }
            self.release(draft.first, draft.last);
        }
    }

    /// Notes what became of a message; `tag` comes back when that is durable.
    ///
    /// # Errors
    /// [`MarkError`].
    pub fn mark(&mut self, id: QueueId, mark: Mark, tag: u64) -> Result<(), MarkError> {
        let entry = self.index.get(id).ok_or(MarkError::NotFound)?;
        let copies = self.moves.copies_of(id).chain([entry.last]).collect::<Vec<u64>>();
        self.put_mark(id, mark, &copies).map_err(MarkError::Refused)?;
        let order = self.moves.mark_begins(id);
        if let Some(batch) = self.gathering.as_mut() {
            batch.pending.push(Pending::Mark { tag, id, mark, order });
        }
        Ok(())
    }

    /// Where the last record of a message is, and its state.
    #[must_use]
    pub fn place(&self, id: QueueId) -> Option<(Location, State)> {
        let entry = self.index.get(id)?;
        Some((Location { sequence: entry.last, offset: entry.offset }, entry.state))
    }

    /// The messages in the queue, in no order.
    pub fn ids(&self) -> impl Iterator<Item = (QueueId, State)> + '_ {
        self.index.iter().map(|(id, entry)| (id, entry.state))
    }

    /// Submits what has gathered, as long as fewer than the configured number of writes are under way. Batches grow
    /// with the load, while earlier ones are being written: no timer holds a lone message back.
    pub fn advance<I: Io<Disk = D>>(&mut self, io: &mut I) {
        self.advance_moves();
        self.mark_undone();
        while self.under_way.len() < self.settings.writes_in_flight {
            if self.sealed.is_empty() {
                self.seal();
            }
            let Some(mut batch) = self.sealed.pop_front() else { return };
            let segment = self.segments.get_mut(&batch.sequence).expect(SEGMENT_STAYS);
            let block = batch.block.take().expect(HAS_BLOCK);
            let file = match segment.file.take() {
                Some(Attached::No(file)) => io.attach(file),
                Some(Attached::Yes(file)) => file,
                None => unreachable_file(),
            };
            segment.file = Some(Attached::Yes(file));
            self.written.batches += 1;
            self.written.octets += block.len() as u64;
            let token = Token(TOKEN_SPOOL | batch.number);
            io.submit(token, Operation::Write { file, block, offset: batch.offset, is_durable: true });
            self.under_way.insert(batch.number, batch);
        }
    }

    /// Closes the files of segments that will not be written again.
    pub fn detach_sealed<I: Io<Disk = D>>(&mut self, io: &mut I) {
        if !self.may_free {
            return;
        }
        for segment in self.segments.values_mut().filter(|segment| segment.is_sealed && segment.batches == 0)
        {
            if let Some(Attached::Yes(file)) = segment.file {
                drop(io.detach(file));
            }
            segment.file = None;
            segment.note_end(&self.notes);
        }
        self.free_segments();
    }

    /// A write is over.
    pub fn completed(&mut self, token: Token, mut block: Block, result: std::io::Result<()>) {
        block.clear();
        self.blocks.push(block);
        let batch = self.under_way.remove(&(token.0 & !TOKEN_SPOOL));
        let mut batch = batch.expect("a write that completes is one that was submitted");
        let segment = self.segments.get_mut(&batch.sequence).expect(SEGMENT_STAYS);
        segment.batches -= 1;
        segment.records += if result.is_ok() { u64::from(batch.records) } else { 0 };
        self.may_free |= segment.is_sealed && segment.batches == 0;
        if result.is_err() {
            self.fail(batch);
            return;
        }
        let number = batch.number;
        for pending in batch.pending.drain(..) {
            // A message or a copy of one in several batches is as durable as the last of them.
            if pending.first_batch().is_some_and(|first| first < number) {
                self.behind.push((number, pending));
            } else {
                self.settle(pending, true);
            }
        }
        self.settle_behind();
    }

    /// The next tag whose message or mark is settled.
    pub fn next_settled(&mut self) -> Option<(u64, Result<(), SpoolError>)> {
        self.mark_undone();
        self.settled.pop_front()
    }

    /// Whether nothing is gathered, under way or unsettled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.gathering.as_ref().is_none_or(|batch| batch.records == 0)
            && self.sealed.is_empty()
            && self.under_way.is_empty()
            && self.behind.is_empty()
            && self.undone.is_empty()
            && self.settled.is_empty()
    }

    /// Whether there is memory for another piece.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.blocks.is_empty()
            || self.gathering.as_ref().is_some_and(|batch| batch.left() > self.piece_size_max())
    }

    /// Whether another chunk of a message that has not ended can be written soon. Messages that end come first: chunks
    /// that are on their way make up half of what is written at once, so that a message that is committed waits for no
    /// more than that, however much content comes in.
    #[must_use]
    pub fn has_room_for_chunks(&self) -> bool {
        let batches = self.under_way.values().chain(&self.sealed).chain(&self.gathering);
        let chunks: usize = batches.map(|batch| batch.chunks).sum();
        self.has_room() && chunks < self.settings.writes_in_flight * self.settings.block_size / 2
    }

    /// Blocks that gather or are being written.
    #[must_use]
    pub fn blocks_in_use(&self) -> usize {
        self.settings.blocks - self.blocks.len()
    }

    /// What it holds and has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            messages: self.index.messages(),
            octets: self.index.octets(),
            held: self.index.held(),
            written: self.written,
        }
    }

    /// Sees to it that the gathering batch has room for a record of `size` octets.
    fn make_room(&mut self, size: usize) -> Result<(), Refusal> {
        if size > self.settings.block_size - BATCH_HEADER_SIZE {
            return Err(Refusal::TooLarge);
        }
        if self.shared.is_gone() {
            return Err(Refusal::Full);
        }
        if self.gathering.as_ref().is_some_and(|batch| batch.left() >= size) {
            return Ok(());
        }
        self.seal();
        self.undo_empty();
        if self.blocks.is_empty() {
            return Err(Refusal::Busy);
        }
        let sequence = self.segment_for(BATCH_HEADER_SIZE + size)?;
        let segment = self.segments.get_mut(&sequence).expect("it was just found");
        let mut block = self.blocks.pop().expect("looked at above");
        segment.batches += 1;
        let left = usize::try_from(segment.header.size - segment.end).expect(IN_SEGMENT);
        let room = left.min(block.capacity());
        block.extend(&[0; BATCH_HEADER_SIZE]);
        let number = self.next_batch;
        self.next_batch += 1;
        self.gathering = Some(Batch {
            number,
            sequence,
            salt: segment.header.salt,
            offset: segment.end,
            room,
            records: 0,
            chunks: 0,
            block: Some(block),
            pending: Vec::new(),
        });
        Ok(())
    }

    /// Takes back a gathering batch without a record.
    fn undo_empty(&mut self) {
        let Some(batch) = self.gathering.take() else { return };
        let segment = self.segments.get_mut(&batch.sequence).expect(SEGMENT_STAYS);
        segment.batches -= 1;
        self.may_free |= segment.is_sealed && segment.batches == 0;
        self.next_batch = batch.number;
        self.return_block(batch.block.expect(HAS_BLOCK));
    }

    /// The segment being written if it has `size` octets left, else the next one.
    fn segment_for(&mut self, size: usize) -> Result<u64, Refusal> {
        if let Some((sequence, segment)) = self.segments.iter_mut().next_back()
            && !segment.is_sealed
        {
            if segment.header.size - segment.end >= size as u64 {
                return Ok(*sequence);
            }
            segment.is_sealed = true;
            self.may_free |= segment.batches == 0;
        }
        let Ok(Ready { file, name, header }) = self.ready.try_recv() else {
            return Err(if self.shared.is_full() { Refusal::Full } else { Refusal::Busy });
        };
        let segment = Segment {
            name,
            header,
            file: Some(Attached::No(file)),
            end: SEGMENT_HEADER_SIZE as u64,
            is_sealed: false,
            batches: 0,
            parts: 0,
            marks: Vec::new(),
            messages: 0,
            given_up: 0,
            parts_tried: usize::MAX,
            records: 0,
            is_noted: false,
            is_damaged: false,
        };
        self.segments.insert(header.sequence, segment);
        Ok(header.sequence)
    }

    /// Writes a record of `draft` into the gathering batch, which has room for it.
    fn put(
        &mut self,
        draft: &mut Draft,
        kind: RecordKind,
        is_held: bool,
        envelope_length: usize,
        length: usize,
        fill: impl FnOnce(&mut Batch),
    ) -> Result<(), Refusal> {
        let is_lost = |number: &u64| draft.parts > 0 && *number >= draft.first_batch;
        if self.failed_batches.iter().any(is_lost) {
            return Err(Refusal::Failed);
        }
        let batch = self.gathering.as_mut().expect("there is room for the record");
        let start = batch.len();
        let offset = batch.offset + start as u64;
        batch.extend(&[0; RECORD_HEADER_SIZE]);
        fill(batch);
        let payload_checksum = checksum(batch.from(start + RECORD_HEADER_SIZE), batch.salt);
        batch.pad(RECORD_ALIGNMENT);
        let header = RecordHeader {
            kind,
            is_held,
            id: draft.id,
            length: u32::try_from(length).expect(IN_SEGMENT),
            envelope_length: u32::try_from(envelope_length).expect(IN_SEGMENT),
            part: draft.parts,
            previous: draft.previous,
            payload_checksum,
            // The caller counts a chunk after this.
            content_size: draft.content_size + if kind == RecordKind::Chunk { length as u64 } else { 0 },
        };
        batch.patch(start, &header.encode(batch.salt, offset));
        batch.records += 1;
        let (sequence, number) = (batch.sequence, batch.number);
        if kind == RecordKind::Message {
            self.segments.get_mut(&sequence).expect(SEGMENT_STAYS).messages += 1;
        }
        if draft.parts == 0 {
            draft.first = sequence;
            draft.last = sequence;
            draft.first_batch = number;
            self.hold(sequence, sequence);
        } else if draft.last != sequence {
            let next = draft.last + 1;
            draft.last = sequence;
            self.hold(next, sequence);
        }
        draft.parts += 1;
        draft.previous = Some(Location { sequence, offset: u32::try_from(offset).expect(IN_SEGMENT) });
        Ok(())
    }

    /// `targets`: sequences of the segments with a last record of the message.
    fn put_mark(&mut self, id: QueueId, mark: Mark, targets: &[u64]) -> Result<(), Refusal> {
        self.make_room(record_size(1))?;
        let batch = self.gathering.as_mut().expect("room was made");
        let start = batch.len();
        let offset = batch.offset + start as u64;
        batch.extend(&[0; RECORD_HEADER_SIZE]);
        batch.extend(&[mark.octet()]);
        let header = RecordHeader {
            kind: RecordKind::Mark,
            is_held: false,
            id,
            length: 1,
            envelope_length: 0,
            part: 0,
            previous: None,
            payload_checksum: checksum(&[mark.octet()], batch.salt),
            content_size: 0,
        };
        batch.pad(RECORD_ALIGNMENT);
        batch.patch(start, &header.encode(batch.salt, offset));
        batch.records += 1;
        let sequence = batch.sequence;
        let segment = self.segments.get_mut(&sequence).expect(SEGMENT_STAYS);
        for target in targets {
            if let Err(place) = segment.marks.binary_search(target) {
                segment.marks.insert(place, *target);
            }
        }
        Ok(())
    }

    /// Ends the gathering batch and fixes its place.
    fn seal(&mut self) {
        let Some(mut batch) = self.gathering.take_if(|batch| batch.records > 0) else { return };
        batch.pad(BLOCK_ALIGNMENT);
        let header = BatchHeader {
            length: u32::try_from(batch.len()).expect(IN_SEGMENT),
            records: batch.records,
            worker: u32::from(self.worker),
            sequence: batch.sequence,
            number: batch.number,
            durable_from: self.durable_from,
            durable_through: self.durable_through().min(batch.number - 1),
        };
        batch.patch(0, &header.encode(batch.salt, batch.offset));
        let segment = self.segments.get_mut(&batch.sequence).expect(SEGMENT_STAYS);
        segment.end += batch.len() as u64;
        assert!(segment.end <= segment.header.size, "a batch ends in its segment");
        self.sealed.push_back(batch);
    }

    /// All batches up to this number are settled.
    fn durable_through(&self) -> u64 {
        let first_open =
            self.under_way.keys().next().copied().or_else(|| self.sealed.front().map(|batch| batch.number));
        first_open
            .or_else(|| self.gathering.as_ref().map(|batch| batch.number))
            .unwrap_or(self.next_batch)
            .saturating_sub(1)
    }

    /// A write failed: its segment is not written to again, and what was to go there is refused.
    fn fail(&mut self, batch: Batch) {
        self.written.failures += 1;
        let sequence = batch.sequence;
        if let Some(segment) = self.segments.get_mut(&sequence) {
            segment.is_sealed = true;
            segment.is_noted = true;
        }
        let mut lost = vec![batch];
        let waiting = std::mem::take(&mut self.sealed).into_iter().chain(self.gathering.take());
        let (doomed, safe): (Vec<Batch>, Vec<Batch>) = waiting.partition(|batch| batch.sequence == sequence);
        for batch in safe {
            // The gathering batch is the last one, if it is not sealed yet.
            if batch.is_sealed() { self.sealed.push_back(batch) } else { self.gathering = Some(batch) }
        }
        lost.extend(doomed);
        for mut batch in lost {
            self.failed_batches.push(batch.number);
            self.durable_from = self.durable_from.max(batch.number + 1);
            if let Some(block) = batch.block.take() {
                self.return_block(block);
                if let Some(segment) = self.segments.get_mut(&sequence) {
                    segment.batches -= 1;
                    self.may_free = true;
                }
            }
            for pending in batch.pending {
                self.settle(pending, false);
            }
        }
        self.settle_behind();
    }

    fn return_block(&mut self, mut block: Block) {
        block.clear();
        self.blocks.push(block);
    }

    /// Settles messages in chunks whose earlier batches are all complete.
    fn settle_behind(&mut self) {
        let first_open = self.under_way.keys().next().copied().unwrap_or(u64::MAX);
        let mut index = 0;
        while let Some((number, pending)) = self.behind.get(index).copied() {
            let Some(first_batch) = pending.first_batch() else { break };
            let is_lost = self.failed_batches.iter().any(|failed| (first_batch..=number).contains(failed));
            if is_lost || first_open > number {
                self.behind.swap_remove(index);
                self.settle(pending, !is_lost);
            } else {
                index += 1;
            }
        }
    }

    fn settle(&mut self, pending: Pending, is_durable: bool) {
        let result = if is_durable { Ok(()) } else { Err(SpoolError) };
        match pending {
            Pending::Message { tag, id, entry, .. } => {
                if is_durable {
                    self.index.insert(id, entry);
                } else {
                    self.release(entry.first, entry.last);
                    self.undone.push_back(Undone { tag, id, last: entry.last });
                    return;
                }
                self.settled.push_back((tag, result));
            }
            Pending::Undone { tag } => self.settled.push_back((tag, Err(SpoolError))),
            Pending::Move { id, entry, .. } => self.settle_move(id, entry, is_durable),
            Pending::Mark { tag, id, mark, order } => {
                if is_durable && (mark == Mark::Done || self.moves.is_latest(id, order)) {
                    self.apply(id, mark);
                }
                // One that says `done` may be on the disk though it failed. Then no copy may stand behind it: marks are
                // given up after what they speak of, and so behind it.
                if is_durable || mark != Mark::Done {
                    self.moves.mark_ends(id);
                }
                self.settled.push_back((tag, result));
            }
        }
    }

    /// Marks messages whose write failed: what of them is on the disk must not come back as a message, for their clients
    /// will send them again once they are told. They are told when the mark is durable. If even that cannot be written,
    /// a copy too many is the lesser evil.
    fn mark_undone(&mut self) {
        while let Some(Undone { tag, id, last }) = self.undone.front().copied() {
            match self.put_mark(id, Mark::Done, &[last]) {
                Ok(()) => {
                    if let Some(batch) = self.gathering.as_mut() {
                        batch.pending.push(Pending::Undone { tag });
                    }
                }
                Err(Refusal::Busy) => return,
                Err(_) => self.settled.push_back((tag, Err(SpoolError))),
            }
            self.undone.pop_front();
        }
    }

    fn apply(&mut self, id: QueueId, mark: Mark) {
        match mark {
            Mark::Done => {
                if let Some(entry) = self.index.remove(id) {
                    self.release(entry.first, entry.last);
                    self.moves.forget(id);
                }
            }
            Mark::Hold => self.index.set_state(id, State::Hold),
            Mark::Release => self.index.set_state(id, State::Incoming),
        }
    }

    /// A message has a part in the segments from `first` to `last`, or may have.
    fn hold(&mut self, first: u64, last: u64) {
        for (_, segment) in self.segments.range_mut(first..=last) {
            segment.parts += 1;
        }
    }

    fn release(&mut self, first: u64, last: u64) {
        for (_, segment) in self.segments.range_mut(first..=last) {
            segment.parts -= 1;
            self.may_free |= segment.is_sealed && segment.parts == 0;
            self.moves.may_begin |= segment.is_nearly_empty();
        }
    }

    /// Gives segments back that nobody needs: no message has a part in it, and the messages that its marks speak of
    /// are in no segment any more, so that none comes back with the marks gone.
    fn free_segments(&mut self) {
        if !std::mem::take(&mut self.may_free) {
            return;
        }
        let candidates: Vec<u64> = self.segments.keys().copied().collect();
        for sequence in candidates {
            let Some(segment) = self.segments.get(&sequence) else { continue };
            let is_unused =
                segment.is_settled() && segment.parts == 0 && segment.file.is_none() && !segment.is_damaged;
            let is_needed =
                segment.marks.iter().any(|mark| *mark != sequence && self.segments.contains_key(mark));
            if is_unused
                && !is_needed
                && let Some(segment) = self.segments.remove(&sequence)
            {
                self.moves.segment_freed(sequence);
                // The keeper is gone only when the process ends.
                let _ = self.notes.send(Note::Freed { sequence, path: segment.name });
            }
        }
    }
}

/// A worker that has ended says where its segments end; one that was stopped in the middle says nothing of those that it
/// was writing.
impl<D: Disk> Drop for SegmentSpool<D> {
    fn drop(&mut self) {
        if self.gathering.as_ref().is_some_and(|batch| batch.records == 0) {
            self.undo_empty();
        }
        self.segments.values_mut().for_each(|segment| segment.note_end(&self.notes));
    }
}

impl Batch {
    fn len(&self) -> usize {
        self.block.as_ref().map_or(0, Block::len)
    }

    fn left(&self) -> usize {
        self.room - self.len()
    }

    fn block_mut(&mut self) -> &mut Block {
        self.block.as_mut().expect(HAS_BLOCK)
    }

    fn extend(&mut self, octets: &[u8]) {
        assert!(octets.len() <= self.left(), "a record fits into its batch and its segment");
        self.block_mut().extend(octets);
    }

    fn pad(&mut self, alignment: usize) {
        self.block_mut().pad(alignment);
    }

    fn from(&self, start: usize) -> &[u8] {
        let filled = self.block.as_ref().expect(HAS_BLOCK).filled();
        filled.get(start..).expect("what is read was written")
    }

    fn patch(&mut self, start: usize, octets: &[u8]) {
        let place = self.block_mut().filled_mut().get_mut(start..start + octets.len());
        place.expect("what is patched was written").copy_from_slice(octets);
    }

    /// Whether its header is written.
    fn is_sealed(&self) -> bool {
        self.from(0).first().is_some_and(|octet| *octet != 0)
    }
}

const HAS_BLOCK: &str = "a batch has its block until it is submitted";
const SEGMENT_STAYS: &str = "a segment stays while it has batches";
/// [`Settings::check`]: a segment has at most 1 GiB, and a block fits into one.
const IN_SEGMENT: &str = "what lies in a segment is below 4 GiB";

fn size_of_all(content: &[&[u8]]) -> usize {
    content.iter().map(|slice| slice.len()).sum()
}

fn unreachable_file() -> FileId {
    panic!("a segment with batches has its file")
}
