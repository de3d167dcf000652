//! Bounds the number of log lines of a kind, so that events that a remote client can cause endlessly do not fill the log.
//!
//! The first lines of a kind in each period are written, further ones are counted, and the count is logged when the period
//! is over. Time comes in as an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Counts lines by their kind.
#[derive(Debug)]
pub(crate) struct LineLimit<K> {
    kinds: BTreeMap<K, Period>,
    lines_max: u32,
    period: Duration,
    kinds_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl<K: Ord + Clone> LineLimit<K> {
    /// At most `lines_max` lines of a kind in a `period`; at most `kinds_max` kinds in that time, and no lines of others.
    pub(crate) const fn new(lines_max: u32, period: Duration, kinds_max: usize) -> Self {
        Self { kinds: BTreeMap::new(), lines_max, period, kinds_max }
    }

    /// Whether a line of this kind may be written now; if not, it is counted.
    pub(crate) fn admits(&mut self, kind: &K, now: Instant) -> bool {
        let Some(period) = self.kinds.get_mut(kind) else {
            let has_room = self.kinds.len() < self.kinds_max;
            if has_room {
                self.kinds.insert(kind.clone(), Period { began: now, lines: 1, left_out: 0 });
            }
            return has_room;
        };
        let may = period.lines < self.lines_max;
        if may {
            period.lines += 1;
        } else {
            period.left_out += 1;
        }
        may
    }

    /// Ends the periods that are over; the kinds of which lines were left out, and how many.
    pub(crate) fn ended(&mut self, now: Instant) -> Vec<(K, u64)> {
        let length = self.period;
        let mut left_out = Vec::new();
        self.kinds.retain(|kind, period| {
            let is_over = now.saturating_duration_since(period.began) >= length;
            if is_over && period.left_out > 0 {
                left_out.push((kind.clone(), period.left_out));
            }
            !is_over
        });
        left_out
    }

    /// When a period ends of which lines were left out.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        let cut = self.kinds.values().filter(|period| period.left_out > 0);
        cut.map(|period| period.began + self.period).min()
    }
}

#[cfg(test)]
mod tests;
