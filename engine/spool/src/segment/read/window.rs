//! Bytes of a segment in memory.

use mailrace_core::record::spool::Location;

/// The bytes that were read last.
#[derive(Debug, Default)]
pub(super) struct Window {
    sequence: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) const fn new(sequence: u64, offset: u64, bytes: Vec<u8>) -> Self {
        Self { sequence, offset, bytes }
    }

    /// The `length` bytes at `place`, if all of them are here.
    pub(super) fn at(&self, place: Location, length: usize) -> Option<&[u8]> {
        if place.sequence != self.sequence {
            return None;
        }
        let start = usize::try_from(u64::from(place.offset).checked_sub(self.offset)?).ok()?;
        self.bytes.get(start..start.checked_add(length)?)
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the memory for the next read.
    pub(super) fn take_memory(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
