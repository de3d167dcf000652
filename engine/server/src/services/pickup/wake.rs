//! What the pickup's thread is woken by beside the maildrop: states of messages, and the end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the thread; costs a system call only if it sleeps.
#[derive(Clone, Debug)]
pub(super) struct Wake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    is_asleep: AtomicBool,
    is_stopping: AtomicBool,
    event: OwnedFd,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner {
            is_asleep: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            event,
        })))
    }

    /// Something has changed that the thread looks at before it sleeps.
    pub(super) fn wake(&self) {
        // Pairs with [`Wake::falls_asleep`]: either this sees that it sleeps, or the thread sees the change.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.0.is_asleep.swap(false, Ordering::SeqCst) {
            // The counter is far from full: each sleep is woken once.
            let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
        }
    }

    /// The thread is to end.
    pub(super) fn stop(&self) {
        self.0.is_stopping.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::SeqCst)
    }

    /// Called before the thread looks for the last time at what may have changed, and then polls [`Wake::event`].
    pub(super) fn falls_asleep(&self) {
        self.0.is_asleep.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Called when it is awake again.
    pub(super) fn is_awake(&self) {
        self.0.is_asleep.store(false, Ordering::SeqCst);
        // Nothing to read is nothing to do.
        let _ = rustix::io::read(&self.0.event, &mut [0_u8; 8]);
    }

    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
