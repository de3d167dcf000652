//! The memory of file writes: aligned, of fixed capacity, moved into an operation and back.

use crate::operation::Serial;

/// Alignment of a block's memory and of direct writes, in bytes.
pub const BLOCK_ALIGNMENT: usize = 4096;

/// Aligned memory of fixed capacity that is filled from the front.
pub struct Block {
    memory: Memory,
    /// Where the aligned part begins.
    start: usize,
    filled: usize,
    capacity: usize,
}

enum Memory {
    /// The block's own.
    Own(Vec<u8>),
    /// Memory of a ring, which lasts as long as the process.
    Lasting(&'static mut [u8], Option<Registration>),
}

/// The place of a block among the buffers that are registered with a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) ring: Serial,
    pub(crate) index: u16,
}

impl Block {
    /// `capacity` in bytes, rounded up to the alignment. The pages are touched at first use.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(BLOCK_ALIGNMENT);
        let memory = vec![0; capacity + BLOCK_ALIGNMENT];
        let start = memory.as_ptr().align_offset(BLOCK_ALIGNMENT);
        Self { memory: Memory::Own(memory), start, filled: 0, capacity }
    }

    /// A block of all of this memory, which is aligned.
    pub(crate) fn lasting(memory: &'static mut [u8], registration: Option<Registration>) -> Self {
        let capacity = memory.len();
        let is_aligned = memory.as_ptr().align_offset(BLOCK_ALIGNMENT) == 0;
        assert!(is_aligned && capacity.is_multiple_of(BLOCK_ALIGNMENT), "a block is aligned");
        Self { memory: Memory::Lasting(memory, registration), start: 0, filled: 0, capacity }
    }

    /// Returns its place among the registered buffers of a ring.
    pub(crate) const fn registration(&self) -> Option<Registration> {
        match self.memory {
            Memory::Lasting(_, registration) => registration,
            Memory::Own(_) => None,
        }
    }

    fn memory(&self) -> &[u8] {
        match &self.memory {
            Memory::Own(memory) => memory,
            Memory::Lasting(memory, _) => memory,
        }
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Own(memory) => memory,
            Memory::Lasting(memory, _) => memory,
        }
    }

    /// Capacity in bytes.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of bytes filled.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing is filled.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Number of bytes that still fit.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.capacity - self.filled
    }

    /// Forgets what is filled.
    pub const fn clear(&mut self) {
        self.filled = 0;
    }

    /// Forgets what is filled past `length`.
    pub const fn truncate(&mut self, length: usize) {
        if length < self.filled {
            self.filled = length;
        }
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// The bytes do not fit: the caller checks [`Block::room`] first.
    pub fn extend(&mut self, octets: &[u8]) {
        assert!(octets.len() <= self.room(), "block overflow");
        let at = self.start + self.filled;
        self.memory_mut()[at..at + octets.len()].copy_from_slice(octets);
        self.filled += octets.len();
    }

    /// Appends zeros up to a multiple of `alignment`, which divides the capacity.
    pub fn pad(&mut self, alignment: usize) {
        let end = self.filled.next_multiple_of(alignment).min(self.capacity);
        let (from, to) = (self.start + self.filled, self.start + end);
        self.memory_mut()[from..to].fill(0);
        self.filled = end;
    }

    /// What is filled.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.memory()[self.start..self.start + self.filled]
    }

    /// What is filled, for patching.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        let (from, to) = (self.start, self.start + self.filled);
        &mut self.memory_mut()[from..to]
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Block({} of {})", self.filled, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_padding_is_zero() {
        let mut block = Block::new(5000);
        assert_eq!(block.capacity(), 8192);
        block.extend(&[7; 4097]);
        assert_eq!(block.filled().as_ptr().align_offset(BLOCK_ALIGNMENT), 0);
        block.clear();
        block.extend(b"x");
        block.pad(BLOCK_ALIGNMENT);
        assert_eq!(block.len(), 4096);
        assert!(block.filled()[1..].iter().all(|octet| *octet == 0));
    }

    #[test]
    #[should_panic(expected = "block overflow")]
    fn overflow_is_refused() {
        Block::new(4096).extend(&[0; 4097]);
    }
}
