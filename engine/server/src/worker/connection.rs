//! Owns one client's connection: its dialogue, its message under way, and what it waits for. What the message waits for
//! it knows itself.

use mailrace_core::smtp::Session;
use mailrace_io::{ConnectionId, Instant};

use super::chunks::Chunks;
use super::incoming::Incoming;

/// One connection. Kept small: 15,000 idle ones are a design goal.
#[derive(Debug)]
pub(super) struct Connection<D> {
    pub(super) id: ConnectionId,
    pub(super) session: Session,
    pub(super) waits: Waits,
    /// Received and not yet taken by the session, because it waits. Empty without memory when idle.
    pub(super) backlog: Chunks,
    /// Written by the session and not yet sent.
    pub(super) replies: Vec<u8>,
    /// The message whose content is coming in, or whose verdict is awaited.
    pub(super) message: Option<Box<Incoming<D>>>,
    /// When the client has been silent for too long.
    pub(super) deadline: Instant,
}

/// What has to happen before the session takes more input.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a condition of its own; they hold in any combination"
)]
pub(super) struct Waits {
    /// A send is under way.
    pub(super) for_send: bool,
    /// A lookup table has not answered about a command.
    pub(super) for_answer: bool,
    /// A tarpit delay lasts until then; the start of time when there is none.
    pub(super) until: Instant,
    /// The dialogue is over: close once everything is sent.
    pub(super) for_close: bool,
    /// It got no place: it is told so, and takes none while it is.
    pub(super) is_turned_away: bool,
    /// The client has shut its sending side.
    pub(super) is_shut: bool,
    /// What is asked of the kernel.
    pub(super) receiving: Receiving,
    /// Receiving ended for want of buffers or by our wish, and is to be armed again.
    pub(super) is_paused: bool,
    /// It was for want of buffers.
    pub(super) is_starved: bool,
}

/// What is to be received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Receiving {
    /// Nothing.
    #[default]
    No,
    /// Some octets, and then no more: the client has yet to show that it sends mail.
    Some,
    /// Whatever comes.
    All,
}

impl Waits {
    /// Whether a tarpit delay is under way.
    pub(super) const fn is_delayed(&self) -> bool {
        self.until.nanoseconds() > 0
    }
}

impl<D> Connection<D> {
    pub(super) fn new(id: ConnectionId, session: Session, deadline: Instant) -> Self {
        Self {
            id,
            session,
            waits: Waits::default(),
            backlog: Chunks::default(),
            replies: Vec::new(),
            message: None,
            deadline,
        }
    }

    /// Bytes of memory that grow with what the client sends. Replies have a bound of their own: a session takes nothing
    /// more while one is under way.
    pub(super) fn memory(&self) -> usize {
        self.session.memory()
            + self.backlog.memory()
            + self.message.as_ref().map_or(0, |message| message.memory())
    }

    /// Octets that the spool holds for a message that has not ended.
    pub(super) fn content_in_spool(&self) -> u64 {
        self.message.as_ref().map_or(0, |message| message.content_in_spool())
    }

    /// Whether the session may take input now.
    pub(super) fn is_ready(&self) -> bool {
        let waits = &self.waits;
        let is_waiting = waits.for_send || waits.for_answer || waits.for_close || waits.is_delayed();
        !(is_waiting || self.has_message_under_way())
    }

    /// Whether the queue has to say what becomes of its message.
    pub(super) fn is_at_end_of_message(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.is_whole())
    }

    /// Whether its message is for the queue to go on with, and not for the client.
    pub(super) fn has_message_under_way(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.is_whole() || message.is_stuck())
    }

    /// Whether nothing can be done about its message right now, or about its command.
    pub(super) fn is_stuck(&self) -> bool {
        self.waits.for_answer || self.message.as_ref().is_some_and(|message| message.is_stuck())
    }

    /// Whether its message waits for room in the spool.
    pub(super) fn waits_for_room(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.waits_for_room())
    }

    /// Whether its message has been handed over to the spool, which answers for it.
    pub(super) fn is_settling(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.is_settling())
    }
}
