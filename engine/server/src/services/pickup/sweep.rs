//! The walk through the whole maildrop, a slice at a time: at the start, after events were lost, and every minute.
//!
//! Whatever number of entries there is, a slice is short, and the walks take a bounded share of the thread's time.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::Dir;

/// Entries of a slice.
const SLICE: usize = 1024;
/// How often the directory is walked through when nothing is known to have been missed.
pub(super) const PERIOD: Duration = Duration::from_secs(60);
/// The pause before a periodic walk is at least this multiple of the time that the last one took.
const REST: u32 = 20;
/// The same of a walk for something that was missed.
const REST_MISSED: u32 = 3;

#[derive(Debug)]
pub(super) struct Sweep {
    walk: Option<Walk>,
    /// Something was missed.
    is_wanted: bool,
    ended: Option<Instant>,
    /// How long the last one took.
    took: Duration,
}

#[derive(Debug)]
struct Walk {
    entries: Dir,
    began: Instant,
}

impl Sweep {
    pub(super) const fn new() -> Self {
        Self { walk: None, is_wanted: true, ended: None, took: Duration::ZERO }
    }

    /// Something was missed: walks again after the walk that is under way.
    pub(super) const fn want(&mut self) {
        self.is_wanted = true;
    }

    /// When there is something to do.
    pub(super) fn due(&self, now: Instant) -> Instant {
        match (&self.walk, self.ended) {
            (Some(_), _) | (None, None) => now,
            (None, Some(ended)) if self.is_wanted => ended + self.took * REST_MISSED,
            (None, Some(ended)) => ended + PERIOD.max(self.took * REST),
        }
    }

    /// Whether the next slice begins a walk.
    pub(super) const fn is_between(&self) -> bool {
        self.walk.is_none()
    }

    /// The names of the next slice; empty when the walk has ended.
    ///
    /// # Errors
    /// The directory cannot be read; that ends the walk.
    pub(super) fn slice(&mut self, directory: impl AsFd, now: Instant) -> rustix::io::Result<Vec<Vec<u8>>> {
        let names = self.read(directory, now);
        if names.as_ref().map_or(true, Vec::is_empty) {
            self.took = self.walk.take().map_or(Duration::ZERO, |walk| walk.began.elapsed());
            self.ended = Some(Instant::now());
        }
        names
    }

    fn read(&mut self, directory: impl AsFd, now: Instant) -> rustix::io::Result<Vec<Vec<u8>>> {
        let walk = match &mut self.walk {
            Some(walk) => walk,
            None => {
                self.is_wanted = false;
                self.ended = Some(now);
                self.walk.insert(Walk { entries: Dir::read_from(directory)?, began: now })
            }
        };
        let mut names = Vec::new();
        for entry in walk.entries.by_ref().take(SLICE) {
            names.push(entry?.file_name().to_bytes().to_vec());
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::maildrop::tests::queue;

    #[test]
    fn a_sweep_returns_all_entries_in_slices() {
        let (directory, maildrop) = queue("sweep");
        let count = 2 * SLICE + 7;
        (0..count).for_each(|number| drop(File::create(maildrop.path().join(number.to_string())).unwrap()));
        let file = File::open(maildrop.path()).unwrap();
        let mut sweep = Sweep::new();
        let start = Instant::now();
        for _ in 0..2 {
            let mut names = Vec::new();
            assert!(sweep.is_between() && sweep.due(start) <= Instant::now());
            loop {
                let slice = sweep.slice(&file, Instant::now()).unwrap();
                assert!(slice.len() <= SLICE);
                if slice.is_empty() {
                    break;
                }
                names.extend(slice);
            }
            names.sort_unstable();
            names.dedup();
            // With `.` and `..`.
            assert_eq!(names.len(), count + 2);
            assert!(sweep.due(start) >= start + PERIOD, "nothing was missed");
            sweep.want();
            sweep.took = Duration::ZERO;
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn sweeps_take_a_limited_share_of_the_time() {
        let now = Instant::now();
        let mut sweep =
            Sweep { walk: None, is_wanted: true, ended: Some(now), took: Duration::from_secs(30) };
        assert_eq!(sweep.due(now), now + Duration::from_secs(90));
        sweep.is_wanted = false;
        assert_eq!(sweep.due(now), now + Duration::from_secs(600));
    }
}
