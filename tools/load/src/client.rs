//! State of a connection: its current action and its next one.

use mailrace_core::smtp::client::{Awaited, ReplyReader, Session};
use mailrace_io::{ConnectionId, Instant};

/// A client with its current connection; after QUIT it opens the next one.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Stage between two connections.
    pub(crate) stage: Stage,
    /// The connection, once established.
    pub(crate) connection: Option<ConnectionId>,
    /// Parser of replies.
    pub(crate) reader: ReplyReader,
    /// Dialogue: the commands that may be sent, and the command that each reply answers.
    pub(crate) session: Session,
    /// Connected to send a message that it has not started yet.
    pub(crate) is_promised: bool,
    /// Next action once the current send is complete.
    pub(crate) next: Option<Action>,
    /// A send is in progress.
    pub(crate) is_sending: bool,
    /// Extensions in use.
    pub(crate) uses: Uses,
    /// Current transaction.
    pub(crate) current: Option<Transaction>,
    /// With pipelining: the transaction whose commands followed the content of the current one.
    pub(crate) upcoming: Option<Transaction>,
    /// Number of content bytes handed to the kernel.
    pub(crate) content_sent: usize,
    /// Time of the next action that no completion triggers: more content with `--rate`, a retry.
    pub(crate) due: Option<Instant>,
    /// Messages still to be sent on this connection.
    pub(crate) messages_left: u64,
    /// Start of connecting.
    pub(crate) connect_started: Instant,
    /// Time at which the end of content was handed to the kernel.
    pub(crate) content_ended: Instant,
    /// Start of the current send.
    pub(crate) send_started: Instant,
    /// Time since which the next reply has been awaited.
    pub(crate) waiting_since: Instant,
    /// EHLO or HELO was accepted.
    pub(crate) is_proven: bool,
    /// A message was accepted on this connection, or it is being closed with QUIT.
    pub(crate) is_of_use: bool,
    /// Number of consecutive connections without an accepted message.
    pub(crate) failures: u32,
}

/// Stage of a client between two connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waits for its turn to connect.
    #[default]
    Queued,
    /// Connecting.
    Connecting,
    /// Connecting takes too long and counts as failed, but has not ended.
    Overdue,
    /// Pauses after a failed connection.
    Resting,
    /// Connected.
    Open,
    /// Finished.
    Done,
}

/// A message in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    /// Its number.
    pub(crate) number: u64,
    /// When MAIL was sent.
    pub(crate) started: Instant,
    /// MAIL was sent after another message's content, so its latency is meaningless.
    pub(crate) is_behind_content: bool,
    /// Number of RCPT commands sent.
    pub(crate) recipients_asked: u32,
}

/// Extensions that are used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uses {
    /// Commands are sent in groups.
    pub(crate) pipelining: bool,
    /// Content is sent with BDAT.
    pub(crate) chunking: bool,
}

/// What a client sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// EHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// MAIL of a new message (with pipelining also its RCPT and DATA), or QUIT when there is none.
    Transaction,
    /// RCPT.
    Recipient,
    /// DATA, or BDAT with content.
    Data,
    /// RSET.
    Reset,
}

impl Client {
    /// Resets all state of the connection.
    pub(crate) fn reset(&mut self) {
        self.connection = None;
        self.reader.reset();
        self.session.restart();
        self.next = None;
        self.is_sending = false;
        self.uses = Uses::default();
        self.current = None;
        self.upcoming = None;
        self.content_sent = 0;
        self.due = None;
        self.is_proven = false;
        self.is_of_use = false;
    }

    /// Returns the time since which the client has waited for the server; `None` while it is the client's turn.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        match self.stage {
            Stage::Connecting => Some(self.connect_started),
            Stage::Open if self.is_sending => Some(self.send_started),
            Stage::Open => {
                let awaited = self.session.awaited()?;
                let is_own_turn = awaited == Awaited::Content && self.session.is_in_content();
                (!is_own_turn).then_some(self.waiting_since)
            }
            Stage::Queued | Stage::Overdue | Stage::Resting | Stage::Done => None,
        }
    }

    /// Returns the phase of the dialogue that the next reply belongs to.
    pub(crate) fn phase(&self) -> &'static str {
        phase(self.session.awaited())
    }
}

/// Returns the name of a phase of the dialogue in reports.
pub(crate) const fn phase(awaited: Option<Awaited>) -> &'static str {
    match awaited {
        None => "idle",
        Some(Awaited::Greeting) => "greeting",
        Some(Awaited::Ehlo | Awaited::Lhlo) => "ehlo",
        Some(Awaited::Helo) => "helo",
        Some(Awaited::Mail) => "mail",
        Some(Awaited::Recipient) => "rcpt",
        Some(Awaited::Data) => "data",
        Some(Awaited::Chunk | Awaited::Content) => "end_of_data",
        Some(Awaited::Reset) => "rset",
        Some(Awaited::Quit) => "quit",
        Some(Awaited::Other) => "other",
    }
}
