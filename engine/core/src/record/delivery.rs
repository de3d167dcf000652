//! What became of each recipient of a queued message, as the payload of a mark.
//!
//! A mark holds the whole state of its message, so that only the latest one counts and no earlier one has to be kept.
//! Recipients with the same outcome share one group: a thousand recipients that a dead next hop deferred take one text.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::envelope::split_field;
use super::{TooLong, length_of};
use crate::Timestamp;

const RECIPIENTS: u8 = 1;
const OUTCOME: u8 = 2;
const ATTEMPTS: u8 = 3;
const NEXT_ATTEMPT: u8 = 4;
const STATUS: u8 = 5;
const TEXT: u8 = 6;

/// Bytes of a range of recipients: the first one and their number, four bytes each.
const RANGE_SIZE: usize = 8;

/// An enhanced status code: class, subject and detail (RFC 3463, section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// At most 999.
    pub subject: u16,
    /// At most 999.
    pub detail: u16,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// Why a recipient was not reached yet, and when the next attempt is due.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deferral {
    /// Time of the next attempt.
    pub until: Timestamp,
    /// Number of attempts so far.
    pub attempts: u32,
    /// Status of the last attempt.
    pub status: Status,
    /// What the last attempt met with, for the log, for listings and for reports.
    pub text: Box<[u8]>,
}

/// What became of a recipient of a queued message.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecipientState {
    /// No attempt has ended.
    #[default]
    Untried,
    /// Delivered, relayed, expanded or discarded: nothing is left to do.
    Done,
    /// The last attempt failed; there will be another one.
    Deferred(Deferral),
    /// Failed for good, and the sender has been informed where that was asked for.
    Reported,
}

impl RecipientState {
    /// Whether a delivery is still to be attempted.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Untried | Self::Deferred(_))
    }
}

/// The recipients of a message that share a state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    /// First recipient and number of recipients of each run, ascending; recipients count from 0 in the envelope's order.
    runs: Vec<(u32, u32)>,
    state: RecipientState,
}

/// What became of all recipients of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// None has the state [`RecipientState::Untried`]; no recipient is in two.
    groups: Vec<Group>,
}

impl Progress {
    /// Returns the progress of a message whose recipients have these states, in the order of its envelope.
    ///
    /// # Errors
    /// [`TooLong`]: more than 2^32 recipients.
    pub fn of<'a>(states: impl IntoIterator<Item = &'a RecipientState>) -> Result<Self, TooLong> {
        let mut groups: Vec<Group> = Vec::new();
        let mut places: BTreeMap<&RecipientState, usize> = BTreeMap::new();
        for (number, state) in states.into_iter().enumerate() {
            let number = u32::try_from(number).map_err(|_| TooLong)?;
            if *state == RecipientState::Untried {
                continue;
            }
            let place = *places.entry(state).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => match group.runs.last_mut() {
                    Some((first, count)) if *first + *count == number => *count += 1,
                    _ => group.runs.push((number, 1)),
                },
                None => groups.push(Group { runs: alloc::vec![(number, 1)], state: state.clone() }),
            }
        }
        Ok(Self { groups })
    }

    /// Returns the states of a message's `recipients`, in the order of its envelope. `None`: the progress is of a message
    /// with more of them.
    #[must_use]
    pub fn states(&self, recipients: usize) -> Option<Vec<&RecipientState>> {
        let mut states = alloc::vec![&RecipientState::Untried; recipients];
        for group in &self.groups {
            for (first, count) in &group.runs {
                let run = usize::try_from(*first).ok()?..usize::try_from(first.checked_add(*count)?).ok()?;
                states.get_mut(run)?.fill(&group.state);
            }
        }
        Some(states)
    }

    /// Whether no recipient was tried.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns the time of the earliest attempt that is due, among the recipients that were tried.
    #[must_use]
    pub fn next_attempt(&self) -> Option<Timestamp> {
        let deferred = self.groups.iter().filter_map(|group| match &group.state {
            RecipientState::Deferred(deferral) => Some(deferral.until),
            _ => None,
        });
        deferred.min()
    }

    /// Appends the encoded progress: fields of a tag, a length and a value. The fields of a group follow its recipients.
    ///
    /// # Errors
    /// [`TooLong`]: then only a part of it is appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        for Group { runs, state } in &self.groups {
            let mut field = |tag: u8, value: &[u8]| {
                out.push(tag);
                out.extend_from_slice(&length_of(value)?.to_le_bytes());
                out.extend_from_slice(value);
                Ok(())
            };
            let runs: Vec<u8> = runs
                .iter()
                .flat_map(|(first, count)| [first.to_le_bytes(), count.to_le_bytes()])
                .flatten()
                .collect();
            field(RECIPIENTS, &runs)?;
            match state {
                RecipientState::Untried => {}
                RecipientState::Done => field(OUTCOME, b"D")?,
                RecipientState::Reported => field(OUTCOME, b"R")?,
                RecipientState::Deferred(Deferral { until, attempts, status, text }) => {
                    field(OUTCOME, b"W")?;
                    field(ATTEMPTS, &attempts.to_le_bytes())?;
                    field(NEXT_ATTEMPT, &until.unix_microseconds().to_le_bytes())?;
                    let Status { class, subject, detail } = *status;
                    let ([s0, s1], [d0, d1]) = (subject.to_le_bytes(), detail.to_le_bytes());
                    field(STATUS, &[class, s0, s1, d0, d1])?;
                    if !text.is_empty() {
                        field(TEXT, text)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads what [`Progress::encode`] wrote; fields with other tags are skipped. `None`: it is damaged, or has an outcome
    /// of a later release.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut groups = Vec::new();
        let mut open: Option<Fields> = None;
        while !bytes.is_empty() {
            let (tag, value, rest) = split_field(bytes)?;
            bytes = rest;
            if tag == RECIPIENTS {
                if let Some(fields) = open.replace(Fields::of(value)?) {
                    groups.push(fields.group()?);
                }
                continue;
            }
            let fields = open.as_mut()?;
            match tag {
                OUTCOME => fields.outcome = *value.first()?,
                ATTEMPTS => fields.deferral.attempts = u32::from_le_bytes(value.try_into().ok()?),
                NEXT_ATTEMPT => {
                    let microseconds = u64::from_le_bytes(value.try_into().ok()?);
                    fields.deferral.until = Timestamp::from_unix_microseconds(microseconds);
                }
                STATUS => {
                    let [class, s0, s1, d0, d1] = value.try_into().ok()?;
                    let (subject, detail) = (u16::from_le_bytes([s0, s1]), u16::from_le_bytes([d0, d1]));
                    fields.deferral.status = Status { class, subject, detail };
                }
                TEXT => fields.deferral.text = value.into(),
                _ => {}
            }
        }
        if let Some(fields) = open {
            groups.push(fields.group()?);
        }
        let progress = Self { groups };
        progress.is_disjoint().then_some(progress)
    }

    /// Whether no recipient is in two runs.
    fn is_disjoint(&self) -> bool {
        let mut runs: Vec<(u32, u32)> = self.groups.iter().flat_map(|group| &group.runs).copied().collect();
        runs.sort_unstable();
        let mut end = 0;
        runs.into_iter().all(|(first, count)| {
            let follows = first >= end;
            first.checked_add(count).is_some_and(|next| {
                end = next;
                follows
            })
        })
    }
}

/// A group that is being read.
struct Fields {
    runs: Vec<(u32, u32)>,
    outcome: u8,
    deferral: Deferral,
}

impl Fields {
    fn of(value: &[u8]) -> Option<Self> {
        let (runs, rest) = value.as_chunks::<RANGE_SIZE>();
        let runs: Vec<(u32, u32)> = runs
            .iter()
            .map(|[f0, f1, f2, f3, c0, c1, c2, c3]| {
                (u32::from_le_bytes([*f0, *f1, *f2, *f3]), u32::from_le_bytes([*c0, *c1, *c2, *c3]))
            })
            .collect();
        let is_whole = rest.is_empty() && !runs.is_empty() && runs.iter().all(|(_, count)| *count > 0);
        is_whole.then(|| Self { runs, outcome: 0, deferral: Deferral::default() })
    }

    fn group(self) -> Option<Group> {
        let state = match self.outcome {
            b'D' => RecipientState::Done,
            b'R' => RecipientState::Reported,
            b'W' => RecipientState::Deferred(self.deferral),
            _ => return None,
        };
        Some(Group { runs: self.runs, state })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::collection::vec as vec_of;
    use proptest::prelude::*;

    use super::*;

    fn deferred(text: &[u8]) -> RecipientState {
        RecipientState::Deferred(Deferral {
            until: Timestamp::from_unix_microseconds(1_700_000_300_000_000),
            attempts: 3,
            status: Status { class: 4, subject: 4, detail: 1 },
            text: text.into(),
        })
    }

    fn encoded(progress: &Progress) -> Vec<u8> {
        let mut out = Vec::new();
        progress.encode(&mut out).unwrap();
        out
    }

    fn state() -> impl Strategy<Value = RecipientState> {
        let deferral = (any::<u64>(), any::<u32>(), 2..=5u8, 0..1000u16, vec_of(any::<u8>(), 0..5));
        prop_oneof![
            Just(RecipientState::Untried),
            Just(RecipientState::Done),
            Just(RecipientState::Reported),
            Just(deferred(b"connection refused")),
            deferral.prop_map(|(until, attempts, class, detail, text)| {
                RecipientState::Deferred(Deferral {
                    until: Timestamp::from_unix_microseconds(until),
                    attempts,
                    status: Status { class, subject: 4, detail },
                    text: text.into(),
                })
            }),
        ]
    }

    proptest! {
        #[test]
        fn recipient_states_round_trip(states in vec_of(state(), 0..60)) {
            let progress = Progress::of(&states).unwrap();
            let read = Progress::decode(&encoded(&progress)).unwrap();
            prop_assert_eq!(&read, &progress);
            prop_assert_eq!(read.states(states.len()).unwrap(), states.iter().collect::<Vec<_>>());
            let tried = states.iter().rposition(|state| *state != RecipientState::Untried);
            prop_assert_eq!(tried.and_then(|last| read.states(last)), None, "a recipient too few");
            let due = states.iter().filter_map(|state| match state {
                RecipientState::Deferred(deferral) => Some(deferral.until),
                _ => None,
            });
            prop_assert_eq!(read.next_attempt(), due.min());
        }

        #[test]
        fn parses_any_input_without_a_panic(bytes in vec_of(any::<u8>(), 0..80)) {
            if let Some(progress) = Progress::decode(&bytes) {
                prop_assert!(progress.is_disjoint());
            }
        }
    }

    #[test]
    fn recipients_that_share_an_outcome_share_its_text() {
        let mut states = vec![deferred(&[b'x'; 200]); 1000];
        states[500] = RecipientState::Done;
        let progress = Progress::of(&states).unwrap();
        assert_eq!(progress.groups.len(), 2);
        assert!(encoded(&progress).len() < 300);
    }

    #[test]
    fn rejects_invalid_progress() {
        let whole = encoded(&Progress::of(&[RecipientState::Done, deferred(b"text")]).unwrap());
        assert!(Progress::decode(&whole).is_some());
        for end in 1..whole.len() {
            let cut = Progress::decode(&whole[..end]);
            // A cut between two fields leaves fields; what it lost is never taken for done.
            let second = cut.as_ref().and_then(|cut| cut.states(2)).map(|states| states[1]);
            assert_ne!(second, Some(&RecipientState::Done), "cut at {end}");
        }
        let run = |first: u32, count: u32| [first.to_le_bytes(), count.to_le_bytes()].concat();
        let group = |runs: &[u8], outcome: u8| {
            let length = u32::try_from(runs.len()).unwrap().to_le_bytes();
            [&[RECIPIENTS][..], &length, runs, &[OUTCOME, 1, 0, 0, 0, outcome]].concat()
        };
        assert!(Progress::decode(&group(&run(0, 2), b'D')).is_some());
        let twice = [group(&run(0, 2), b'D'), group(&run(1, 1), b'R')].concat();
        assert_eq!(Progress::decode(&twice), None, "a recipient with two outcomes");
        assert_eq!(Progress::decode(&group(&run(0, 0), b'D')), None, "a run of none");
        assert_eq!(Progress::decode(&group(&run(u32::MAX, 2), b'D')), None, "a run past the last number");
        assert_eq!(Progress::decode(&group(&run(0, 1), b'?')), None, "an outcome of a later release");
        assert_eq!(Progress::decode(&group(&[], b'D')), None, "a group of no recipient");
        let later = [&[99, 1, 0, 0, 0, 7][..]].concat();
        let with_later = [group(&run(0, 1), b'D'), later].concat();
        assert_eq!(Progress::decode(&with_later).unwrap().states(1).unwrap(), [&RecipientState::Done]);
    }
}
