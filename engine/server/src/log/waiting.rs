//! Lines between the workers that wrote them and the thread that writes them out: bounded, without blocking either.
//!
//! Its primitives come from `super::sync`: `threads.rs` builds this file a second time over those of a model.

use std::sync::Arc;

use super::sync::{ArrayQueue, AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Bundles of lines that may wait.
const BUNDLES: usize = 4096;
/// Emptied memory that is kept.
const SPARE: usize = 64;

/// Lines that were handed over together.
#[derive(Debug)]
struct Bundle {
    lines: Vec<u8>,
    /// What of the room it takes.
    size: usize,
    counted: Option<Counted>,
}

impl AsRef<[u8]> for Bundle {
    fn as_ref(&self) -> &[u8] {
        &self.lines
    }
}

/// Bytes of a bundle whose writer keeps count of them.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    /// What the writer counts.
    pub(super) bytes: usize,
    /// Memory that it needs for that, beside the lines.
    pub(super) overhead: usize,
    /// Where the writer reports that they are written.
    pub(super) written: Arc<AtomicU64>,
}

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Waiting {
    bundles: ArrayQueue<Bundle>,
    /// Emptied memory, to be used again.
    spare: ArrayQueue<Vec<u8>>,
    octets: AtomicUsize,
    octets_max: usize,
    /// What a bundle takes of the room at least, so that it is used up before the places for bundles are.
    bundle_size_min: usize,
    lines_lost: AtomicU64,
    is_stopping: AtomicBool,
}

impl Waiting {
    /// An empty queue for at most `octets_max` bytes.
    pub(super) fn new(octets_max: usize) -> Self {
        Self::with_bundles(BUNDLES, octets_max)
    }

    /// The same, for at most `bundles` bundles.
    pub(super) fn with_bundles(bundles: usize, octets_max: usize) -> Self {
        Self {
            bundles: ArrayQueue::new(bundles),
            spare: ArrayQueue::new(bundles.min(SPARE)),
            octets: AtomicUsize::new(0),
            octets_max,
            bundle_size_min: octets_max / bundles,
            lines_lost: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Empty memory for the next lines.
    pub(super) fn spare(&self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a bundle of `lines` lines; drops and counts them when too much waits. Returns whether it took it.
    pub(super) fn hand_over(&self, bundle: Vec<u8>, lines: u64, counted: Option<Counted>) -> bool {
        let overhead = counted.as_ref().map_or(0, |counted| counted.overhead);
        let size = (bundle.len() + overhead).max(self.bundle_size_min);
        // Counted before it can be taken, so that the count is never less than what waits.
        let before = self.octets.fetch_add(size, Ordering::Relaxed);
        let has_room = before.checked_add(size).is_some_and(|octets| octets <= self.octets_max);
        let is_taken = has_room && self.bundles.push(Bundle { lines: bundle, size, counted }).is_ok();
        if !is_taken {
            self.octets.fetch_sub(size, Ordering::Relaxed);
            self.lose(lines);
        }
        is_taken
    }

    /// Counts lines that were dropped.
    pub(super) fn lose(&self, lines: u64) {
        self.lines_lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// What a bundle takes of the room at least.
    pub(super) const fn bundle_size_min(&self) -> usize {
        self.bundle_size_min
    }

    /// Bytes that wait, and bytes that may.
    pub(super) fn fill(&self) -> (usize, usize) {
        (self.octets.load(Ordering::Relaxed), self.octets_max)
    }

    /// The bundle that has waited for longest.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        let Bundle { lines, size, counted } = self.bundles.pop()?;
        self.octets.fetch_sub(size, Ordering::Relaxed);
        if let Some(Counted { bytes, written, .. }) = counted {
            written.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        Some(lines)
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
