//! Sizes of a spool.

use crate::OpenError;

/// Sizes of a queue and of the memory that writes to it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Size of a segment in bytes: a multiple of 4096, at most 1 GiB.
    pub segment_size: u64,
    /// Segments kept ready for writing.
    pub spare_segments: usize,
    /// Emptied segments kept for reuse beyond those; further ones are removed.
    pub kept_segments: usize,
    /// Largest batch in bytes.
    pub block_size: usize,
    /// Blocks of a worker: being written and being filled.
    pub blocks: usize,
    /// Concurrent writes of a worker.
    pub writes_in_flight: usize,
    /// Bytes that stay free on the file system; below that, MAIL is refused (`queue_minfree`).
    pub queue_minfree: u64,
    /// Largest message; MAIL is also refused if less than 1.5 times this is free.
    pub message_size_limit: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            spare_segments: 2,
            kept_segments: 16,
            block_size: 1 << 20,
            blocks: 8,
            writes_in_flight: 4,
            queue_minfree: 0,
            message_size_limit: 10_240_000,
        }
    }
}

impl Settings {
    /// Checks the sizes against each other.
    ///
    /// # Errors
    /// [`OpenError::Settings`] with the contradiction.
    pub const fn check(&self) -> Result<(), OpenError> {
        if !self.segment_size.is_multiple_of(4096)
            || self.segment_size > 1 << 30
            || self.segment_size < 1 << 16
        {
            return Err(OpenError::Settings("segment_size is a multiple of 4096 between 64 KiB and 1 GiB"));
        }
        if self.block_size < 8192 || self.block_size as u64 > self.segment_size / 2 {
            return Err(OpenError::Settings("block_size is at least 8 KiB and at most half of segment_size"));
        }
        if self.writes_in_flight == 0 || self.blocks <= self.writes_in_flight || self.spare_segments == 0 {
            return Err(OpenError::Settings(
                "writes_in_flight and spare_segments are at least 1, and blocks is greater than writes_in_flight",
            ));
        }
        Ok(())
    }
}
