//! What happened in a world, in order: its digest always, its events if they are to be read.

use std::fmt;

use crate::Instant;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    at: Instant,
    /// With a `{}` for each number.
    what: &'static str,
    numbers: [u64; 3],
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.at.nanoseconds();
        write!(formatter, "{:>6}.{:06} ", nanoseconds / 1_000_000_000, nanoseconds / 1000 % 1_000_000)?;
        let mut numbers = self.numbers.iter();
        for (index, text) in self.what.split("{}").enumerate() {
            if index > 0 {
                write!(formatter, "{}", numbers.next().copied().unwrap_or(0))?;
            }
            formatter.write_str(text)?;
        }
        Ok(())
    }
}

/// All that happened.
#[derive(Clone, Debug)]
pub struct Trace {
    digest: u64,
    events: Option<Vec<Event>>,
}

impl Trace {
    /// Of nothing yet. `is_kept`: the events, not only their digest.
    pub(super) fn new(is_kept: bool) -> Self {
        Self { digest: 0, events: is_kept.then(Vec::new) }
    }

    pub(super) fn note(&mut self, at: Instant, what: &'static str, numbers: [u64; 3]) {
        for number in [at.nanoseconds(), what.len() as u64].into_iter().chain(numbers) {
            self.digest = (self.digest ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        if let Some(events) = self.events.as_mut() {
            events.push(Event { at, what, numbers });
        }
    }

    /// A number that two traces share only if the same happened in both.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// The events, if they were kept.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        self.events.as_deref().unwrap_or_default()
    }
}
