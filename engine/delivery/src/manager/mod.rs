//! The queue manager: which message is taken up when, which recipients go together, and what is noted of them.
//!
//! It decides only. Its caller reads messages, delivers jobs and writes notes, and tells it the time. Postfix's qmgr(8)
//! is the model; its terms and defaults are kept.
//!
//! A message is *known* from [`Manager::found`] on. It waits in `incoming` or, until a time, in `deferred`, and the two are
//! taken from in turns. It is `active` from [`Manager::next_load`] until each recipient was tried and the outcome is durable.
//! What becomes of recipients is noted as soon as a job is over, not when all jobs of the message are: after a crash, only
//! hand-overs are repeated whose note was not durable.

mod destination;
mod retry;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mailrace_core::envelope::Recipient;
use mailrace_core::record::delivery::{Deferral, Progress, RecipientState, Status};
use mailrace_core::{Envelope, QueueId, Timestamp};

use crate::outcome::{Health, Outcome, Reason};
use crate::route::NextHop;
use destination::Destinations;
use retry::later;

pub use retry::RetrySettings;
pub use window::WindowSettings;

/// Limits of the queue manager.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most messages in the active queue (`qmgr_message_active_limit`).
    pub message_active_limit: usize,
    /// Most recipients of messages in the active queue; a single message may have more (`qmgr_message_recipient_limit`).
    pub message_recipient_limit: usize,
    /// Most recipients of one transaction (`default_destination_recipient_limit`); 0: no limit.
    pub destination_recipient_limit: usize,
    /// Most deliveries at once, to all destinations (`default_process_limit`).
    pub process_limit: u32,
    /// Concurrency of each destination.
    pub window: WindowSettings,
    /// How long deferred mail waits.
    pub retry: RetrySettings,
}

/// Recipients of one message that go to one next hop in one transaction.
#[derive(Clone, Debug)]
pub struct Job {
    /// The message.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Where it goes.
    pub next_hop: NextHop,
    /// Numbers of recipients in the envelope, in the order of their addresses.
    pub recipients: Vec<u32>,
}

/// What is to be noted durably of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing is left to do: the message leaves the queue.
    Done,
    /// The states of its recipients.
    Progress(Progress),
}

/// What became of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is durable.
    Durable,
    /// It could not be written.
    Failed,
    /// The message is not in the queue any more: an operator has deleted it.
    Gone,
}

/// An outcome without an attempt: there is no way to the recipient, or its destination is dead.
#[derive(Clone, Debug)]
pub struct Unattempted {
    /// The message.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Number of the recipient in the envelope.
    pub recipient: u32,
    /// The outcome.
    pub outcome: Outcome,
}

/// Where a known message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Incoming,
    Deferred(Timestamp),
    Active,
}

/// A message in the active queue that was read.
#[derive(Debug)]
struct Message {
    envelope: Arc<Envelope>,
    states: Vec<RecipientState>,
    /// Jobs that wait or are under way.
    jobs: usize,
    /// The states have changed since the last note.
    is_changed: bool,
    /// A note is under way, or due.
    is_noting: bool,
}

/// The queue manager.
#[derive(Debug)]
pub struct Manager {
    settings: Settings,
    known: HashMap<QueueId, Stage>,
    incoming: VecDeque<QueueId>,
    deferred: BTreeSet<(Timestamp, QueueId)>,
    active: HashMap<QueueId, Message>,
    /// Messages of the active queue that are being read.
    loading: usize,
    /// Recipients of messages in `active`.
    recipients: usize,
    destinations: Destinations,
    /// The last message came from `incoming`, so that the next one comes from `deferred`.
    is_deferred_next: bool,
    /// Messages with something to note.
    notes: VecDeque<QueueId>,
    /// Messages whose note failed, by the time at which it is tried again.
    failed_notes: BTreeSet<(Timestamp, QueueId)>,
    unattempted: VecDeque<Unattempted>,
}

/// How long a note waits that could not be written.
const NOTE_RETRY_TIME: Duration = Duration::from_secs(1);

impl Manager {
    /// A manager that knows of no message.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            known: HashMap::new(),
            incoming: VecDeque::new(),
            deferred: BTreeSet::new(),
            active: HashMap::new(),
            loading: 0,
            recipients: 0,
            destinations: Destinations::default(),
            is_deferred_next: false,
            notes: VecDeque::new(),
            failed_notes: BTreeSet::new(),
            unattempted: VecDeque::new(),
        }
    }

    /// A message is in the queue. One that is known already stays where it is.
    pub fn found(&mut self, id: QueueId) {
        self.known.entry(id).or_insert_with(|| {
            self.incoming.push_back(id);
            Stage::Incoming
        });
    }

    /// Whether a message is known.
    #[must_use]
    pub fn knows(&self, id: QueueId) -> bool {
        self.known.contains_key(&id)
    }

    /// Whether a message is in the active queue.
    #[must_use]
    pub fn is_active(&self, id: QueueId) -> bool {
        self.known.get(&id) == Some(&Stage::Active)
    }

    /// The next message to read. It is in the active queue until [`Manager::loaded`], [`Manager::put_off`] or
    /// [`Manager::forget`] says otherwise.
    pub fn next_load(&mut self, now: Timestamp) -> Option<QueueId> {
        self.destinations.revive(now, &self.settings.window);
        let is_full = self.active.len() + self.loading >= self.settings.message_active_limit
            || self.recipients >= self.settings.message_recipient_limit;
        if is_full {
            return None;
        }
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
        self.loading += 1;
        Some(id)
    }

    /// A message that was to be read has left the queue, or is on hold.
    pub fn forget(&mut self, id: QueueId) {
        self.loading -= 1;
        self.known.remove(&id);
    }

    /// A message could not be read now.
    pub fn put_off(&mut self, id: QueueId, now: Timestamp) {
        self.loading -= 1;
        self.defer(id, later(now, self.settings.retry.minimal_backoff_time));
    }

    /// A message was read: `states` are those of its recipients. Those that are open are attempted, each by the way that
    /// `route` says.
    pub fn loaded(
        &mut self,
        id: QueueId,
        envelope: Arc<Envelope>,
        states: Vec<RecipientState>,
        mut route: impl FnMut(&Recipient) -> Result<NextHop, Reason>,
        now: Timestamp,
    ) {
        self.loading -= 1;
        if let Some(until) = not_due_before(&states).filter(|until| *until > now) {
            return self.defer(id, until);
        }
        let mut routed: Vec<(NextHop, u32)> = Vec::new();
        let mut unrouted: Vec<(u32, Reason)> = Vec::new();
        for (number, (recipient, state)) in (0..).zip(envelope.recipients.iter().zip(&states)) {
            if !state.is_open() {
                continue;
            }
            match route(recipient) {
                Ok(next_hop) => routed.push((next_hop, number)),
                Err(reason) => unrouted.push((number, reason)),
            }
        }
        let address = |number: &u32| {
            envelope.recipients.get(*number as usize).map(|recipient| recipient.address.as_slice())
        };
        // As Postfix sorts them: by next hop, then by address.
        routed.sort_by(|(hop, number), (other_hop, other)| {
            (hop, address(number)).cmp(&(other_hop, address(other)))
        });
        self.recipients += states.len();
        // A crash may have come before the note that ends a message whose recipients are all done.
        let is_changed = !states.iter().any(RecipientState::is_open);
        let message =
            Message { envelope: Arc::clone(&envelope), states, jobs: 0, is_changed, is_noting: false };
        self.active.insert(id, message);
        let limit = match self.settings.destination_recipient_limit {
            0 => usize::MAX,
            limit => limit,
        };
        let same_hop = routed.chunk_by(|(hop, _), (other, _)| hop == other);
        for part in same_hop.flat_map(|same_hop| same_hop.chunks(limit)) {
            let Some((next_hop, _)) = part.first() else { continue };
            let recipients = part.iter().map(|(_, number)| *number).collect();
            self.add(Job { id, envelope: Arc::clone(&envelope), next_hop: *next_hop, recipients }, now);
        }
        for (number, reason) in unrouted {
            self.not_attempted(id, number, Outcome::Deferred(reason), now);
        }
        self.attempted(id);
    }

    /// The next job to do.
    pub fn next_job(&mut self) -> Option<Job> {
        while self.destinations.busy() < self.settings.process_limit {
            let job = self.destinations.next()?;
            if self.is_wanted(&job) {
                return Some(job);
            }
            self.destinations.dropped(job.next_hop);
            self.job_ended(job.id);
        }
        None
    }

    /// A job is over. `outcomes` are those of its recipients, in the job's order.
    pub fn finished(&mut self, job: &Job, outcomes: Vec<Outcome>, health: Health, now: Timestamp) {
        assert_eq!(job.recipients.len(), outcomes.len(), "each recipient of a job has an outcome");
        let until = later(now, self.settings.retry.minimal_backoff_time);
        let left = self.destinations.finished(job.next_hop, health, &self.settings.window, until);
        for (number, outcome) in job.recipients.iter().zip(outcomes) {
            self.note_outcome(job.id, *number, outcome, now);
        }
        self.job_ended(job.id);
        if let Some((jobs, reason)) = left {
            for job in jobs {
                self.suspend(&job, &reason, now);
                self.job_ended(job.id);
            }
        }
    }

    /// The next note to write. [`Manager::noted`] says what became of it.
    pub fn next_note(&mut self, now: Timestamp) -> Option<(QueueId, Note)> {
        while let Some((at, id)) = self.failed_notes.first().copied()
            && at <= now
        {
            self.failed_notes.pop_first();
            self.notes.push_back(id);
        }
        let id = self.notes.pop_front()?;
        let message = self.active.get_mut(&id).expect("a message stays active until its note is durable");
        message.is_changed = false;
        if message.states.iter().any(RecipientState::is_open) {
            let progress = Progress::of(&message.states).expect("an envelope has fewer than 2^32 recipients");
            return Some((id, Note::Progress(progress)));
        }
        Some((id, Note::Done))
    }

    /// What became of a note.
    pub fn noted(&mut self, id: QueueId, noted: Noted, now: Timestamp) {
        let message = self.active.get_mut(&id).expect("a message stays active until its note is durable");
        match noted {
            Noted::Failed => {
                self.failed_notes.insert((later(now, NOTE_RETRY_TIME), id));
                return;
            }
            // Nothing is left to do but to wait for the jobs that are under way.
            Noted::Gone => message.states.fill(RecipientState::Done),
            Noted::Durable => {}
        }
        message.is_noting = false;
        if noted == Noted::Gone {
            message.is_changed = false;
        }
        self.attempted(id);
    }

    /// The next outcome without an attempt, for the log.
    pub fn next_unattempted(&mut self) -> Option<Unattempted> {
        self.unattempted.pop_front()
    }

    /// When there is something to do even if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let due = self.deferred.first().map(|(until, _)| *until);
        let note = self.failed_notes.first().map(|(at, _)| *at);
        [due, note, self.destinations.revives_at()].into_iter().flatten().min()
    }

    /// Whether no message is active.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.active.is_empty() && self.loading == 0
    }

    /// Whether a recipient of a job is still to be tried.
    fn is_wanted(&self, job: &Job) -> bool {
        self.active.get(&job.id).is_some_and(|message| {
            let is_open =
                |number: &u32| message.states.get(*number as usize).is_some_and(RecipientState::is_open);
            job.recipients.iter().any(is_open)
        })
    }

    fn add(&mut self, job: Job, now: Timestamp) {
        let id = job.id;
        match self.destinations.add(job, &self.settings.window) {
            Ok(()) => {
                if let Some(message) = self.active.get_mut(&id) {
                    message.jobs += 1;
                }
            }
            Err((job, reason)) => self.suspend(&job, &reason, now),
        }
    }

    fn suspend(&mut self, job: &Job, reason: &Reason, now: Timestamp) {
        let mut text = b"delivery temporarily suspended: ".to_vec();
        text.extend_from_slice(&reason.text);
        let reason = Reason { status: reason.status, text: text.into() };
        for number in &job.recipients {
            self.not_attempted(job.id, *number, Outcome::Deferred(reason.clone()), now);
        }
    }

    fn not_attempted(&mut self, id: QueueId, recipient: u32, outcome: Outcome, now: Timestamp) {
        let Some(message) = self.active.get(&id) else { return };
        let envelope = Arc::clone(&message.envelope);
        self.unattempted.push_back(Unattempted { id, envelope, recipient, outcome: outcome.clone() });
        self.note_outcome(id, recipient, outcome, now);
    }

    fn note_outcome(&mut self, id: QueueId, recipient: u32, outcome: Outcome, now: Timestamp) {
        let retry = self.settings.retry;
        let Some(message) = self.active.get_mut(&id) else { return };
        let arrival = message.envelope.arrival;
        let Some(state) = message.states.get_mut(recipient as usize).filter(|state| state.is_open()) else {
            return;
        };
        let attempts = match state {
            RecipientState::Deferred(deferral) => deferral.attempts.saturating_add(1),
            _ => 1,
        };
        *state = match outcome {
            Outcome::Sent(_) => RecipientState::Done,
            Outcome::Deferred(Reason { status, text }) | Outcome::Failed(Reason { status, text }) => {
                let (until, status) = (retry.next_attempt(arrival, now), Status { class: 4, ..status });
                RecipientState::Deferred(Deferral { until, attempts, status, text })
            }
        };
        message.is_changed = true;
    }

    fn job_ended(&mut self, id: QueueId) {
        if let Some(message) = self.active.get_mut(&id) {
            message.jobs -= 1;
        }
        self.attempted(id);
    }

    /// Notes what has changed, and ends the attempt if nothing is left to do.
    fn attempted(&mut self, id: QueueId) {
        let Some(message) = self.active.get_mut(&id) else { return };
        if message.is_noting {
            return;
        }
        if message.is_changed {
            message.is_noting = true;
            self.notes.push_back(id);
            return;
        }
        if message.jobs > 0 {
            return;
        }
        let next = not_due_before(&message.states);
        self.recipients -= message.states.len();
        self.active.remove(&id);
        match next {
            Some(until) => self.defer(id, until),
            None => drop(self.known.remove(&id)),
        }
    }

    fn defer(&mut self, id: QueueId, until: Timestamp) {
        self.known.insert(id, Stage::Deferred(until));
        self.deferred.insert((until, id));
    }
}

/// The time before which no recipient is to be tried; `None` if none is left to be tried.
fn not_due_before(states: &[RecipientState]) -> Option<Timestamp> {
    let due = |state: &RecipientState| match state {
        RecipientState::Untried => Some(Timestamp::default()),
        RecipientState::Deferred(deferral) => Some(deferral.until),
        RecipientState::Done | RecipientState::Reported => None,
    };
    states.iter().filter_map(due).min()
}
