//! Owns one client's session, and what it waits for.

use mailrace_core::Timestamp;
use mailrace_core::smtp::{Context, Event, Observer, Reject, Session, Settings, Verdict};
use mailrace_core::{Origin, QueueId};
use mailrace_io::ConnectionId;

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

/// Whether octets may come.
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
    /// Come back after so many milliseconds.
    Delay(u32),
    /// A message is whole.
    Message,
}

impl Client {
    pub(crate) fn new(connection: ConnectionId, origin: Origin) -> Self {
        Self {
            connection,
            // A sink takes mail for everybody.
            session: Session::new(origin, true),
            replies: Vec::new(),
            backlog: Vec::new(),
            waits_for: WaitsFor::Nothing,
            is_sending: false,
            receiving: Receiving::On,
            content: Vec::new(),
            content_size: 0,
        }
    }

    /// Gives the session `input` until it waits for something; the octets used.
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
            let mut context = context(settings, wall, &mut observer);
            let step = self.session.feed(&mut context, &input[used..], &mut self.replies);
            used += step.consumed;
            match step.event {
                Event::NeedInput => break,
                Event::SendReplies => self.waits_for = WaitsFor::Replies,
                Event::ContentBegin | Event::ContentAbandon => {
                    self.content.clear();
                    self.content_size = 0;
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
                // A sink has no tables: an answer that nobody will give is not waited for.
                Event::Close | Event::Ask(_) => self.waits_for = WaitsFor::Close,
            }
        }
        (used, Outcome::Goes)
    }

    /// Answers a whole message.
    pub(crate) fn verdict(&mut self, settings: &Settings, wall: Timestamp, id: Option<QueueId>) -> Outcome {
        let verdict = id.map_or(Verdict::QueueWriteFailed, Verdict::Queued);
        let mut observer = NobodyCares;
        let mut context = context(settings, wall, &mut observer);
        let event = self.session.verdict(&mut context, verdict, &mut self.replies);
        self.content.clear();
        self.content_size = 0;
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

struct NobodyCares;

impl Observer for NobodyCares {
    fn replied(&mut self, _code: u16) {}
    fn rejected(&mut self, _origin: &Origin, _reject: &Reject<'_>) {}
}
