//! Runs deliveries: the queue manager, reads of the queue and all connections of one thread, through one [`Io`].
//!
//! Messages belong to the workers. What the dispatcher needs of them it asks for through [`Queue`], and each [`Answer`] comes
//! through a channel; the worker wakes the dispatcher's thread. Nothing here waits but for the kernel.

mod connections;
mod door;
mod link;
mod messages;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use mailrace_core::envelope::Recipient;
use mailrace_core::{QueueId, Timestamp};
use mailrace_io::{Completion, Endpoint, Instant, Io, IoError, Operation, Token};
use mailrace_spool::{Reads, TOKEN_SPOOL};

use crate::agent::smtp::SmtpDelivery;
use crate::manager::Manager;
use connections::{Links, take_content};
use link::Link;
use messages::{Held, Load, Loading, Messages, take_envelope};

pub use door::{Answer, Attempt, Observer, Queue, Router, Settings};
pub use link::Times;

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
    messages: Messages<R::Source>,
    links: Links,
    stop_at: Option<Instant>,
    completions: Vec<Completion>,
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
            messages: Messages::new(),
            links: Links::default(),
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
        self.manager.is_idle()
            && self.links.table.is_empty()
            && self.messages.noting == 0
            && self.answers.is_empty()
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
        let is_done = self.links.table.is_empty() && self.messages.noting == 0;
        is_done || stop_at <= self.io.now()
    }

    /// Takes what the workers said.
    fn hear(&mut self) {
        let wall = self.wall();
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Answer::New { worker, id } => {
                    self.messages.set_home(id, worker);
                    self.manager.found(id);
                }
                Answer::Found(id, found) => self.found(id, found, wall),
                Answer::Noted(id, noted) => {
                    self.messages.noting -= 1;
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
            self.messages
                .held
                .insert(id, Held { source: None, loading: Some(Loading::default()), active: wall });
            self.queue.find(self.messages.home(id), id);
        }
    }

    /// Forgets what is kept of a message that is not active any more.
    fn let_go(&mut self, id: QueueId) {
        if !self.manager.is_active(id) {
            self.messages.held.remove(&id);
        }
        if !self.manager.knows(id) {
            self.messages.forget(id);
        }
    }

    /// A worker said where a message is that is to be read.
    fn found(&mut self, id: QueueId, found: Option<(R::Source, u64)>, wall: Timestamp) {
        let Some(held) = self.messages.held.get_mut(&id) else { return };
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
        self.messages.loads.insert(number, id);
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
            let Some(id) = self.messages.loads.get(&tag).copied() else { continue };
            let held = self.messages.held.get_mut(&id).expect("a message is held while it is being read");
            let loading = held.loading.as_mut().expect("it is loading while its envelope is being read");
            let load = take_envelope(loading, event);
            if let (Load::GoesOn, Some(read)) = (&load, loading.read) {
                self.reader.ask(read);
                continue;
            }
            self.messages.loads.remove(&tag);
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
        let held = self.messages.held.get_mut(&id).expect("a message is held while it is being read");
        match load {
            Load::GoesOn | Load::Failed => {
                self.manager.put_off(id, wall);
                self.let_go(id);
            }
            Load::Moved => {
                if let Some(loading) = &mut held.loading {
                    loading.moves += 1;
                }
                self.queue.find(self.messages.home(id), id);
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
            let held = self.messages.held.get(&job.id).expect("an active message is held");
            let (source, size) = held.source.clone().expect("a message was found before it was loaded");
            let times = Times { active: held.active, begun: wall, ..Times::default() };
            let server = Endpoint::Inet(job.next_hop.address);
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
            self.messages.noting += 1;
            self.queue.note(self.messages.home(id), id, note);
        }
    }

    fn tell_unattempted(&mut self, wall: Timestamp) {
        while let Some(told) = self.manager.next_unattempted() {
            let Some(recipient) = told.envelope.recipients.get(told.recipient as usize) else { continue };
            let active = self.messages.held.get(&told.id).map_or(wall, |held| held.active);
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
}

impl<I: Io, R: Reads<I>, Q, O> std::fmt::Debug for Dispatcher<I, R, Q, O> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Dispatcher")
    }
}
