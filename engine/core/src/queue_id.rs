//! Owns the queue id: the name of a queued message in replies, logs and commands.

use core::fmt;

use crate::Timestamp;

/// Characters of a queue id in ascending order: Postfix's alphabet of long queue ids, without vowels.
const ALPHABET: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

/// Bytes of a queue id's text.
pub const QUEUE_ID_SIZE: usize = 12;

/// Bits of the number that tell the worker.
const WORKER_BITS: u32 = 10;

/// A message's id, unique in its queue: microseconds of the Unix epoch and the worker that took it.
///
/// Its text has [`QUEUE_ID_SIZE`] letters and digits and sorts by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(u64);

impl QueueId {
    /// Greatest worker number.
    pub const WORKER_MAX: u16 = (1 << WORKER_BITS) - 1;

    /// The id of a message that `worker` (at most [`QueueId::WORKER_MAX`]) took at `time`.
    ///
    /// The caller keeps `time` strictly increasing for each worker; see [`QueueIdSource`].
    #[must_use]
    pub fn new(time: Timestamp, worker: u16) -> Self {
        let worker = u64::from(worker.min(Self::WORKER_MAX));
        Self((time.unix_microseconds() << WORKER_BITS) | worker)
    }

    /// Returns the number as it is in queue records.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number as it is in queue records.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// When the id was given out, to the microsecond.
    #[must_use]
    pub const fn time(self) -> Timestamp {
        Timestamp::from_unix_microseconds(self.0 >> WORKER_BITS)
    }

    /// Reads the text form; `None` unless it is exactly that.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != QUEUE_ID_SIZE {
            return None;
        }
        let mut number: u64 = 0;
        for octet in text {
            let digit = ALPHABET.iter().position(|letter| letter == octet)?;
            number = number.checked_mul(52)?.checked_add(digit as u64)?;
        }
        Some(Self(number))
    }

    /// The text form: [`QUEUE_ID_SIZE`] bytes of letters and digits.
    #[must_use]
    pub fn text(self) -> [u8; QUEUE_ID_SIZE] {
        let mut text = [b'0'; QUEUE_ID_SIZE];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            let digit = usize::try_from(rest % 52).unwrap_or(0);
            *place = ALPHABET.get(digit).copied().unwrap_or(b'0');
            rest /= 52;
        }
        text
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().iter().try_for_each(|octet| fmt::Write::write_char(formatter, char::from(*octet)))
    }
}

/// Gives out queue ids for one worker; none twice, also when the clock stands still or goes back.
#[derive(Debug)]
pub struct QueueIdSource {
    worker: u16,
    last: Timestamp,
}

impl QueueIdSource {
    /// `after`: the greatest time found in the ids that the queue already holds.
    #[must_use]
    pub const fn new(worker: u16, after: Timestamp) -> Self {
        Self { worker, last: after }
    }

    /// The next id, at `now` or as soon after it as uniqueness asks.
    pub fn next(&mut self, now: Timestamp) -> QueueId {
        let next = Timestamp::from_unix_microseconds(self.last.unix_microseconds() + 1);
        self.last = now.max(next);
        QueueId::new(self.last, self.worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_round_trips_and_sorts_by_time() {
        let early = QueueId::new(Timestamp::from_unix_microseconds(1_795_486_990_086_482), 3);
        let late = QueueId::new(Timestamp::from_unix_microseconds(1_795_486_990_086_483), 0);
        assert_eq!(QueueId::parse(&early.text()), Some(early));
        assert!(early.to_string() < late.to_string());
        assert_eq!(early.time().unix_microseconds(), 1_795_486_990_086_482);
    }

    #[test]
    fn rejects_invalid_ids() {
        for text in ["", "0", "00000000000A", "zzzzzzzzzzzz", "0000000000000", "00000000000-"] {
            assert_eq!(QueueId::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ids_stay_unique_when_the_clock_goes_back() {
        let mut source = QueueIdSource::new(1, Timestamp::from_unix_microseconds(100));
        let first = source.next(Timestamp::from_unix_microseconds(50));
        let second = source.next(Timestamp::from_unix_microseconds(50));
        let third = source.next(Timestamp::from_unix_microseconds(1000));
        assert!(first < second && second < third);
        assert_eq!(third.time().unix_microseconds(), 1000);
    }
}
