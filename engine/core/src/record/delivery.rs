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
use crate::{QueueId, Timestamp};

const RECIPIENTS: u8 = 1;
const OUTCOME: u8 = 2;
const ATTEMPTS: u8 = 3;
/// Of the next attempt, or of the last one.
const TIME: u8 = 4;
const STATUS: u8 = 5;
const TEXT: u8 = 6;
const REMOTE: u8 = 7;
const DIAGNOSTIC: u8 = 8;
/// Fields of the whole message, before all groups.
const REPORT: u8 = 9;
const WARNED: u8 = 10;

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

/// Why an attempt ended as it did, for the log, for listings and for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// Enhanced status code.
    pub status: Status,
    /// One line of text.
    pub text: Box<[u8]>,
    /// Name of the server that said so, for Remote-MTA (RFC 3464 §2.3.5); empty: none.
    pub remote: Box<[u8]>,
    /// What it said: the lines of its reply with LF between them; empty: it said nothing, and the text is our own.
    pub diagnostic: Box<[u8]>,
}

/// Why a recipient was not reached yet, and when the next attempt is due.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deferral {
    /// Time of the next attempt.
    pub until: Timestamp,
    /// Number of attempts so far.
    pub attempts: u32,
    /// What the last attempt met with.
    pub cause: Cause,
}

/// What a report says became of a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It failed for good.
    Failed,
    /// It is still being tried.
    Delayed,
    /// It is in its mailbox.
    Delivered,
    /// It was handed over to a server that sends no report.
    Relayed,
    /// It was replaced by other recipients.
    Expanded,
    /// A probe found that it could be delivered.
    Deliverable,
    /// A probe found that it could not be delivered.
    Undeliverable,
}

/// What the sender is to be told of a recipient.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// What became of it.
    pub action: Action,
    /// Time of the last attempt.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
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
    /// No further attempt follows, and a report about it is due.
    Due(Due),
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
    /// First recipient and number of recipients of each run, ascending; recipients count from 0 in the order of
    /// [`Envelope::numbered`](crate::Envelope::numbered).
    runs: Vec<(u32, u32)>,
    state: RecipientState,
}

/// What became of all recipients of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// None has the state [`RecipientState::Untried`]; no recipient is in two.
    groups: Vec<Group>,
    /// What a report is about that is being made, and its id: if a message has this id, those recipients have been reported.
    pub report: Option<(Action, QueueId)>,
    /// The sender was told of the delay, or would not be.
    pub is_warned: bool,
}

impl Progress {
    /// Returns the progress of a message whose recipients have these states, in the order of
    /// [`Envelope::numbered`](crate::Envelope::numbered).
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
        Ok(Self { groups, report: None, is_warned: false })
    }

    /// Returns the states of a message's `recipients`, in the order of
    /// [`Envelope::numbered`](crate::Envelope::numbered). `None`: the progress is of a message with more of them.
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

    /// Whether nothing is noted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.report.is_none() && !self.is_warned
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
        if let Some((action, id)) = self.report {
            let [b0, b1, b2, b3, b4, b5, b6, b7] = id.number().to_le_bytes();
            append_field(out, REPORT, &[action.letter(), b0, b1, b2, b3, b4, b5, b6, b7])?;
        }
        if self.is_warned {
            append_field(out, WARNED, &[])?;
        }
        for Group { runs, state } in &self.groups {
            let runs: Vec<u8> = runs
                .iter()
                .flat_map(|(first, count)| [first.to_le_bytes(), count.to_le_bytes()])
                .flatten()
                .collect();
            append_field(out, RECIPIENTS, &runs)?;
            match state {
                RecipientState::Untried => {}
                RecipientState::Done => append_field(out, OUTCOME, b"D")?,
                RecipientState::Reported => append_field(out, OUTCOME, b"R")?,
                RecipientState::Deferred(Deferral { until, attempts, cause }) => {
                    append_field(out, OUTCOME, b"W")?;
                    append_field(out, ATTEMPTS, &attempts.to_le_bytes())?;
                    append_field(out, TIME, &until.unix_microseconds().to_le_bytes())?;
                    cause.encode(out)?;
                }
                RecipientState::Due(Due { action, at, cause }) => {
                    append_field(out, OUTCOME, &[action.letter()])?;
                    append_field(out, TIME, &at.unix_microseconds().to_le_bytes())?;
                    cause.encode(out)?;
                }
            }
        }
        Ok(())
    }

    /// Reads what [`Progress::encode`] wrote; fields with other tags are skipped. `None`: it is damaged, or has an outcome
    /// of a later release.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut progress = Self::default();
        let mut open: Option<Fields> = None;
        while !bytes.is_empty() {
            let (tag, value, rest) = split_field(bytes)?;
            bytes = rest;
            match (tag, &mut open) {
                (RECIPIENTS, _) => {
                    if let Some(fields) = open.replace(Fields::of(value)?) {
                        progress.groups.push(fields.group()?);
                    }
                }
                (_, Some(fields)) => fields.take(tag, value)?,
                (REPORT, None) => {
                    let (letter, number) = value.split_first()?;
                    let number = u64::from_le_bytes(number.try_into().ok()?);
                    progress.report = Some((Action::of_letter(*letter)?, QueueId::from_number(number)));
                }
                (WARNED, None) => progress.is_warned = true,
                (_, None) => {}
            }
        }
        if let Some(fields) = open {
            progress.groups.push(fields.group()?);
        }
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

impl Cause {
    /// A cause of our own, with a status of this class, subject and detail.
    #[must_use]
    pub fn new(class: u8, subject: u16, detail: u16, text: impl Into<Vec<u8>>) -> Self {
        Self {
            status: Status { class, subject, detail },
            text: text.into().into_boxed_slice(),
            ..Self::default()
        }
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let Status { class, subject, detail } = self.status;
        let ([s0, s1], [d0, d1]) = (subject.to_le_bytes(), detail.to_le_bytes());
        append_field(out, STATUS, &[class, s0, s1, d0, d1])?;
        for (tag, value) in [(TEXT, &self.text), (REMOTE, &self.remote), (DIAGNOSTIC, &self.diagnostic)] {
            if !value.is_empty() {
                append_field(out, tag, value)?;
            }
        }
        Ok(())
    }
}

impl Action {
    /// The keyword, with those of Postfix for probes.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Deliverable => "deliverable",
            Self::Undeliverable => "undeliverable",
        }
    }

    const ALL: [(Self, u8); 7] = [
        (Self::Failed, b'F'),
        (Self::Delayed, b'Y'),
        (Self::Delivered, b'M'),
        (Self::Relayed, b'L'),
        (Self::Expanded, b'X'),
        (Self::Deliverable, b'V'),
        (Self::Undeliverable, b'U'),
    ];

    fn letter(self) -> u8 {
        let found = Self::ALL.into_iter().find(|(action, _)| *action == self);
        found.expect("each action has a letter").1
    }

    fn of_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, other)| *other == letter).map(|(action, _)| action)
    }
}

fn append_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) -> Result<(), TooLong> {
    let length = length_of(value)?.to_le_bytes();
    out.push(tag);
    out.extend_from_slice(&length);
    out.extend_from_slice(value);
    Ok(())
}

/// A group that is being read.
struct Fields {
    runs: Vec<(u32, u32)>,
    outcome: u8,
    attempts: u32,
    time: Timestamp,
    cause: Cause,
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
        is_whole.then(|| Self {
            runs,
            outcome: 0,
            attempts: 0,
            time: Timestamp::default(),
            cause: Cause::default(),
        })
    }

    /// Takes a field of the group; `None`: it is damaged.
    fn take(&mut self, tag: u8, value: &[u8]) -> Option<()> {
        match tag {
            OUTCOME => self.outcome = *value.first()?,
            ATTEMPTS => self.attempts = u32::from_le_bytes(value.try_into().ok()?),
            TIME => {
                let microseconds = u64::from_le_bytes(value.try_into().ok()?);
                self.time = Timestamp::from_unix_microseconds(microseconds);
            }
            STATUS => {
                let [class, s0, s1, d0, d1] = value.try_into().ok()?;
                let (subject, detail) = (u16::from_le_bytes([s0, s1]), u16::from_le_bytes([d0, d1]));
                self.cause.status = Status { class, subject, detail };
            }
            TEXT => self.cause.text = value.into(),
            REMOTE => self.cause.remote = value.into(),
            DIAGNOSTIC => self.cause.diagnostic = value.into(),
            _ => {}
        }
        Some(())
    }

    fn group(self) -> Option<Group> {
        let state = match self.outcome {
            b'D' => RecipientState::Done,
            b'R' => RecipientState::Reported,
            b'W' => {
                let Self { time: until, attempts, cause, .. } = self;
                RecipientState::Deferred(Deferral { until, attempts, cause })
            }
            letter => {
                let Self { time: at, cause, .. } = self;
                RecipientState::Due(Due { action: Action::of_letter(letter)?, at, cause })
            }
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

    fn cause(class: u8, detail: u16) -> Cause {
        Cause { status: Status { class, subject: 4, detail }, ..Cause::default() }
    }

    fn deferred(text: &[u8]) -> RecipientState {
        RecipientState::Deferred(Deferral {
            until: Timestamp::from_unix_microseconds(1_700_000_300_000_000),
            attempts: 3,
            cause: Cause { text: text.into(), ..cause(4, 1) },
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
                    cause: Cause { text: text.into(), ..cause(class, detail) },
                })
            }),
            (any::<u64>(), 0..Action::ALL.len(), 0..2u16).prop_map(|(at, action, detail)| {
                let (action, _) = Action::ALL[action];
                let at = Timestamp::from_unix_microseconds(at);
                let remote = b"mail.example.com"[..].into();
                let diagnostic = b"550 no\n550 such user"[..].into();
                let cause = Cause { remote, diagnostic, ..cause(5, detail) };
                RecipientState::Due(Due { action, at, cause })
            }),
        ]
    }

    proptest! {
        #[test]
        fn recipient_states_round_trip(
            states in vec_of(state(), 0..60),
            has_report: bool,
            is_warned: bool,
        ) {
            let mut progress = Progress::of(&states).unwrap();
            progress.report = has_report.then(|| (Action::Failed, QueueId::from_number(77)));
            progress.is_warned = is_warned;
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
