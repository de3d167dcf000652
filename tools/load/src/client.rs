//! What is known of one connection: what it is in the middle of, and what comes next.

use mailrace_core::smtp::client::{Awaited, ReplyReader, Session};
use mailrace_io::{ConnectionId, Instant};

/// One of the connections; after QUIT its place is used for the next one.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Where it is between two connections.
    pub(crate) stage: Stage,
    /// The connection, once made.
    pub(crate) connection: Option<ConnectionId>,
    /// Finds replies.
    pub(crate) reader: ReplyReader,
    /// The dialogue: what may be sent, and what replies answer.
    pub(crate) session: Session,
    /// It was connected to send a message that it has not begun.
    pub(crate) is_promised: bool,
    /// What is to be sent as soon as nothing is being sent.
    pub(crate) next: Option<Action>,
    /// A send is under way.
    pub(crate) is_sending: bool,
    /// What is used of what the server offers.
    pub(crate) uses: Uses,
    /// The transaction that is being spoken of.
    pub(crate) current: Option<Transaction>,
    /// With pipelining: the one whose commands went after the current one's content.
    pub(crate) upcoming: Option<Transaction>,
    /// Bytes of the current content that were handed over.
    pub(crate) content_sent: usize,
    /// When something is to be done that no completion tells: more content with `--rate`, a new attempt.
    pub(crate) due: Option<Instant>,
    /// Messages still to be sent on this connection.
    pub(crate) messages_left: u64,
    /// When connecting started.
    pub(crate) connect_started: Instant,
    /// When the end of content was handed over.
    pub(crate) content_ended: Instant,
    /// When the send under way started.
    pub(crate) send_started: Instant,
    /// Since when the next reply has been awaited.
    pub(crate) waiting_since: Instant,
    /// EHLO or HELO was accepted.
    pub(crate) is_proven: bool,
    /// A message was accepted on this connection, or it is being left in good order.
    pub(crate) is_of_use: bool,
    /// Connections in a row that were of no use.
    pub(crate) failures: u32,
}

/// Where a client is between two connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits for its turn to connect.
    #[default]
    Queued,
    /// It connects.
    Connecting,
    /// Connecting takes too long and counts as failed, but has not ended.
    Overdue,
    /// It pauses after a connection that failed.
    Resting,
    /// It is connected.
    Open,
    /// It has nothing left to do.
    Done,
}

/// One message on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    /// Its number.
    pub(crate) number: u64,
    /// When MAIL was sent.
    pub(crate) started: Instant,
    /// MAIL was sent after another message's content, so that its latency says nothing.
    pub(crate) is_behind_content: bool,
    /// Recipients asked for.
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

/// What can be sent next.
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
    /// Forgets the connection and all that was under way on it.
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

    /// Since when the client has waited for the server; `None` while it is the client's turn.
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

    /// The phase of the dialogue that the next reply belongs to.
    pub(crate) fn phase(&self) -> &'static str {
        phase(self.session.awaited())
    }
}

/// The name of a phase of the dialogue in reports.
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
    }
}
