//! The interfaces of a dispatcher to workers, log and router.

use std::sync::Arc;
use std::time::Duration;

use mailrace_core::envelope::Recipient;
use mailrace_core::{Envelope, QueueId, Timestamp};

use super::Times;
use crate::agent::smtp::SmtpSettings;
use crate::manager::{self, Note, Noted};
use crate::outcome::{Outcome, Reason};
use crate::route::NextHop;

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
