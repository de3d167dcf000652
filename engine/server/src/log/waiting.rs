//! Owns lines between the workers that wrote them and the thread that writes them out: bounded, and nobody waits.
//!
//! Its primitives come from `super::sync`: `threads.rs` builds this file a second time over those of a model.

use super::sync::{ArrayQueue, AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Bundles of lines that may wait.
const BUNDLES: usize = 4096;
/// Emptied memory that is kept.
const SPARE: usize = 64;

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Waiting {
    bundles: ArrayQueue<Vec<u8>>,
    /// Emptied memory, to be used again.
    spare: ArrayQueue<Vec<u8>>,
    octets: AtomicUsize,
    octets_max: usize,
    lines_lost: AtomicU64,
    is_stopping: AtomicBool,
}

impl Waiting {
    /// Nothing yet; so many octets may wait.
    pub(super) fn new(octets_max: usize) -> Self {
        Self::with_bundles(BUNDLES, octets_max)
    }

    /// The same, of so many bundles at most.
    pub(super) fn with_bundles(bundles: usize, octets_max: usize) -> Self {
        Self {
            bundles: ArrayQueue::new(bundles),
            spare: ArrayQueue::new(bundles.min(SPARE)),
            octets: AtomicUsize::new(0),
            octets_max,
            lines_lost: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Empty memory for the next lines.
    pub(super) fn spare(&self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a bundle of so many lines; drops and counts them when too much waits.
    pub(super) fn hand_over(&self, bundle: Vec<u8>, lines: u64) {
        let size = bundle.len();
        // Counted before it can be taken, so that the count is never less than what waits.
        let before = self.octets.fetch_add(size, Ordering::Relaxed);
        if before + size > self.octets_max || self.bundles.push(bundle).is_err() {
            self.octets.fetch_sub(size, Ordering::Relaxed);
            self.lines_lost.fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// The bundle that has waited for longest.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        let bundle = self.bundles.pop()?;
        self.octets.fetch_sub(bundle.len(), Ordering::Relaxed);
        Some(bundle)
    }

    /// Takes the memory of a bundle back.
    pub(super) fn give_back(&self, mut bundle: Vec<u8>) {
        bundle.clear();
        let _ = self.spare.push(bundle);
    }

    /// Lines that found no room, since the start.
    pub(super) fn lines_lost(&self) -> u64 {
        self.lines_lost.load(Ordering::Relaxed)
    }

    /// Nothing more will be handed over.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Whether all that will ever be handed over can be taken now.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}
