//! The batches of one worker: one gathers records, sealed ones are submitted, writes complete.

use std::collections::{BTreeMap, VecDeque};

use mailrace_core::QueueId;
use mailrace_core::record::spool::{
    BATCH_HEADER_SIZE, BatchHeader, Location, Mark, RECORD_ALIGNMENT, RECORD_HEADER_SIZE, RecordHeader,
    RecordKind, checksum, record_size,
};
use mailrace_io::{BLOCK_ALIGNMENT, Block, Disk, FileId, Io, Operation, Token};

use super::batch::{Batch, Pending};
use super::segments::{Attached, Segments};
use super::spool::Written;
use crate::{Refusal, Settings, TOKEN_SPOOL};

/// [`Settings::check`]: a segment has at most 1 GiB, and a block fits into one.
const IN_SEGMENT: &str = "what lies in a segment is below 4 GiB";
const IS_GATHERING: &str = "room was made in the gathering batch";

/// Where a record was put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put {
    pub(super) place: Location,
    /// Number of its batch.
    pub(super) batch: u64,
}

/// A record that is to be written; its payload follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewRecord {
    pub(super) kind: RecordKind,
    pub(super) is_held: bool,
    pub(super) id: QueueId,
    pub(super) envelope_length: usize,
    pub(super) part: u32,
    pub(super) previous: Option<Location>,
    /// Bytes of the message's content up to the end of this record.
    pub(super) content_size: u64,
}

/// Writes of one worker.
#[derive(Debug)]
pub(super) struct Writer {
    settings: Settings,
    worker: u16,
    /// The batch being filled.
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
    pub(super) written: Written,
}

impl Writer {
    pub(super) fn new(settings: Settings, worker: u16, next_batch: u64) -> Self {
        Self {
            settings,
            worker,
            gathering: None,
            sealed: VecDeque::new(),
            under_way: BTreeMap::new(),
            blocks: (0..settings.blocks).map(|_| Block::new(settings.block_size)).collect(),
            next_batch,
            durable_from: next_batch,
            written: Written::default(),
        }
    }

    /// Takes blocks of `io`.
    ///
    /// # Panics
    /// If records are gathered already.
    pub(super) fn use_memory_of<I: Io>(&mut self, io: &mut I) {
        assert!(self.blocks.len() == self.settings.blocks, "nothing is written yet");
        self.blocks = io.blocks(self.settings.blocks, self.settings.block_size);
    }

    /// Bytes of the largest record.
    pub(super) const fn record_size_max(&self) -> usize {
        self.settings.block_size - BATCH_HEADER_SIZE
    }

    /// Most bytes of content in one record.
    pub(super) const fn piece_size_max(&self) -> usize {
        self.settings.block_size / 2
    }

    /// The first batch in progress.
    pub(super) fn first_under_way(&self) -> Option<u64> {
        self.under_way.keys().next().copied()
    }

    /// Whether nothing is gathered or in progress.
    pub(super) fn is_idle(&self) -> bool {
        self.gathering.as_ref().is_none_or(|batch| batch.records == 0)
            && self.sealed.is_empty()
            && self.under_way.is_empty()
    }

    /// Batches that are not complete.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.gathering.iter().chain(&self.sealed).chain(self.under_way.values())
    }

    /// Whether there is memory for another piece.
    pub(super) fn has_room(&self) -> bool {
        !self.blocks.is_empty()
            || self.gathering.as_ref().is_some_and(|batch| batch.left() > self.piece_size_max())
    }

    /// Whether chunks are less than half of what is written at once.
    pub(super) fn has_room_for_chunks(&self) -> bool {
        let chunks: usize = self.batches().map(|batch| batch.chunks).sum();
        self.has_room() && chunks < self.settings.writes_in_flight * self.settings.block_size / 2
    }

    /// Blocks that gather records or are being written.
    pub(super) const fn blocks_in_use(&self) -> usize {
        self.settings.blocks - self.blocks.len()
    }

    /// Makes room in the gathering batch for a record of `size` bytes.
    pub(super) fn make_room<F>(&mut self, segments: &mut Segments<F>, size: usize) -> Result<(), Refusal> {
        if size > self.record_size_max() {
            return Err(Refusal::TooLarge);
        }
        if segments.shared.is_gone() {
            return Err(Refusal::Full);
        }
        if self.gathering.as_ref().is_some_and(|batch| batch.left() >= size) {
            return Ok(());
        }
        self.seal(segments);
        self.undo_empty(segments);
        if self.blocks.is_empty() {
            return Err(Refusal::Busy);
        }
        let sequence = segments.for_batch(BATCH_HEADER_SIZE + size)?;
        let mut block = self.blocks.pop().expect("one is free");
        let segment = segments.used(sequence);
        segment.tail.batches += 1;
        let left = usize::try_from(segment.left()).expect(IN_SEGMENT);
        let room = left.min(block.capacity());
        block.extend(&[0; BATCH_HEADER_SIZE]);
        let number = self.next_batch;
        self.next_batch += 1;
        self.gathering = Some(Batch {
            number,
            header: segment.header,
            offset: segment.tail.end,
            room,
            records: 0,
            chunks: 0,
            block: Some(block),
            pending: Vec::new(),
        });
        Ok(())
    }

    /// Takes back a gathering batch without a record.
    pub(super) fn undo_empty<F>(&mut self, segments: &mut Segments<F>) {
        let Some(mut batch) = self.gathering.take_if(|batch| batch.records == 0) else { return };
        segments.batch_ended(batch.header.sequence);
        self.next_batch = batch.number;
        self.return_block(batch.take_block());
    }

    /// Writes a record into the gathering batch, which has room for it. `payload` is its pieces.
    pub(super) fn put(&mut self, record: &NewRecord, payload: &[&[&[u8]]]) -> Put {
        let batch = self.gathering.as_mut().expect(IS_GATHERING);
        let salt = batch.header.salt;
        let start = batch.len();
        let offset = batch.offset + start as u64;
        batch.extend(&[0; RECORD_HEADER_SIZE]);
        payload.iter().flat_map(|pieces| pieces.iter()).for_each(|piece| batch.extend(piece));
        let length = batch.len() - start - RECORD_HEADER_SIZE;
        let payload_checksum = checksum(batch.from(start + RECORD_HEADER_SIZE), salt);
        batch.pad(RECORD_ALIGNMENT);
        let header = RecordHeader {
            kind: record.kind,
            is_held: record.is_held,
            id: record.id,
            length: u32::try_from(length).expect(IN_SEGMENT),
            envelope_length: u32::try_from(record.envelope_length).expect(IN_SEGMENT),
            part: record.part,
            previous: record.previous,
            payload_checksum,
            content_size: record.content_size,
        };
        batch.patch(start, &header.encode(salt, offset));
        batch.records += 1;
        batch.chunks += if record.kind == RecordKind::Chunk { length } else { 0 };
        let sequence = batch.header.sequence;
        let offset = u32::try_from(offset).expect(IN_SEGMENT);
        Put { place: Location { sequence, offset }, batch: batch.number }
    }

    /// Writes a mark, whose `targets` are the segments with a last record of the message; ascending or not.
    pub(super) fn put_mark<F>(
        &mut self,
        segments: &mut Segments<F>,
        id: QueueId,
        mark: Mark,
        targets: &[u64],
    ) -> Result<(), Refusal> {
        let put = self.put_note(segments, id, &[mark.octet()])?;
        let marks = &mut segments.used(put.place.sequence).uses.marks;
        for target in targets {
            if let Err(place) = marks.binary_search(target) {
                marks.insert(place, *target);
            }
        }
        Ok(())
    }

    /// Writes a record with a mark's payload.
    pub(super) fn put_note<F>(
        &mut self,
        segments: &mut Segments<F>,
        id: QueueId,
        payload: &[u8],
    ) -> Result<Put, Refusal> {
        self.make_room(segments, record_size(payload.len()))?;
        let record = NewRecord {
            kind: RecordKind::Mark,
            is_held: false,
            id,
            envelope_length: 0,
            part: 0,
            previous: None,
            content_size: 0,
        };
        Ok(self.put(&record, &[&[payload]]))
    }

    /// Lets `pending` settle with the record that was put last.
    pub(super) fn settles_with_last(&mut self, pending: Pending) {
        let batch = self.gathering.as_mut().expect(IS_GATHERING);
        assert!(batch.records > 0, "what settles with a batch has a record in it");
        batch.pending.push(pending);
    }

    /// Ends the gathering batch and fixes its place.
    fn seal<F>(&mut self, segments: &mut Segments<F>) {
        let Some(mut batch) = self.gathering.take_if(|batch| batch.records > 0) else { return };
        batch.pad(BLOCK_ALIGNMENT);
        let header = BatchHeader {
            length: u32::try_from(batch.len()).expect(IN_SEGMENT),
            records: batch.records,
            worker: u32::from(self.worker),
            sequence: batch.header.sequence,
            number: batch.number,
            durable_from: self.durable_from,
            durable_through: self.durable_through().min(batch.number - 1),
        };
        batch.patch(0, &header.encode(batch.header.salt, batch.offset));
        let segment = segments.used(batch.header.sequence);
        assert_eq!(segment.tail.end, batch.offset, "batches of a segment follow each other");
        segment.tail.end += batch.len() as u64;
        assert!(segment.tail.end <= segment.header.size, "a batch ends in its segment");
        self.sealed.push_back(batch);
    }

    /// All batches up to this number are settled.
    fn durable_through(&self) -> u64 {
        let first_open = self.first_under_way().or_else(|| self.sealed.front().map(|batch| batch.number));
        first_open
            .or_else(|| self.gathering.as_ref().map(|batch| batch.number))
            .unwrap_or(self.next_batch)
            .saturating_sub(1)
    }

    /// Submits gathered batches while fewer than the configured number of writes are in progress.
    pub(super) fn submit<I: Io>(&mut self, segments: &mut Segments<<I::Disk as Disk>::File>, io: &mut I) {
        while self.under_way.len() < self.settings.writes_in_flight {
            if self.sealed.is_empty() {
                self.seal(segments);
            }
            let Some(mut batch) = self.sealed.pop_front() else { return };
            let block = batch.take_block();
            let segment = segments.used(batch.header.sequence);
            let file = match segment.file.take() {
                Some(Attached::No(file)) => io.attach(file),
                Some(Attached::Yes(file)) => file,
                None => unreachable_file(),
            };
            segment.file = Some(Attached::Yes(file));
            assert!(
                batch.offset + block.len() as u64 <= segment.tail.end,
                "a batch is written where its segment has a place for it"
            );
            self.written.batches += 1;
            self.written.octets += block.len() as u64;
            let token = Token(TOKEN_SPOOL | batch.number);
            io.submit(token, Operation::Write { file, block, offset: batch.offset, is_durable: true });
            let before = self.under_way.insert(batch.number, batch);
            assert!(before.is_none(), "each batch has a number of its own");
        }
    }

    /// Returns the batch whose write has ended, and frees its memory.
    pub(super) fn completed(&mut self, number: u64, block: Block) -> Batch {
        self.return_block(block);
        self.under_way.remove(&number).expect("a write that completes is one that was submitted")
    }

    /// Drops all batches for the segment of `failed`, whose write failed, so that nothing more is written there. Returns
    /// them.
    pub(super) fn fail<F>(&mut self, segments: &mut Segments<F>, failed: Batch) -> Vec<Batch> {
        self.written.failures += 1;
        let sequence = failed.header.sequence;
        let mut lost = vec![failed];
        let is_lost = |batch: &Batch| batch.header.sequence == sequence;
        for mut batch in std::mem::take(&mut self.sealed) {
            if is_lost(&batch) {
                self.return_block(batch.take_block());
                lost.push(batch);
            } else {
                self.sealed.push_back(batch);
            }
        }
        if let Some(mut batch) = self.gathering.take_if(|batch| is_lost(batch)) {
            self.return_block(batch.take_block());
            lost.push(batch);
        }
        for batch in &lost {
            self.durable_from = self.durable_from.max(batch.number + 1);
        }
        // The write that failed has ended already.
        lost.iter().skip(1).for_each(|_| segments.batch_ended(sequence));
        lost
    }

    fn return_block(&mut self, mut block: Block) {
        block.clear();
        self.blocks.push(block);
    }
}

fn unreachable_file() -> FileId {
    panic!("a segment with batches has its file")
}
