//! One client's connection: its dialogue, its message in progress, and what it waits for. What the message waits for
//! is part of the message.

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
    /// Input that the session has not taken yet, because it waits. Idle connections have no memory here.
    pub(super) backlog: Chunks,
    /// Output of the session that was not sent yet.
    pub(super) replies: Vec<u8>,
    /// The message whose content is being received, or whose verdict is awaited.
    pub(super) message: Option<Box<Incoming<D>>>,
    /// Time at which the client will have been silent for too long.
    pub(super) deadline: Instant,
}

/// Conditions for the session to take more input.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a condition of its own; they hold in any combination"
)]
pub(super) struct Waits {
    /// A send is in progress.
    pub(super) for_send: bool,
    /// The answer of a lookup table about a command is missing.
    pub(super) for_answer: bool,
    /// End of a tarpit delay; the start of time if there is none.
    pub(super) until: Instant,
    /// The dialogue has ended: close after everything is sent.
    pub(super) for_close: bool,
    /// It is being refused for lack of a slot, and takes none meanwhile.
    pub(super) is_turned_away: bool,
    /// The client has shut its sending side.
    pub(super) is_shut: bool,
    /// What the kernel was asked for.
    pub(super) receiving: Receiving,
    /// Receiving ended for lack of buffers or on request, and must be armed again.
    pub(super) is_paused: bool,
    /// It ended for lack of buffers.
    pub(super) is_starved: bool,
}

/// What to receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Receiving {
    /// Nothing.
    #[default]
    No,
    /// A limited number of bytes: the client has yet to show that it sends mail.
    Some,
    /// Everything.
    All,
}

impl Waits {
    /// Whether a tarpit delay is in progress.
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

    /// Bytes of memory that grow with the client's input. Replies have their own bound: a session takes no other
    /// input while one is being sent.
    pub(super) fn memory(&self) -> usize {
        self.session.memory()
            + self.backlog.memory()
            + self.message.as_ref().map_or(0, |message| message.memory())
    }

    /// Bytes that the spool holds for an unfinished message.
    pub(super) fn content_in_spool(&self) -> u64 {
        self.message.as_ref().map_or(0, |message| message.content_in_spool())
    }

    /// Whether the session may take input now.
    pub(super) fn is_ready(&self) -> bool {
        let waits = &self.waits;
        let is_waiting = waits.for_send || waits.for_answer || waits.for_close || waits.is_delayed();
        !(is_waiting || self.has_message_under_way())
    }

    /// Whether the queue has to decide about its message.
    pub(super) fn is_at_end_of_message(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.is_whole())
    }

    /// Whether its message depends on the queue, and not on the client.
    pub(super) fn has_message_under_way(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.is_whole() || message.waiting.is_stuck())
    }

    /// Whether its message or its command has to wait.
    pub(super) fn is_stuck(&self) -> bool {
        self.waits.for_answer || self.message.as_ref().is_some_and(|message| message.waiting.is_stuck())
    }

    /// Whether its message waits for room in the spool.
    pub(super) fn waits_for_room(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.waiting.is_for_room())
    }

    /// Whether its message has been handed over to the spool.
    pub(super) fn is_settling(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.waiting.is_settling())
    }
}
