//! The queue manager: which message is taken up when, which recipients go together, and what is noted of them.
//!
//! It decides only. Its caller reads messages, delivers jobs, makes reports and writes notes, and tells it the time. Postfix's
//! qmgr(8) is the model; its terms and defaults are kept.
//!
//! A message is *known* from [`Manager::found`] on. It waits in `incoming` or, until a time, in `deferred`, and the two are
//! taken from in turns. It is `active` from [`Manager::next_load`] until each recipient was tried and the outcome is durable.
//! What becomes of recipients is noted as soon as a job is over, not when all jobs of the message are: after a crash, only
//! hand-overs are repeated whose note was not durable. Reports are made when all jobs are over.

mod destination;
mod message;
mod retry;
mod settings;
#[cfg(test)]
mod tests;
mod waiting;
mod window;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mailrace_core::record::delivery::{Cause, Progress, RecipientState};
use mailrace_core::{Envelope, QueueId, Timestamp};

use crate::bounce::Kind;
use crate::outcome::{Health, Outcome};
use crate::route::Route;
use destination::Destinations;
use message::{Message, not_due_before};
use retry::later;
use waiting::{Waiting, Wishes};

pub(crate) use message::mark_reported;
pub use message::{ReportOrder, action_of, kind_of};
pub use retry::RetrySettings;
pub use settings::{Settings, TransportSettings};
pub use window::WindowSettings;

/// Recipients of one message that go to one next hop in one transaction.
#[derive(Clone, Debug)]
pub struct Job {
    /// The message.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// The way that they go.
    pub route: Route,
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

/// What became of a note, or of a report.
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

/// A message that was given up.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The message.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// An operator wanted it.
    pub is_forced: bool,
}

/// A message that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Which.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// States of its recipients, in the order of [`Envelope::numbered`].
    pub states: Vec<RecipientState>,
    /// The sender was told of the delay.
    pub is_warned: bool,
    /// The states are not those that were noted last.
    pub is_changed: bool,
}

/// Messages that an operator means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All that are deferred.
    All,
    /// These.
    These(Arc<[QueueId]>),
}

/// What the log is to be told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A recipient was not attempted.
    Unattempted(Unattempted),
    /// A message was given up.
    Expired(Expired),
}

/// The queue manager.
#[derive(Debug)]
pub struct Manager {
    settings: Settings,
    waiting: Waiting,
    active: HashMap<QueueId, Message>,
    /// Messages of the active queue that are being read.
    loading: usize,
    /// Recipients of messages in `active`.
    recipients: usize,
    destinations: Destinations,
    /// Messages with something to note.
    notes: VecDeque<QueueId>,
    /// Messages whose note failed, by the time at which it is tried again.
    failed_notes: BTreeSet<(Timestamp, QueueId)>,
    reports: VecDeque<ReportOrder>,
    events: VecDeque<Event>,
}

/// How long a note waits that could not be written.
const NOTE_RETRY_TIME: Duration = Duration::from_secs(1);
const ACTIVE: &str = "a message stays active until its note is durable";

impl Manager {
    /// A manager that knows of no message.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            destinations: Destinations::new(&settings.transports),
            settings,
            waiting: Waiting::default(),
            active: HashMap::new(),
            loading: 0,
            recipients: 0,
            notes: VecDeque::new(),
            failed_notes: BTreeSet::new(),
            reports: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// A message is in the queue. One that is known already stays where it is.
    pub fn found(&mut self, id: QueueId) {
        self.waiting.found(id);
    }

    /// Whether a message is known.
    #[must_use]
    pub fn knows(&self, id: QueueId) -> bool {
        self.waiting.knows(id)
    }

    /// Whether a message is in the active queue.
    #[must_use]
    pub fn is_active(&self, id: QueueId) -> bool {
        self.waiting.is_active(id)
    }

    /// Whether a message may have a report in the queue that is not noted yet.
    #[must_use]
    pub fn may_have_report(&self, id: QueueId) -> bool {
        // One that was read has nothing of an earlier run left, and a report of this run comes after its note.
        self.waiting.is_incoming(id) || (self.waiting.is_active(id) && !self.active.contains_key(&id))
    }

    /// Has messages tried now, whatever is known of their destinations. Returns how many there are.
    pub fn flush(&mut self, selection: &Selection) -> u64 {
        if *selection == Selection::All {
            self.destinations.revive_all();
        }
        self.wish(selection, Wishes { is_flushed: true, is_expired: false })
    }

    /// Has messages given back to their senders. Returns how many there are.
    pub fn expire(&mut self, selection: &Selection) -> u64 {
        self.wish(selection, Wishes { is_flushed: false, is_expired: true })
    }

    fn wish(&mut self, selection: &Selection, wishes: Wishes) -> u64 {
        let ids: Vec<QueueId> = match selection {
            Selection::All => self.waiting.deferred().collect(),
            Selection::These(ids) => ids.iter().copied().filter(|id| self.waiting.knows(*id)).collect(),
        };
        ids.iter().for_each(|id| self.waiting.wish(*id, wishes));
        ids.len() as u64
    }

    /// The next message to read. It is in the active queue until [`Manager::loaded`], [`Manager::put_off`] or
    /// [`Manager::forget`] says otherwise.
    pub fn next_load(&mut self, now: Timestamp) -> Option<QueueId> {
        self.destinations.resume(now);
        let is_full = self.active.len() + self.loading >= self.settings.message_active_limit
            || self.recipients >= self.settings.message_recipient_limit;
        if is_full {
            return None;
        }
        let id = self.waiting.take(now)?;
        self.loading += 1;
        Some(id)
    }

    /// A message that was to be read has left the queue, or is on hold.
    pub fn forget(&mut self, id: QueueId) {
        self.loading -= 1;
        self.waiting.forget(id);
    }

    /// A message could not be read now.
    pub fn put_off(&mut self, id: QueueId, now: Timestamp) {
        self.put_off_for(id, self.settings.retry.minimal_backoff_time, now);
    }

    /// A message that was to be read waits this long.
    pub fn put_off_for(&mut self, id: QueueId, wait: Duration, now: Timestamp) {
        self.loading -= 1;
        self.waiting.defer(id, later(now, wait));
    }

    /// A message was read. Its open recipients are attempted, each by its way: `ways` has their numbers in the envelope.
    pub fn loaded(&mut self, loaded: Loaded, ways: Vec<(u32, Result<Route, Outcome>)>, now: Timestamp) {
        let Loaded { id, envelope, states, is_warned, is_changed } = loaded;
        self.loading -= 1;
        let wishes = self.waiting.take_wishes(id);
        let is_asked = wishes.is_flushed || wishes.is_expired;
        if !is_asked
            && !is_changed
            && let Some(until) = not_due_before(&states).filter(|until| *until > now)
        {
            return self.waiting.defer(id, until);
        }
        self.recipients += states.len();
        let mut message = Message::new(Arc::clone(&envelope), states, is_warned);
        message.take_expansions(&self.settings, now);
        // A crash may have come before the note that ends a message whose recipients are all done.
        message.is_changed = is_changed || message.is_done();
        message.is_expired = wishes.is_expired;
        self.active.insert(id, message);
        if !wishes.is_expired {
            let mut routed: Vec<(Route, u32)> = Vec::new();
            for (number, way) in ways {
                match way {
                    Ok(route) => routed.push((route, number)),
                    Err(outcome) => self.not_attempted(id, number, outcome, now),
                }
            }
            self.add_jobs(id, &envelope, routed, wishes.is_flushed, now);
        }
        self.attempted(id, now);
    }

    /// Makes jobs of recipients: as Postfix sorts them, by next hop and then by address.
    fn add_jobs(
        &mut self,
        id: QueueId,
        envelope: &Arc<Envelope>,
        mut routed: Vec<(Route, u32)>,
        is_flushed: bool,
        now: Timestamp,
    ) {
        let address =
            |number: &u32| envelope.recipients.get(*number as usize).map(|recipient| &recipient.address);
        routed.sort_by(|(way, number), (other_way, other)| {
            (way, address(number)).cmp(&(other_way, address(other)))
        });
        for same in routed.chunk_by(|(way, _), (other, _)| way == other) {
            let Some((route, _)) = same.first() else { continue };
            let transport = self.settings.transports.get(usize::from(route.transport));
            let transport = transport.expect("a route's transport is one of the settings");
            let limit = if transport.recipient_limit == 0 { usize::MAX } else { transport.recipient_limit };
            let is_deferred = transport.is_deferred && !is_flushed;
            for part in same.chunks(limit) {
                let recipients = part.iter().map(|(_, number)| *number).collect();
                let job = Job { id, envelope: Arc::clone(envelope), route: route.clone(), recipients };
                if is_deferred {
                    self.decide(&job, &Outcome::Deferred(Cause::new(4, 3, 2, "deferred transport")), now);
                } else {
                    self.add(job, is_flushed, now);
                }
            }
        }
    }

    /// The next job to do. [`Manager::finished`] says what became of it.
    pub fn next_job(&mut self, now: Timestamp) -> Option<Job> {
        while let Some(job) = self.destinations.next() {
            if self.is_wanted(&job) {
                return Some(job);
            }
            self.drop_job(&job, now);
        }
        None
    }

    /// The next job for a destination whose connection has just become free.
    pub fn next_job_for(&mut self, route: &Route, now: Timestamp) -> Option<Job> {
        while let Some(job) = self.destinations.next_for(route) {
            if self.is_wanted(&job) {
                return Some(job);
            }
            self.drop_job(&job, now);
        }
        None
    }

    /// Whether mail waits for a destination.
    #[must_use]
    pub fn has_waiting(&self, route: &Route) -> bool {
        self.destinations.has_waiting(route)
    }

    fn drop_job(&mut self, job: &Job, now: Timestamp) {
        self.destinations.dropped(&job.route);
        self.job_ended(job.id, now);
    }

    /// A job is over. `outcomes` are those of its recipients, in the job's order.
    pub fn finished(&mut self, job: &Job, outcomes: Vec<Outcome>, health: Health, now: Timestamp) {
        assert_eq!(job.recipients.len(), outcomes.len(), "each recipient of a job has an outcome");
        let until = later(now, self.settings.retry.minimal_backoff_time);
        let left = self.destinations.finished(&job.route, health, now, until);
        for (number, outcome) in job.recipients.iter().zip(outcomes) {
            self.take_outcome(job.id, *number, outcome, now);
        }
        self.job_ended(job.id, now);
        if let Some((jobs, cause)) = left {
            for job in jobs {
                self.suspend(&job, &cause, now);
                self.job_ended(job.id, now);
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
        let message = self.active.get_mut(&id).expect(ACTIVE);
        message.is_changed = false;
        let note = if message.is_done() { Note::Done } else { Note::Progress(message.progress()) };
        Some((id, note))
    }

    /// What became of a note.
    pub fn noted(&mut self, id: QueueId, noted: Noted, now: Timestamp) {
        let message = self.active.get_mut(&id).expect(ACTIVE);
        match noted {
            Noted::Failed => {
                self.failed_notes.insert((later(now, NOTE_RETRY_TIME), id));
                return;
            }
            Noted::Gone => message.states.fill(RecipientState::Done),
            Noted::Durable => {}
        }
        message.is_noting = false;
        if noted == Noted::Gone {
            // Nothing is left to do but to wait for the jobs that are under way.
            message.is_changed = false;
        }
        self.attempted(id, now);
    }

    /// The next report to make. [`Manager::reported`] says what became of it.
    pub fn next_report(&mut self) -> Option<ReportOrder> {
        self.reports.pop_front()
    }

    /// What became of a report: it is in the queue, it cannot be made now, or the message is gone. The report is not to be
    /// taken up before the next note of the message is durable ([`Manager::found`] comes then).
    pub fn reported(&mut self, id: QueueId, kind: Kind, noted: Noted, now: Timestamp) {
        let message = self.active.get_mut(&id).expect(ACTIVE);
        message.is_noting = false;
        match noted {
            Noted::Durable => message.reported(kind),
            Noted::Failed => message.put_report_off(&self.settings, now),
            Noted::Gone => {
                message.states.fill(RecipientState::Done);
                message.is_changed = false;
            }
        }
        self.attempted(id, now);
    }

    /// What the log is to be told next.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When there is something to do even if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let note = self.failed_notes.first().map(|(at, _)| *at);
        [self.waiting.due_at(), note, self.destinations.resumes_at()].into_iter().flatten().min()
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

    /// Has a job done; not one for a dead destination, unless an operator has flushed its message.
    fn add(&mut self, job: Job, is_flushed: bool, now: Timestamp) {
        if is_flushed {
            self.destinations.revive(&job.route);
        }
        if let Some(cause) = self.destinations.dead(&job.route).cloned() {
            return self.suspend(&job, &cause, now);
        }
        self.active.get_mut(&job.id).expect(ACTIVE).jobs += 1;
        self.destinations.add(job);
    }

    fn suspend(&mut self, job: &Job, cause: &Cause, now: Timestamp) {
        let mut text = b"delivery temporarily suspended: ".to_vec();
        text.extend_from_slice(&cause.text);
        let cause = Cause { text: text.into(), ..cause.clone() };
        self.decide(job, &Outcome::Deferred(cause), now);
    }

    fn decide(&mut self, job: &Job, outcome: &Outcome, now: Timestamp) {
        for number in &job.recipients {
            self.not_attempted(job.id, *number, outcome.clone(), now);
        }
    }

    fn not_attempted(&mut self, id: QueueId, recipient: u32, outcome: Outcome, now: Timestamp) {
        let outcome = if self.settings.soft_bounce { outcome.softened() } else { outcome };
        let Some(message) = self.active.get(&id) else { return };
        let envelope = Arc::clone(&message.envelope);
        let told = Unattempted { id, envelope, recipient, outcome: outcome.clone() };
        self.events.push_back(Event::Unattempted(told));
        self.take_outcome(id, recipient, outcome, now);
    }

    fn take_outcome(&mut self, id: QueueId, recipient: u32, outcome: Outcome, now: Timestamp) {
        if let Some(message) = self.active.get_mut(&id) {
            message.take(recipient, outcome, &self.settings, now);
        }
    }

    fn job_ended(&mut self, id: QueueId, now: Timestamp) {
        if let Some(message) = self.active.get_mut(&id) {
            message.jobs -= 1;
        }
        self.attempted(id, now);
    }

    /// Notes what has changed, tells the sender, and ends the attempt if nothing is left to do.
    fn attempted(&mut self, id: QueueId, now: Timestamp) {
        let Some(message) = self.active.get_mut(&id) else { return };
        if message.is_noting {
            return;
        }
        if message.jobs == 0 && message.put_off.is_none() {
            let (envelope, is_forced) = (Arc::clone(&message.envelope), message.is_expired);
            let is_expired =
                self.settings.retry.is_expired(envelope.arrival, !envelope.sender.is_empty(), now);
            if (is_expired || is_forced) && message.expire(&self.settings, now) {
                self.events.push_back(Event::Expired(Expired { id, envelope, is_forced }));
            }
            if let Some(order) = message.next_report(id, &self.settings, now) {
                message.is_noting = true;
                self.reports.push_back(order);
                return;
            }
        }
        if message.is_changed {
            message.is_noting = true;
            self.notes.push_back(id);
            return;
        }
        if message.jobs > 0 {
            return;
        }
        let next = message.next_attempt();
        self.recipients -= message.states.len();
        self.active.remove(&id);
        match next {
            Some(until) => self.waiting.defer(id, until),
            None => self.waiting.forget(id),
        }
    }
}
