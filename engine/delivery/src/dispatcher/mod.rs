//! Runs deliveries: the queue manager, reads of the queue and all connections of one thread, through one [`Io`].
//!
//! Messages belong to the workers. What the dispatcher needs of them it asks for through [`Queue`], and each [`Answer`] comes
//! through a channel; the worker wakes the dispatcher's thread. Nothing here waits but for the kernel.

mod connections;
mod door;
mod handover;
mod link;
mod loading;
mod messages;
mod reports;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crossbeam::channel::Receiver;
use mailrace_core::{QueueId, Timestamp};
use mailrace_io::{Completion, Instant, Io, IoError};
use mailrace_spool::{ReadId, Reads, TOKEN_SPOOL};

use crate::manager::{Event, Job, Manager, Noted};
use connections::{Links, take_content};
use handover::Handover;
use messages::{Load, Messages};
use reports::Reports;

pub use crate::manager::Selection;
pub use door::{Answer, Asked, Attempt, Observer, Queue, Report, Resolver, Router, Settings};
pub use link::Times;

/// Runs the deliveries of one thread.
pub struct Dispatcher<I: Io, R: Reads<I>, Q, O> {
    io: I,
    reader: R,
    queue: Q,
    observer: O,
    paths: Paths,
    settings: Settings,
    manager: Manager,
    answers: Receiver<Answer<R::Source>>,
    messages: Messages<R::Source>,
    links: Links<R::Source>,
    reports: Reports,
    stop_at: Option<Instant>,
    completions: Vec<Completion>,
}

/// Who says where mail goes.
pub struct Paths {
    /// Transport and next hop of a recipient.
    pub router: Router,
    /// The servers of a next hop.
    pub resolver: Resolver,
}

/// What the reader gave something to.
enum Heard {
    /// A connection.
    Link,
    /// A report, whose original is read on if more of it is wanted.
    Report(Option<ReadId>),
    /// A message that is being loaded.
    Load(Option<(QueueId, Load)>),
}

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
        paths: Paths,
        settings: Settings,
        answers: Receiver<Answer<R::Source>>,
    ) -> Self {
        Self {
            io,
            reader,
            queue,
            observer,
            paths,
            manager: Manager::new(settings.manager.clone()),
            settings,
            answers,
            messages: Messages::new(),
            links: Links::new(),
            reports: Reports::default(),
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
        self.begin_reports();
        self.write_notes();
        // What a read gives may make room for others.
        while self.reader_goes_on() {}
        self.observer.quiet();
        Ok(!self.is_over())
    }

    /// Whether it has nothing to do before a deadline, and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.manager.is_idle() && self.links.is_idle() && self.messages.noting == 0 && self.answers.is_empty()
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
        let is_done = self.links.is_idle() && self.messages.noting == 0 && self.reports.is_idle();
        is_done || stop_at <= self.io.now()
    }

    /// Takes what the workers and other threads said.
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
                    if noted != Noted::Failed {
                        self.announce(id);
                    }
                    self.ended(id, wall);
                }
                Answer::Exists { about, is_there } => self.report_exists(about, is_there, wall),
                Answer::Reported { about, kind, noted, ids } => self.reported(about, kind, noted, ids),
                Answer::Resolved(serial, servers) => self.resolved(serial, servers),
                Answer::TableAnswered => self.route_pending(wall),
                Answer::Flush(selection, asked) => asked.answer(self.manager.flush(&selection)),
                Answer::Expire(selection, asked) => asked.answer(self.manager.expire(&selection)),
                Answer::Stop(time) => self.stop_at = Some(self.io.now().after(time)),
            }
        }
    }

    /// Something was noted of a message, which may have been the last of it.
    fn ended(&mut self, id: QueueId, wall: Timestamp) {
        self.let_go(id);
        if !self.manager.knows(id) {
            self.observer.removed(wall, id);
        }
        self.tell_events(wall);
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

    /// Lets the reader go on, and takes what it gives. Returns whether it gave anything.
    fn reader_goes_on(&mut self) -> bool {
        self.reader.advance(&mut self.io);
        let wall = self.wall();
        let mut has_event = false;
        while let Some((tag, event)) = self.reader.next_event() {
            has_event = true;
            let heard = if let Some(link) = self.links.table.get_mut(&tag) {
                take_content(link, event);
                Heard::Link
            } else if self.reports.has(tag) {
                Heard::Report(self.reports.take(tag, event))
            } else {
                Heard::Load(self.messages.take_envelope(tag, event))
            };
            match heard {
                Heard::Link => self.go_on(tag),
                Heard::Report(Some(read)) => self.reader.ask(read),
                Heard::Report(None) => self.send_reports(),
                Heard::Load(Some((id, load))) => self.loaded(id, load, tag, wall),
                Heard::Load(None) => {}
            }
        }
        if has_event {
            self.begin_jobs();
            self.begin_reports();
            self.write_notes();
        }
        has_event
    }

    /// Begins the jobs that may be done now.
    fn begin_jobs(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        let wall = self.wall();
        while let Some(job) = self.manager.next_job(wall) {
            let handover = self.handover_of(job);
            self.begin_handover(handover);
        }
    }

    fn handover_of(&mut self, job: Job) -> Handover<R::Source> {
        let wall = self.wall();
        let held = self.messages.held.get(&job.id).expect("an active message is held");
        let source = held.source.clone().expect("a message was found before it was loaded");
        let times = Times { active: held.active, begun: wall, ..Times::default() };
        let protocol = self.client(&job.route).protocol;
        Handover::new(job, source, times, &self.settings, protocol)
    }

    fn write_notes(&mut self) {
        let wall = self.wall();
        while let Some((id, note)) = self.manager.next_note(wall) {
            self.messages.noting += 1;
            self.queue.note(self.messages.home(id), id, note);
        }
    }

    /// Tells the log what the manager has decided without an attempt.
    fn tell_events(&mut self, wall: Timestamp) {
        while let Some(event) = self.manager.next_event() {
            let told = match event {
                Event::Unattempted(told) => told,
                Event::Expired(expired) => {
                    self.observer.expired(wall, &expired);
                    continue;
                }
            };
            let Some(recipient) = told.envelope.recipients.get(told.recipient as usize) else { continue };
            let active = self.messages.held.get(&told.id).map_or(wall, |held| held.active);
            let times = Times { active, begun: wall, ready: wall, ended: wall };
            let (id, envelope, outcome) = (told.id, &told.envelope, &told.outcome);
            let (relay, connection_use) = (None, 0);
            self.observer.tried(&Attempt { id, envelope, recipient, relay, connection_use, times, outcome });
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
