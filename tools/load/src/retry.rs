//! Decides when a client may retry after a failed connection, and when to give up on the server.
//!
//! A failure is a connection that could not be made, or that the server ended before it accepted a message. Each client
//! pauses after a failure, longer each time. While no connection at all succeeds, all clients also share one backoff, so
//! that a refusing server sees a bounded number of attempts per second from any number of clients.

use std::time::Duration;

use mailrace_io::Instant;

/// The state that all clients share.
#[derive(Debug)]
pub(crate) struct Retry {
    patience: Duration,
    /// Start of the first failed attempt since the last success.
    failing_since: Option<Instant>,
    /// While failing: time of the next permitted attempt.
    next_attempt: Instant,
    /// While failing: attempts since the first failure.
    attempts: u32,
}

impl Retry {
    /// Creates a state that gives up after `patience` without a success.
    pub(crate) const fn new(patience: Duration) -> Self {
        Self { patience, failing_since: None, next_attempt: Instant::from_nanoseconds(0), attempts: 0 }
    }

    /// Returns when the next attempt may be made; `None`: at any time.
    pub(crate) fn next_attempt(&self) -> Option<Instant> {
        self.failing_since.map(|_| self.next_attempt)
    }

    /// Counts an attempt that is made now.
    pub(crate) fn attempted(&mut self, now: Instant, random: u64) {
        if self.failing_since.is_some() {
            self.next_attempt = now.after(jittered(doubled(self.attempts, PAUSE_MAX), random));
            self.attempts = self.attempts.saturating_add(1);
        }
    }

    /// Counts a failed attempt that began at `began`. Returns true when it is time to give up.
    pub(crate) fn failed(&mut self, began: Instant, now: Instant, random: u64) -> bool {
        let since = *self.failing_since.get_or_insert_with(|| {
            self.attempts = 0;
            self.next_attempt = now.after(jittered(PAUSE_MIN, random));
            began
        });
        now.since(since) >= self.patience
    }

    /// Records a success.
    pub(crate) const fn succeeded(&mut self) {
        self.failing_since = None;
    }

    /// Returns the time since the last success.
    pub(crate) fn failing_for(&self, now: Instant) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

/// Returns the pause of a client after `failures` consecutive failures, 1 for the first, while `failing` clients fail
/// (perhaps because the server has reached its connection limit with the others).
pub(crate) fn pause(failures: u32, failing: usize, random: u64) -> Duration {
    let failing = u32::try_from(failing).unwrap_or(u32::MAX);
    jittered(
        doubled(failures.saturating_sub(1), PAUSE_MAX.max(RETRY_INTERVAL.saturating_mul(failing))),
        random,
    )
}

fn doubled(times: u32, max: Duration) -> Duration {
    PAUSE_MIN.saturating_mul(2u32.saturating_pow(times)).min(max)
}

/// Returns a random time between three quarters of a pause and all of it, so that clients that failed together do not retry
/// together.
fn jittered(pause: Duration, random: u64) -> Duration {
    let quarter = pause / 4;
    let share = f64::from((random >> 32) as u32) / f64::from(u32::MAX);
    quarter * 3 + quarter.mul_f64(share)
}

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Mean interval between retries, for any number of failing clients.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: [u64; 3] = [0, u64::MAX / 3, u64::MAX];

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanoseconds(milliseconds * 1_000_000)
    }

    #[test]
    fn a_client_pauses_from_20_ms_to_a_second() {
        for random in RANDOM {
            for (failures, most) in
                [(1, 20), (2, 40), (3, 80), (6, 640), (7, 1000), (100, 1000), (u32::MAX, 1000)]
            {
                let pause = pause(failures, 1, random).as_millis();
                assert!((most * 3 / 4..=most).contains(&pause), "{failures}: {pause}");
            }
        }
    }

    #[test]
    fn all_clients_together_retry_at_most_a_hundred_times_per_second() {
        let pause = pause(u32::MAX, 4_000, 0);
        assert_eq!(pause, Duration::from_secs(30));
    }

    #[test]
    fn clients_share_one_pace_until_a_connection_succeeds() {
        let mut retry = Retry::new(Duration::from_secs(10));
        assert_eq!(retry.next_attempt(), None);
        let mut now = at(5);
        assert!(!retry.failed(at(1), now, 7));
        let mut attempts = 0;
        while now < at(10_000) {
            now = retry.next_attempt().unwrap();
            retry.attempted(now, u64::MAX / 2);
            // Of all others the failures come in, too.
            assert!(!retry.failed(now, now, 7) || now >= at(10_001));
            attempts += 1;
        }
        assert!((10..30).contains(&attempts), "{attempts}");
        retry.succeeded();
        assert_eq!(retry.next_attempt(), None);
    }

    #[test]
    fn patience_starts_at_the_first_failure_and_restarts_after_a_success() {
        let mut retry = Retry::new(Duration::from_secs(3));
        assert!(!retry.failed(at(0), at(100), 0));
        assert!(!retry.failed(at(2000), at(2999), 0));
        assert!(retry.failed(at(2000), at(3000), 0));
        assert_eq!(retry.failing_for(at(3000)), Duration::from_secs(3));
        retry.succeeded();
        assert!(!retry.failed(at(3000), at(3001), 0));
        // One that took that long has waited long enough.
        retry.succeeded();
        assert!(retry.failed(at(4000), at(34_000), 0));
    }
}
