//! The times at which connections are examined again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use mailrace_io::Instant;

/// Deadlines by connection slot, checked late rather than kept exact: a slot has one standing entry, which is
/// moved when it expires too early, so that activity costs nothing here.
#[derive(Debug)]
pub(super) struct Timers {
    entries: BinaryHeap<Reverse<Entry>>,
    /// Whether the slot has its standing entry, which outlives its connection.
    is_standing: Vec<bool>,
    /// The earliest other time at which the slot is examined; the end of time: none.
    once: Vec<Instant>,
}

/// Times and slots, and whether each is the slot's standing entry.
type Entry = (Instant, u32, bool);

impl Timers {
    pub(super) fn new(slots: usize) -> Self {
        Self { entries: BinaryHeap::new(), is_standing: vec![false; slots], once: vec![NEVER; slots] }
    }

    /// Ensures that the slot is examined within the connections' timeout after `deadline`.
    pub(super) fn stand(&mut self, slot: u32, deadline: Instant) {
        let standing = &mut self.is_standing[slot as usize];
        if !*standing {
            *standing = true;
            self.entries.push(Reverse((deadline, slot, true)));
        }
    }

    /// Examines the slot once at `time`, in addition to its standing entry. Only the earliest such time is kept per slot: a
    /// caller that needs a later one asks again when it has come.
    pub(super) fn once(&mut self, slot: u32, time: Instant) {
        let once = &mut self.once[slot as usize];
        if time < *once {
            *once = time;
            self.entries.push(Reverse((time, slot, false)));
        }
    }

    /// Returns the time of the next entry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((time, ..))| *time)
    }

    /// Takes a slot whose time has come. The caller examines it and calls [`Timers::stand`] if it is still in use.
    pub(super) fn due(&mut self, now: Instant) -> Option<u32> {
        let Reverse((time, ..)) = self.entries.peek()?;
        if *time > now {
            return None;
        }
        let Reverse((time, slot, is_standing)) = self.entries.pop()?;
        self.is_standing[slot as usize] &= !is_standing;
        if !is_standing && self.once[slot as usize] == time {
            self.once[slot as usize] = NEVER;
        }
        Some(slot)
    }
}

const NEVER: Instant = Instant::from_nanoseconds(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stands_once_and_comes_up_in_time() {
        let at = Instant::from_nanoseconds;
        let mut timers = Timers::new(4);
        timers.stand(2, at(10));
        timers.stand(2, at(20));
        timers.once(1, at(5));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.due(at(4)), None);
        assert_eq!(timers.due(at(10)), Some(1));
        assert_eq!(timers.due(at(10)), Some(2));
        assert_eq!(timers.due(at(100)), None);
        timers.stand(2, at(30));
        assert_eq!(timers.next(), Some(at(30)));
    }

    #[test]
    fn a_slot_is_looked_at_besides_at_the_earliest_time_only() {
        let at = Instant::from_nanoseconds;
        let mut timers = Timers::new(2);
        for time in [50, 60, 50, 40, 70] {
            timers.once(1, at(time));
        }
        assert_eq!(timers.entries.len(), 2);
        assert_eq!(timers.due(at(40)), Some(1));
        timers.once(1, at(70));
        assert_eq!(timers.due(at(50)), Some(1), "what was asked for before comes early");
        assert_eq!(timers.next(), Some(at(70)));
    }

    #[test]
    fn looking_once_leaves_the_standing_entry_alone() {
        let at = Instant::from_nanoseconds;
        let mut timers = Timers::new(1);
        timers.stand(0, at(1000));
        for time in 1..100 {
            timers.once(0, at(time));
            assert_eq!(timers.due(at(time)), Some(0));
            timers.stand(0, at(1000 + time));
        }
        assert_eq!(timers.entries.len(), 1);
        assert_eq!(timers.next(), Some(at(1000)));
    }
}
