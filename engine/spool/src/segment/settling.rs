//! Messages and marks that wait until their batches are durable, and those that have settled.

use std::collections::VecDeque;

use mailrace_core::QueueId;

use super::batch::Pending;
use crate::SpoolError;

/// A message whose write failed. Parts of it may be on the disk nevertheless.
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
    /// Messages in several batches, and copies of such, whose last batch is durable but an earlier one is not yet.
    pub(super) waiting: Vec<(u64, Pending)>,
    pub(super) settled: VecDeque<(u64, Result<(), SpoolError>)>,
    /// Messages whose write failed and whose removing mark is not written yet.
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

    /// Sorts the content of a durable batch: returns what settles with it; the rest waits for earlier batches.
    pub(super) fn durable(&mut self, number: u64, pending: Vec<Pending>) -> Vec<Pending> {
        let mut pending = pending;
        // A message in several batches, or a copy of one, is durable when the last of them is.
        let waits = |pending: &Pending| pending.first_batch().is_some_and(|first| first < number);
        self.waiting
            .extend(pending.extract_if(.., |pending| waits(pending)).map(|pending| (number, pending)));
        pending
    }

    /// Returns the next message in several batches whose batches have all ended, and whether it is durable. `first_open` is
    /// the first batch in progress.
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
