//! The messages that are known, and the two queues of those that wait.

use std::collections::{BTreeSet, HashMap, VecDeque};

use mailrace_core::{QueueId, Timestamp};

/// Where a known message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Incoming,
    Deferred(Timestamp),
    Active,
}

/// What an operator wants of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// It is tried now, whatever is known of its destinations.
    pub(super) is_flushed: bool,
    /// It is given back to its sender.
    pub(super) is_expired: bool,
}

/// The messages that are known. Each is in one of the queues `incoming`, `deferred` and `active`.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    known: HashMap<QueueId, Stage>,
    incoming: VecDeque<QueueId>,
    deferred: BTreeSet<(Timestamp, QueueId)>,
    wishes: HashMap<QueueId, Wishes>,
    /// The last message came from `incoming`, so that the next one comes from `deferred`.
    is_deferred_next: bool,
}

impl Waiting {
    pub(super) fn found(&mut self, id: QueueId) {
        self.known.entry(id).or_insert_with(|| {
            self.incoming.push_back(id);
            Stage::Incoming
        });
    }

    pub(super) fn knows(&self, id: QueueId) -> bool {
        self.known.contains_key(&id)
    }

    pub(super) fn is_active(&self, id: QueueId) -> bool {
        self.known.get(&id) == Some(&Stage::Active)
    }

    /// Whether a message waits that was never read, or is to be read at once.
    pub(super) fn is_incoming(&self, id: QueueId) -> bool {
        self.known.get(&id) == Some(&Stage::Incoming)
    }

    /// Takes the next message, which is active from now on: new ones and deferred ones in turns.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<QueueId> {
        let due = self.deferred.first().filter(|(until, _)| *until <= now).copied();
        let id = match (self.incoming.front().copied(), due) {
            (Some(id), None) => id,
            (Some(id), Some(_)) if !self.is_deferred_next => id,
            (_, Some((_, id))) => id,
            (None, None) => return None,
        };
        let stage = self.known.insert(id, Stage::Active);
        self.is_deferred_next = stage == Some(Stage::Incoming);
        match stage {
            Some(Stage::Deferred(until)) => drop(self.deferred.remove(&(until, id))),
            _ => drop(self.incoming.pop_front()),
        }
        Some(id)
    }

    /// An active message waits until a time.
    pub(super) fn defer(&mut self, id: QueueId, until: Timestamp) {
        // It may have been flushed while it was active: then it is tried again at once.
        if self.wishes.contains_key(&id) {
            self.known.insert(id, Stage::Incoming);
            self.incoming.push_back(id);
        } else {
            self.known.insert(id, Stage::Deferred(until));
            self.deferred.insert((until, id));
        }
    }

    /// An active message is in the queue no longer.
    pub(super) fn forget(&mut self, id: QueueId) {
        self.known.remove(&id);
        self.wishes.remove(&id);
    }

    /// Has a message tried now. An active one is tried already, and its expiry comes after that.
    pub(super) fn wish(&mut self, id: QueueId, wishes: Wishes) {
        let Some(stage) = self.known.get_mut(&id) else { return };
        match *stage {
            Stage::Active if !wishes.is_expired => return,
            Stage::Active | Stage::Incoming => {}
            Stage::Deferred(until) => {
                *stage = Stage::Incoming;
                self.deferred.remove(&(until, id));
                self.incoming.push_back(id);
            }
        }
        let noted = self.wishes.entry(id).or_default();
        noted.is_flushed |= wishes.is_flushed;
        noted.is_expired |= wishes.is_expired;
    }

    /// Takes what an operator wants of a message that was read.
    pub(super) fn take_wishes(&mut self, id: QueueId) -> Wishes {
        self.wishes.remove(&id).unwrap_or_default()
    }

    /// All messages that are deferred.
    pub(super) fn deferred(&self) -> impl Iterator<Item = QueueId> {
        self.deferred.iter().map(|(_, id)| *id)
    }

    /// When the next deferred message is due.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.deferred.first().map(|(until, _)| *until)
    }
}
