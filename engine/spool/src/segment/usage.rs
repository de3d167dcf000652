//! What a spool holds at a moment, so that a test can tell whether all of it is needed.

use mailrace_core::QueueId;
use mailrace_core::record::spool::Location;
use mailrace_io::Disk;

use super::batch::Pending;
use super::index::Entry;
use super::spool::SegmentSpool;
use crate::Usage;
use crate::segment::moves::Stage;

/// A segment of a spool, and the segments for which it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its sequence.
    pub sequence: u64,
    /// Sequences of the segments whose messages its marks are about: it is not emptied before all of these are.
    pub marks_about: Vec<u64>,
}

impl<D: Disk> SegmentSpool<D> {
    /// The segments that were not returned to the keeper, for tests.
    pub fn holdings(&self) -> impl Iterator<Item = Holding> + '_ {
        let segments = self.segments.table.iter();
        segments.map(|(sequence, segment)| Holding {
            sequence: *sequence,
            marks_about: segment.uses.marks.clone(),
        })
    }

    /// The message that is being moved, for tests.
    #[must_use]
    pub fn moving(&self) -> Option<QueueId> {
        match self.moves.stage.as_ref()? {
            Stage::Noting { id, .. } => Some(*id),
            Stage::Reading { draft, .. } => Some(draft.id),
            Stage::Writing => {
                let batches = self.writer.batches();
                let pending = batches.flat_map(|batch| &batch.pending);
                let mut pending = pending.chain(self.settling.waiting.iter().map(|(_, pending)| pending));
                pending.find_map(|pending| match pending {
                    Pending::Move { id, .. } => Some(*id),
                    _ => None,
                })
            }
        }
    }

    /// What the spool holds. It visits all messages for each segment, so it is for tests.
    pub(super) fn usage_now(&self) -> Usage {
        let gathers_nothing = self.writer.batches().any(|batch| batch.records == 0);
        let batches = self.writer.batches();
        let pending: usize = batches.map(|batch| batch.pending.len()).sum();
        let of_queue = |sequence: u64| {
            let has_part = |(_, entry): &(QueueId, Entry)| (entry.first..=entry.last).contains(&sequence);
            let is_there = |(_, place): &(QueueId, Location)| place.sequence == sequence;
            self.index.iter().filter(has_part).count() + self.index.all_progress().filter(is_there).count()
        };
        let parts = self
            .segments
            .table
            .iter()
            .map(|(sequence, segment)| segment.uses.parts.abs_diff(of_queue(*sequence)));
        Usage {
            blocks: self.writer.blocks_in_use() - usize::from(gathers_nothing),
            unsettled: pending
                + self.settling.waiting.len()
                + self.settling.undone.len()
                + self.settling.settled.len(),
            parts_of_drafts: parts.sum(),
            is_moving: self.moves.stage.is_some(),
        }
    }
}
