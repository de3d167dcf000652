//! Calls, events and verdicts between a session and its caller.

use alloc::borrow::Cow;

use super::Settings;
use crate::envelope::Origin;
use crate::lookup::Ticket;
use crate::queue_id::QueueId;
use crate::timestamp::Timestamp;

/// Parameters of one call of [`Session::feed`].
pub struct Context<'a> {
    /// Shared settings.
    pub settings: &'a Settings,
    /// The time of this call.
    pub wall: Timestamp,
    /// There is no room for another message or recipient: the queue's file system is nearly full, or the memory for
    /// envelopes. MAIL and RCPT get 452 4.3.1.
    pub is_storage_low: bool,
    /// Receives replies and refusals, for log and metrics.
    pub observer: &'a mut dyn Observer,
}

/// Receives replies and refusals, for log and metrics.
pub trait Observer {
    /// A reply was written.
    fn replied(&mut self, code: u16);
    /// Something was refused for a reason that operators look for.
    fn rejected(&mut self, origin: &Origin, reject: &Reject<'_>);
}

/// One refusal, for the log line `NOQUEUE: reject: STAGE from ...`.
#[derive(Debug)]
pub struct Reject<'a> {
    /// `MAIL`, `RCPT`, `DATA`, `BDAT`, `END-OF-MESSAGE`, `CONNECT`, or another command's verb.
    pub stage: &'static str,
    /// A short fixed reason for the metric's label, such as `relay_denied`.
    pub reason: &'static str,
    /// The reply without line end.
    pub reply: &'a [u8],
    /// The transaction's reverse-path; `None` before MAIL.
    pub sender: Option<&'a [u8]>,
    /// The forward-path at issue.
    pub recipient: Option<&'a [u8]>,
}

/// The result of one step.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Number of input bytes consumed; the next call is given the remainder again.
    pub consumed: usize,
    /// Action of the caller before its next call.
    pub event: Event<'a>,
}

/// Action of the caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All input was used: send the replies, wait for more.
    NeedInput,
    /// The replies are full: send them, then call again with the rest of the input.
    SendReplies,
    /// Content begins: [`Session::envelope`] is complete.
    ContentBegin,
    /// A piece of content: dots removed, line ends CRLF. Borrowed from the input where possible.
    Content(&'a [u8]),
    /// The content is whole. No input may be given until [`Session::verdict`] was called.
    ContentEnd,
    /// Drop the content so far; its transaction is over.
    ContentAbandon,
    /// Hold the replies back for this time, and take no input meanwhile (tarpit).
    Delay {
        /// Milliseconds.
        milliseconds: u32,
    },
    /// A lookup table has not answered this question yet: send the replies, and call again with the rest of the
    /// input when it has.
    Ask(Ticket),
    /// Send the replies, then close.
    Close,
}

/// The caller's decision about a message after [`Event::ContentEnd`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The message is durable under this id, or dropped because of a check.
    Queued(QueueId),
    /// The message is refused.
    Refused {
        /// A short fixed reason for the metric's label.
        reason: &'static str,
        /// The reply without line end.
        reply: Cow<'static, [u8]>,
    },
    /// The queue could not take it: a failed write or flush (451 4.3.0).
    QueueWriteFailed,
    /// The queue is full (452 4.3.1).
    StorageFull,
}
