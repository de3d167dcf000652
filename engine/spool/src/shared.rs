//! State that workers and the keeper of segments share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mailrace_io::Waker;

/// Written by one thread and read by others, none of which waits for it.
#[derive(Debug, Default)]
pub struct Shared {
    is_storage_low: AtomicBool,
    is_full: AtomicBool,
    free_octets: AtomicU64,
    segments: AtomicU64,
    /// The queue's directory is gone.
    is_gone: AtomicBool,
    trouble: Mutex<Option<String>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Shared {
    /// Whether MAIL must be refused for lack of space (452 4.3.1).
    #[must_use]
    pub fn is_storage_low(&self) -> bool {
        self.is_storage_low.load(Ordering::Relaxed)
    }

    /// Bytes free on the queue's file system when the keeper last looked.
    #[must_use]
    pub fn free_octets(&self) -> u64 {
        self.free_octets.load(Ordering::Relaxed)
    }

    /// Number of segment files.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    /// What prevents the queue from accepting mail, for the operator.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a worker that is woken when a segment is ready again.
    pub fn add_waker(&self, waker: Waker) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    pub(crate) fn wake(&self) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Waker::wake);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Notes whether segments can be created. Workers that wait for one are woken when none will come.
    pub(crate) fn set_full(&self, is_full: bool) {
        let was_full = self.is_full.swap(is_full, Ordering::Relaxed);
        if is_full && !was_full {
            self.wake();
        }
    }

    /// Whether writing is useless, because no process would find the data.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// Notes that the queue's directory is gone or back. Workers that wait for a segment are woken to refuse: while the
    /// directory is gone, the keeper creates none.
    pub(crate) fn set_gone(&self, is_gone: bool) {
        let was_gone = self.is_gone.swap(is_gone, Ordering::Relaxed);
        if is_gone && !was_gone {
            self.wake();
        }
    }

    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(crate) fn set_space(&self, free_octets: u64, is_low: bool) {
        self.free_octets.store(free_octets, Ordering::Relaxed);
        self.is_storage_low.store(is_low, Ordering::Relaxed);
    }

    pub(crate) fn set_segments(&self, segments: usize) {
        self.segments.store(segments as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn workers_are_woken_to_refuse_when_no_segment_will_come() {
        let (shared, wakes) = (Shared::default(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&wakes);
        shared.add_waker(Waker::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        shared.set_full(true);
        shared.set_full(true);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        shared.set_gone(true);
        shared.set_gone(true);
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        shared.set_gone(false);
        shared.set_full(false);
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }
}
