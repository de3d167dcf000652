//! The interface to the kernel: operations in, completions out.
//!
//! An engine is generic over [`Io`]. [`uring`] is the usual one and has the workspace's only `unsafe`
//! code; [`epoll`] runs where io_uring is forbidden; [`sim`] is a simulated kernel for tests, with faults from a seed or
//! as a test orders them. Memory that an operation needs is **moved** into it and comes back with
//! its completion ([`Block`] for files, `Vec<u8>` for sends), so that the compiler checks that nothing is
//! accessed while the kernel uses it. Received bytes stay in the kernel's buffers and are lent as a [`Piece`]
//! until [`Io::recycle`].
//!
//! Time and randomness come through the same interface, so that a simulated engine can be replayed from a seed.
//! Rare, blocking operations (open, create, list, remove) go through [`Disk`], never on a worker's hot path.
#![deny(unsafe_code)]

mod block;
#[cfg(test)]
mod conformance;
mod disk;
pub mod epoll;
mod error;
mod files;
mod operation;
pub mod sim;
mod slab;
mod system;
pub mod uring;

pub use block::{BLOCK_ALIGNMENT, Block};
pub use disk::{Disk, FileKind, OsDisk, OsFile};
pub use error::IoError;
pub use operation::{
    Completion, ConnectionId, Endpoint, FileId, Operation, Piece, ReceiveEnd, SOME, Token, UNIX_PATH_SIZE_MAX,
};

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

    /// Returns a file; no operation on it may be in progress.
    fn detach(&mut self, file: FileId) -> <Self::Disk as Disk>::File;

    /// Returns blocks of `capacity` bytes that this kernel writes at less cost than those of [`Block::new`], where it can.
    /// It has them once.
    fn blocks(&mut self, count: usize, capacity: usize) -> Vec<Block> {
        std::iter::repeat_with(|| Block::new(capacity)).take(count).collect()
    }

    /// Queues an operation; its completions carry `token`. It is started by the next [`Io::wait`] at the latest.
    fn submit(&mut self, token: Token, operation: Operation);

    /// Starts what was queued, and waits until something completed, `deadline` passed or a [`Waker`] woke it.
    ///
    /// Completions are appended to `completions` in the order in which they came. A deadline in the past
    /// makes this a poll.
    ///
    /// # Errors
    /// [`IoError`] if the interface itself failed; the engine cannot continue.
    fn wait(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> Result<(), IoError>;

    /// Returns the bytes of a received piece that is not recycled yet.
    fn received(&self, piece: &Piece) -> &[u8];

    /// Gives back a received piece.
    fn recycle(&mut self, piece: Piece);

    /// Returns the current monotonic time.
    fn now(&mut self) -> Instant;

    /// Returns the wall-clock time in microseconds since the Unix epoch.
    fn wall_clock(&mut self) -> u64;

    /// Returns random bits.
    fn random(&mut self) -> u64;

    /// Returns a handle with which another thread ends [`Io::wait`] early.
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
