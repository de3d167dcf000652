//! What a worker knows about the room that clients fill: memory, and the disk under the spool.

use mailrace_io::Instant;

/// Resources that are short, and until when remedies are tried.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// New messages are refused because the disk lacks room.
    pub(super) is_storage_low: bool,
    /// Bytes free on the queue's file system for each worker; zero: unknown.
    pub(super) free_octets: u64,
    /// No memory is left, so nothing is read until there is.
    pub(super) is_choked: bool,
    /// More memory is in use than shared out: clients that hold more than their share are held back.
    pub(super) is_pressed: bool,
    /// Time by which clients must have made room.
    pub(super) choke_ends_at: Instant,
    /// Time from which memory may be reclaimed from clients again.
    pub(super) relief_at: Instant,
}
