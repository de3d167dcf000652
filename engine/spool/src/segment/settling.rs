//! What waits until the batches that hold it are durable, and what has settled.

use std::collections::VecDeque;

use mailrace_core::QueueId;

use super::batch::Pending;
use crate::SpoolError;

/// A message whose write failed. Some of it may be on the disk all the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undone {
    pub(super) tag: u64,
    pub(super) id: QueueId,
    /// Sequence of the segment with its last record.
    pub(super) last: u64,
}

/// The order in which messages and marks settle.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// Numbers of batches whose write failed.
    pub(super) failed_batches: Vec<u64>,
    /// Messages in several batches, and copies of such, whose last batch is durable and an earlier one is not yet.
    pub(super) waiting: Vec<(u64, Pending)>,
    pub(super) settled: VecDeque<(u64, Result<(), SpoolError>)>,
    /// Messages whose write failed, for which no mark that takes them out of the queue is written yet.
    pub(super) undone: VecDeque<Undone>,
}

impl Settling {
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.undone.is_empty() && self.settled.is_empty()
    }

    /// Whether a batch from `first` on has failed.
    pub(super) fn has_failed_from(&self, first: u64) -> bool {
        self.failed_batches.iter().any(|number| *number >= first)
    }

    /// Sorts what a durable batch holds: what settles with it is returned, the rest waits for earlier batches.
    pub(super) fn durable(&mut self, number: u64, pending: Vec<Pending>) -> Vec<Pending> {
        let mut pending = pending;
        // A message or a copy of one in several batches is as durable as the last of them.
        let waits = |pending: &Pending| pending.first_batch().is_some_and(|first| first < number);
        self.waiting
            .extend(pending.extract_if(.., |pending| waits(pending)).map(|pending| (number, pending)));
        pending
    }

    /// The next message in several batches whose batches are all over, and whether it is durable. `first_open` is the
    /// first batch that is under way.
    pub(super) fn next_complete(&mut self, first_open: u64) -> Option<(Pending, bool)> {
        let complete = self
            .waiting
            .iter()
            .position(|(last, pending)| first_open > *last || self.has_lost(pending, *last))?;
        let (last, pending) = self.waiting.swap_remove(complete);
        let is_durable = !self.has_lost(&pending, last);
        Some((pending, is_durable))
    }

    /// Whether a batch with a part of a message that ends in batch `last` has failed.
    fn has_lost(&self, pending: &Pending, last: u64) -> bool {
        let Some(first) = pending.first_batch() else { return false };
        self.failed_batches.iter().any(|failed| (first..=last).contains(failed))
    }
}
