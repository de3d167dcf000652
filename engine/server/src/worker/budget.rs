//! Owns what a worker knows of the room that clients fill: memory, and the disk under the spool.

use mailrace_io::Instant;

/// What is short, and until when something is tried against it.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// New messages are refused for want of room on the disk.
    pub(super) is_storage_low: bool,
    /// Octets free on the queue's file system for each worker; zero: unknown.
    pub(super) free_octets: u64,
    /// No memory is left for more: nothing is read until there is.
    pub(super) is_choked: bool,
    /// More memory is in use than all may have: those that hold more than their share are held back.
    pub(super) is_pressed: bool,
    /// When clients are to have made room.
    pub(super) choke_ends_at: Instant,
    /// When memory may be taken back from clients again.
    pub(super) relief_at: Instant,
}
