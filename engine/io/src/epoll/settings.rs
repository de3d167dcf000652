//! What an [`EpollIo`](super::EpollIo) is made with.

/// Sizes of one worker's `Io`; all memory is bounded by them.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections at once. Each has a descriptor: the limit of open files must leave room for all workers'.
    pub connections: u32,
    /// Number of receive buffers.
    pub receive_buffers: u16,
    /// Bytes of each; many pieces share one.
    pub receive_buffer_size: u32,
    /// Writes and reads of files under way at once, each on a thread of its own; more wait their turn. At least 1.
    pub writers: usize,
}

impl Default for Settings {
    /// The sizes of the ring's buffers, and as many writers as a spool has writes under way.
    fn default() -> Self {
        Self { connections: 16_384, receive_buffers: 16, receive_buffer_size: 256 * 1024, writers: 4 }
    }
}
