//! Reports on their way to the spool: what the system itself tells senders and postmasters.
//!
//! Before a report is taken, the message that it is about is noted with the id that the report will have: after a crash the
//! dispatcher asks whether there is a message with that id, and does not have it made twice.

use std::collections::HashMap;

use mailrace_core::envelope::{Protocol, Speaker};
use mailrace_core::{Origin, QueueId};
use mailrace_delivery::dispatcher::{Answer, Report};
use mailrace_delivery::manager::{Note, Noted, action_of};
use mailrace_spool::Spool;

use crate::worker::engine::Engine;
use crate::worker::incoming::Incoming;
use crate::worker::intake::{Advance, Sender, Work};
use crate::worker::tag::Source;

/// The reports that a worker is taking into the queue, by number.
#[derive(Debug)]
pub(crate) struct Reports<D> {
    table: HashMap<u64, Box<Taking<D>>>,
    next: u64,
}

/// A report that is being taken into the queue.
#[derive(Debug)]
struct Taking<D> {
    report: Box<Report>,
    /// Number of the message of it that is being taken.
    place: usize,
    message: Incoming<D>,
    origin: Origin,
    /// Those that are in the queue.
    ids: Vec<QueueId>,
}

impl<D> Reports<D> {
    pub(in crate::worker) fn new() -> Self {
        Self { table: HashMap::new(), next: 0 }
    }

    pub(in crate::worker) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether this one is being taken.
    pub(in crate::worker) fn has(&self, number: u64) -> bool {
        self.table.contains_key(&number)
    }
}

impl<S: Spool> Engine<S> {
    /// Begins to take a report.
    pub(in crate::worker) fn begin_report(&mut self, report: Box<Report>) {
        let message = self.intake.begin(self.wall, true);
        let id = message.id;
        let origin = Origin { protocol: Protocol::Local, speaker: Speaker::User, ..Origin::default() };
        let taking = Box::new(Taking { report, place: 0, message, origin, ids: Vec::new() });
        if self.budget.is_storage_low {
            return self.end_report(*taking, Noted::Failed);
        }
        let mut before = taking.report.before.clone();
        before.report = Some((action_of(taking.report.kind), id));
        let (number, about) = (self.reports.next, taking.report.about);
        self.reports.next += 1;
        self.reports.table.insert(number, taking);
        self.outgoing.note_for_report(number, about, Note::Progress(before));
    }

    /// Continues with the reports whose id is noted, or could not be.
    /// Begins those that have come, and returns whether there were any.
    pub(in crate::worker) fn advance_reports(&mut self) -> bool {
        let mut has_begun = false;
        while let Some(report) = self.outgoing.next_report() {
            self.begin_report(report);
            has_begun = true;
        }
        while let Some((number, noted)) = self.outgoing.next_report_note() {
            let Some(mut taking) = self.reports.table.remove(&number) else { continue };
            if noted == Noted::Durable {
                self.keep_report_content(&mut taking);
                self.advance_report(number, taking);
            } else {
                self.end_report(*taking, noted);
            }
        }
        has_begun
    }

    fn keep_report_content(&mut self, taking: &mut Taking<S::Draft>) {
        let Some((_, content)) = taking.report.messages.get_mut(taking.place) else { return };
        let content = std::mem::take(content);
        let arena = self.intake.lend_arena();
        taking.message.keep(&self.settings.internal_cleanup, &arena, &[&content]);
        self.intake.take_arena_back(arena);
    }

    /// Gives a message to the spool.
    fn advance_report(&mut self, number: u64, mut taking: Box<Taking<S::Draft>>) {
        let Taking { report, place, message, origin, .. } = &mut *taking;
        let Some((envelope, _)) = report.messages.get(*place) else {
            return self.end_report(*taking, Noted::Durable);
        };
        let source = Source::Report(number);
        let sender = Sender { source, names: SYSTEM, origin, envelope };
        let mut work = Work {
            settings: &self.settings.internal_cleanup,
            telemetry: &mut self.telemetry,
            now: self.now,
            is_pressed: self.budget.is_pressed,
        };
        let arena = self.intake.lend_arena();
        let advance = self.intake.commit(&sender, message, &[], &arena, &mut work);
        self.intake.take_arena_back(arena);
        match advance {
            Advance::Taken | Advance::Waits => {}
            Advance::Asks(ticket) => {
                self.reports.table.insert(number, taking);
                return self.ask(source, ticket);
            }
            Advance::Discarded => return self.next_of_report(number, taking),
            Advance::Failed(_) => {
                let noted = if taking.ids.is_empty() { Noted::Failed } else { Noted::Durable };
                return self.end_report(*taking, noted);
            }
        }
        self.reports.table.insert(number, taking);
    }

    /// Retries what lacked room or an answer.
    pub(in crate::worker) fn retry_report(&mut self, number: u64) {
        let Some(mut taking) = self.reports.table.remove(&number) else { return };
        taking.message.waiting.end(self.now);
        self.advance_report(number, taking);
    }

    /// Handles the spool's answer about a message of a report.
    pub(in crate::worker) fn report_settled(&mut self, number: u64, is_durable: bool) {
        let mut taking = self.reports.table.remove(&number).expect("a report stays until it is settled");
        if !is_durable {
            let noted = if taking.ids.is_empty() { Noted::Failed } else { Noted::Durable };
            return self.end_report(*taking, noted);
        }
        taking.ids.push(taking.message.id);
        let latency = taking.message.waiting.latency(self.now);
        if let Some((envelope, _)) = taking.report.messages.get(taking.place) {
            self.telemetry.queued(&taking.origin, envelope, &taking.message, latency);
        }
        self.next_of_report(number, taking);
    }

    /// Continues with the next message of a report.
    fn next_of_report(&mut self, number: u64, mut taking: Box<Taking<S::Draft>>) {
        taking.place += 1;
        if taking.place >= taking.report.messages.len() {
            return self.end_report(*taking, Noted::Durable);
        }
        taking.message = self.intake.begin(self.wall, true);
        self.keep_report_content(&mut taking);
        self.advance_report(number, taking);
    }

    fn end_report(&mut self, mut taking: Taking<S::Draft>, noted: Noted) {
        self.intake.abandon(&mut taking.message);
        let Taking { report, ids, .. } = taking;
        self.outgoing.reported(Answer::Reported { about: report.about, kind: report.kind, noted, ids });
    }
}

/// The system's own mail takes turns with the clients, as one client of its own network, which no account has.
const SYSTEM: (u32, u32) = (u32::MAX - 1, u32::MAX);
