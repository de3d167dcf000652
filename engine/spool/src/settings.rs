//! Owns the sizes of a spool.

use crate::OpenError;

/// Sizes of a queue and of the memory that writes to it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Octets of a segment: a multiple of 4096, at most 1 GiB.
    pub segment_size: u64,
    /// Segments kept ready for writing.
    pub spare_segments: usize,
    /// Emptied segments kept for the next use beyond those; more are removed.
    pub kept_segments: usize,
    /// Octets of a batch at most.
    pub block_size: usize,
    /// Blocks of a worker: those under way and those that gather.
    pub blocks: usize,
    /// Writes of a worker under way at once.
    pub writes_in_flight: usize,
    /// Octets that stay free on the file system: below, MAIL is refused (`queue_minfree`).
    pub queue_minfree: u64,
    /// Largest message: free space below one and a half of it also refuses MAIL.
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
    /// Whether the sizes fit together.
    ///
    /// # Errors
    /// [`OpenError::Settings`], which says what does not.
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
