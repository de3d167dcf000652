//! Owns what is known of one connection: what it is in the middle of, and which replies are awaited.

use std::collections::VecDeque;

use mailrace_io::{ConnectionId, Instant};

use crate::reply::ReplyReader;

/// One of the connections; after QUIT its place is used for the next one.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// The connection, once made.
    pub(crate) connection: Option<ConnectionId>,
    /// Finds replies.
    pub(crate) reader: ReplyReader,
    /// It was connected to send a message that it has not begun.
    pub(crate) is_promised: bool,
    /// What the next replies answer, in order.
    pub(crate) awaited: VecDeque<Awaited>,
    /// What is to be sent as soon as nothing is being sent.
    pub(crate) next: Option<Action>,
    /// A send is under way.
    pub(crate) is_sending: bool,
    /// The transaction that is being spoken of.
    pub(crate) current: Option<Transaction>,
    /// With pipelining: the one whose commands went behind the current one's content.
    pub(crate) upcoming: Option<Transaction>,
    /// Octets of the current content that were handed over.
    pub(crate) content_sent: usize,
    /// Content is being sent: its end has not been handed over.
    pub(crate) is_in_content: bool,
    /// When something is to be done that no completion tells: more content with `--rate`, a new attempt.
    pub(crate) due: Option<Instant>,
    /// Messages still to be sent on this connection.
    pub(crate) messages_left: u64,
    /// When connecting started.
    pub(crate) connect_started: Instant,
    /// When the end of content was handed over.
    pub(crate) content_ended: Instant,
}

/// One message on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    /// Its number.
    pub(crate) number: u64,
    /// When MAIL was sent.
    pub(crate) started: Instant,
    /// MAIL was sent behind another message's content, so that its latency says nothing.
    pub(crate) is_behind_content: bool,
    /// Recipients asked for.
    pub(crate) recipients_asked: u32,
    /// Recipients taken.
    pub(crate) recipients_taken: u32,
}

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The connection.
    Greeting,
    /// EHLO.
    Hello,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA.
    Data,
    /// The end of content, or the last BDAT.
    Content,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

/// What can be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// EHLO.
    Hello,
    /// MAIL of a new message (with pipelining also its RCPT and DATA), or QUIT when there is none.
    Transaction,
    /// RCPT.
    Recipient,
    /// DATA, or BDAT with content.
    Data,
    /// Content.
    Content,
    /// RSET.
    Reset,
}

impl Client {
    /// Forgets the connection and all that was under way on it.
    pub(crate) fn reset(&mut self) {
        self.connection = None;
        self.reader.reset();
        self.awaited.clear();
        self.next = None;
        self.is_sending = false;
        self.current = None;
        self.upcoming = None;
        self.content_sent = 0;
        self.is_in_content = false;
        self.due = None;
    }
}

impl Awaited {
    /// Whether `code` is the answer that was hoped for.
    pub(crate) const fn is_answered_by(self, code: u16) -> bool {
        match self {
            Self::Data => code == 354,
            _ => code / 100 == 2,
        }
    }
}
