//! The loop of one core: takes completions, runs one turn of the engine, submits its operations.

mod accounts;
mod budget;
mod charging;
mod chunks;
mod connection;
mod connections;
mod content;
mod control;
mod engine;
mod incoming;
mod intake;
mod line;
mod outbox;
mod outgoing;
mod reading;
mod room;
mod settings;
mod shares;
mod shortage;
mod sources;
mod tag;
mod telemetry;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads;
mod timers;
mod usage;
mod waiting;
mod workers;

use std::sync::Arc;

use crossbeam::channel::Receiver;
use mailrace_core::{QueueId, Timestamp};
use mailrace_io::{Completion, Instant, Io, IoError, Operation};
use mailrace_spool::{Shared, Spool, State, Writes};

use engine::Engine;

pub(crate) use control::Markings;
pub use control::{Answer, Control, Found, Marked, Selection};
pub use outgoing::{Hatch, Request};
pub use settings::{KnownClients, WorkerSettings};
pub use sources::submission::{Report, SubmissionStart, SubmissionState, Submit};
pub(crate) use tag::Tag;
pub use telemetry::Telemetry;
pub use usage::Usage;
pub(crate) use workers::Workers;

/// Places of a ring's connection table beyond `max_connections`: their clients get 421 instead of being left
/// in the kernel's queue.
pub(crate) const SPARE_CONNECTIONS: usize = 256;

/// One core's loop over a kernel: the real one, or a simulated one.
pub struct Worker<I: Io, S: Spool> {
    io: I,
    engine: Engine<S>,
    controls: Receiver<Control>,
    shared: Arc<Shared>,
    completions: Vec<Completion>,
    drain_until: Option<Instant>,
}

impl<I: Io, S: Writes<I>> Worker<I, S> {
    /// A worker that takes mail from `io`'s connections into `spool`.
    ///
    /// `slots`: places of the connection table of `io`.
    pub fn new(
        mut io: I,
        mut spool: S,
        shared: Arc<Shared>,
        settings: Arc<WorkerSettings>,
        telemetry: Telemetry,
        controls: Receiver<Control>,
        slots: usize,
    ) -> Self {
        spool.use_memory_of(&mut io);
        let engine = Engine::new(settings, spool, telemetry, slots);
        Self { io, engine, controls, shared, completions: Vec::new(), drain_until: None }
    }

    /// Has the messages of the queue delivered by the dispatcher that `hatch` leads to.
    #[must_use]
    pub fn deliver_through(mut self, hatch: Hatch<S::Source>) -> Self {
        self.engine.outgoing.open(hatch);
        self
    }

    /// Works until it was drained.
    ///
    /// # Errors
    /// [`IoError`] when the ring failed.
    pub(crate) fn run(mut self) -> Result<(), IoError> {
        while self.turn()? {}
        Ok(())
    }

    /// Waits for something to happen, and does all that follows from it. False when the worker is drained.
    ///
    /// # Errors
    /// [`IoError`] when the ring failed.
    pub fn turn(&mut self) -> Result<bool, IoError> {
        self.turn_by(self.deadline())
    }

    /// When it has something to do even if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.engine.deadline(), self.drain_until].into_iter().flatten().min()
    }

    /// What it holds: for tests, since that takes time.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.engine.usage()
    }

    /// What is in its queue, as its memory has it: for tests.
    #[must_use]
    pub fn messages(&self) -> Vec<(QueueId, State)> {
        self.engine.messages()
    }

    /// Its spool: for tests.
    pub const fn spool(&self) -> &S {
        self.engine.intake.spool()
    }

    /// The same as [`Self::turn`], waiting until `deadline` at most; one in the past makes it a poll.
    fn turn_by(&mut self, deadline: Option<Instant>) -> Result<bool, IoError> {
        self.io.wait(deadline, &mut self.completions)?;
        let now = self.io.now();
        let wall = Timestamp::from_unix_microseconds(self.io.wall_clock());
        self.engine.begin_turn(now, wall, &self.shared, self.completions.len());
        for completion in self.completions.drain(..) {
            complete(&mut self.engine, &mut self.io, completion);
        }
        while let Ok(control) = self.controls.try_recv() {
            self.obey(control, now);
        }
        if self.drain_until.is_some_and(|until| until <= now) {
            self.drain_until = None;
            self.engine.end_all();
        }
        self.engine.settle();
        self.engine.tick();
        self.engine.markings.advance(self.engine.intake.spool_mut());
        self.engine.deliver();
        let spool = self.engine.intake.spool_mut();
        spool.advance(&mut self.io);
        spool.detach_sealed(&mut self.io);
        let mut is_sending = false;
        for (token, operation) in self.engine.outbox.drain() {
            is_sending |= matches!(operation, Operation::Send(..));
            self.io.submit(token, operation);
        }
        self.engine.end_turn();
        // What a connection was sent before it was ended goes out with the next wait, and completes.
        let is_over = self.engine.is_draining() && self.engine.is_finished() && !is_sending;
        if is_over {
            self.engine.telemetry.flush();
        }
        Ok(!is_over)
    }

    fn obey(&mut self, control: Control, now: Instant) {
        match control {
            Control::Reload(settings) => self.engine.set_settings(settings),
            Control::Answered(ticket) => self.engine.answered(ticket),
            Control::Drain => {
                if !self.engine.is_draining() {
                    self.drain_until = Some(now.after(self.engine.settings.drain_timeout));
                    self.engine.begin_drain();
                }
            }
            Control::Submit(submit) => self.engine.submit(submit),
            Control::Find { id, answer } => answer.tell(self.engine.intake.spool().place(id)),
            Control::Mark { mark, selection, answer } => {
                self.engine.markings.begin(self.engine.intake.spool(), mark, selection, answer);
            }
        }
    }
}

fn complete<I: Io, S: Spool>(engine: &mut Engine<S>, io: &mut I, completion: Completion) {
    match completion {
        Completion::Accepted { connection, peer } => engine.accepted(connection, peer),
        Completion::AcceptFailed { error } => engine.telemetry.accept_failed(&error),
        Completion::Received { connection, piece, .. } => {
            engine.received(connection, io.received(&piece));
            io.recycle(piece);
        }
        Completion::ReceiveEnded { connection, end, .. } => engine.receive_ended(connection, &end),
        Completion::Sent { connection, memory, result, .. } => {
            engine.sent(connection, memory, result.is_ok())
        }
        Completion::Written { token, block, result } => engine.written(token, block, result),
        // Nothing that completes so is submitted.
        Completion::Read { token, buffer, result } => {
            engine.intake.spool_mut().read_completed(token, buffer, result);
        }
        Completion::Connected { .. } => {}
    }
}

impl<I: Io, S: Spool> std::fmt::Debug for Worker<I, S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Worker")
    }
}
