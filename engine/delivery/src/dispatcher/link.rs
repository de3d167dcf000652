//! One connection to a server, and what is sent and received on it.

use mailrace_core::Timestamp;
use mailrace_io::{ConnectionId, Instant};
use mailrace_spool::ReadId;

use super::handover::Handover;
use crate::agent::smtp::SmtpDelivery;
use crate::route::Route;

/// One connection, from the attempt to make it.
#[derive(Debug)]
pub(super) struct Link<S> {
    /// The destination that it was made for.
    pub(super) route: Route,
    pub(super) delivery: SmtpDelivery,
    /// The job whose transaction is on it; `None` once its outcome is certain.
    pub(super) handover: Option<Handover<S>>,
    /// `None` while it is being made.
    pub(super) connection: Option<ConnectionId>,
    /// The read of the message's content.
    pub(super) read: Option<ReadId>,
    /// The read has something to give once it is asked.
    pub(super) is_read_resting: bool,
    pub(super) is_sending: bool,
    /// Since when it waits for another job.
    pub(super) kept_since: Option<Instant>,
    /// When the server has kept it waiting for too long.
    pub(super) deadline: Instant,
}

/// When a delivery went from one stage to the next: Postfix's `delays=`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The message came to the active queue.
    pub active: Timestamp,
    /// The connection was begun.
    pub begun: Timestamp,
    /// The server was ready for the transaction, or had failed.
    pub ready: Timestamp,
    /// The outcome was certain.
    pub ended: Timestamp,
}

impl<S> Link<S> {
    /// A connection that is to be made for a job.
    pub(super) const fn new(
        route: Route,
        delivery: SmtpDelivery,
        handover: Handover<S>,
        deadline: Instant,
    ) -> Self {
        Self {
            route,
            delivery,
            handover: Some(handover),
            connection: None,
            read: None,
            is_read_resting: false,
            is_sending: false,
            kept_since: None,
            deadline,
        }
    }

    /// Whether all was said and sent.
    pub(super) fn is_finished(&mut self) -> bool {
        self.delivery.is_over() && !self.is_sending && self.delivery.output().is_empty()
    }
}
