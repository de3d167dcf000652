//! Owns the order of an SMTP dialogue: what may come next, and what each command is answered.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::command::{self, Command, Verb};
use super::content::{Decoded, Decoder};
use super::event::{Context, Event, Reject, Step, Verdict};
use super::parameter::{self, Offer, ParameterError};
use super::relay::{has_destination, is_destination_permitted};
use super::settings::{BareNewline, Settings};
use super::transaction::{Chunking, Refused, Transaction};
use crate::address::{DOMAIN_SIZE_MAX, split_path};
use crate::envelope::{BodyType, Envelope, Origin, Protocol, Recipient};
use crate::lookup::LookupError;
use crate::smtp::reply;

/// Octets of replies that one call may write; more input then waits until these are sent.
pub const REPLIES_SIZE_MAX: usize = 4096;
/// Octets of the longest reply.
const REPLY_SIZE_MAX: usize = 1024;

/// One client's dialogue.
///
/// Between commands it holds no memory but itself and the client's HELO name.
#[derive(Debug)]
pub struct Session {
    origin: Origin,
    transaction: Option<Box<Transaction>>,
    /// The beginning of a command line whose end has not come yet.
    carry: Vec<u8>,
    mode: Mode,
    chunking: Chunking,
    errors: u32,
    junk: u32,
    /// Octets of a line that is too long, since the last one that counted as an error.
    overlong_size: u32,
    /// In `mynetworks`.
    is_trusted: bool,
    /// HELO or EHLO was taken.
    has_greeted: bool,
    /// The line whose beginning was dropped for its length goes on.
    is_overlong: bool,
}

/// What the next octets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Command lines.
    Command,
    /// Content, up to the single dot.
    Data { refused: Option<Refused> },
    /// Content, so many octets.
    Chunk { size: u64, left: u64, is_last: bool, refused: Option<Refused> },
    /// None are taken: the verdict is awaited.
    Verdict { is_chunked: bool },
    /// None are taken any more.
    Over,
}

/// What a command came to.
enum Outcome {
    /// On to the next.
    Next,
    /// The caller is to act.
    Event(Event<'static>),
}

impl Session {
    /// A session with a client at `origin`; `is_trusted`: the client is in `mynetworks`.
    #[must_use]
    pub const fn new(origin: Origin, is_trusted: bool) -> Self {
        Self {
            origin,
            transaction: None,
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
        let settings = context.settings;
        reply(context, replies, &[b"220 ", &settings.myhostname, b" ESMTP ", &settings.mail_name]);
    }

    /// Whether the next step needs no input: the octets of a chunk have all come (RFC 3030), and it is to be answered.
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
        let mut consumed = 0;
        loop {
            // Looked at before each step: a step that ends with an event, such as a delay, may be followed by another.
            if replies.len() > REPLIES_SIZE_MAX - REPLY_SIZE_MAX {
                return Step { consumed, event: Event::SendReplies };
            }
            let rest = input.get(consumed..).unwrap_or_default();
            let (used, event) = match self.mode {
                Mode::Command => match self.take_line(context, rest, replies) {
                    (used, Some(Outcome::Next)) => (used, None),
                    (used, Some(Outcome::Event(event))) => (used, Some(event)),
                    (used, None) => (used, Some(Event::NeedInput)),
                },
                Mode::Data { refused } => self.take_data(context, rest, refused, replies),
                Mode::Chunk { .. } => self.take_chunk(context, rest, replies),
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
        let is_chunked = matches!(self.mode, Mode::Verdict { is_chunked: true });
        self.mode = Mode::Command;
        self.chunking = Chunking::None;
        let Some(transaction) = self.transaction.take() else { return Event::NeedInput };
        let refusal: (&str, &[u8]) = match &verdict {
            Verdict::Queued(id) => {
                if is_chunked {
                    let size = transaction.chunks_size.to_string();
                    let size = size.as_bytes();
                    reply(context, replies, &[b"250 2.0.0 Ok: ", size, b" bytes queued as ", &id.text()]);
                } else {
                    reply(context, replies, &[b"250 2.0.0 Ok: queued as ", &id.text()]);
                }
                self.errors = 0;
                self.junk = 0;
                return Event::NeedInput;
            }
            Verdict::Refused { reason, reply } => (reason, reply),
            Verdict::QueueWriteFailed => ("queue_write", b"451 4.3.0 Error: queue file write error"),
            Verdict::StorageFull => ("storage_full", b"452 4.3.1 Insufficient system storage"),
        };
        self.refuse(context, replies, "END-OF-MESSAGE", refusal.0, &[refusal.1], Some(&transaction), None);
        self.after_reply(context, replies).unwrap_or(Event::NeedInput)
    }

    /// The client was silent for too long: writes 421 4.4.2; close after sending.
    pub fn time_out(&mut self, context: &mut Context<'_>, replies: &mut Vec<u8>) {
        self.mode = Mode::Over;
        let settings = context.settings;
        reply(context, replies, &[b"421 4.4.2 ", &settings.myhostname, b" Error: timeout exceeded"]);
    }

    /// The server is going down: writes 421 4.3.2; close after sending.
    pub fn shut_down(&mut self, context: &mut Context<'_>, replies: &mut Vec<u8>) {
        self.mode = Mode::Over;
        let settings = context.settings;
        reply(context, replies, &[b"421 4.3.2 ", &settings.myhostname, b" Service shutting down"]);
    }

    /// Octets of memory that grow with what the client sends: the beginning of a line, the envelope.
    #[must_use]
    pub fn memory(&self) -> usize {
        let envelope = self.transaction.as_ref().map_or(0, |transaction| {
            let id_size = transaction.envelope.envelope_id.as_ref().map_or(0, |id| id.len());
            size_of::<Transaction>()
                + transaction.envelope.sender.capacity()
                + id_size
                + transaction.recipients_memory
        });
        self.carry.capacity() + envelope
    }

    /// Where the client is.
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

    /// What a bare newline means to this client (`smtpd_forbid_bare_newline_exclusions` is `mynetworks`).
    const fn bare_newline(&self, settings: &Settings) -> BareNewline {
        if self.is_trusted { BareNewline::Accept } else { settings.smtpd_forbid_bare_newline }
    }

    const fn offer(&self, settings: &Settings) -> Offer {
        // A binary body is full of bare newlines.
        let has_binarymime = !matches!(self.bare_newline(settings), BareNewline::Reject);
        Offer { has_binarymime, message_size_limit: settings.message_size_limit }
    }

    /// Takes one command line from the front of `input`; `None`: its end is not there yet.
    fn take_line(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        replies: &mut Vec<u8>,
    ) -> (usize, Option<Outcome>) {
        let limit = context.settings.line_length_limit;
        let Some(end) = memchr::memchr(b'\n', input) else {
            if !self.is_overlong && self.carry.len() + input.len() <= limit + 1 {
                self.carry.extend_from_slice(input);
                return (input.len(), None);
            }
            self.is_overlong = true;
            let carried = core::mem::take(&mut self.carry).len();
            let event = self.overlong(context, carried + input.len(), replies);
            return (input.len(), event.map(Outcome::Event));
        };
        let rest = input.get(end + 1..).unwrap_or_default();
        let part = input.get(..end).unwrap_or_default();
        // The usual line is whole in one receive and is read where it lies.
        let (carried_size, errors, junk) = (self.carry.len(), self.errors, self.junk);
        let mut carried = core::mem::take(&mut self.carry);
        let line = if carried_size == 0 {
            part
        } else {
            carried.extend_from_slice(part.get(..part.len().min(limit + 2)).unwrap_or_default());
            &carried
        };
        let (line, is_bare) = match line.strip_suffix(b"\r") {
            Some(line) => (line, false),
            None => (line, true),
        };
        let outcome = if core::mem::take(&mut self.is_overlong) || line.len() > limit {
            let event = self.overlong(context, carried_size + part.len(), replies);
            self.overlong_size = 0;
            if matches!(event, Some(Event::Close)) {
                return (end + 1, event.map(Outcome::Event));
            }
            self.error(context, replies, &[b"500 5.5.2 Error: line too long"])
        } else if is_bare && self.bare_newline(context.settings) == BareNewline::Reject {
            self.errors += 1;
            self.refuse_bare_newline(context, replies, "CONNECT");
            self.close()
        } else {
            self.command(context, line, !rest.is_empty(), replies)
        };
        if let Outcome::Event(Event::Ask(_)) = outcome {
            // The same line comes again, and counts then.
            (self.errors, self.junk) = (errors, junk);
            carried.truncate(carried_size);
            self.carry = carried;
            return (0, Some(outcome));
        }
        (end + 1, Some(outcome))
    }

    /// So many octets more of a line that is too long. What would fill a line is an error each time, as in Postfix: a
    /// line without end ends the session.
    fn overlong(
        &mut self,
        context: &mut Context<'_>,
        size: usize,
        replies: &mut Vec<u8>,
    ) -> Option<Event<'static>> {
        let limit = context.settings.line_length_limit.max(1);
        let size = self.overlong_size as usize + size;
        self.overlong_size = u32::try_from(size % limit).unwrap_or(0);
        let lines = u32::try_from(size / limit).unwrap_or(u32::MAX);
        self.errors = self.errors.saturating_add(lines);
        // Only the end comes in the middle of a line: a delay would hang on how the octets came.
        (self.errors >= context.settings.smtpd_hard_error_limit)
            .then(|| self.after_reply(context, replies))?
    }

    fn command(
        &mut self,
        context: &mut Context<'_>,
        line: &[u8],
        has_more: bool,
        replies: &mut Vec<u8>,
    ) -> Outcome {
        let (verb, argument) = match command::parse(line) {
            Command::Known(verb, argument) => (verb, argument),
            Command::Forbidden => {
                self.refuse(context, replies, "CONNECT", "forbidden_command", &[FORBIDDEN], None, None);
                return self.close();
            }
            Command::Unknown => {
                return self.error(context, replies, &[b"500 5.5.2 Error: command not recognized"]);
            }
            Command::Empty | Command::Malformed => {
                return self.error(context, replies, &[b"500 5.5.2 Error: bad syntax"]);
            }
            Command::BadUtf8 => return self.error(context, replies, &[b"500 5.5.2 Error: bad UTF-8 syntax"]),
        };
        let may_pipeline = self.origin.protocol == Protocol::Esmtp && !verb.ends_group();
        if has_more && !may_pipeline && context.settings.smtpd_forbid_unauth_pipelining {
            let stage = verb.name();
            self.refuse(context, replies, stage, "unauthorized_pipelining", &[SYNCHRONIZATION], None, None);
            return self.close();
        }
        if verb.is_junk() {
            self.junk += 1;
            self.errors += u32::from(self.junk > context.settings.smtpd_junk_command_limit);
        }
        match verb {
            Verb::Helo | Verb::Ehlo => self.hello(context, verb, argument, replies),
            Verb::Mail => self.mail(context, argument, replies),
            Verb::Rcpt => self.rcpt(context, argument, replies),
            Verb::Data => self.data(context, argument, replies),
            Verb::Bdat => self.bdat(context, argument, replies),
            Verb::Rset if !argument.is_empty() => self.error(context, replies, &[b"501 5.5.4 Syntax: RSET"]),
            Verb::Rset => {
                reply(context, replies, &[b"250 2.0.0 Ok"]);
                let event = self.reset();
                self.next_or(context, replies, event)
            }
            Verb::Noop => self.ok(context, replies, &[b"250 2.0.0 Ok"]),
            Verb::Vrfy => self.vrfy(context, argument, replies),
            Verb::Help => self.ok(context, replies, &[HELP]),
            Verb::Expn => self.error(context, replies, &[b"502 5.5.1 EXPN command is disabled"]),
            Verb::Quit => {
                reply(context, replies, &[b"221 2.0.0 Bye"]);
                self.close()
            }
            Verb::Auth => self.error(context, replies, &[b"503 5.5.1 Error: authentication not enabled"]),
            Verb::Starttls | Verb::Etrn => {
                self.error(context, replies, &[b"502 5.5.1 Error: command not implemented"])
            }
        }
    }

    fn hello(
        &mut self,
        context: &mut Context<'_>,
        verb: Verb,
        name: &[u8],
        replies: &mut Vec<u8>,
    ) -> Outcome {
        if name.is_empty() {
            return self.error(context, replies, &[b"501 Syntax: ", verb.name().as_bytes(), b" hostname"]);
        }
        // What could end a comment or a field in Received is not let in.
        let keep = |octet: &u8| match octet {
            b'<' | b'>' | b'(' | b')' | b'\\' | b'"' | b';' | b'@' | 0..=31 | 127 => b'?',
            octet => *octet,
        };
        self.origin.helo = name.iter().take(DOMAIN_SIZE_MAX).map(keep).collect();
        self.has_greeted = true;
        let event = self.reset();
        let settings = context.settings;
        if verb == Verb::Helo {
            // After EHLO this changes the name only, as in Postfix: the client still knows our extensions.
            reply(context, replies, &[b"250 ", &settings.myhostname]);
            return self.next_or(context, replies, event);
        }
        self.origin.protocol = Protocol::Esmtp;
        let offer = self.offer(settings);
        let size = settings.message_size_limit.to_string();
        let recipients = settings.smtpd_recipient_limit.to_string();
        context.observer.replied(250);
        reply::write(replies, &[b"250-", &settings.myhostname]);
        reply::write(replies, &[b"250-PIPELINING"]);
        reply::write(
            replies,
            &[
                b"250-SIZE",
                if offer.message_size_limit > 0 { b" " } else { b"" },
                if offer.message_size_limit > 0 { size.as_bytes() } else { b"" },
            ],
        );
        if !settings.disable_vrfy_command {
            reply::write(replies, &[b"250-VRFY"]);
        }
        for keyword in [&b"250-ENHANCEDSTATUSCODES"[..], b"250-8BITMIME", b"250-DSN", b"250-SMTPUTF8"] {
            reply::write(replies, &[keyword]);
        }
        reply::write(replies, &[b"250-LIMITS RCPTMAX=", recipients.as_bytes()]);
        if offer.has_binarymime {
            reply::write(replies, &[b"250-BINARYMIME"]);
        }
        reply::write(replies, &[b"250 CHUNKING"]);
        self.next_or(context, replies, event)
    }

    fn mail(&mut self, context: &mut Context<'_>, argument: &[u8], replies: &mut Vec<u8>) -> Outcome {
        let settings = context.settings;
        if settings.smtpd_helo_required && !self.has_greeted {
            return self.error(context, replies, &[b"503 5.5.1 Error: send HELO/EHLO first"]);
        }
        if self.transaction.is_some() {
            return self.error(context, replies, &[b"503 5.5.1 Error: nested MAIL command"]);
        }
        if self.chunking != Chunking::None {
            return self.error(context, replies, &[b"503 5.5.1 Error: MAIL after BDAT"]);
        }
        let Some(argument) =
            command::after(argument, b"FROM:").filter(|argument| !argument.trim_ascii().is_empty())
        else {
            return self.error(context, replies, &[b"501 5.5.4 Syntax: MAIL FROM:<address>"]);
        };
        let Ok((sender, parameters)) = split_path(argument, settings.strict_rfc821_envelopes) else {
            return self.error(context, replies, &[b"501 5.1.7 Bad sender address syntax"]);
        };
        let is_utf8 = parameter::split(parameters).any(|name| name.eq_ignore_ascii_case(b"SMTPUTF8"));
        if !sender.is_empty() && !has_destination(settings, &sender, is_utf8) {
            return self.error(context, replies, &[b"501 5.1.7 Bad sender address syntax"]);
        }
        let mut envelope = Envelope { arrival: context.wall, sender, ..Envelope::default() };
        if let Err(error) = parameter::mail(parameters, self.offer(settings), &mut envelope) {
            return self.refuse_parameter(context, replies, Verb::Mail, error);
        }
        if context.is_storage_low {
            let text: &[u8] = b"452 4.3.1 Insufficient system storage";
            self.refuse(context, replies, "MAIL", "storage_low", &[text], None, None);
            return self.next(context, replies);
        }
        let bare_newline = self.bare_newline(settings);
        self.transaction = Some(Box::new(Transaction {
            envelope,
            recipients_memory: 0,
            surplus_recipients: 0,
            decoder: Decoder::new(bare_newline, true),
            content_size: 0,
            chunks_size: 0,
        }));
        self.ok(context, replies, &[b"250 2.1.0 Ok"])
    }

    fn rcpt(&mut self, context: &mut Context<'_>, argument: &[u8], replies: &mut Vec<u8>) -> Outcome {
        let settings = context.settings;
        let Some(transaction) = self.transaction.as_mut() else {
            return self.error(context, replies, &[b"503 5.5.1 Error: need MAIL command"]);
        };
        if self.chunking != Chunking::None {
            return self.error(context, replies, &[b"503 5.5.1 Error: RCPT after BDAT"]);
        }
        let Some(argument) =
            command::after(argument, b"TO:").filter(|argument| !argument.trim_ascii().is_empty())
        else {
            return self.error(context, replies, &[b"501 5.5.4 Syntax: RCPT TO:<address>"]);
        };
        let is_utf8 = transaction.envelope.smtputf8;
        let (path, parameters) = match split_path(argument, settings.strict_rfc821_envelopes) {
            Ok((path, parameters)) if !path.is_empty() && has_destination(settings, &path, is_utf8) => {
                (path, parameters)
            }
            _ => return self.error(context, replies, &[b"501 5.1.3 Bad recipient address syntax"]),
        };
        let typed = argument.get(..argument.len() - parameters.len()).unwrap_or_default();
        let mut recipient = Recipient::default();
        if let Err(error) = parameter::rcpt(parameters, &mut recipient) {
            return self.refuse_parameter(context, replies, Verb::Rcpt, error);
        }
        if transaction.envelope.recipients.len() >= settings.smtpd_recipient_limit as usize {
            transaction.surplus_recipients += 1;
            let is_error = transaction.surplus_recipients > settings.smtpd_recipient_overshoot_limit;
            self.errors += u32::from(is_error);
            let text: &[u8] = b"452 4.5.3 Error: too many recipients";
            self.refuse_recipient(context, replies, Verb::Rcpt, "too_many_recipients", &[text], typed);
            return self.next(context, replies);
        }
        if context.is_storage_low {
            let text: &[u8] = b"452 4.3.1 Insufficient system storage";
            self.refuse_recipient(context, replies, Verb::Rcpt, "storage_low", &[text], typed);
            return self.next(context, replies);
        }
        if let Some(refused) = self.refused_destination(context, replies, Verb::Rcpt, &path, typed) {
            return refused;
        }
        recipient.address = path;
        if let Some(transaction) = self.transaction.as_mut() {
            let original_size = recipient.dsn_original.as_ref().map_or(0, |original| original.len());
            // The list has room for up to twice as many.
            transaction.recipients_memory +=
                2 * size_of::<Recipient>() + recipient.address.capacity() + original_size;
            transaction.envelope.recipients.push(recipient);
        }
        self.ok(context, replies, &[b"250 2.1.5 Ok"])
    }

    /// What is done if mail from this client may not go to `address`, or if that is not known. `postmaster` without a
    /// domain may always be sent to (RFC 5321 §4.5.1).
    fn refused_destination(
        &mut self,
        context: &mut Context<'_>,
        replies: &mut Vec<u8>,
        verb: Verb,
        address: &[u8],
        typed: &[u8],
    ) -> Option<Outcome> {
        let may_always = self.is_trusted || address.eq_ignore_ascii_case(b"postmaster");
        let answer = if may_always {
            Ok(true)
        } else {
            is_destination_permitted(context.settings, address, self.origin.sharer())
        };
        let (reason, front, back): (_, &[u8], &[u8]) = match answer {
            Ok(true) => return None,
            Err(LookupError::Pending(ticket)) => return Some(Outcome::Event(Event::Ask(ticket))),
            Ok(false) => ("relay_denied", b"554 5.7.1 <", b">: Relay access denied"),
            Err(LookupError::Unavailable) => {
                ("lookup_failed", b"451 4.3.0 <", b">: Temporary lookup failure")
            }
        };
        self.errors += 1;
        let typed = typed.trim_ascii();
        let bare = typed.strip_prefix(b"<").and_then(|typed| typed.strip_suffix(b">")).unwrap_or(typed);
        self.refuse_recipient(context, replies, verb, reason, &[front, &reply::echo(bare), back], bare);
        Some(self.next(context, replies))
    }

    fn vrfy(&mut self, context: &mut Context<'_>, argument: &[u8], replies: &mut Vec<u8>) -> Outcome {
        let settings = context.settings;
        if settings.disable_vrfy_command {
            return self.error(context, replies, &[b"502 5.5.1 VRFY command is disabled"]);
        }
        if argument.is_empty() {
            return self.error(context, replies, &[b"501 5.5.4 Syntax: VRFY address [SMTPUTF8]"]);
        }
        match split_path(argument, false) {
            Ok((path, parameters)) if !path.is_empty() && has_destination(settings, &path, true) => {
                if !(parameters.is_empty() || parameters.eq_ignore_ascii_case(b"SMTPUTF8")) {
                    return self.error(context, replies, &[b"501 5.5.4 Syntax: VRFY address [SMTPUTF8]"]);
                }
                let typed = argument.get(..argument.len() - parameters.len()).unwrap_or_default();
                match self.refused_destination(context, replies, Verb::Vrfy, &path, typed) {
                    Some(refused) => refused,
                    None => self.ok(context, replies, &[b"252 2.0.0 ", &reply::echo(typed.trim_ascii())]),
                }
            }
            _ => self.error(context, replies, &[b"501 5.1.3 Bad recipient address syntax"]),
        }
    }

    fn data(&mut self, context: &mut Context<'_>, argument: &[u8], replies: &mut Vec<u8>) -> Outcome {
        if self.chunking != Chunking::None {
            return self.error(context, replies, &[b"503 5.5.1 Error: DATA after BDAT"]);
        }
        let Some(transaction) = self.transaction.as_mut() else {
            return self.error(context, replies, &[b"503 5.5.1 Error: need RCPT command"]);
        };
        if transaction.envelope.recipients.is_empty() {
            return self.error(context, replies, &[b"554 5.5.1 Error: no valid recipients"]);
        }
        if !argument.is_empty() {
            return self.error(context, replies, &[b"501 5.5.4 Syntax: DATA"]);
        }
        if transaction.envelope.body == BodyType::BinaryMime {
            // RFC 3030 §3.
            return self.error(context, replies, &[b"503 5.5.1 Error: BODY=BINARYMIME needs BDAT"]);
        }
        self.mode = Mode::Data { refused: None };
        reply(context, replies, &[b"354 End data with <CR><LF>.<CR><LF>"]);
        Outcome::Event(Event::ContentBegin)
    }

    fn bdat(&mut self, context: &mut Context<'_>, argument: &[u8], replies: &mut Vec<u8>) -> Outcome {
        let Some((size, is_last)) = command::chunk(argument) else {
            // Nobody knows how much follows.
            self.errors += 1;
            let text: &[u8] = b"521 5.5.4 Syntax: BDAT count [LAST]";
            self.refuse(context, replies, "BDAT", "syntax", &[text], None, None);
            return self.close();
        };
        let limit = context.settings.message_size_limit;
        let bare_newline = self.bare_newline(context.settings);
        let chunking = self.chunking;
        let refused = match self.transaction.as_mut() {
            _ if size == 0 && !is_last => Some(Refused::NullChunk),
            _ if chunking == Chunking::Failed => Some(Refused::AfterError),
            None => Some(Refused::NeedRecipient),
            Some(transaction) if transaction.envelope.recipients.is_empty() => {
                Some(Refused::NoValidRecipients)
            }
            Some(transaction) if limit > 0 && size > limit.saturating_sub(transaction.chunks_size) => {
                Some(Refused::TooBig)
            }
            Some(transaction) => {
                transaction.chunks_size = transaction.chunks_size.saturating_add(size);
                if chunking == Chunking::None {
                    transaction.decoder = Decoder::new(bare_newline, false);
                    transaction.envelope.has_raw_start = true;
                }
                None
            }
        };
        self.chunking = if refused.is_some() { Chunking::Failed } else { Chunking::Open };
        self.mode = Mode::Chunk { size, left: size, is_last, refused };
        match (chunking, refused) {
            (Chunking::None, None) => Outcome::Event(Event::ContentBegin),
            (Chunking::Open, Some(_)) => Outcome::Event(Event::ContentAbandon),
            _ => Outcome::Next,
        }
    }

    fn take_data<'a>(
        &mut self,
        context: &mut Context<'_>,
        input: &'a [u8],
        refused: Option<Refused>,
        replies: &mut Vec<u8>,
    ) -> (usize, Option<Event<'a>>) {
        let limit = context.settings.message_size_limit;
        let Some(transaction) = self.transaction.as_mut() else {
            self.mode = Mode::Command;
            return (0, None);
        };
        let (used, decoded) = transaction.decoder.step(input);
        transaction.envelope.has_raw_start |= transaction.decoder.has_odd_start();
        match decoded {
            Decoded::Nothing => (used, Some(Event::NeedInput)),
            Decoded::Piece(_) if refused.is_some() => (used, None),
            Decoded::Piece(piece) => {
                transaction.content_size += piece.len() as u64;
                let refused = if limit > 0 && transaction.content_size > limit {
                    Some(Refused::TooBig)
                } else {
                    transaction.decoder.is_refused().then_some(Refused::BareNewline)
                };
                if refused.is_some() {
                    self.mode = Mode::Data { refused };
                    return (used, Some(Event::ContentAbandon));
                }
                (used, Some(Event::Content(piece)))
            }
            Decoded::End => match refused {
                None => {
                    // The single dot itself may have been at odds with the mode.
                    if transaction.decoder.is_refused() {
                        self.mode = Mode::Data { refused: Some(Refused::BareNewline) };
                        self.end_refused_data(context, Refused::BareNewline, replies);
                        return (used, Some(Event::ContentAbandon));
                    }
                    self.mode = Mode::Verdict { is_chunked: false };
                    (used, Some(Event::ContentEnd))
                }
                Some(refused) => {
                    self.end_refused_data(context, refused, replies);
                    (used, self.after_reply(context, replies))
                }
            },
        }
    }

    fn end_refused_data(&mut self, context: &mut Context<'_>, refused: Refused, replies: &mut Vec<u8>) {
        self.mode = Mode::Command;
        self.errors += 1;
        let transaction = self.transaction.take();
        if refused == Refused::BareNewline {
            self.refuse_bare_newline(context, replies, "DATA");
        } else {
            let text: &[u8] = b"552 5.3.4 Error: message file too big";
            let transaction = transaction.as_deref();
            self.refuse(context, replies, "END-OF-MESSAGE", "too_big", &[text], transaction, None);
        }
    }

    fn take_chunk<'a>(
        &mut self,
        context: &mut Context<'_>,
        input: &'a [u8],
        replies: &mut Vec<u8>,
    ) -> (usize, Option<Event<'a>>) {
        let Mode::Chunk { size, left, is_last, refused } = self.mode else { return (0, None) };
        if left == 0 {
            return (0, self.end_chunk(context, size, is_last, refused, replies));
        }
        let part =
            input.get(..usize::try_from(left).unwrap_or(usize::MAX).min(input.len())).unwrap_or_default();
        if part.is_empty() {
            return (0, Some(Event::NeedInput));
        }
        let mut left_after = |used: usize, refused| {
            self.mode = Mode::Chunk { size, left: left - used as u64, is_last, refused };
        };
        let Some(transaction) = self.transaction.as_mut().filter(|_| refused.is_none()) else {
            left_after(part.len(), refused);
            return (part.len(), None);
        };
        if transaction.envelope.body == BodyType::BinaryMime {
            transaction.content_size += part.len() as u64;
            left_after(part.len(), None);
            return (part.len(), Some(Event::Content(part)));
        }
        let (used, decoded) = transaction.decoder.step(part);
        if transaction.decoder.is_refused() {
            left_after(used, Some(Refused::BareNewline));
            self.chunking = Chunking::Failed;
            return (used, Some(Event::ContentAbandon));
        }
        left_after(used, None);
        match decoded {
            Decoded::Piece(piece) => {
                transaction.content_size += piece.len() as u64;
                (used, Some(Event::Content(piece)))
            }
            Decoded::Nothing | Decoded::End => (used, None),
        }
    }

    fn end_chunk<'a>(
        &mut self,
        context: &mut Context<'_>,
        size: u64,
        is_last: bool,
        refused: Option<Refused>,
        replies: &mut Vec<u8>,
    ) -> Option<Event<'a>> {
        self.mode = Mode::Command;
        let digits = size.to_string();
        let digits = digits.as_bytes();
        let Some(refused) = refused else {
            if !is_last {
                reply(context, replies, &[b"250 2.0.0 Ok: ", digits, b" bytes"]);
                return self.after_reply(context, replies);
            }
            if let Some(transaction) = self.transaction.as_mut()
                && transaction.envelope.body != BodyType::BinaryMime
            {
                let rest = transaction.decoder.finish();
                if !rest.is_empty() {
                    // The next call finds the chunk at its end again.
                    self.mode = Mode::Chunk { size, left: 0, is_last, refused: None };
                    return Some(Event::Content(rest));
                }
            }
            self.mode = Mode::Verdict { is_chunked: true };
            return Some(Event::ContentEnd);
        };
        self.errors += 1;
        if is_last {
            self.chunking = Chunking::None;
        }
        let transaction = if is_last { self.transaction.take() } else { None };
        let transaction = transaction.as_deref();
        match refused {
            Refused::BareNewline => self.refuse_bare_newline(context, replies, "BDAT"),
            Refused::AfterError => {
                let text: [&[u8]; 3] = [b"551 5.0.0 Discarded ", digits, b" bytes after earlier error"];
                self.refuse(context, replies, "BDAT", "after_error", &text, transaction, None);
            }
            Refused::NullChunk => {
                let text: &[u8] = b"551 5.7.1 Null BDAT request";
                self.refuse(context, replies, "BDAT", "null_chunk", &[text], transaction, None);
            }
            Refused::TooBig => {
                let text: &[u8] = b"552 5.3.4 Chunk exceeds message size limit";
                self.refuse(context, replies, "BDAT", "too_big", &[text], transaction, None);
            }
            Refused::NeedRecipient => {
                let text: &[u8] = b"503 5.5.1 Error: need RCPT command";
                self.refuse(context, replies, "BDAT", "order", &[text], transaction, None);
            }
            Refused::NoValidRecipients => {
                let text: &[u8] = b"554 5.5.1 Error: no valid recipients";
                self.refuse(context, replies, "BDAT", "no_valid_recipients", &[text], transaction, None);
            }
        }
        self.after_reply(context, replies)
    }

    /// Ends the transaction; the caller is to drop content that it has.
    fn reset(&mut self) -> Option<Event<'static>> {
        self.transaction = None;
        let chunking = core::mem::replace(&mut self.chunking, Chunking::None);
        (chunking == Chunking::Open).then_some(Event::ContentAbandon)
    }

    /// A reply that refuses nothing.
    fn ok(&mut self, context: &mut Context<'_>, replies: &mut Vec<u8>, text: &[&[u8]]) -> Outcome {
        reply(context, replies, text);
        self.next(context, replies)
    }

    /// A reply that counts as an error of the client's.
    fn error(&mut self, context: &mut Context<'_>, replies: &mut Vec<u8>, text: &[&[u8]]) -> Outcome {
        self.errors += 1;
        reply(context, replies, text);
        self.next(context, replies)
    }

    fn next(&mut self, context: &mut Context<'_>, replies: &mut Vec<u8>) -> Outcome {
        self.next_or(context, replies, None)
    }

    fn next_or(
        &mut self,
        context: &mut Context<'_>,
        replies: &mut Vec<u8>,
        event: Option<Event<'static>>,
    ) -> Outcome {
        // Abandoned content is rare and errors are not worth a second event then.
        event.or_else(|| self.after_reply(context, replies)).map_or(Outcome::Next, Outcome::Event)
    }

    fn close(&mut self) -> Outcome {
        self.mode = Mode::Over;
        Outcome::Event(Event::Close)
    }

    /// What the number of errors asks for after a reply.
    fn after_reply(&mut self, context: &mut Context<'_>, replies: &mut Vec<u8>) -> Option<Event<'static>> {
        let settings = context.settings;
        if self.errors >= settings.smtpd_hard_error_limit {
            self.mode = Mode::Over;
            let text: [&[u8]; 3] = [b"421 4.7.0 ", &settings.myhostname, b" Error: too many errors"];
            self.refuse(context, replies, "CONNECT", "too_many_errors", &text, None, None);
            return Some(Event::Close);
        }
        let is_late =
            self.errors >= settings.smtpd_soft_error_limit && settings.smtpd_error_sleep_time_ms > 0;
        is_late.then_some(Event::Delay { milliseconds: settings.smtpd_error_sleep_time_ms })
    }

    fn refuse_parameter(
        &mut self,
        context: &mut Context<'_>,
        replies: &mut Vec<u8>,
        verb: Verb,
        error: ParameterError<'_>,
    ) -> Outcome {
        let text: &[u8] = match error {
            ParameterError::Unsupported(option) => {
                return self.error(
                    context,
                    replies,
                    &[b"555 5.5.4 Unsupported option: ", &reply::echo(option)],
                );
            }
            ParameterError::SizeTooBig | ParameterError::SizeOverflow => {
                self.errors += 1;
                let text: &[u8] = match error {
                    ParameterError::SizeOverflow => {
                        b"552 5.3.4 Message size exceeds file system imposed limit"
                    }
                    _ => b"552 5.3.4 Message size exceeds fixed limit",
                };
                self.refuse(context, replies, verb.name(), "too_big", &[text], None, None);
                return self.next(context, replies);
            }
            ParameterError::SizeSyntax => b"501 5.5.4 Bad message size syntax",
            ParameterError::SecondAuth => b"503 5.5.4 Error: multiple AUTH= options",
            ParameterError::Ret => b"501 5.5.4 Bad RET parameter syntax",
            ParameterError::EnvelopeId => b"501 5.5.4 Bad ENVID parameter syntax",
            ParameterError::Notify => b"501 5.5.4 Error: Bad NOTIFY parameter syntax",
            ParameterError::OriginalRecipient => b"501 5.5.4 Error: Bad ORCPT parameter syntax",
        };
        self.error(context, replies, &[text])
    }

    fn refuse_recipient(
        &mut self,
        context: &mut Context<'_>,
        replies: &mut Vec<u8>,
        verb: Verb,
        reason: &'static str,
        text: &[&[u8]],
        recipient: &[u8],
    ) {
        self.refuse(
            context,
            replies,
            verb.name(),
            reason,
            text,
            self.transaction.as_deref(),
            Some(recipient),
        );
    }

    fn refuse_bare_newline(&self, context: &mut Context<'_>, replies: &mut Vec<u8>, stage: &'static str) {
        let settings = context.settings;
        let text: [&[u8]; 3] = [b"550 5.5.2 ", &settings.myhostname, b" Error: bare <LF> received"];
        self.refuse(context, replies, stage, "bare_newline", &text, None, None);
    }

    /// Writes a reply that is told to the observer as a refusal.
    #[expect(clippy::too_many_arguments, reason = "all of it stands in the log line")]
    fn refuse(
        &self,
        context: &mut Context<'_>,
        replies: &mut Vec<u8>,
        stage: &'static str,
        reason: &'static str,
        text: &[&[u8]],
        transaction: Option<&Transaction>,
        recipient: Option<&[u8]>,
    ) {
        let start = replies.len();
        reply(context, replies, text);
        let written = replies.get(start..).unwrap_or_default().trim_ascii_end();
        let sender =
            transaction.or(self.transaction.as_deref()).map(|transaction| &transaction.envelope.sender[..]);
        context.observer.rejected(&self.origin, &Reject { stage, reason, reply: written, sender, recipient });
    }
}

const FORBIDDEN: &[u8] = b"221 2.7.0 Error: I can break rules, too. Goodbye.";
const SYNCHRONIZATION: &[u8] = b"554 5.5.0 Error: SMTP protocol synchronization";
const HELP: &[u8] = b"214 2.0.0 HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT";

/// Writes a reply and tells the observer its code.
fn reply(context: &mut Context<'_>, replies: &mut Vec<u8>, text: &[&[u8]]) {
    let digits = text.first().and_then(|first| first.get(..3)).unwrap_or_default();
    context
        .observer
        .replied(digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit.saturating_sub(b'0'))));
    reply::write(replies, text);
}
