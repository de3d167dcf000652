//! The one narrow seam to the kernel: operations in, completions out.
//!
//! An engine is generic over [`Io`]. [`uring`] is the real one and holds the workspace's only `unsafe`
//! code; [`epoll`] serves where io_uring may not run; [`memory`] lives in memory for tests, and [`sim`] is a
//! world in which everything goes wrong. Memory that an operation needs is **moved** into it and comes back with
//! its completion ([`Block`] for files, `Vec<u8>` for sends), so that the compiler checks that nothing is
//! touched while the kernel has it. What was received stays where the kernel put it and is lent as a [`Piece`]
//! until [`Io::recycle`].
//!
//! Time and randomness come through the same seam, so that a simulated engine repeats itself from a seed.
//! What blocks and is rare (open, create, list, remove) goes through [`Disk`], never on a worker's hot path.
#![deny(unsafe_code)]

mod block;
#[cfg(test)]
mod conformance;
mod disk;
pub mod epoll;
mod error;
mod files;
pub mod memory;
mod operation;
pub mod sim;
mod slab;
mod system;
pub mod uring;

pub use block::{BLOCK_ALIGNMENT, Block};
pub use disk::{Disk, FileKind, OsDisk, OsFile};
pub use error::IoError;
pub use operation::{Completion, ConnectionId, FileId, Operation, Piece, ReceiveEnd, SOME, Token};

use std::time::Duration;

/// A monotonic time in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// `nanoseconds` since the start.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// This much later; stays at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this; zero if it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The kernel as one worker sees it.
///
/// Not shared between threads: each worker has its own.
pub trait Io {
    /// The files of this kernel.
    type Disk: Disk;

    /// Makes an open file usable in operations. The file stays open until [`Io::detach`].
    fn attach(&mut self, file: <Self::Disk as Disk>::File) -> FileId;

    /// Gives a file back; no operation on it may be under way.
    fn detach(&mut self, file: FileId) -> <Self::Disk as Disk>::File;

    /// Queues an operation; its completions carry `token`. It is started by the next [`Io::wait`] at the latest.
    fn submit(&mut self, token: Token, operation: Operation);

    /// Starts what was queued, and waits until something completed, `deadline` passed or a [`Waker`] woke it.
    ///
    /// Completions are appended to `completions` in the order in which they came. A deadline in the past
    /// makes this a poll.
    ///
    /// # Errors
    /// [`IoError`] when the seam itself failed; the engine cannot go on.
    fn wait(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> Result<(), IoError>;

    /// The bytes of a piece that was received and not yet recycled.
    fn received(&self, piece: &Piece) -> &[u8];

    /// Gives a received piece back.
    fn recycle(&mut self, piece: Piece);

    /// The time now.
    fn now(&mut self) -> Instant;

    /// The wall clock, in microseconds since the Unix epoch.
    fn wall_clock(&mut self) -> u64;

    /// Random bits.
    fn random(&mut self) -> u64;

    /// A handle with which another thread ends [`Io::wait`] early.
    fn waker(&self) -> Waker;
}

/// Ends another thread's [`Io::wait`].
#[derive(Clone)]
pub struct Waker(std::sync::Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(wake))
    }

    /// Wakes the thread, now or at its next wait.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Waker")
    }
}
