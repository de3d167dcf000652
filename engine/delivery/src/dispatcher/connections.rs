//! What happens on the connections to next hops.

use std::collections::{BTreeSet, HashMap};

use mailrace_core::Timestamp;
use mailrace_io::{ConnectionId, Instant, Io, Operation, Piece, ReceiveEnd, Token};
use mailrace_spool::{Part, ReadEvent, Reads};

use super::link::Link;
use super::{Attempt, Dispatcher, Observer, Queue, Times};
use crate::agent::smtp::Loss;
use crate::manager::Job;
use crate::outcome::Outcome;
use crate::route::NextHop;

/// The connections, by the number that is the token of what happens on them and the tag of the read of their content.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) table: HashMap<u64, Link>,
    pub(super) deadlines: BTreeSet<(Instant, u64)>,
    /// The next number: of a connection, or of the read of an envelope.
    next: u64,
}

impl Links {
    pub(super) const fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl<I: Io, R: Reads<I>, Q: Queue, O: Observer> Dispatcher<I, R, Q, O>
where
    R::Source: Clone,
{
    pub(super) fn connected(&mut self, serial: u64, result: std::io::Result<ConnectionId>) {
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

    pub(super) fn received(&mut self, serial: u64, piece: Piece) {
        if let Some(link) = self.links.table.get_mut(&serial) {
            link.delivery.received(self.io.received(&piece));
        }
        self.io.recycle(piece);
        self.go_on(serial);
    }

    pub(super) fn receive_ended(&mut self, serial: u64, connection: ConnectionId, end: &ReceiveEnd) {
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

    pub(super) fn sent(&mut self, serial: u64, mut memory: Vec<u8>, is_whole: bool) {
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

    pub(super) fn look_at_deadlines(&mut self) {
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
    pub(super) fn go_on(&mut self, serial: u64) {
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

/// Takes what the read of a link's content gives.
pub(super) fn take_content(link: &mut Link, event: ReadEvent<'_>) {
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
