//! The ledger: what became of each message of a run, noted while it is sent.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mailrace_io::sim::Random;

use crate::Identity;

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

/// What was asked of `mailrace queue` for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    None,
    /// `delete`; whether it was answered.
    Delete(bool),
    /// `hold`; whether it was answered.
    Hold(bool),
    /// Nothing, and nothing will be.
    Keep,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Letter {
    /// How far it has come.
    pub fate: Fate,
    /// What was asked.
    pub order: Order,
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
        let order = if letters.is_swept { Order::Delete(false) } else { Order::None };
        letters.all.push(Letter { fate: Fate::Begun, order });
        Identity { run: self.run, number: u32::try_from(letters.all.len() - 1).unwrap_or(u32::MAX) }
    }

    /// Notes how far it has come.
    pub fn note(&self, identity: Identity, fate: Fate) {
        if let Some(letter) = self.letters().all.get_mut(identity.number as usize) {
            letter.fate = fate;
        }
    }

    /// Accepted messages of which nothing was asked yet, some at most, to be deleted and to be held: noted as asked.
    pub fn choose(&self, random: &mut Random) -> (Chosen, Chosen) {
        let (mut deletes, mut holds) = (Vec::new(), Vec::new());
        for (number, letter) in self.letters().all.iter_mut().enumerate() {
            let (Fate::Accepted(id), Order::None) = (&letter.fate, letter.order) else { continue };
            let identity = Identity { run: self.run, number: u32::try_from(number).unwrap_or(u32::MAX) };
            match random.below(100) {
                0..DELETED_PERCENT => {
                    deletes.push((identity, id.clone()));
                    letter.order = Order::Delete(false);
                }
                DELETED_PERCENT..ORDERED_PERCENT => {
                    holds.push((identity, id.clone()));
                    letter.order = Order::Hold(false);
                }
                _ => letter.order = Order::Keep,
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
            let Some(letter) = letters.all.get_mut(identity.number as usize) else { continue };
            letter.order = match letter.order {
                Order::Delete(_) => Order::Delete(true),
                Order::Hold(_) => Order::Hold(true),
                other => other,
            };
        }
    }

    /// Notes that all is to be deleted that is in the queue; what was accepted before.
    pub fn sweep_begins(&self) -> Chosen {
        let mut letters = self.letters();
        letters.is_swept = true;
        let mut chosen = Vec::new();
        for (number, letter) in letters.all.iter_mut().enumerate() {
            if matches!(letter.order, Order::Delete(_)) {
                continue;
            }
            letter.order = Order::Delete(false);
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
        self.letters().all.iter_mut().for_each(|letter| letter.fate = Fate::Settled);
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
    before.resize(after.len(), Letter { fate: Fate::Begun, order: Order::None });
    for (first, last) in before.iter_mut().zip(after) {
        if matches!(last.fate, Fate::Accepted(_)) {
            first.fate = last.fate.clone();
        }
        if matches!(last.order, Order::Delete(true) | Order::Hold(true)) {
            first.order = last.order;
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
    fn a_ledger_notes_what_is_said() {
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
        assert_eq!(letters[0].order, Order::None);
        for (identity, id) in &deletes {
            let letter = &letters[identity.number as usize];
            assert_eq!(*id, identity.to_string());
            assert_eq!(letter.order, Order::Delete(true));
        }
        assert!(holds.iter().all(|(it, _)| letters[it.number as usize].order == Order::Hold(false)));
        let chosen = ledger.sweep_begins();
        let late = ledger.begin();
        ledger.sweep_ends(&chosen);
        let letters = ledger.snapshot();
        assert_eq!(letters[0].order, Order::Delete(false), "it may have been on its way");
        assert_eq!(letters[holds[0].0.number as usize].order, Order::Delete(true));
        assert_eq!(letters[late.number as usize].order, Order::Delete(false));
        let later = ledger.begin();
        assert_eq!(ledger.snapshot()[later.number as usize].order, Order::None);
        ledger.all_deleted();
        let letters = ledger.snapshot();
        assert!(Account::new(&letters, &letters, RUN, &[]).is_right());
        let identity = Some(Identity { run: RUN, number: 3 });
        let found = Found { id: "id".to_owned(), identity, is_whole: true, is_held: false };
        assert_eq!(Account::new(&letters, &letters, RUN, &[found]).count(Fault::Returned), 1);
    }
}
