//! The account: what was promised before a cut against what is left after it.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Fate, Identity, Letter, Presence, Snapshot};

/// A message that was found in the queue.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its queue id.
    pub id: String,
    /// The identity that it carries, if any.
    pub identity: Option<Identity>,
    /// Whether envelope and content are byte for byte what was sent.
    pub is_whole: bool,
    /// Whether it is parked.
    pub is_held: bool,
}

/// Result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Accepted messages that must be present.
    pub expected: u64,
    /// Deleted messages that had to be gone.
    pub deleted: u64,
    /// Messages of which no reply was read, and that are there.
    pub doubtful_there: u64,
    /// The same, and they are not there.
    pub doubtful_absent: u64,
    /// What must not be, with the messages.
    pub faults: BTreeMap<Fault, Vec<String>>,
}

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Accepted, not deleted, and not there.
    Lost,
    /// There more than once.
    Doubled,
    /// Not what was sent, or under another queue id.
    Damaged,
    /// It was not sent, not to its end, or it was refused.
    Unknown,
    /// The command said that it was deleted.
    Returned,
    /// On hold without a request, or no longer on hold.
    Misplaced,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Lost, Self::Doubled, Self::Damaged, Self::Unknown, Self::Returned, Self::Misplaced];

    const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "duplicated",
            Self::Damaged => "damaged",
            Self::Unknown => "unknown",
            Self::Returned => "returned",
            Self::Misplaced => "misplaced",
        }
    }
}

impl Account {
    /// `before`: what was known before the cut began. `after`: what was known after its end. `found`: what was left.
    #[must_use]
    pub fn new(before: &Snapshot, after: &Snapshot, run: u32, found: &[Found]) -> Self {
        let mut account = Self::default();
        let mut places: BTreeMap<u32, &Found> = BTreeMap::new();
        for message in found {
            let Some(identity) = message.identity.filter(|identity| identity.run == run) else {
                account.fault(Fault::Unknown, format!("{}, whoever sent it", message.id));
                continue;
            };
            if places.insert(identity.number, message).is_some() {
                account.fault(Fault::Doubled, format!("{identity} ({})", message.id));
            }
            if !message.is_whole {
                account.fault(Fault::Damaged, format!("{identity} ({})", message.id));
            }
        }
        for (number, last) in after.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let first = before.get(number as usize);
            account.letter(Identity { run, number }, first, last, places.remove(&number));
        }
        for (number, message) in places {
            account.fault(Fault::Unknown, format!("{number} ({})", message.id));
        }
        account
    }

    fn letter(&mut self, identity: Identity, first: Option<&Letter>, last: &Letter, found: Option<&Found>) {
        let name = || match (found, &last.fate) {
            (Some(found), _) => format!("{identity} ({})", found.id),
            (None, Fate::Accepted(id)) => format!("{identity} ({id})"),
            (None, _) => identity.to_string(),
        };
        let unknown = Letter::new();
        let first = first.unwrap_or(&unknown);
        let is_accepted = matches!(first.fate, Fate::Accepted(_));
        // Deleted before the cut, by itself or with all others.
        if first.standing.presence() == Presence::Never && (is_accepted || first.fate == Fate::Settled) {
            self.deleted += u64::from(is_accepted);
            if found.is_some() {
                self.fault(Fault::Returned, name());
            }
            return;
        }
        match (&first.fate, &last.fate) {
            // Asked to be deleted, and no answer was read in time: both are right.
            (Fate::Accepted(_), _) if last.standing.presence() != Presence::Once => {}
            (Fate::Accepted(_), _) => {
                self.expected += 1;
                if found.is_none() {
                    self.fault(Fault::Lost, name());
                }
            }
            // What was refused after the cut had begun may be there: its client knows no more than that it failed.
            (Fate::Refused, _) | (_, Fate::Begun) => {
                if found.is_some() {
                    self.fault(Fault::Unknown, name());
                }
            }
            _ if found.is_some() => self.doubtful_there += 1,
            _ => self.doubtful_absent += 1,
        }
        let Some(found) = found else { return };
        if matches!(&last.fate, Fate::Accepted(id) if *id != found.id) {
            self.fault(Fault::Damaged, name());
        }
        if ![first, last].iter().any(|letter| letter.standing.states().allow(found.is_held)) {
            self.fault(Fault::Misplaced, name());
        }
    }

    /// Notes a fault.
    pub fn fault(&mut self, fault: Fault, message: String) {
        self.faults.entry(fault).or_default().push(message);
    }

    /// Whether there is nothing that must not be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.faults.is_empty()
    }

    /// How often.
    #[must_use]
    pub fn count(&self, fault: Fault) -> usize {
        self.faults.get(&fault).map_or(0, Vec::len)
    }

    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.expected += other.expected;
        self.deleted += other.deleted;
        self.doubtful_there += other.doubtful_there;
        self.doubtful_absent += other.doubtful_absent;
        for (fault, messages) in other.faults {
            self.faults.entry(fault).or_default().extend(messages);
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, deleted, doubtful_there, doubtful_absent, .. } = self;
        write!(
            out,
            "{expected} expected, {deleted} deleted, in doubt {doubtful_there} present and {doubtful_absent} absent;"
        )?;
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            write!(out, "{} {} {}", if index > 0 { "," } else { "" }, self.count(fault), fault.name())?;
        }
        for (fault, messages) in &self.faults {
            for message in messages.iter().take(NAMED_MAX) {
                write!(out, "\n  {}: {message}", fault.name())?;
            }
        }
        Ok(())
    }
}

/// Messages that are named of each kind of fault.
const NAMED_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use mailrace_spool::Mark;

    use crate::{Outcome, add_promises};

    const RUN: u32 = 7;

    fn letter(fate: Fate) -> Letter {
        let mut letter = Letter::new();
        letter.note(fate);
        letter
    }

    /// An accepted message for which these were asked, each answered or not.
    fn accepted(marks: &[(Mark, bool)]) -> Letter {
        let mut letter = letter(Fate::Accepted("id".to_owned()));
        for (mark, is_answered) in marks {
            let place = letter.standing.begin_mark(*mark);
            if *is_answered {
                letter.standing.settle(place, Outcome::Durable);
            }
        }
        letter
    }

    fn found(number: u32) -> Found {
        let identity = Some(Identity { run: RUN, number });
        Found { id: "id".to_owned(), identity, is_whole: true, is_held: false }
    }

    /// The faults of one message that stood so before the cut and after it.
    fn faults(first: &Letter, last: &Letter, found: &[Found]) -> Vec<Fault> {
        let account = Account::new(&vec![first.clone()], &vec![last.clone()], RUN, found);
        account.faults.keys().copied().collect()
    }

    #[test]
    fn accepted_messages_must_be_present_once_and_complete() {
        let it = accepted(&[]);
        assert_eq!(faults(&it, &it, &[found(0)]), []);
        assert_eq!(faults(&it, &it, &[]), [Fault::Lost]);
        assert_eq!(faults(&it, &it, &[found(0), found(0)]), [Fault::Doubled]);
        assert_eq!(faults(&it, &it, &[Found { is_whole: false, ..found(0) }]), [Fault::Damaged]);
        assert_eq!(faults(&it, &it, &[Found { id: "other".to_owned(), ..found(0) }]), [Fault::Damaged]);
        assert_eq!(faults(&it, &it, &[Found { is_held: true, ..found(0) }]), [Fault::Misplaced]);
    }

    #[test]
    fn unknown_messages_must_not_be_present() {
        let begun = letter(Fate::Begun);
        let refused = letter(Fate::Refused);
        assert_eq!(faults(&begun, &begun, &[found(0)]), [Fault::Unknown]);
        assert_eq!(faults(&refused, &refused, &[found(0)]), [Fault::Unknown]);
        assert_eq!(faults(&begun, &begun, &[found(1)]), [Fault::Unknown]);
        let stranger = Found { identity: None, ..found(0) };
        assert_eq!(faults(&begun, &begun, &[stranger]), [Fault::Unknown]);
        let of_another_run = Found { identity: Some(Identity { run: 8, number: 0 }), ..found(0) };
        assert_eq!(faults(&begun, &begun, &[of_another_run]), [Fault::Unknown]);
    }

    #[test]
    fn messages_in_progress_at_the_cut_are_in_doubt() {
        let begun = letter(Fate::Begun);
        let offered = letter(Fate::Offered);
        let refused = letter(Fate::Refused);
        for (first, last) in [(&begun, &offered), (&offered, &accepted(&[])), (&offered, &refused)] {
            assert_eq!(faults(first, last, &[]), []);
            assert_eq!(faults(first, last, &[found(0)]), []);
        }
        let asked = accepted(&[(Mark::Done, false)]);
        for (first, last) in [(&accepted(&[]), &asked), (&asked, &accepted(&[(Mark::Done, true)]))] {
            assert_eq!(faults(first, last, &[]), []);
            assert_eq!(faults(first, last, &[found(0)]), []);
        }
        // A message that came after the list of before was made.
        let account = Account::new(&Vec::new(), &vec![offered], RUN, &[found(0)]);
        assert_eq!((account.is_right(), account.doubtful_there), (true, 1));
    }

    #[test]
    fn confirmed_marks_are_kept() {
        let deleted = accepted(&[(Mark::Done, true)]);
        assert_eq!(faults(&deleted, &deleted, &[]), []);
        assert_eq!(faults(&deleted, &deleted, &[found(0)]), [Fault::Returned]);
        let held = accepted(&[(Mark::Hold, true)]);
        assert_eq!(faults(&held, &held, &[Found { is_held: true, ..found(0) }]), []);
        assert_eq!(faults(&held, &held, &[found(0)]), [Fault::Misplaced]);
        assert_eq!(faults(&held, &held, &[]), [Fault::Lost]);
        let asked = accepted(&[(Mark::Hold, false)]);
        assert_eq!(faults(&asked, &asked, &[found(0)]), []);
        assert_eq!(faults(&asked, &asked, &[Found { is_held: true, ..found(0) }]), []);
        let swept = accepted(&[(Mark::Hold, true), (Mark::Done, false)]);
        assert_eq!(faults(&held, &swept, &[Found { is_held: true, ..found(0) }]), []);
        assert_eq!(faults(&held, &swept, &[found(0)]), [Fault::Misplaced]);
    }

    #[test]
    fn promises_count_until_the_disk_was_lost() {
        let begun = letter(Fate::Begun);
        let mut before = vec![begun.clone(), accepted(&[(Mark::Done, false)]), begun];
        let refused = letter(Fate::Refused);
        let after = vec![accepted(&[]), accepted(&[(Mark::Done, true)]), refused.clone(), refused];
        add_promises(&mut before, &after);
        let account = Account::new(&before, &after, RUN, &[found(1), found(2), found(3)]);
        assert_eq!((account.count(Fault::Lost), account.count(Fault::Returned)), (1, 1));
        assert_eq!((account.count(Fault::Unknown), account.doubtful_there), (0, 2));
    }
}
