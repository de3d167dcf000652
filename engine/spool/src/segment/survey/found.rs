//! One use of a segment, as it was found.

use mailrace_core::QueueId;
use mailrace_core::record::manifest::{self, EntryState};
use mailrace_core::record::spool::{BatchHeader, Mark, SEGMENT_HEADER_SIZE, SegmentHeader};
use mailrace_io::BLOCK_ALIGNMENT;

use super::batches::{Batches, Suspect};
use super::damage::Durable;
use crate::segment::manifest::name_of;
use crate::segment::recovery::{Damage, DamageKind};

/// Numbers of records of all kinds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records {
    /// Complete records.
    pub(crate) whole: u64,
    /// Complete records before the end that the manifest knows.
    pub(super) before_end: u64,
    /// Records that were durable once, are not complete, and are not counted as missing in the manifest.
    pub(super) missing: u64,
}

/// One use of a segment that was found.
#[derive(Debug)]
pub(crate) struct Use {
    /// Its path in the queue directory.
    pub(crate) path: String,
    pub(crate) header: SegmentHeader,
    /// Its entry in the manifest.
    pub(super) entry: Option<manifest::Entry>,
    pub(super) is_first_version: bool,
    pub(super) size: u64,
    pub(super) batches: Batches,
    /// Its marks, with their offsets.
    pub(crate) marks: Vec<(u32, QueueId, Mark)>,
    /// Last records of messages in it, and marks about recipients.
    pub(crate) endings: usize,
    pub(crate) records: Records,
    /// Nothing is complete from there on.
    pub(crate) end: u64,
    /// Something in it is damaged or unreadable.
    pub(crate) is_damaged: bool,
    pub(super) is_unreadable: bool,
}

impl Use {
    pub(super) const fn new(
        path: String,
        header: SegmentHeader,
        entry: Option<manifest::Entry>,
        is_first_version: bool,
    ) -> Self {
        Self {
            path,
            header,
            entry,
            is_first_version,
            size: 0,
            batches: Batches::new(),
            marks: Vec::new(),
            endings: 0,
            records: Records { whole: 0, before_end: 0, missing: 0 },
            end: SEGMENT_HEADER_SIZE as u64,
            is_damaged: false,
            is_unreadable: false,
        }
    }

    pub(super) fn damage(&self, offset: u64, what: DamageKind) -> Damage {
        Damage { path: self.path.clone(), offset, what, is_known: false }
    }

    /// Takes the batch that begins at `offset`.
    pub(super) fn add_batch(&mut self, offset: u64, batch: BatchHeader) {
        self.note_end(offset + u64::from(batch.length));
        self.batches.add(offset, batch);
    }

    /// Notes the end of something complete.
    pub(super) fn note_end(&mut self, end: u64) {
        self.end = self.end.max(end.next_multiple_of(BLOCK_ALIGNMENT as u64));
    }

    pub(super) fn count_record(&mut self, offset: u64) {
        self.records.whole += 1;
        self.records.before_end += u64::from(offset < self.end_known());
    }

    /// The end according to the manifest.
    pub(super) fn end_known(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.end)
    }

    /// Number of records that were complete at the last start and are not now.
    pub(super) fn newly_missing(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.whole.saturating_sub(self.records.before_end))
    }

    /// Whether the manifest says that no engine writes to it.
    pub(super) fn is_closed(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.state == EntryState::Closed)
    }

    /// The greatest batch number in it.
    pub(crate) const fn last_batch(&self) -> u64 {
        self.batches.greatest_number()
    }

    /// Whether batches can follow those in it.
    pub(crate) fn can_go_on(&self) -> bool {
        !self.is_first_version
            && !self.is_damaged
            && self.size == self.header.size
            && self.end + 2 * BLOCK_ALIGNMENT as u64 <= self.header.size
    }

    /// Its new entry in the manifest.
    pub(crate) fn determined(&self) -> manifest::Entry {
        let name = name_of(&self.path);
        let entry = match &self.entry {
            Some(entry) => entry.clone(),
            None => manifest::Entry {
                header: self.header,
                end: SEGMENT_HEADER_SIZE as u64,
                records: 0,
                whole: 0,
                state: EntryState::Open,
                name: String::new(),
            },
        };
        if self.is_unreadable {
            // A transient error says nothing about the data.
            return manifest::Entry { name, ..entry };
        }
        let gone = entry.records.saturating_sub(self.records.before_end) + self.records.missing;
        let (end, whole) =
            if entry.state == EntryState::Closed && self.records.whole == self.records.before_end {
                (entry.end, self.records.before_end)
            } else {
                (self.end.max(entry.end), self.records.whole)
            };
        manifest::Entry { end, whole, records: whole + gone, state: EntryState::Closed, name, ..entry }
    }

    /// Places where something is missing that was complete once, as far as can be told.
    pub(super) fn suspects(&self, durable: &Durable) -> Vec<Suspect> {
        self.batches.suspects(durable, self.end_known())
    }
}
