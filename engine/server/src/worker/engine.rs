//! The engine of one core without its kernel: everything between completions and operations.
//!
//! Nothing here waits, locks or calls the kernel. Operations are put in the outbox. Each part owns its fields:
//!
//! | part | owns |
//! |---|---|
//! | [`Intake`] | messages on their way to the spool, and the spool |
//! | [`Connections`] | the table of connections, and the order in which they are read when a turn has too many |
//! | [`Outbox`] | what the kernel is to be asked for |
//! | [`Accounts`] | what clients hold and owe |
//! | [`Budget`] | what is short |
//! | [`Timers`] | when to look at which connection |
//! | [`Submissions`] | messages of this machine that are under way |
//! | [`Reports`] | reports that are being taken into the queue |
//! | [`Markings`] | marks that other threads asked for |
//! | [`Outgoing`] | what the dispatcher of deliveries asks for, and what it is to be told |

use std::sync::Arc;
use std::time::Duration;

use mailrace_core::Timestamp;
use mailrace_core::lookup::Ticket;
use mailrace_io::{Block, Instant, Operation, Token};
use mailrace_spool::{Shared, Spool};

use super::accounts::Accounts;
use super::budget::Budget;
use super::connections::Connections;
use super::control::Markings;
use super::intake::{Intake, Part};
use super::outbox::Outbox;
use super::outgoing::Outgoing;
use super::settings::WorkerSettings;
use super::sources::report::Reports;
use super::sources::submission::Submissions;
use super::tag::{Source, Tag};
use super::telemetry::Telemetry;
use super::timers::Timers;

/// One core's engine.
pub(crate) struct Engine<S: Spool> {
    pub(super) settings: Arc<WorkerSettings>,
    pub(super) intake: Intake<S>,
    pub(super) connections: Connections<S::Draft>,
    pub(super) outbox: Outbox,
    pub(super) accounts: Accounts,
    pub(super) budget: Budget,
    pub(super) timers: Timers,
    pub(super) submissions: Submissions<S::Draft>,
    pub(super) reports: Reports<S::Draft>,
    pub(super) markings: Markings,
    pub(super) outgoing: Outgoing<S::Source>,
    pub(super) telemetry: Telemetry,
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
}

impl<S: Spool> Engine<S> {
    /// `slots`: places of the connection table.
    pub(crate) fn new(settings: Arc<WorkerSettings>, spool: S, telemetry: Telemetry, slots: usize) -> Self {
        let mut engine = Self {
            settings: Arc::clone(&settings),
            intake: Intake::new(spool),
            connections: Connections::new(slots),
            outbox: Outbox::default(),
            accounts: Accounts::new(slots),
            budget: Budget::default(),
            timers: Timers::new(slots),
            submissions: Submissions::new(),
            reports: Reports::new(),
            markings: Markings::default(),
            outgoing: Outgoing::new(),
            telemetry,
            now: Instant::default(),
            wall: Timestamp::default(),
        };
        engine.set_settings(settings);
        engine
    }

    /// Starts a turn of the loop.
    ///
    /// `completions`: number of completions in this turn.
    pub(super) fn begin_turn(&mut self, now: Instant, wall: Timestamp, storage: &Shared, completions: usize) {
        self.connections.reading.begin_turn(completions);
        self.now = now;
        self.wall = wall;
        self.budget.is_storage_low = storage.is_storage_low();
        self.budget.free_octets = storage.free_octets() / self.settings.workers.max(1) as u64;
        self.find_shares();
        self.telemetry.begin_turn(wall);
    }

    /// Ends a turn.
    pub(super) fn end_turn(&mut self) {
        let spool = self.intake.spool();
        let (is_idle, blocks, stats) = (spool.is_idle(), spool.blocks_in_use(), spool.stats());
        self.telemetry.end_turn(is_idle, self.connections.open(), self.memory(), blocks, stats);
    }

    /// Returns the time at which something is due without a completion.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let choke_ends_at = self.budget.is_choked.then_some(self.budget.choke_ends_at);
        let relief_at = self.is_memory_short().then_some(self.budget.relief_at);
        let resume_at =
            (self.connections.reading.has_more_paused && !self.budget.is_choked).then_some(self.now);
        self.timers.next().into_iter().chain(choke_ends_at).chain(relief_at).chain(resume_at).min()
    }

    /// Handles the end of a write of the spool.
    pub(super) fn written(&mut self, token: Token, block: Block, result: std::io::Result<()>) {
        self.telemetry.batch_written(block.len(), &result);
        self.intake.spool_mut().completed(token, block, result);
    }

    /// Passes the spool's answers to their sources, and retries messages that waited for room.
    pub(super) fn settle(&mut self) {
        while let Some((tag, result)) = self.intake.spool_mut().next_settled() {
            self.settled(Tag::unpack(tag), result.is_ok());
        }
        for part in [Part::End, Part::Chunk] {
            while let Some(source) = self.intake.next(part, self.budget.is_pressed) {
                self.retry(source);
                if self.intake.is_blocked(part) {
                    break;
                }
            }
        }
    }

    fn settled(&mut self, tag: Tag, is_durable: bool) {
        match tag {
            Tag::Message(Source::Connection(id)) => self.message_settled(id, is_durable),
            Tag::Message(Source::Submission(number)) => self.submission_settled(number, is_durable),
            Tag::Message(Source::Report(number)) => self.report_settled(number, is_durable),
            Tag::Mark(number) => {
                if let Some(released) = self.markings.settled(number, is_durable) {
                    self.outgoing.arrived(released);
                }
            }
            Tag::Note(number) => self.outgoing.settled(number, is_durable),
        }
    }

    /// Handles the answer of a lookup table.
    pub(super) fn answered(&mut self, ticket: Ticket) {
        for source in self.intake.answered(ticket) {
            self.retry(source);
        }
        self.outgoing.table_answered();
    }

    /// Retries what could not be done.
    fn retry(&mut self, source: Source) {
        match source {
            Source::Connection(id) => self.retry_connection(id),
            Source::Submission(number) => self.retry_submission(number),
            Source::Report(number) => self.retry_report(number),
        }
    }

    /// Registers a source for the answer of a table.
    pub(super) fn ask(&mut self, source: Source, ticket: Ticket) {
        let (connections, submissions, reports) = (&self.connections, &self.submissions, &self.reports);
        self.intake.ask(ticket, source, |source| match source {
            Source::Connection(id) => connections.has(id),
            Source::Submission(number) => submissions.has(number),
            Source::Report(number) => reports.has(number),
        });
    }

    /// Does what the dispatcher of deliveries asks for.
    pub(super) fn deliver(&mut self) {
        self.outgoing.advance(self.intake.spool_mut());
        if self.advance_reports() {
            // The note that a report begins with must not wait for the next turn, which nothing may call for.
            self.outgoing.advance(self.intake.spool_mut());
        }
    }

    /// Handles connections whose time has come, and arms those that are read from again.
    pub(super) fn tick(&mut self) {
        while let Some(slot) = self.timers.due(self.now) {
            let Some(mut connection) = self.connections.take_from(slot as usize) else { continue };
            self.look_at(&mut connection);
            let waits = &connection.waits;
            if waits.is_delayed() {
                self.timers.once(slot, waits.until);
            } else if waits.for_close {
                self.timers.once(slot, connection.deadline);
            }
            self.timers.stand(slot, connection.deadline.max(self.now.after(Duration::from_millis(1))));
            self.put_back(connection);
        }
        self.ration();
    }

    /// Bytes of content, envelopes and input in memory.
    pub(super) fn memory(&self) -> usize {
        usize::try_from(self.accounts.memory()).unwrap_or(usize::MAX)
    }

    /// Uses new settings from now on.
    pub(super) fn set_settings(&mut self, settings: Arc<WorkerSettings>) {
        self.telemetry.log_connections = settings.log_connections;
        self.settings = settings;
    }

    /// Whether the engine is draining.
    pub(super) const fn is_draining(&self) -> bool {
        self.connections.is_draining
    }

    /// Stops accepting connections and ends sessions that are between messages.
    pub(super) fn begin_drain(&mut self) {
        self.connections.is_draining = true;
        self.put_submissions_off();
        self.outbox.push(Operation::StopAccepting);
        for slot in 0..self.connections.slots() {
            let Some(mut connection) = self.connections.take_from(slot) else { continue };
            self.drain(&mut connection);
            self.put_back(connection);
        }
    }

    /// Ends all sessions, whatever their state.
    pub(super) fn end_all(&mut self) {
        for slot in 0..self.connections.slots() {
            if let Some(connection) = self.connections.take_from(slot) {
                self.close(connection);
            }
        }
    }

    /// Whether all sessions have ended and all messages are settled.
    pub(super) fn is_finished(&self) -> bool {
        self.connections.open() == 0
            && self.markings.is_empty()
            && self.outgoing.is_idle()
            && self.reports.is_empty()
            && self.intake.spool().is_idle()
    }
}
