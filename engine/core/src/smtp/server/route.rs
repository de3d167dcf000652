//! Routes that lead nowhere: Postfix's transports `error` and `retry`.
//!
//! Mail with such a route would only be returned or deferred, so the session refuses its address.

use core::fmt::Debug;

use bumpalo::Bump;

use super::unlisted::Side;
use crate::lookup::{Asker, LookupError};
use crate::record::delivery::Status;
use crate::smtp::reply::{self, Filled};

/// Routes of addresses.
pub trait Routes: Debug + Send + Sync {
    /// Returns why mail from `sender` to `address` (internal forms) cannot be delivered, or `None` if its route leads
    /// somewhere. `asker`: on whose behalf tables are searched.
    ///
    /// # Errors
    /// [`LookupError`] of a table.
    fn dead_end<'a>(
        &self,
        arena: &'a Bump,
        sender: &[u8],
        address: &[u8],
        asker: Asker<'_>,
    ) -> Result<Option<DeadEnd<'a>>, LookupError>;

    /// Returns whether a table may return [`LookupError::Pending`].
    fn may_wait(&self) -> bool;
}

/// What the transport `error` or `retry` says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadEnd<'a> {
    /// The transport is `retry`: the reply code is 450 instead of 550.
    pub is_temporary: bool,
    /// Enhanced status code (RFC 3463). The reply code determines its class.
    pub status: Option<Status>,
    /// The reason, for the client.
    pub text: &'a [u8],
}

impl<'a> DeadEnd<'a> {
    /// Returns the refusal of an address.
    pub(super) fn reply(self, side: Side, address: &'a [u8]) -> Filled<'a> {
        let reply = match side {
            Side::Sender => &reply::UNDELIVERABLE_SENDER,
            Side::Recipient => &reply::UNDELIVERABLE_RECIPIENT,
        };
        let filled = reply.with_both(address, self.text).with_code(if self.is_temporary { 450 } else { 550 });
        match self.status {
            Some(Status { subject, detail, .. }) => {
                filled.with_status(subject, detail_for(side, subject, detail))
            }
            None => filled,
        }
    }
}

/// Returns the detail of a status that is about an address on this side. Subject 1 has different details for senders and for
/// recipients (RFC 3463 §3.2), and a route does not know which it is asked about.
const fn detail_for(side: Side, subject: u16, detail: u16) -> u16 {
    match (side, subject, detail) {
        (Side::Sender, 1, 1 | 3 | 4 | 6) => 7,
        (Side::Sender, 1, 2) => 8,
        (Side::Sender, 1, 5 | 9) => 0,
        (Side::Recipient, 1, 7) => 3,
        (Side::Recipient, 1, 8) => 2,
        _ => detail,
    }
}
