//! One client's session, and what it waits for.

use mailrace_core::Timestamp;
use mailrace_core::smtp::{Context, Event, Observer, Reject, Session, Settings, Verdict};
use mailrace_core::{BodyType, Origin};
use mailrace_io::ConnectionId;

use crate::line_end::{LineEndFault, LineEnds};

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: ConnectionId,
    pub(crate) session: Session,
    /// Not sent yet.
    pub(crate) replies: Vec<u8>,
    /// Received while the session waited.
    pub(crate) backlog: Vec<u8>,
    pub(crate) waits_for: WaitsFor,
    pub(crate) is_sending: bool,
    pub(crate) receiving: Receiving,
    /// Content so far; empty when nothing is stored.
    pub(crate) content: Vec<u8>,
    pub(crate) content_size: u64,
    /// The line ends of the content so far; in strict mode only.
    line_ends: Option<LineEnds>,
}

/// Why a session gets no input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// It gets it.
    Nothing,
    /// Its replies to be sent.
    Replies,
    /// A tarpit delay; its replies are held back too.
    Delay,
    /// The verdict on its message.
    Verdict,
    /// Its replies to be sent, and then the end.
    Close,
}

/// Whether bytes may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    On,
    /// It was asked to stop; some may still come.
    Stopping,
    Off,
}

/// What the caller has to do after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing but to send replies.
    Goes,
    /// Resume after this number of milliseconds.
    Delay(u32),
    /// A message is whole.
    Message,
}

impl Client {
    pub(crate) fn new(connection: ConnectionId, origin: Origin, is_strict: bool) -> Self {
        Self {
            connection,
            // A sink accepts mail for every recipient.
            session: Session::new(origin, true),
            replies: Vec::new(),
            backlog: Vec::new(),
            waits_for: WaitsFor::Nothing,
            is_sending: false,
            receiving: Receiving::On,
            content: Vec::new(),
            content_size: 0,
            line_ends: is_strict.then(LineEnds::default),
        }
    }

    /// Gives the session `input` until it waits for something: how many bytes of it are used.
    pub(crate) fn feed(
        &mut self,
        settings: &Settings,
        wall: Timestamp,
        input: &[u8],
        keeps: bool,
    ) -> (usize, Outcome) {
        let mut used = 0;
        let mut observer = NobodyCares;
        while self.waits_for == WaitsFor::Nothing {
            let rest = &input[used..];
            let (is_content, size) = match self.next_part(rest) {
                Part::All => (false, rest.len()),
                Part::Command(size) => (false, size),
                Part::Content(size) => (true, size),
                Part::Refused(size) => {
                    used += size;
                    self.replies.extend_from_slice(COMMAND_REFUSED);
                    if self.replies.len() > REPLIES_MAX {
                        self.waits_for = WaitsFor::Replies;
                    }
                    continue;
                }
                Part::None => break,
            };
            let mut context = context(settings, wall, &mut observer);
            let step = self.session.feed(&mut context, &rest[..size], &mut self.replies);
            let consumed = &rest[..step.consumed];
            used += step.consumed;
            if let Some(line_ends) = self.line_ends.as_mut().filter(|_| is_content) {
                line_ends.look(consumed);
            }
            match step.event {
                Event::NeedInput if size == rest.len() => break,
                Event::NeedInput => {}
                Event::SendReplies => self.waits_for = WaitsFor::Replies,
                Event::ContentBegin | Event::ContentAbandon => {
                    self.content.clear();
                    self.content_size = 0;
                    self.line_ends = self.line_ends.map(|_| LineEnds::default());
                }
                Event::Content(octets) => {
                    self.content_size += octets.len() as u64;
                    if keeps {
                        self.content.extend_from_slice(octets);
                    }
                }
                Event::ContentEnd => {
                    self.waits_for = WaitsFor::Verdict;
                    return (used, Outcome::Message);
                }
                Event::Delay { milliseconds } => {
                    self.waits_for = WaitsFor::Delay;
                    return (used, Outcome::Delay(milliseconds));
                }
                // A sink has no tables: it waits for no answer.
                Event::Close | Event::Ask(_) => self.waits_for = WaitsFor::Close,
            }
        }
        (used, Outcome::Goes)
    }

    /// What the session may be given next. In strict mode that is one command line, or one byte of content: between the
    /// two the session changes over by itself, and what a byte was part of is known only before.
    fn next_part(&self, rest: &[u8]) -> Part {
        if self.line_ends.is_none() {
            return Part::All;
        }
        if self.session.is_at_chunk_end() {
            return Part::Content(0);
        }
        if !self.session.takes_commands() {
            return if rest.is_empty() { Part::None } else { Part::Content(1) };
        }
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            // The session knows what to say about a line without end.
            return if rest.len() > LINE_MAX { Part::Command(rest.len()) } else { Part::None };
        };
        let mut line_ends = LineEnds::default();
        line_ends.look(&rest[..=end]);
        if line_ends.end().is_none() { Part::Command(end + 1) } else { Part::Refused(end + 1) }
    }

    /// What is wrong with the line ends of a whole message, in strict mode.
    pub(crate) fn line_end_fault(&self) -> Option<LineEndFault> {
        // Lines mean nothing in a binary body (RFC 3030 3).
        let is_binary = self.session.envelope().is_some_and(|it| it.body == BodyType::BinaryMime);
        self.line_ends.filter(|_| !is_binary)?.end()
    }

    /// Answers a whole message.
    pub(crate) fn verdict(&mut self, settings: &Settings, wall: Timestamp, verdict: Verdict) -> Outcome {
        let mut observer = NobodyCares;
        let mut context = context(settings, wall, &mut observer);
        let event = self.session.verdict(&mut context, verdict, &mut self.replies);
        self.content.clear();
        self.content_size = 0;
        self.line_ends = self.line_ends.map(|_| LineEnds::default());
        self.waits_for = match event {
            Event::Close => WaitsFor::Close,
            Event::SendReplies => WaitsFor::Replies,
            Event::Delay { .. } => WaitsFor::Delay,
            _ => WaitsFor::Nothing,
        };
        match event {
            Event::Delay { milliseconds } => Outcome::Delay(milliseconds),
            _ => Outcome::Goes,
        }
    }

    /// Writes the greeting.
    pub(crate) fn greet(&mut self, settings: &Settings, wall: Timestamp) {
        self.session.greet(&mut context(settings, wall, &mut NobodyCares), &mut self.replies);
    }
}

fn context<'a>(settings: &'a Settings, wall: Timestamp, observer: &'a mut NobodyCares) -> Context<'a> {
    Context { settings, wall, is_storage_low: false, observer }
}

/// The front of what was received.
enum Part {
    /// All of it, of whatever kind.
    All,
    /// A command line.
    Command(usize),
    /// Content.
    Content(usize),
    /// A command line that strict mode refuses.
    Refused(usize),
    /// More must come.
    None,
}

const COMMAND_REFUSED: &[u8] =
    b"500 5.5.2 Error: a command line ends with <CR><LF> and has neither before\r\n";
/// Bytes of replies that are sent before more input is looked at.
const REPLIES_MAX: usize = 16 * 1024;
/// Bytes of a command line that are waited for; the session allows fewer.
const LINE_MAX: usize = 32 * 1024;

struct NobodyCares;

impl Observer for NobodyCares {
    fn replied(&mut self, _code: u16) {}
    fn rejected(&mut self, _origin: &Origin, _reject: &Reject<'_>) {}
}
