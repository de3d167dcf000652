//! Runs deliveries: the queue manager, reads of the queue and all connections of one thread, through one [`Io`].
//!
//! Messages belong to the workers. What the dispatcher needs of them it asks for through [`Queue`], and each [`Answer`] comes
//! through a channel; the worker wakes the dispatcher's thread. Nothing here waits but for the kernel.

mod link;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use mailrace_core::envelope::Recipient;
use mailrace_core::record::delivery::{Progress, RecipientState};
use mailrace_core::record::envelope;
use mailrace_core::{Envelope, QueueId, Timestamp};
use mailrace_io::{Completion, ConnectionId, Instant, Io, IoError, Operation, Piece, ReceiveEnd, Token};
use mailrace_spool::{Part, ReadEvent, ReadId, Reads, TOKEN_SPOOL};

use crate::agent::smtp::{Loss, SmtpDelivery, SmtpSettings};
use crate::manager::{self, Job, Manager, Note, Noted};
use crate::outcome::{Outcome, Reason};
use crate::route::NextHop;
use link::Link;

pub use link::Times;

/// The owners of the messages, as the dispatcher asks them. Each call is answered, once, by an [`Answer`].
pub trait Queue {
    /// Asks where a message is.
    fn find(&mut self, worker: u16, id: QueueId);

    /// Has something noted of a message.
    fn note(&mut self, worker: u16, id: QueueId, note: Note);
}

/// What a worker says.
#[derive(Debug)]
pub enum Answer<S> {
    /// A message is in the queue, not on hold. It may be said more than once.
    New {
        /// The worker that has it.
        worker: u16,
        /// Which.
        id: QueueId,
    },
    /// Where a message is, with the number of bytes of its content. `None`: it has left the queue, or is on hold.
    Found(QueueId, Option<(S, u64)>),
    /// What became of a note.
    Noted(QueueId, Noted),
    /// Begin nothing more, and end by this much later at the latest.
    Stop(Duration),
}

/// What an operator wishes to know.
pub trait Observer {
    /// A message came to the active queue.
    fn active(&mut self, wall: Timestamp, id: QueueId, envelope: &Envelope, size: u64);

    /// A recipient was tried.
    fn tried(&mut self, attempt: &Attempt<'_>);

    /// A message has left the queue.
    fn removed(&mut self, wall: Timestamp, id: QueueId);

    /// The dispatcher is about to wait.
    fn quiet(&mut self);
}

/// What became of one recipient in one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The message.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: &'a Envelope,
    /// The recipient.
    pub recipient: &'a Recipient,
    /// The server; `None` if none was connected to.
    pub relay: Option<NextHop>,
    /// When it went from stage to stage.
    pub times: Times,
    /// What became of it.
    pub outcome: &'a Outcome,
}

/// Settings of a dispatcher.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the queue manager.
    pub manager: manager::Settings,
    /// Of the SMTP client.
    pub smtp: Arc<SmtpSettings>,
}

/// Says where a recipient's mail goes.
pub type Router = Box<dyn Fn(&Envelope, &Recipient) -> Result<NextHop, Reason> + Send>;

/// A message of the active queue.
#[derive(Debug)]
struct Held<S> {
    /// Where it is, and bytes of its content; `None` until its worker has said so.
    source: Option<(S, u64)>,
    /// `None` once its envelope was read.
    loading: Option<Loading>,
    /// When it came to the active queue.
    active: Timestamp,
}

/// An envelope that is being read.
#[derive(Debug, Default)]
struct Loading {
    read: Option<ReadId>,
    envelope: Option<Envelope>,
    /// How often the message had moved before it was read.
    moves: u32,
}

/// Runs the deliveries of one thread.
pub struct Dispatcher<I: Io, R: Reads<I>, Q, O> {
    io: I,
    reader: R,
    queue: Q,
    observer: O,
    router: Router,
    settings: Settings,
    manager: Manager,
    answers: Receiver<Answer<R::Source>>,
    /// The worker that has each message that the manager knows.
    homes: HashMap<QueueId, u16>,
    held: HashMap<QueueId, Held<R::Source>>,
    /// The messages whose envelope is being read, by the tag of the read.
    loads: HashMap<u64, QueueId>,
    links: Links,
    /// Notes that are not answered yet.
    noting: usize,
    stop_at: Option<Instant>,
    completions: Vec<Completion>,
}

/// The connections, by the number that is the token of what happens on them and the tag of the read of their content.
#[derive(Debug, Default)]
struct Links {
    table: HashMap<u64, Link>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// The next number: of a connection, or of the read of an envelope.
    next: u64,
}

impl Links {
    const fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Most times that a message is looked for again because it had moved.
const MOVES_MAX: u32 = 3;

impl<I: Io, R: Reads<I>, Q: Queue, O: Observer> Dispatcher<I, R, Q, O>
where
    R::Source: Clone,
{
    /// A dispatcher that knows of no message.
    pub fn new(
        io: I,
        reader: R,
        queue: Q,
        observer: O,
        router: Router,
        settings: Settings,
        answers: Receiver<Answer<R::Source>>,
    ) -> Self {
        Self {
            io,
            reader,
            queue,
            observer,
            router,
            manager: Manager::new(settings.manager),
            settings,
            answers,
            homes: HashMap::new(),
            held: HashMap::new(),
            loads: HashMap::new(),
            links: Links::default(),
            noting: 0,
            stop_at: None,
            completions: Vec::new(),
        }
    }

    /// Works until it was stopped.
    ///
    /// # Errors
    /// [`IoError`] when the ring failed.
    pub fn run(mut self) -> Result<(), IoError> {
        while self.turn()? {}
        Ok(())
    }

    /// Waits for something to happen, and does all that follows from it. False when it has stopped.
    ///
    /// # Errors
    /// [`IoError`] when the ring failed.
    pub fn turn(&mut self) -> Result<bool, IoError> {
        let deadline = self.deadline();
        self.turn_by(deadline)
    }

    /// The same as [`Self::turn`], waiting until `deadline` at most.
    fn turn_by(&mut self, deadline: Option<Instant>) -> Result<bool, IoError> {
        self.io.wait(deadline, &mut self.completions)?;
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        self.hear();
        self.look_at_deadlines();
        self.load();
        self.begin_jobs();
        self.write_notes();
        // What a read gives may make room for others.
        while self.reader_goes_on() {}
        self.observer.quiet();
        Ok(!self.is_over())
    }

    /// Whether it has nothing to do before a deadline, and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.manager.is_idle() && self.links.table.is_empty() && self.noting == 0 && self.answers.is_empty()
    }

    fn wall(&mut self) -> Timestamp {
        Timestamp::from_unix_microseconds(self.io.wall_clock())
    }

    fn deadline(&mut self) -> Option<Instant> {
        let (now, wall) = (self.io.now(), self.wall());
        let due = self.manager.deadline().filter(|_| self.stop_at.is_none()).map(|due| {
            now.after(Duration::from_micros(due.unix_microseconds().saturating_sub(wall.unix_microseconds())))
        });
        let link = self.links.deadlines.first().map(|(deadline, _)| *deadline);
        [due, link, self.reader.deadline(), self.stop_at].into_iter().flatten().min()
    }

    fn is_over(&mut self) -> bool {
        let Some(stop_at) = self.stop_at else { return false };
        let is_done = self.links.table.is_empty() && self.noting == 0;
        is_done || stop_at <= self.io.now()
    }

    /// Takes what the workers said.
    fn hear(&mut self) {
        let wall = self.wall();
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Answer::New { worker, id } => {
                    self.homes.insert(id, worker);
                    self.manager.found(id);
                }
                Answer::Found(id, found) => self.found(id, found, wall),
                Answer::Noted(id, noted) => {
                    self.noting -= 1;
                    self.manager.noted(id, noted, wall);
                    self.let_go(id);
                    if !self.manager.knows(id) {
                        self.observer.removed(wall, id);
                    }
                }
                Answer::Stop(time) => self.stop_at = Some(self.io.now().after(time)),
            }
        }
    }

    /// Asks for the messages that are to be read.
    fn load(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        let wall = self.wall();
        while let Some(id) = self.manager.next_load(wall) {
            self.held.insert(id, Held { source: None, loading: Some(Loading::default()), active: wall });
            self.queue.find(self.homes[&id], id);
        }
    }

    /// Forgets what is kept of a message that is not active any more.
    fn let_go(&mut self, id: QueueId) {
        if !self.manager.is_active(id) {
            self.held.remove(&id);
        }
        if !self.manager.knows(id) {
            self.homes.remove(&id);
        }
    }

    /// A worker said where a message is that is to be read.
    fn found(&mut self, id: QueueId, found: Option<(R::Source, u64)>, wall: Timestamp) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(loading) = held.loading.as_mut() else { return };
        let Some((source, size)) = found else {
            self.manager.forget(id);
            return self.let_go(id);
        };
        if loading.moves > MOVES_MAX {
            self.manager.put_off(id, wall);
            return self.let_go(id);
        }
        let number = self.links.next_number();
        loading.read = Some(self.reader.begin(source.clone(), number));
        held.source = Some((source, size));
        self.loads.insert(number, id);
    }

    /// Lets the reader go on, and takes what it gives. Returns whether it gave anything.
    fn reader_goes_on(&mut self) -> bool {
        self.reader.advance(&mut self.io);
        let wall = self.wall();
        let mut has_event = false;
        while let Some((tag, event)) = self.reader.next_event() {
            has_event = true;
            if let Some(link) = self.links.table.get_mut(&tag) {
                take_content(link, event);
                self.go_on(tag);
                continue;
            }
            let Some(id) = self.loads.get(&tag).copied() else { continue };
            let held = self.held.get_mut(&id).expect("a message is held while it is being read");
            let loading = held.loading.as_mut().expect("it is loading while its envelope is being read");
            let load = take_envelope(loading, event);
            if let (Load::GoesOn, Some(read)) = (&load, loading.read) {
                self.reader.ask(read);
                continue;
            }
            self.loads.remove(&tag);
            self.loaded(id, load, wall);
        }
        if has_event {
            self.begin_jobs();
            self.write_notes();
        }
        has_event
    }

    /// The read of an envelope has ended so.
    fn loaded(&mut self, id: QueueId, load: Load, wall: Timestamp) {
        let held = self.held.get_mut(&id).expect("a message is held while it is being read");
        match load {
            Load::GoesOn | Load::Failed => {
                self.manager.put_off(id, wall);
                self.let_go(id);
            }
            Load::Moved => {
                if let Some(loading) = &mut held.loading {
                    loading.moves += 1;
                }
                self.queue.find(self.homes[&id], id);
            }
            Load::Read(envelope, states) => {
                let read = held.loading.take().and_then(|loading| loading.read);
                if let Some(read) = read {
                    self.reader.forget(read);
                }
                let size = held.source.as_ref().map_or(0, |(_, size)| *size);
                self.observer.active(wall, id, &envelope, size);
                let (envelope, router) = (Arc::new(envelope), &self.router);
                let route = |recipient: &Recipient| router(&envelope, recipient);
                self.manager.loaded(id, Arc::clone(&envelope), states, route, wall);
                self.let_go(id);
                self.tell_unattempted(wall);
            }
        }
    }

    /// Connects to next hops for the jobs that may be done now.
    fn begin_jobs(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        while let Some(job) = self.manager.next_job() {
            let (now, wall) = (self.io.now(), self.wall());
            let held = self.held.get(&job.id).expect("an active message is held");
            let (source, size) = held.source.clone().expect("a message was found before it was loaded");
            let times = Times { active: held.active, begun: wall, ..Times::default() };
            let server = job.next_hop.address;
            let delivery = SmtpDelivery::new(job, size, Arc::clone(&self.settings.smtp));
            let mut link = Link::new(delivery, now.after(self.settings.smtp.timeouts.connect), times);
            let serial = self.links.next_number();
            link.read = Some(self.reader.begin(source, serial));
            self.io.submit(Token(serial), Operation::Connect { server, source: None });
            self.links.deadlines.insert((link.deadline, serial));
            self.links.table.insert(serial, link);
        }
    }

    fn write_notes(&mut self) {
        let wall = self.wall();
        while let Some((id, note)) = self.manager.next_note(wall) {
            self.noting += 1;
            self.queue.note(self.homes[&id], id, note);
        }
    }

    fn tell_unattempted(&mut self, wall: Timestamp) {
        while let Some(told) = self.manager.next_unattempted() {
            let Some(recipient) = told.envelope.recipients.get(told.recipient as usize) else { continue };
            let active = self.held.get(&told.id).map_or(wall, |held| held.active);
            let times = Times { active, begun: wall, ready: wall, ended: wall };
            let (id, envelope, outcome) = (told.id, &told.envelope, &told.outcome);
            self.observer.tried(&Attempt { id, envelope, recipient, relay: None, times, outcome });
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Connected { token, result } => self.connected(token.0, result),
            Completion::Received { token, piece, .. } => self.received(token.0, piece),
            Completion::ReceiveEnded { token, connection, end } => {
                self.receive_ended(token.0, connection, &end)
            }
            Completion::Sent { token, memory, result, .. } => self.sent(token.0, memory, result.is_ok()),
            Completion::Read { token, buffer, result } => {
                assert!(token.0 & TOKEN_SPOOL != 0, "a read that the reader did not submit");
                self.reader.completed(token, buffer, result);
            }
            Completion::Accepted { .. } | Completion::AcceptFailed { .. } | Completion::Written { .. } => {
                unreachable!("a dispatcher neither listens nor writes files")
            }
        }
    }

    fn connected(&mut self, serial: u64, result: std::io::Result<ConnectionId>) {
        let Some(link) = self.links.table.get_mut(&serial) else {
            // It was given up.
            if let Ok(connection) = result {
                self.io.submit(Token(serial), Operation::Close(connection));
            }
            return;
        };
        match result {
            Ok(connection) => {
                link.connection = Some(connection);
                self.io.submit(Token(serial), Operation::Receive(connection));
            }
            Err(error) => link.delivery.not_connected(&cause(&error)),
        }
        self.go_on(serial);
    }

    fn received(&mut self, serial: u64, piece: Piece) {
        if let Some(link) = self.links.table.get_mut(&serial) {
            link.delivery.received(self.io.received(&piece));
        }
        self.io.recycle(piece);
        self.go_on(serial);
    }

    fn receive_ended(&mut self, serial: u64, connection: ConnectionId, end: &ReceiveEnd) {
        let Some(link) = self.links.table.get_mut(&serial) else { return };
        match end {
            ReceiveEnd::OutOfBuffers => {
                self.io.submit(Token(serial), Operation::Receive(connection));
                return;
            }
            ReceiveEnd::Stopped => return,
            ReceiveEnd::Closed | ReceiveEnd::Failed(_) => {
                link.delivery.output().clear();
                link.delivery.lost(Loss::Closed);
            }
        }
        self.go_on(serial);
    }

    fn sent(&mut self, serial: u64, mut memory: Vec<u8>, is_whole: bool) {
        let Some(link) = self.links.table.get_mut(&serial) else { return };
        link.is_sending = false;
        if is_whole {
            memory.clear();
            if link.delivery.output().is_empty() {
                *link.delivery.output() = memory;
            }
        } else {
            link.delivery.output().clear();
            link.delivery.lost(Loss::Closed);
        }
        self.go_on(serial);
    }

    fn look_at_deadlines(&mut self) {
        let now = self.io.now();
        while let Some((deadline, serial)) = self.links.deadlines.first().copied()
            && deadline <= now
        {
            self.links.deadlines.pop_first();
            let Some(link) = self.links.table.get_mut(&serial).filter(|link| link.deadline == deadline)
            else {
                continue;
            };
            // What is being sent now is lost with the connection.
            link.is_sending = false;
            link.delivery.output().clear();
            match link.connection {
                Some(_) => link.delivery.lost(Loss::TimedOut),
                None => link.delivery.not_connected("Connection timed out"),
            }
            self.go_on(serial);
        }
    }

    /// Does what follows from what has happened on a connection.
    fn go_on(&mut self, serial: u64) {
        let (now, wall) = (self.io.now(), self.wall());
        let Some(link) = self.links.table.get_mut(&serial) else { return };
        if link.times.ready == Timestamp::default() && link.delivery.is_ready() {
            link.times.ready = wall;
        }
        if let Some(connection) = link.connection
            && !link.is_sending
            && !link.delivery.output().is_empty()
        {
            let memory = std::mem::take(link.delivery.output());
            self.io.submit(Token(serial), Operation::Send(connection, memory));
            link.is_sending = true;
        }
        if link.delivery.wants_content()
            && !link.is_sending
            && link.is_read_resting
            && let Some(read) = link.read
        {
            link.is_read_resting = false;
            self.reader.ask(read);
        }
        let patience = link.delivery.patience();
        self.links.deadlines.remove(&(link.deadline, serial));
        if link.connection.is_some() {
            link.deadline = now.after(patience);
        }
        self.links.deadlines.insert((link.deadline, serial));
        let is_finished = link.is_finished();
        if !link.is_reported {
            self.report(serial, wall);
        }
        if is_finished {
            self.close(serial);
        }
    }

    /// Tells the manager what a job has come to, if that is certain.
    fn report(&mut self, serial: u64, wall: Timestamp) {
        let Some(link) = self.links.table.get_mut(&serial) else { return };
        let Some(report) = link.delivery.report() else { return };
        link.is_reported = true;
        link.times.ended = wall;
        if link.times.ready == Timestamp::default() {
            link.times.ready = wall;
        }
        let (job, times) = (link.delivery.job().clone(), link.times);
        let relay = link.connection.map(|_| job.next_hop);
        self.tell(&job, relay, times, &report.outcomes);
        self.manager.finished(&job, report.outcomes, report.health, wall);
        self.tell_unattempted(wall);
    }

    fn tell(&mut self, job: &Job, relay: Option<NextHop>, times: Times, outcomes: &[Outcome]) {
        for (number, outcome) in job.recipients.iter().zip(outcomes) {
            let Some(recipient) = job.envelope.recipients.get(*number as usize) else { continue };
            let (id, envelope) = (job.id, &job.envelope);
            self.observer.tried(&Attempt { id, envelope, recipient, relay, times, outcome });
        }
    }

    fn close(&mut self, serial: u64) {
        let Some(link) = self.links.table.remove(&serial) else { return };
        self.links.deadlines.remove(&(link.deadline, serial));
        if let Some(connection) = link.connection {
            self.io.submit(Token(serial), Operation::Close(connection));
        }
        if let Some(read) = link.read {
            self.reader.forget(read);
        }
    }
}

/// What a part of a message that is being loaded means.
enum Load {
    /// Another part is needed.
    GoesOn,
    Moved,
    Failed,
    Read(Envelope, Vec<RecipientState>),
}

fn take_envelope(loading: &mut Loading, event: ReadEvent<'_>) -> Load {
    let progress = match event {
        ReadEvent::Gone => return Load::Moved,
        ReadEvent::Damaged(_) | ReadEvent::Failed(_) | ReadEvent::Whole => return Load::Failed,
        ReadEvent::Part(Part::Envelope(bytes)) => {
            let Some((_, envelope)) = envelope::decode(bytes) else { return Load::Failed };
            loading.envelope = Some(envelope);
            return Load::GoesOn;
        }
        ReadEvent::Part(Part::Progress(bytes)) => Progress::decode(bytes),
        ReadEvent::Part(Part::Content { .. }) => Some(Progress::default()),
    };
    let Some(mut envelope) = loading.envelope.take() else { return Load::Failed };
    redirect(&mut envelope);
    let states = progress.as_ref().and_then(|progress| progress.states(envelope.recipients.len()));
    match states {
        Some(states) => {
            let states = states.into_iter().cloned().collect();
            Load::Read(envelope, states)
        }
        None => Load::Failed,
    }
}

/// Carries out a check's REDIRECT: one recipient takes the place of all, as in Postfix.
fn redirect(envelope: &mut Envelope) {
    let Some(address) = envelope.redirect.take() else { return };
    envelope.recipients.truncate(1);
    if let Some(recipient) = envelope.recipients.first_mut() {
        let given = std::mem::replace(&mut recipient.address, address.into_vec());
        recipient.original.get_or_insert(given.into_boxed_slice());
    }
}

/// Takes what the read of a link's content gives.
fn take_content(link: &mut Link, event: ReadEvent<'_>) {
    match event {
        ReadEvent::Part(Part::Content { octets, is_last }) if link.delivery.wants_content() => {
            link.delivery.content(octets, is_last);
            link.is_read_resting = !is_last;
        }
        // The envelope is known.
        ReadEvent::Part(_) => link.is_read_resting = true,
        ReadEvent::Whole => link.read = None,
        ReadEvent::Gone => failed(link, "the message has moved"),
        ReadEvent::Damaged(_) => failed(link, "the message is damaged"),
        ReadEvent::Failed(error) => failed(link, &cause(&error)),
    }
}

fn failed(link: &mut Link, cause: &str) {
    link.read = None;
    link.delivery.content_failed(cause);
}

/// The words of a system error, without the number that Rust adds.
fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

impl<I: Io, R: Reads<I>, Q, O> std::fmt::Debug for Dispatcher<I, R, Q, O> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Dispatcher")
    }
}
