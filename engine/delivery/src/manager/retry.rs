//! When a deferred message is tried again (Postfix's qmgr_message_done).

use std::time::Duration;

use mailrace_core::Timestamp;

/// How long a deferred message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Shortest wait, and how long a dead destination is left alone (`minimal_backoff_time`).
    pub minimal_backoff_time: Duration,
    /// Longest wait (`maximal_backoff_time`).
    pub maximal_backoff_time: Duration,
}

impl RetrySettings {
    /// When a message that arrived at `arrival` and was deferred now is tried again. It waits as long as it has waited
    /// already, so that its age, not the number of attempts, decides.
    #[must_use]
    pub fn next_attempt(&self, arrival: Timestamp, now: Timestamp) -> Timestamp {
        let age = Duration::from_micros(now.unix_microseconds().saturating_sub(arrival.unix_microseconds()));
        later(now, age.min(self.maximal_backoff_time).max(self.minimal_backoff_time))
    }
}

/// The time this much later; stays at the end of time.
pub(super) fn later(time: Timestamp, duration: Duration) -> Timestamp {
    let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_unix_microseconds(time.unix_microseconds().saturating_add(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_microseconds(seconds * 1_000_000)
    }

    #[test]
    fn the_wait_doubles_with_the_age_between_its_bounds() {
        let settings = RetrySettings {
            minimal_backoff_time: Duration::from_secs(300),
            maximal_backoff_time: Duration::from_secs(4000),
        };
        let mut now = at(1000);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let next = settings.next_attempt(at(1000), now);
            waits.push(next.unix_seconds() - now.unix_seconds());
            now = next;
        }
        assert_eq!(waits, [300, 300, 600, 1200, 2400, 4000, 4000, 4000]);
        assert_eq!(settings.next_attempt(at(9000), at(1000)), at(1300), "a clock that was set back");
        let end = Timestamp::from_unix_microseconds(u64::MAX);
        assert_eq!(settings.next_attempt(at(0), end), end);
    }
}
