//! The ledger: what became of each message of a run, noted while it is sent.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mailrace_io::sim::Random;
use mailrace_spool::Mark;

use crate::{Identity, Presence, Standing, States};

/// How far a message has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Not all of it was sent: it must not be in the queue.
    Begun,
    /// All of it was sent, or may have been, and no reply was read: it may be in the queue.
    Offered,
    /// `250` was read, with this queue id: it must be in the queue.
    Accepted(String),
    /// It was refused: it must not be in the queue.
    Refused,
    /// It was accounted for and deleted with all others: it must not be in the queue.
    Settled,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Letter {
    /// How far it has come.
    pub fate: Fate,
    /// What may be found of it.
    pub standing: Standing,
    /// Nothing is asked of `mailrace queue` for it but to delete it with all others.
    is_kept: bool,
}

impl Letter {
    /// One of which not all was sent.
    #[must_use]
    pub fn new() -> Self {
        Self { fate: Fate::Begun, standing: Standing::default(), is_kept: false }
    }

    /// Notes how far it has come.
    pub fn note(&mut self, fate: Fate) {
        match fate {
            Fate::Begun => {}
            Fate::Offered => self.standing.offered(),
            Fate::Accepted(_) => self.standing.accepted(),
            Fate::Refused => self.standing.refused(false),
            Fate::Settled => self.standing.found(None),
        }
        self.fate = fate;
    }

    /// Whether it was asked to be deleted, answered or not.
    fn is_ordered_away(&self) -> bool {
        let is_gone = matches!(self.fate, Fate::Accepted(_)) && self.standing.presence() == Presence::Never;
        is_gone || self.standing.open_marks().any(|mark| mark == Mark::Done)
    }

    /// Whether anything was asked for it, or will never be.
    fn is_spoken_for(&self) -> bool {
        let States { incoming, .. } = self.standing.states();
        self.is_kept || self.is_ordered_away() || self.standing.open_marks().next().is_some() || !incoming
    }
}

impl Default for Letter {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known of all messages of a run at one moment, by their number.
pub type Snapshot = Vec<Letter>;

/// Messages that something is asked for, and their queue ids.
pub type Chosen = Vec<(Identity, String)>;

/// All messages of a run. Every change is noted before what may follow from it: that something was sent before it is
/// sent, that it was accepted after that was read.
#[derive(Debug)]
pub struct Ledger {
    /// Which run.
    pub run: u32,
    letters: Mutex<Letters>,
}

#[derive(Debug, Default)]
struct Letters {
    all: Snapshot,
    /// All is being deleted: also what comes meanwhile, perhaps.
    is_swept: bool,
}

impl Ledger {
    /// Of a new run.
    #[must_use]
    pub fn new(run: u32) -> Self {
        Self { run, letters: Mutex::default() }
    }

    /// A new message.
    pub fn begin(&self) -> Identity {
        let mut letters = self.letters();
        let mut letter = Letter::new();
        if letters.is_swept {
            letter.standing.begin_mark(Mark::Done);
        }
        letters.all.push(letter);
        Identity { run: self.run, number: u32::try_from(letters.all.len() - 1).unwrap_or(u32::MAX) }
    }

    /// Notes how far it has come.
    pub fn note(&self, identity: Identity, fate: Fate) {
        if let Some(letter) = self.letters().all.get_mut(identity.number as usize) {
            letter.note(fate);
        }
    }

    /// Accepted messages of which nothing was asked yet, some at most, to be deleted and to be held: noted as asked.
    pub fn choose(&self, random: &mut Random) -> (Chosen, Chosen) {
        let (mut deletes, mut holds) = (Vec::new(), Vec::new());
        for (number, letter) in self.letters().all.iter_mut().enumerate() {
            let Fate::Accepted(id) = &letter.fate else { continue };
            if letter.is_spoken_for() {
                continue;
            }
            let identity = Identity { run: self.run, number: u32::try_from(number).unwrap_or(u32::MAX) };
            match random.below(100) {
                0..DELETED_PERCENT => {
                    deletes.push((identity, id.clone()));
                    letter.standing.begin_mark(Mark::Done);
                }
                DELETED_PERCENT..ORDERED_PERCENT => {
                    holds.push((identity, id.clone()));
                    letter.standing.begin_mark(Mark::Hold);
                }
                _ => letter.is_kept = true,
            }
            if deletes.len() + holds.len() >= CHOSEN_MAX {
                break;
            }
        }
        (deletes, holds)
    }

    /// Notes that what was asked of these was answered.
    pub fn answered(&self, messages: &Chosen) {
        let mut letters = self.letters();
        for (identity, _) in messages {
            if let Some(letter) = letters.all.get_mut(identity.number as usize) {
                letter.standing.settle_all();
            }
        }
    }

    /// Notes that all is to be deleted that is in the queue; what was accepted before.
    pub fn sweep_begins(&self) -> Chosen {
        let mut letters = self.letters();
        letters.is_swept = true;
        let mut chosen = Vec::new();
        for (number, letter) in letters.all.iter_mut().enumerate() {
            if letter.is_ordered_away() {
                continue;
            }
            letter.standing.begin_mark(Mark::Done);
            if let Fate::Accepted(id) = &letter.fate {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                chosen.push((Identity { run: self.run, number }, id.clone()));
            }
        }
        chosen
    }

    /// Notes that it was done, and with all of `chosen`; or, with none, that it may have been.
    pub fn sweep_ends(&self, chosen: &Chosen) {
        self.letters().is_swept = false;
        self.answered(chosen);
    }

    /// Notes that the queue was emptied while no engine used it.
    pub fn all_deleted(&self) {
        self.letters().all.iter_mut().for_each(|letter| letter.note(Fate::Settled));
    }

    /// All that is known now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.letters().all.clone()
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to what was known before a cut what was promised until `after`, where a promise that was read later must have
/// been true before. What was refused later stays in doubt: the engine that refuses knows only that a write failed.
pub fn add_promises(before: &mut Snapshot, after: &Snapshot) {
    before.resize_with(after.len(), Letter::new);
    for (first, last) in before.iter_mut().zip(after) {
        if !matches!(last.fate, Fate::Accepted(_)) {
            continue;
        }
        if last.standing.open_marks().next().is_none() {
            *first = last.clone();
        } else if !matches!(first.fate, Fate::Accepted(_)) {
            first.note(last.fate.clone());
        }
    }
}

/// Number of messages in a hundred that are deleted.
const DELETED_PERCENT: u64 = 92;
/// Number of messages in a hundred that are deleted or held.
const ORDERED_PERCENT: u64 = 96;
/// Messages that a command is about.
const CHOSEN_MAX: usize = 32;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Account, Fault, Found};

    const RUN: u32 = 7;

    #[test]
    fn a_ledger_records_replies() {
        let ledger = Ledger::new(RUN);
        let mut random = Random::new(1, "test");
        let identities: Vec<Identity> = (0..200).map(|_| ledger.begin()).collect();
        for identity in &identities[1..] {
            ledger.note(*identity, Fate::Accepted(identity.to_string()));
        }
        let (mut deletes, mut holds) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let (some, others) = ledger.choose(&mut random);
            assert!(some.len() + others.len() <= CHOSEN_MAX);
            ledger.answered(&some);
            deletes.extend(some);
            holds.extend(others);
        }
        assert!(deletes.len() > 150 && holds.len() > 2, "{} {}", deletes.len(), holds.len());
        let letters = ledger.snapshot();
        assert_eq!(letters[0].fate, Fate::Begun);
        assert_eq!(letters[0].standing.open_marks().next(), None);
        for (identity, id) in &deletes {
            let letter = &letters[identity.number as usize];
            assert_eq!(*id, identity.to_string());
            assert_eq!(letter.standing.presence(), Presence::Never);
        }
        let is_being_done = |letter: &Letter| letter.standing.open_marks().eq([Mark::Done]);
        assert!(
            holds.iter().all(|(it, _)| letters[it.number as usize].standing.open_marks().eq([Mark::Hold]))
        );
        let chosen = ledger.sweep_begins();
        let late = ledger.begin();
        ledger.sweep_ends(&chosen);
        let letters = ledger.snapshot();
        assert!(is_being_done(&letters[0]), "it may have been on its way");
        assert_eq!(letters[holds[0].0.number as usize].standing.presence(), Presence::Never);
        assert!(is_being_done(&letters[late.number as usize]));
        let later = ledger.begin();
        assert!(!is_being_done(&ledger.snapshot()[later.number as usize]));
        ledger.all_deleted();
        let letters = ledger.snapshot();
        assert!(Account::new(&letters, &letters, RUN, &[]).is_right());
        let identity = Some(Identity { run: RUN, number: 3 });
        let found = Found { id: "id".to_owned(), identity, is_whole: true, is_held: false };
        assert_eq!(Account::new(&letters, &letters, RUN, &[found]).count(Fault::Returned), 1);
    }
}
