//! The interfaces of a dispatcher to workers, log, router and resolver.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Sender;
use mailrace_core::envelope::Recipient;
use mailrace_core::record::delivery::{Cause, Progress};
use mailrace_core::{Envelope, QueueId, Timestamp};

use super::Times;
use crate::agent::smtp::SmtpSettings;
use crate::bounce::{Kind, ReportSettings};
use crate::hosts::Servers;
use crate::manager::{self, Expired, Note, Noted, Selection};
use crate::outcome::Outcome;
use crate::route::{HostName, Routed, Server};

/// The owners of the messages, as the dispatcher asks them. Each call is answered, once, by an [`Answer`].
pub trait Queue {
    /// Asks where a message is.
    fn find(&mut self, worker: u16, id: QueueId);

    /// Has something noted of a message.
    fn note(&mut self, worker: u16, id: QueueId, note: Note);

    /// Asks all workers whether a message is in the queue, on hold or not. Each answers; returns their number.
    fn exists(&mut self, about: QueueId, id: QueueId) -> usize;

    /// Has a report taken into the queue by the worker that has the message.
    fn report(&mut self, worker: u16, report: Box<Report>);
}

/// A report that is to be taken into the queue. First [`Report::before`] is noted, with the id that the report will have, so
/// that after a crash it is known whether there is one; then the report is made durable. The dispatcher has the message noted
/// as reported, and only then takes the report up.
#[derive(Clone, Debug)]
pub struct Report {
    /// The message that it is about.
    pub about: QueueId,
    /// What it is about.
    pub kind: Kind,
    /// The report, then copies for the postmaster: the envelope and the content of each.
    pub messages: Vec<(Envelope, Vec<u8>)>,
    /// What is to be noted of the message first.
    pub before: Progress,
}

/// What a worker says, or another thread.
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
    /// Whether one worker has the report about a message that was asked for.
    Exists {
        /// The message.
        about: QueueId,
        /// The worker has the report.
        is_there: bool,
    },
    /// What became of a report.
    Reported {
        /// The message that it is about.
        about: QueueId,
        /// What it is about.
        kind: Kind,
        /// What became of it.
        noted: Noted,
        /// Ids of the report and its copies, as far as they are durable. The worker does not tell of them otherwise.
        ids: Vec<QueueId>,
    },
    /// The servers of a host name that was asked for, in the order in which they are tried.
    Resolved(u64, Servers),
    /// A table has answered: routes that were pending may be found now.
    TableAnswered,
    /// An operator wants messages tried now.
    Flush(Selection, Asked),
    /// An operator wants messages given back to their senders.
    Expire(Selection, Asked),
    /// Begin nothing more, and end by this much later at the latest.
    Stop(Duration),
}

/// Receives the number of messages that a request concerns.
#[derive(Clone, Debug)]
pub struct Asked(pub Sender<u64>);

impl Asked {
    pub(super) fn answer(&self, count: u64) {
        // The thread that asked may have ended.
        let _ = self.0.send(count);
    }
}

/// What an operator wishes to know.
pub trait Observer {
    /// A message came to the active queue.
    fn active(&mut self, wall: Timestamp, id: QueueId, envelope: &Envelope, size: u64);

    /// A recipient was tried.
    fn tried(&mut self, attempt: &Attempt<'_>);

    /// A server was of no use, and another one is tried.
    fn skipped(&mut self, wall: Timestamp, id: QueueId, cause: &Cause);

    /// A message was given up.
    fn expired(&mut self, wall: Timestamp, expired: &Expired);

    /// A report is in the queue.
    fn reported(&mut self, wall: Timestamp, about: QueueId, kind: Kind, id: QueueId);

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
    pub relay: Option<&'a Server>,
    /// How many messages the connection was used for, this one included.
    pub connection_use: u32,
    /// When it went from stage to stage.
    pub times: Times,
    /// What became of it.
    pub outcome: &'a Outcome,
}

/// Settings of a dispatcher.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the queue manager, with the limits of each transport.
    pub manager: manager::Settings,
    /// Of the client that each transport delivers by.
    pub transports: Vec<Arc<SmtpSettings>>,
    /// What reports say of this host, and their limits.
    pub reports: Arc<ReportSettings>,
    /// How log lines name this host, where a socket on it is meant (`myhostname`).
    pub own_name: Box<str>,
    /// The next hop whose failures are temporary whatever they are, because it is configured (`relayhost`).
    pub relayhost: Box<str>,
    /// Next hops that are tried when the others are of no use (`smtp_fallback_relay`).
    pub fallback_relay: Box<str>,
}

/// Says where a recipient's mail goes.
pub type Router = Box<dyn FnMut(&Envelope, &Recipient) -> Routed + Send>;

/// Looks for the servers of a host name; the answer is [`Answer::Resolved`] with the same number.
pub type Resolver = Box<dyn FnMut(u64, HostName) + Send>;
