//! The batches of a segment in the order of a scan, and the places where one is missing or torn.

use mailrace_core::record::spool::{BatchHeader, SEGMENT_HEADER_SIZE};

use super::damage::Durable;
use crate::segment::recovery::DamageKind;

/// Summary of a segment's batches: the last one, and those next to which something is missing.
#[derive(Debug)]
pub(crate) struct Batches {
    gaps: Vec<Gap>,
    /// The batch that was found last, with its offset.
    last: Option<(u64, BatchHeader)>,
    /// Its complete records.
    records: u32,
    /// End of the last batch; the next one should begin there.
    end: u64,
    /// The first complete record after that end.
    stray: Option<u64>,
    greatest_number: u64,
}

/// A place where batches do not follow each other, or where one is torn.
#[derive(Clone, Copy, Debug)]
enum Gap {
    /// Nothing complete, or records without the header of their batch, before batch `number`.
    Before { offset: u64, worker: u32, number: u64, number_before: u64, has_record: bool },
    /// Records of the batch that begins there are missing.
    In { offset: u64, worker: u32, number: u64, missing: u32 },
}

/// A place where something is missing.
pub(super) struct Suspect {
    pub(super) offset: u64,
    pub(super) what: DamageKind,
    /// A later batch says that the missing data was durable.
    pub(super) is_durable: bool,
    /// Least number of records that are missing there.
    pub(super) records: u64,
}

impl Batches {
    pub(super) const fn new() -> Self {
        let end = SEGMENT_HEADER_SIZE as u64;
        Self { gaps: Vec::new(), last: None, records: 0, end, stray: None, greatest_number: 0 }
    }

    pub(super) const fn greatest_number(&self) -> u64 {
        self.greatest_number
    }

    /// Takes the batch that begins at `offset`; offsets ascend.
    pub(super) fn add(&mut self, offset: u64, batch: BatchHeader) {
        self.close();
        if offset != self.end {
            self.gaps.push(Gap::Before {
                offset: self.end,
                worker: batch.worker,
                number: batch.number,
                number_before: self.last.map_or(0, |(_, last)| last.number),
                has_record: self.stray.is_some(),
            });
        }
        self.end = offset + u64::from(batch.length);
        self.greatest_number = self.greatest_number.max(batch.number);
        self.last = Some((offset, batch));
        (self.records, self.stray) = (0, None);
    }

    /// Takes a complete record at `offset`.
    pub(super) fn add_record(&mut self, offset: u64) {
        if self.last.is_some() && offset < self.end {
            self.records += 1;
        } else {
            self.stray.get_or_insert(offset);
        }
    }

    /// Notes records missing from the last batch, after all of it was read.
    pub(super) fn close(&mut self) {
        let Some((offset, BatchHeader { worker, number, records, .. })) = self.last else { return };
        let missing = records.saturating_sub(self.records);
        if missing > 0 {
            self.gaps.push(Gap::In { offset, worker, number, missing });
        }
        self.records = records;
    }

    /// Returns the places where something is missing, in order. `end_known` is the segment's end according to the manifest.
    pub(super) fn suspects(&self, durable: &Durable, end_known: u64) -> Vec<Suspect> {
        let suspect = |gap: &Gap| match *gap {
            Gap::Before { offset, worker, number, number_before, has_record } => Suspect {
                offset,
                what: DamageKind::BatchHeader,
                is_durable: number > number_before + 1 && durable.has(worker, number - 1),
                records: u64::from(!has_record),
            },
            Gap::In { offset, worker, number, missing } => Suspect {
                offset,
                what: DamageKind::Records,
                is_durable: durable.has(worker, number),
                records: u64::from(missing),
            },
        };
        let mut suspects: Vec<Suspect> = self.gaps.iter().map(suspect).collect();
        let what = DamageKind::BatchHeader;
        match (self.stray, self.last) {
            // The batch of that record had the next number. Only what the same run knew of that number counts: if the
            // batch was torn, a later run may have reused the number.
            (Some(stray), Some((_, last))) => {
                let is_durable = durable.has_of_life(last.worker, last.durable_from, last.number + 1);
                // Data known to the manifest begins where the complete batches end.
                let offset = if self.end < end_known { self.end } else { stray };
                suspects.push(Suspect { offset, what, is_durable, records: 0 });
            }
            _ if self.end < end_known => {
                suspects.push(Suspect { offset: self.end, what, is_durable: false, records: 0 });
            }
            _ => {}
        }
        suspects
    }
}
