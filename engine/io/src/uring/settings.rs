//! What a ring is made with.

/// Sizes of one worker's ring; all memory is bounded by them.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections at once: the size of the table of direct descriptors. At most RLIMIT_NOFILE.
    pub connections: u32,
    /// Number of receive buffers: a power of two, at most 32768.
    pub receive_buffers: u16,
    /// Bytes of each. Where the kernel has incremental buffers (6.12) many pieces share one.
    pub receive_buffer_size: u32,
    /// Entries of the submission queue: a power of two.
    pub submission_entries: u32,
    /// Entries of the completion queue: a power of two.
    pub completion_entries: u32,
}

impl Default for Settings {
    /// 4 MiB of receive buffers: the measured size that never ran dry with 64 busy clients.
    fn default() -> Self {
        Self {
            connections: 16_384,
            receive_buffers: 16,
            receive_buffer_size: 256 * 1024,
            submission_entries: 1024,
            completion_entries: 16_384,
        }
    }
}
