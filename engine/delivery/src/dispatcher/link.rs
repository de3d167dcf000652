//! One connection to a next hop, and what is sent and received on it.

use mailrace_core::Timestamp;
use mailrace_io::{ConnectionId, Instant};
use mailrace_spool::ReadId;

use crate::agent::smtp::SmtpDelivery;

/// One connection, from the attempt to make it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) delivery: SmtpDelivery,
    /// `None` while it is being made.
    pub(super) connection: Option<ConnectionId>,
    /// The read of the message's content.
    pub(super) read: Option<ReadId>,
    /// The read has something to give once it is asked.
    pub(super) is_read_resting: bool,
    pub(super) is_sending: bool,
    /// The manager was told what the job has come to.
    pub(super) is_reported: bool,
    /// When the server has kept it waiting for too long.
    pub(super) deadline: Instant,
    pub(super) times: Times,
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

impl Link {
    /// A connection that is to be made.
    pub(super) const fn new(delivery: SmtpDelivery, deadline: Instant, times: Times) -> Self {
        Self {
            delivery,
            connection: None,
            read: None,
            is_read_resting: false,
            is_sending: false,
            is_reported: false,
            deadline,
            times,
        }
    }

    /// Whether all was said and sent.
    pub(super) fn is_finished(&mut self) -> bool {
        self.delivery.is_over() && !self.is_sending && self.delivery.output().is_empty()
    }
}
