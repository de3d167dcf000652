//! What a client can do, and what it can say.

use std::collections::VecDeque;
use std::time::Duration;

use super::expected::Expected;

/// What a client does next.
#[derive(Debug)]
pub(super) enum Act {
    /// Sends these together, as far as each may follow the one before without its reply.
    Say(Words),
    /// Sends content if its DATA was permitted; falls silent in the middle.
    Content(Content, Option<(usize, Duration)>),
    /// Sends the rest of it.
    Rest(Wire),
    /// Goes on only when all replies have come.
    Await,
    /// The next transaction begins; one that failed is reset first.
    Next,
    /// Does nothing.
    Pause(Duration),
    /// Sends EHLO or HELO with this name, whatever became of what was before.
    Greet(String, bool),
    /// Does nothing ever again: the server has to end it.
    Silence,
    /// Goes away.
    Leave,
    /// Stops reading.
    StopReading,
}

/// Something to say.
#[derive(Debug)]
pub(super) enum Word {
    /// MAIL of this message.
    Mail(usize),
    /// RCPT of this message.
    Recipient(usize, usize),
    Data,
    /// BDAT of this message.
    Chunk(Chunk),
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
    /// A command that changes nothing, and its reply.
    Other(&'static str, Expected),
    /// Nothing that makes sense; the message that ends in it all the same.
    Nonsense(Vec<u8>, Option<End>),
}

/// What a client says at once.
pub(super) type Words = VecDeque<Word>;

/// A chunk of a message.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) number: usize,
    pub(super) octets: Vec<u8>,
    /// It is the last one; all together have this many bytes.
    pub(super) total: Option<usize>,
}

/// Where a server has to take a message for ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) number: usize,
    /// The offset after it in the input of the server.
    pub(super) place: usize,
    /// Its bytes if it came in chunks.
    pub(super) total: Option<usize>,
}

/// Content of DATA.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) number: usize,
    /// With its dots as they are sent.
    pub(super) wire: Vec<u8>,
    pub(super) ending: Ending,
}

/// How content of DATA ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// Not at all.
    None,
    /// With a line of its own.
    Dot,
    /// In the middle, after this many bytes, because a dot was not stuffed.
    Within(usize),
}

/// Bytes to send, and the message that ends in them.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) octets: Vec<u8>,
    pub(super) end: Option<End>,
}
