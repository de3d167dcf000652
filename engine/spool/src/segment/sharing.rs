//! Shares what a start found out between the workers: messages, and the segments that they need.
//!
//! Segments that depend on each other stay together: those of one message, those of its earlier copies, those of a mark and
//! of what the mark is about. So what marks a message done is always kept by the worker that also keeps the message. As each
//! worker writes segments of its own, most depend on no other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use mailrace_core::QueueId;

use super::index::Index;
use super::segments::Segment;

/// What one worker continues with.
pub(crate) struct Share<F> {
    pub(crate) index: Index,
    /// By sequence.
    pub(crate) segments: BTreeMap<u64, Segment<F>>,
    /// Sequences of segments with an earlier last record of a message that was moved.
    pub(crate) moved: HashMap<QueueId, Vec<u64>>,
}

impl<F> Share<F> {
    fn empty() -> Self {
        Self { index: Index::default(), segments: BTreeMap::new(), moved: HashMap::new() }
    }

    /// Splits it between `workers`: about as many messages for each, as far as their segments allow.
    pub(crate) fn split(self, workers: usize) -> Vec<Self> {
        let (worker_of, messages) = self.assign(workers);
        if messages.first() == Some(&self.index.messages()) {
            // Nothing to copy.
            let mut shares = vec![self];
            shares.resize_with(workers, Self::empty);
            return shares;
        }
        let with_room = |count: &u64| Self { index: Index::with_capacity(*count), ..Self::empty() };
        let mut shares: Vec<Self> = messages.iter().map(with_room).collect();
        let Self { index, segments, moved } = self;
        for (id, entry) in index.iter() {
            let share = share_of(&mut shares, &worker_of, entry.last);
            share.index.insert(id, entry);
            if let Some(place) = index.progress(id) {
                share.index.set_progress(id, place);
            }
        }
        for (id, copies) in moved {
            if let Some(entry) = index.get(id) {
                share_of(&mut shares, &worker_of, entry.last).moved.insert(id, copies);
            }
        }
        for (sequence, segment) in segments {
            share_of(&mut shares, &worker_of, sequence).segments.insert(sequence, segment);
        }
        shares
    }

    /// The worker of each segment, and the number of messages of each worker.
    fn assign(&self, workers: usize) -> (HashMap<u64, usize>, Vec<u64>) {
        let mut groups = self.groups();
        let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, entry) in self.index.iter() {
            *sizes.entry(groups.of(entry.last)).or_default() += 1;
        }
        let mut largest_first: Vec<(Reverse<u64>, u64)> =
            sizes.into_iter().map(|(group, count)| (Reverse(count), group)).collect();
        largest_first.sort_unstable();
        let mut messages = vec![0u64; workers];
        let mut worker_of_group = HashMap::new();
        for (Reverse(count), group) in largest_first {
            let least = messages.iter_mut().enumerate().min_by_key(|(_, messages)| **messages);
            if let Some((worker, messages)) = least {
                *messages += count;
                worker_of_group.insert(group, worker);
            }
        }
        // Segments that no message needs are freed soon, or are damaged: the first worker keeps them.
        let mut worker_of = HashMap::new();
        for sequence in self.segments.keys() {
            let worker = worker_of_group.get(&groups.of(*sequence)).copied().unwrap_or_default();
            worker_of.insert(*sequence, worker);
        }
        (worker_of, messages)
    }

    /// Segments that depend on each other.
    fn groups(&self) -> Groups {
        let mut groups = Groups::default();
        for (id, entry) in self.index.iter() {
            // A message counts as a part of each segment in between.
            if entry.first < entry.last {
                let between = self.segments.range(entry.first..=entry.last);
                between.for_each(|(sequence, _)| groups.join(*sequence, entry.last));
            }
            if let Some(place) = self.index.progress(id) {
                groups.join(place.sequence, entry.last);
            }
        }
        for (id, copies) in &self.moved {
            if let Some(entry) = self.index.get(*id) {
                copies.iter().for_each(|copy| groups.join(*copy, entry.last));
            }
        }
        for (sequence, segment) in &self.segments {
            segment.uses.marks.iter().for_each(|target| groups.join(*sequence, *target));
        }
        groups
    }
}

/// The share of the worker that a segment is given to.
fn share_of<'a, F>(
    shares: &'a mut [Share<F>],
    worker_of: &HashMap<u64, usize>,
    sequence: u64,
) -> &'a mut Share<F> {
    let worker = worker_of.get(&sequence).copied().unwrap_or_default();
    shares.get_mut(worker).expect("each segment is given to a worker that is there")
}

/// Disjoint sets of sequences. One that was joined with no other is a set of its own.
#[derive(Default)]
struct Groups {
    /// A greater sequence of the same set.
    parents: HashMap<u64, u64>,
}

impl Groups {
    /// Returns the sequence that names the set.
    fn of(&mut self, sequence: u64) -> u64 {
        let mut root = sequence;
        while let Some(parent) = self.parents.get(&root) {
            root = *parent;
        }
        // The next search of these is shorter.
        let mut at = sequence;
        while at != root {
            match self.parents.insert(at, root) {
                Some(next) => at = next,
                None => break,
            }
        }
        root
    }

    fn join(&mut self, one: u64, other: u64) {
        let (one, other) = (self.of(one), self.of(other));
        if one != other {
            self.parents.insert(one.min(other), one.max(other));
        }
    }
}
