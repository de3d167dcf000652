//! When a deferred message is tried again, and for how long (Postfix's qmgr_message_done, qmgr_active_done).

use std::time::Duration;

use mailrace_core::Timestamp;

/// How long a deferred message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Shortest wait, and how long a dead destination is left alone (`minimal_backoff_time`).
    pub minimal_backoff_time: Duration,
    /// Longest wait (`maximal_backoff_time`).
    pub maximal_backoff_time: Duration,
    /// How old a message may get (`maximal_queue_lifetime`).
    pub maximal_queue_lifetime: Duration,
    /// How old a message without a sender may get (`bounce_queue_lifetime`).
    pub bounce_queue_lifetime: Duration,
}

impl RetrySettings {
    /// When a message that arrived at `arrival` and was deferred now is tried again. It waits as long as it has waited
    /// already, so that its age, not the number of attempts, decides.
    #[must_use]
    pub fn next_attempt(&self, arrival: Timestamp, now: Timestamp) -> Timestamp {
        later(now, age(arrival, now).min(self.maximal_backoff_time).max(self.minimal_backoff_time))
    }

    /// Whether a message that arrived at `arrival` is too old for another attempt.
    #[must_use]
    pub fn is_expired(&self, arrival: Timestamp, has_sender: bool, now: Timestamp) -> bool {
        let lifetime = if has_sender { self.maximal_queue_lifetime } else { self.bounce_queue_lifetime };
        age(arrival, now) >= lifetime
    }
}

/// Time since `arrival`; zero for a clock that was set back.
pub(super) fn age(arrival: Timestamp, now: Timestamp) -> Duration {
    Duration::from_micros(now.unix_microseconds().saturating_sub(arrival.unix_microseconds()))
}

/// The time this much later; stays at the end of time.
pub(super) fn later(time: Timestamp, duration: Duration) -> Timestamp {
    let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_unix_microseconds(time.unix_microseconds().saturating_add(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: RetrySettings = RetrySettings {
        minimal_backoff_time: Duration::from_secs(300),
        maximal_backoff_time: Duration::from_secs(4000),
        maximal_queue_lifetime: Duration::from_secs(1000),
        bounce_queue_lifetime: Duration::ZERO,
    };

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_microseconds(seconds * 1_000_000)
    }

    #[test]
    fn the_wait_doubles_with_the_age_between_its_bounds() {
        let mut now = at(1000);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let next = SETTINGS.next_attempt(at(1000), now);
            waits.push(next.unix_seconds() - now.unix_seconds());
            now = next;
        }
        assert_eq!(waits, [300, 300, 600, 1200, 2400, 4000, 4000, 4000]);
        assert_eq!(SETTINGS.next_attempt(at(9000), at(1000)), at(1300), "a clock that was set back");
        let end = Timestamp::from_unix_microseconds(u64::MAX);
        assert_eq!(SETTINGS.next_attempt(at(0), end), end);
    }

    #[test]
    fn expires_at_the_lifetime_of_its_kind() {
        assert!(!SETTINGS.is_expired(at(1000), true, at(1999)));
        assert!(SETTINGS.is_expired(at(1000), true, at(2000)));
        assert!(SETTINGS.is_expired(at(1000), false, at(1000)), "one attempt");
    }
}
