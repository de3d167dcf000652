//! What each [`Io`](crate::Io) over the operating system takes from it alike: clocks, random bits, and the
//! descriptor that ends a wait.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::EventfdFlags;

use crate::{Instant, Waker};

/// The monotonic clock.
pub(crate) fn monotonic() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_nanoseconds(seconds * 1_000_000_000 + nanoseconds)
}

/// Microseconds since the Unix epoch.
pub(crate) fn wall_clock() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// Random bits that spread retries and salts; keys come from elsewhere.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by the system.
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(0) | 1)
    }

    /// The next ones (xorshift64*).
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// An eventfd to which other threads write.
pub(crate) struct WakeDescriptor(Arc<OwnedFd>);

impl WakeDescriptor {
    pub(crate) fn new() -> std::io::Result<Self> {
        let descriptor = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(descriptor)))
    }

    /// What writes to it.
    pub(crate) fn waker(&self) -> Waker {
        let descriptor = Arc::clone(&self.0);
        Waker::new(move || {
            // It fails only when the counter is full: then the thread is being woken anyway.
            let _ = rustix::io::write(&*descriptor, &1u64.to_ne_bytes());
        })
    }

    /// Takes note of all wakes so far.
    pub(crate) fn clear(&self) {
        // Nothing is there to read when another thread's wake was counted with the last one.
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }
}

impl AsFd for WakeDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
