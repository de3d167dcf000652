//! Output of the passes, as slices.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::Part;

/// Content for the queue. Adjacent slices of the input are merged.
pub(super) struct Output<'a> {
    slices: ArenaVec<'a, &'a [u8]>,
    input: &'a [u8],
    /// Range of the input that is not yet in `slices`.
    pending: core::ops::Range<usize>,
}

impl<'a> Output<'a> {
    pub(super) fn new(arena: &'a Bump, input: &'a [u8]) -> Self {
        Self { slices: ArenaVec::with_capacity_in(8, arena), input, pending: 0..0 }
    }

    /// Keeps a range of the input unchanged.
    pub(super) fn keep(&mut self, start: usize, end: usize) {
        if self.pending.end == start {
            self.pending.end = end;
        } else {
            self.settle();
            self.pending = start..end;
        }
    }

    /// Appends bytes that a pass has produced.
    pub(super) fn write(&mut self, octets: &'a [u8]) {
        if !octets.is_empty() {
            self.settle();
            self.slices.push(octets);
        }
    }

    fn settle(&mut self) {
        let pending = core::mem::replace(&mut self.pending, 0..0);
        if let Some(octets) = self.input.get(pending)
            && !octets.is_empty()
        {
            self.slices.push(octets);
        }
    }

    /// Returns the output for `consumed` bytes of the input.
    pub(super) fn part(mut self, consumed: usize, is_done: bool) -> Part<'a> {
        self.settle();
        Part { consumed, is_done, output: self.slices }
    }
}
