//! The memory of file writes: aligned, of fixed capacity, moved into an operation and back.

/// Alignment of a block's memory and of direct writes, in bytes.
pub const BLOCK_ALIGNMENT: usize = 4096;

/// Aligned memory of fixed capacity that is filled from the front.
pub struct Block {
    memory: Vec<u8>,
    /// Where the aligned part begins.
    start: usize,
    filled: usize,
    capacity: usize,
}

impl Block {
    /// `capacity` in bytes, rounded up to the alignment. The pages are touched at first use.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(BLOCK_ALIGNMENT);
        let memory = vec![0; capacity + BLOCK_ALIGNMENT];
        let start = memory.as_ptr().align_offset(BLOCK_ALIGNMENT);
        Self { memory, start, filled: 0, capacity }
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
    /// When they do not fit: the caller asks [`Block::room`] first.
    pub fn extend(&mut self, octets: &[u8]) {
        assert!(octets.len() <= self.room(), "block overflow");
        let at = self.start + self.filled;
        self.memory[at..at + octets.len()].copy_from_slice(octets);
        self.filled += octets.len();
    }

    /// Appends zeros up to a multiple of `alignment`, which divides the capacity.
    pub fn pad(&mut self, alignment: usize) {
        let end = self.filled.next_multiple_of(alignment).min(self.capacity);
        self.memory[self.start + self.filled..self.start + end].fill(0);
        self.filled = end;
    }

    /// What is filled.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.filled]
    }

    /// What is filled, for patching.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.filled]
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
