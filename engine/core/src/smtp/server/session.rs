//! The order of an SMTP dialogue: what may come next.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::command::{self, Command, Verb};
use super::decision::Refusal;
use super::event::{Context, Event, Step, Verdict};
use super::exchange::Exchange;
use super::hello::Offer;
use super::settings::{BareNewline, Settings};
use super::transaction::{Chunking, Refused, Transaction};
use crate::envelope::{Envelope, Origin, Protocol};
use crate::lookup::Answers;
use crate::smtp::reply::{self, Filled};

/// Most bytes of replies written by one call; further input waits until these are sent.
pub const REPLIES_SIZE_MAX: usize = 4096;
/// Bytes of the longest reply.
const REPLY_SIZE_MAX: usize = 1024;

/// One client's dialogue.
///
/// Between commands it holds no other memory than the client's HELO name.
#[derive(Debug)]
pub struct Session {
    pub(super) origin: Origin,
    pub(super) transaction: Option<Box<Transaction>>,
    /// Answers of tables in this transaction, or to this command.
    pub(super) answers: Option<Box<RefCell<Answers>>>,
    /// The beginning of a command line whose end has not come yet.
    pub(super) carry: Vec<u8>,
    pub(super) mode: Mode,
    pub(super) chunking: Chunking,
    pub(super) errors: u32,
    pub(super) junk: u32,
    /// Bytes of a line that is too long, since the last error.
    pub(super) overlong_size: u32,
    /// In `mynetworks`.
    pub(super) is_trusted: bool,
    /// HELO or EHLO was taken.
    pub(super) has_greeted: bool,
    /// The rest of a line that is too long follows.
    pub(super) is_overlong: bool,
}

/// Meaning of the next input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Command lines.
    Command,
    /// Content, up to the single dot.
    Data { refused: Option<Refused> },
    /// Content, of which `left` of `size` bytes are missing.
    Chunk { size: u64, left: u64, is_last: bool, refused: Option<Refused> },
    /// Nothing is taken: the verdict is awaited.
    Verdict { is_chunked: bool },
    /// Nothing is taken: the session has ended.
    Over,
}

/// Outcome of a command.
pub(super) enum Outcome {
    /// Continue with the next one.
    Next,
    /// The caller must act.
    Event(Event<'static>),
}

impl Session {
    /// A session with a client at `origin`; `is_trusted`: the client is in `mynetworks`.
    #[must_use]
    pub const fn new(origin: Origin, is_trusted: bool) -> Self {
        Self {
            origin,
            transaction: None,
            answers: None,
            carry: Vec::new(),
            mode: Mode::Command,
            chunking: Chunking::None,
            errors: 0,
            junk: 0,
            overlong_size: 0,
            is_trusted,
            has_greeted: false,
            is_overlong: false,
        }
    }

    /// Writes the greeting.
    pub fn greet(&mut self, context: &mut Context<'_>, replies: &mut Vec<u8>) {
        let exchange = &mut Exchange::new(context, replies);
        let software = exchange.settings.mail_name.as_slice();
        exchange.reply(reply::GREETING.with(software));
    }

    /// Whether the next step needs no input: the octets of a chunk have all come (RFC 3030), and its reply is due.
    #[must_use]
    pub const fn is_at_chunk_end(&self) -> bool {
        matches!(self.mode, Mode::Chunk { left: 0, .. })
    }

    /// Whether commands are taken, and not content.
    #[must_use]
    pub const fn takes_commands(&self) -> bool {
        matches!(self.mode, Mode::Command)
    }

    /// Takes one step. The caller calls again with the rest of `input` until [`Event::NeedInput`].
    pub fn feed<'a>(
        &mut self,
        context: &mut Context<'_>,
        input: &'a [u8],
        replies: &mut Vec<u8>,
    ) -> Step<'a> {
        let exchange = &mut Exchange::new(context, replies);
        let mut consumed = 0;
        loop {
            // Checked before each step, because a step that ends with an event, such as a delay, may be followed by
            // another.
            if exchange.replies.len() > REPLIES_SIZE_MAX - REPLY_SIZE_MAX {
                return Step { consumed, event: Event::SendReplies };
            }
            let rest = input.get(consumed..).unwrap_or_default();
            let (used, event) = match self.mode {
                Mode::Command => match self.take_line(exchange, rest) {
                    (used, Some(Outcome::Next)) => (used, None),
                    (used, Some(Outcome::Event(event))) => (used, Some(event)),
                    (used, None) => (used, Some(Event::NeedInput)),
                },
                Mode::Data { refused } => self.take_data(exchange, rest, refused),
                Mode::Chunk { .. } => self.take_chunk(exchange, rest),
                Mode::Verdict { .. } => (0, Some(Event::NeedInput)),
                Mode::Over => (rest.len(), Some(Event::Close)),
            };
            consumed += used;
            if let Some(event) = event {
                return Step { consumed, event };
            }
        }
    }

    /// Answers a message after [`Event::ContentEnd`].
    pub fn verdict(
        &mut self,
        context: &mut Context<'_>,
        verdict: Verdict,
        replies: &mut Vec<u8>,
    ) -> Event<'static> {
        let exchange = &mut Exchange::new(context, replies);
        let is_chunked = matches!(self.mode, Mode::Verdict { is_chunked: true });
        self.mode = Mode::Command;
        self.chunking = Chunking::None;
        let Some(transaction) = self.end_transaction() else { return Event::NeedInput };
        let start = exchange.replies.len();
        let reason = match &verdict {
            Verdict::Queued(id) => {
                if is_chunked {
                    let size = transaction.chunks_size.to_string();
                    exchange.reply(reply::CHUNKS_QUEUED.with_both(size.as_bytes(), &id.text()));
                } else {
                    exchange.reply(reply::QUEUED.with(&id.text()));
                }
                self.errors = 0;
                self.junk = 0;
                return Event::NeedInput;
            }
            Verdict::Refused { reason, reply } => {
                exchange.reply_with_line(reply);
                reason
            }
            Verdict::QueueWriteFailed => {
                exchange.reply(&reply::QUEUE_WRITE_ERROR);
                "queue_write"
            }
            Verdict::StorageFull => {
                exchange.reply(&reply::INSUFFICIENT_STORAGE);
                "storage_full"
            }
        };
        self.report(exchange, start, "END-OF-MESSAGE", reason, Some(&transaction.envelope.sender), None);
        self.after_reply(exchange).unwrap_or(Event::NeedInput)
    }

    /// The client was silent for too long: writes 421 4.4.2; close after sending.
    pub fn time_out(&mut self, context: &mut Context<'_>, replies: &mut Vec<u8>) {
        let exchange = &mut Exchange::new(context, replies);
        self.mode = Mode::Over;
        exchange.reply(&reply::TIMEOUT);
    }

    /// The server is going down: writes 421 4.3.2; close after sending.
    pub fn shut_down(&mut self, context: &mut Context<'_>, replies: &mut Vec<u8>) {
        let exchange = &mut Exchange::new(context, replies);
        self.mode = Mode::Over;
        exchange.reply(&reply::SHUTTING_DOWN);
    }

    /// Bytes of memory that grow with the client's input: the beginning of a line, the envelope.
    #[must_use]
    pub fn memory(&self) -> usize {
        let envelope = self.transaction.as_ref().map_or(0, |transaction| {
            let id_size = transaction.envelope.envelope_id.as_ref().map_or(0, |id| id.len());
            size_of::<Transaction>()
                + transaction.envelope.sender.capacity()
                + id_size
                + transaction.recipients_memory
        });
        let answers = self.answers.as_ref().map_or(0, |answers| answers.borrow().memory());
        self.carry.capacity() + envelope + answers
    }

    /// Returns the origin of the client.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The open transaction's envelope, complete from [`Event::ContentBegin`] until the verdict.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        self.transaction.as_ref().map(|transaction| &transaction.envelope)
    }

    /// The origin, and the open transaction's envelope for cleanup to change.
    #[must_use]
    pub fn origin_and_envelope(&self) -> Option<(&Origin, &Envelope)> {
        Some((&self.origin, &self.transaction.as_ref()?.envelope))
    }

    /// Returns the meaning of a bare newline from this client (`smtpd_forbid_bare_newline_exclusions` is `mynetworks`).
    pub(super) const fn bare_newline(&self, settings: &Settings) -> BareNewline {
        if self.is_trusted { BareNewline::Accept } else { settings.smtpd_forbid_bare_newline }
    }

    pub(super) const fn offer(&self, settings: &Settings) -> Offer {
        // A binary body is full of bare newlines.
        let has_binarymime = !matches!(self.bare_newline(settings), BareNewline::Reject);
        Offer {
            has_vrfy: !settings.disable_vrfy_command,
            has_binarymime,
            message_size_limit: settings.message_size_limit,
            recipient_limit: settings.smtpd_recipient_limit,
        }
    }

    pub(super) fn command(&mut self, exchange: &mut Exchange<'_>, line: &[u8], has_more: bool) -> Outcome {
        let (verb, argument) = match command::parse(line) {
            Command::Known(verb, argument) => (verb, argument),
            Command::Forbidden => {
                let refusal = Refusal::new("CONNECT", "forbidden_command", &reply::FORBIDDEN_COMMAND);
                self.refuse(exchange, refusal);
                return self.close();
            }
            Command::Unknown => {
                return self.error(exchange, &reply::NOT_RECOGNIZED);
            }
            Command::Empty | Command::Malformed => {
                return self.error(exchange, &reply::BAD_SYNTAX);
            }
            Command::BadUtf8 => return self.error(exchange, &reply::BAD_UTF8),
        };
        let may_pipeline = self.origin.protocol == Protocol::Esmtp && !verb.ends_group();
        if has_more && !may_pipeline && exchange.settings.smtpd_forbid_unauth_pipelining {
            let reply = &reply::UNAUTHORIZED_PIPELINING;
            self.refuse(exchange, Refusal::new(verb.name(), "unauthorized_pipelining", reply));
            return self.close();
        }
        if verb.is_junk() {
            self.junk += 1;
            self.errors += u32::from(self.junk > exchange.settings.smtpd_junk_command_limit);
        }
        match verb {
            Verb::Helo | Verb::Ehlo => self.hello(exchange, verb, argument),
            Verb::Mail => self.mail(exchange, argument),
            Verb::Rcpt => self.rcpt(exchange, argument),
            Verb::Data => self.data(exchange, argument),
            Verb::Bdat => self.bdat(exchange, argument),
            Verb::Rset if !argument.is_empty() => self.error(exchange, &reply::RSET_SYNTAX),
            Verb::Rset => {
                exchange.reply(&reply::OK);
                let event = self.reset();
                self.next_or(exchange, event)
            }
            Verb::Noop => self.ok(exchange, &reply::OK),
            Verb::Vrfy => self.vrfy(exchange, argument),
            Verb::Help => self.ok(exchange, &reply::HELP),
            Verb::Expn => self.error(exchange, &reply::EXPN_DISABLED),
            Verb::Quit => {
                exchange.reply(&reply::BYE);
                self.close()
            }
            Verb::Auth => self.error(exchange, &reply::AUTH_NOT_ENABLED),
            Verb::Starttls | Verb::Etrn => self.error(exchange, &reply::NOT_IMPLEMENTED),
        }
    }

    /// Ends the transaction, and forgets what tables have answered in it.
    pub(super) fn end_transaction(&mut self) -> Option<Box<Transaction>> {
        self.answers = None;
        self.transaction.take()
    }

    /// Ends the transaction; the caller must drop its content.
    pub(super) fn reset(&mut self) -> Option<Event<'static>> {
        self.end_transaction();
        let chunking = core::mem::replace(&mut self.chunking, Chunking::None);
        (chunking == Chunking::Open).then_some(Event::ContentAbandon)
    }

    /// A reply that refuses nothing.
    pub(super) fn ok<'r>(&mut self, exchange: &mut Exchange<'_>, reply: impl Into<Filled<'r>>) -> Outcome {
        exchange.reply(reply);
        self.next(exchange)
    }

    /// A reply that counts as an error of the client.
    pub(super) fn error<'r>(&mut self, exchange: &mut Exchange<'_>, reply: impl Into<Filled<'r>>) -> Outcome {
        self.errors += 1;
        exchange.reply(reply);
        self.next(exchange)
    }

    pub(super) fn next(&mut self, exchange: &mut Exchange<'_>) -> Outcome {
        self.next_or(exchange, None)
    }

    pub(super) fn next_or(&mut self, exchange: &mut Exchange<'_>, event: Option<Event<'static>>) -> Outcome {
        // Abandoned content is rare and errors are not worth a second event then.
        event.or_else(|| self.after_reply(exchange)).map_or(Outcome::Next, Outcome::Event)
    }

    pub(super) fn close(&mut self) -> Outcome {
        self.mode = Mode::Over;
        Outcome::Event(Event::Close)
    }

    /// Returns the action that the number of errors requires after a reply.
    pub(super) fn after_reply(&mut self, exchange: &mut Exchange<'_>) -> Option<Event<'static>> {
        let settings = exchange.settings;
        if self.errors >= settings.smtpd_hard_error_limit {
            self.mode = Mode::Over;
            self.refuse(exchange, Refusal::new("CONNECT", "too_many_errors", &reply::TOO_MANY_ERRORS));
            return Some(Event::Close);
        }
        let is_late =
            self.errors >= settings.smtpd_soft_error_limit && settings.smtpd_error_sleep_time_ms > 0;
        is_late.then_some(Event::Delay { milliseconds: settings.smtpd_error_sleep_time_ms })
    }
}
