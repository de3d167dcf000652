//! Hands messages over by SMTP (RFC 5321) or LMTP (RFC 2033): one transaction after another on one connection, without I/O.
//!
//! The caller owns the connection. It passes what it received to [`SmtpDelivery::received`], sends what
//! [`SmtpDelivery::output`] has, gives content when it is wanted, and tells of a connection that is lost or late.

mod parameters;
mod settings;
#[cfg(test)]
mod tests;
mod text;
mod transaction;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bumpalo::Bump;
use mailrace_core::address::quoted;
use mailrace_core::envelope::BodyType;
use mailrace_core::record::delivery::{Action, Cause};
use mailrace_core::smtp::client::{Awaited, Event, InvalidReply, Protocol, Reply, ReplyReader, Session};
use mailrace_io::Endpoint;

use crate::outcome::{Health, Outcome};
use crate::route::Server;
use text::{cause_of, doing, line_of, refused_to_talk, said, status_of};
use transaction::Transaction;

pub use settings::{SmtpSettings, Timeouts};
pub use transaction::{Handed, Report};

/// The port of SMTP.
const SMTP_PORT: u16 = 25;

/// A connection, and the transaction on it.
#[derive(Debug)]
pub struct SmtpDelivery {
    settings: Arc<SmtpSettings>,
    server: Server,
    session: Session,
    replies: ReplyReader,
    step: Step,
    /// EHLO, HELO or LHLO was answered.
    is_ready: bool,
    transaction: Transaction,
    /// Number of transactions, the present one included.
    transactions: u32,
    out: Vec<u8>,
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, until a reply comes.
    Wait,
    /// RSET: the server has a transaction that came to nothing.
    Reset,
    Mail,
    /// RCPT for the recipient with this place.
    Recipient(usize),
    Data,
    /// The content, which the caller gives.
    Content,
    /// Another transaction, or QUIT.
    Idle,
    /// The connection is to be closed.
    Close,
}

/// How a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server closed it, or it broke.
    Closed,
    /// The server kept the client waiting for longer than it may.
    TimedOut,
}

impl SmtpDelivery {
    /// A connection to `server` that is being made, for this message.
    #[must_use]
    pub fn new(server: Server, handed: Handed, settings: Arc<SmtpSettings>) -> Self {
        Self {
            session: Session::new(settings.protocol),
            transaction: Transaction::new(handed, settings.line_length_limit),
            settings,
            server,
            replies: ReplyReader::default(),
            step: Step::Wait,
            is_ready: false,
            transactions: 1,
            out: Vec::new(),
        }
    }

    /// Hands another message over on the same connection.
    ///
    /// # Panics
    /// If the connection is not idle.
    pub fn begin(&mut self, handed: Handed) {
        assert!(self.is_idle(), "a transaction follows one that is over");
        // After the end of content the server has none (RFC 5321 §4.1.1.4).
        let is_open = self.session.is_mail_accepted() && !self.transaction.has_ended;
        self.transaction = Transaction::new(handed, self.settings.line_length_limit);
        self.transactions += 1;
        self.step = Step::Reset;
        if !is_open {
            self.begin_transaction();
        }
        self.advance();
    }

    /// Ends an idle connection. The reply to QUIT would say nothing, so the client does not wait for it
    /// (`smtp_skip_quit_response`).
    pub fn quit(&mut self) {
        if self.is_idle() {
            self.session.quit(&mut self.out);
        }
        self.step = Step::Close;
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Number of transactions so far, the present one included.
    #[must_use]
    pub const fn transactions(&self) -> u32 {
        self.transactions
    }

    /// Whether the connection waits for another transaction.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.step == Step::Idle && self.session.awaited().is_none()
    }

    /// Whether the server has answered anything about the present transaction.
    #[must_use]
    pub const fn has_answered(&self) -> bool {
        self.transaction.has_answer
    }

    /// Takes received bytes.
    pub fn received(&mut self, mut bytes: &[u8]) {
        // The reader lends its replies, so it is put aside.
        let mut replies = std::mem::take(&mut self.replies);
        while self.step != Step::Close
            && let Some(reply) = replies.read(&mut bytes)
        {
            let event = self.session.reply_received(&reply);
            self.on_event(event, &reply);
            self.advance();
        }
        self.replies = replies;
    }

    /// The connection is lost. Nothing more is sent or received.
    pub fn lost(&mut self, loss: Loss) {
        let doing = match self.session.awaited() {
            Some(_) if self.session.is_in_content() => "sending message body",
            awaited => doing(awaited.unwrap_or(Awaited::Quit)),
        };
        let host = self.server.host();
        let text = match loss {
            Loss::Closed => format!("lost connection with {host} while {doing}"),
            Loss::TimedOut => format!("conversation with {host} timed out while {doing}"),
        };
        self.fail_connection(Cause::new(4, 4, 2, text));
    }

    /// The connection could not be made.
    pub fn not_connected(&mut self, cause: &str) {
        let text = format!("connect to {}: {cause}", self.server);
        self.fail_connection(Cause::new(4, 4, 1, text));
    }

    /// The content could not be read. The connection has to be closed, because a message that was begun cannot be taken back.
    pub fn content_failed(&mut self, cause: &str) {
        let cause = Cause::new(4, 3, 0, format!("queue file read error: {cause}"));
        self.transaction.decide(&Outcome::Deferred(cause));
        self.step = Step::Close;
    }

    /// What is to be sent. What the caller takes out of it was sent.
    pub const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether the next piece of content is wanted.
    #[must_use]
    pub fn wants_content(&self) -> bool {
        self.step == Step::Content
    }

    /// Takes the next piece of content.
    ///
    /// # Panics
    /// When none is wanted.
    pub fn content(&mut self, piece: &[u8], is_last: bool) {
        assert!(self.wants_content(), "content that is not wanted");
        let content = &mut self.transaction.content;
        let mut appended = content.append(piece, &mut self.out);
        if is_last && appended.is_ok() {
            appended = content.end(&mut self.out);
        }
        if let Err(error) = appended {
            // A message that was begun cannot be taken back but by closing the connection.
            let host = self.server.host();
            let text =
                format!("{error}: cannot convert the message for host {host}, which does not offer 8BITMIME");
            self.transaction.decide(&Outcome::Failed(Cause::new(5, 6, 0, text)));
            self.out.clear();
            self.step = Step::Close;
        } else if is_last {
            self.session.end_of_data(&mut self.out);
            self.step = Step::Wait;
        }
    }

    /// How long the server may take for what it is to do next.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let timeouts = &self.settings.timeouts;
        match self.session.awaited() {
            Some(_) if self.session.is_in_content() => timeouts.data_xfer,
            None if self.step == Step::Idle => self.settings.connection_cache_time,
            awaited => timeouts.of(awaited.unwrap_or(Awaited::Quit)),
        }
    }

    /// Whether the greeting and EHLO are over.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Whether the connection is to be closed once the output was sent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.step == Step::Close
    }

    /// What the transaction has come to, once it is certain for each recipient. Replies may still be on their way.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        self.transaction.report()
    }

    fn on_event(&mut self, event: Event, reply: &Result<Reply<'_>, InvalidReply<'_>>) {
        self.transaction.has_answer = true;
        match (event, reply) {
            (Event::Answer(awaited), Ok(reply)) => self.on_answer(awaited, reply),
            (Event::Closing(awaited), Ok(reply)) => match awaited {
                Some(awaited @ (Awaited::Mail | Awaited::Recipient | Awaited::Data | Awaited::Content)) => {
                    let cause = said(&self.server, reply, awaited);
                    self.transaction.decide(&Outcome::Deferred(cause));
                    self.step = Step::Close;
                }
                _ => self.fail_connection(refused_to_talk(&self.server, reply)),
            },
            // The rest of the content can no longer be sent.
            (Event::Early, Ok(reply)) if !reply.is_positive() => {
                let cause = said(&self.server, reply, Awaited::Content);
                self.transaction.decide(&outcome(reply, cause));
                self.step = Step::Close;
            }
            (_, reply) => {
                let got = match reply {
                    Ok(reply) => line_of(reply),
                    Err(invalid) => invalid.got.to_vec(),
                };
                let got = String::from_utf8_lossy(&got).replace(char::is_control, "?");
                let text = format!("Protocol error: host {} said: {got}", self.server.host());
                self.fail_connection(Cause::new(4, 5, 0, text));
            }
        }
    }

    fn on_answer(&mut self, awaited: Awaited, reply: &Reply<'_>) {
        let is_success = awaited.is_answered_by(reply.code());
        match awaited {
            Awaited::Greeting if is_success => self.hello(true),
            Awaited::Ehlo | Awaited::Helo | Awaited::Lhlo if is_success => {
                if self.is_own(reply) {
                    return self.refuse_loop();
                }
                self.begin_transaction();
            }
            Awaited::Ehlo => self.hello(false),
            // Postfix also defers: the server may be replaced, or change its mind.
            Awaited::Greeting => {
                let mut cause = refused_to_talk(&self.server, reply);
                cause.status.class = 4;
                self.fail_connection(cause);
            }
            Awaited::Helo | Awaited::Lhlo => {
                let cause = refused_to_talk(&self.server, reply);
                if reply.code() / 100 == 5 {
                    self.transaction.decide(&Outcome::Failed(cause));
                    self.step = Step::Idle;
                } else {
                    self.fail_connection(cause);
                }
            }
            Awaited::Mail if is_success => {}
            Awaited::Recipient => {
                let refused = (!is_success).then(|| outcome(reply, said(&self.server, reply, awaited)));
                self.transaction.recipient_answered(refused);
            }
            Awaited::Data if is_success => self.begin_content(),
            Awaited::Mail | Awaited::Data => {
                let cause = said(&self.server, reply, awaited);
                self.transaction.decide(&outcome(reply, cause));
                self.step = Step::Idle;
            }
            Awaited::Content => self.content_answered(is_success, reply),
            Awaited::Reset if is_success => self.begin_transaction(),
            // A server that cannot forget a transaction is no use for another.
            Awaited::Reset => self.fail_connection(said(&self.server, reply, awaited)),
            Awaited::Chunk | Awaited::Quit | Awaited::Other => {}
        }
    }

    /// Whether the server at the port of SMTP calls itself by this host's name, as Postfix looks for loops.
    fn is_own(&self, reply: &Reply<'_>) -> bool {
        let first = reply.texts().next().unwrap_or_default();
        let name = first.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        let is_smtp = matches!(&self.server.endpoint, Endpoint::Inet(address) if address.port() == SMTP_PORT);
        is_smtp && name.eq_ignore_ascii_case(&self.settings.own_name)
    }

    fn refuse_loop(&mut self) {
        let next_hop = &self.transaction.handed.job.route.next_hop;
        let text = format!("mail for {next_hop} loops back to myself");
        if self.server.is_best {
            self.transaction.decide(&Outcome::Failed(Cause::new(5, 4, 6, text)));
            self.step = Step::Idle;
        } else {
            self.fail_connection(Cause::new(4, 4, 6, text));
        }
    }

    /// The end of content was answered: for all recipients, or with LMTP for the next one.
    fn content_answered(&mut self, is_success: bool, reply: &Reply<'_>) {
        let server = &self.server;
        let outcome = if is_success {
            let cause = cause_of(server, reply, status_of(reply), line_of(reply));
            // A server with DSN sends the report itself (RFC 3461 §5.2.2).
            Outcome::Sent(cause, (!self.session.extensions().dsn).then_some(Action::Relayed))
        } else {
            outcome(reply, said(server, reply, Awaited::Content))
        };
        match self.settings.protocol {
            Protocol::Smtp => self.transaction.decide(&outcome),
            Protocol::Lmtp => self.transaction.decide_next_accepted(outcome),
        }
        self.transaction.has_ended = true;
        self.step = Step::Idle;
    }

    /// Appends EHLO or LHLO, or HELO for a server that refuses EHLO.
    fn hello(&mut self, is_extended: bool) {
        let (session, name, out) = (&mut self.session, &self.settings.helo_name, &mut self.out);
        let appended = if is_extended { session.hello(name, out) } else { session.helo(name, out) };
        appended.expect("smtp_helo_name was checked: it has no line end");
    }

    /// Refuses what the server cannot take, or begins.
    fn begin_transaction(&mut self) {
        self.is_ready = true;
        let (offered, size) = (self.session.extensions(), self.transaction.handed.size);
        let envelope = &self.transaction.handed.job.envelope;
        let host = self.server.host();
        let cause = match offered.size {
            Some(limit) if limit > 0 && size > limit => {
                let text = format!("message size {size} exceeds size limit {limit} of server {host}");
                Cause::new(5, 3, 4, text)
            }
            _ if !offered.smtputf8 && envelope.needs_smtputf8(self.transaction.handed.addresses()) => {
                Cause::new(5, 6, 7, format!("SMTPUTF8 is required, but was not offered by host {host}"))
            }
            // After DATA its line ends and NULs would not survive (RFC 3030 §3).
            _ if envelope.body == BodyType::BinaryMime => {
                Cause::new(5, 6, 3, "content of BODY=BINARYMIME cannot be sent with DATA")
            }
            _ => {
                if parameters::is_converted(envelope, offered) {
                    self.transaction.content.downgrade();
                }
                self.step = Step::Mail;
                return;
            }
        };
        self.transaction.decide(&Outcome::Failed(cause));
        self.step = Step::Idle;
    }

    /// DATA was accepted. Without a recipient only the end of content may follow (RFC 2920 §3.1).
    fn begin_content(&mut self) {
        if self.session.recipients_accepted() > 0 {
            self.step = Step::Content;
        } else {
            self.session.end_of_data(&mut self.out);
            self.step = Step::Wait;
        }
    }

    /// Appends the commands that may be sent now.
    fn advance(&mut self) {
        while self.session.may_send() {
            self.step = match self.step {
                Step::Reset => {
                    self.session.reset(&mut self.out);
                    Step::Wait
                }
                Step::Mail => self.mail(),
                Step::Recipient(place) => self.rcpt(place),
                Step::Data => {
                    self.session.data(&mut self.out);
                    Step::Wait
                }
                Step::Wait | Step::Content | Step::Idle | Step::Close => return,
            };
        }
    }

    fn mail(&mut self) -> Step {
        let (arena, handed) = (Bump::new(), &self.transaction.handed);
        let envelope = &handed.job.envelope;
        let parameters = parameters::of_mail(envelope, self.session.extensions(), handed.size);
        let path = if envelope.sender.is_empty() { &[][..] } else { quoted(&arena, &envelope.sender) };
        match self.session.mail(path, &parameters, &mut self.out) {
            Ok(()) => Step::Recipient(0),
            Err(_) => {
                let cause = Cause::new(5, 1, 7, "bad address syntax");
                self.transaction.decide(&Outcome::Failed(cause));
                Step::Idle
            }
        }
    }

    /// Appends RCPT for the recipient with this place; DATA follows the last one, if any may have been accepted.
    fn rcpt(&mut self, place: usize) -> Step {
        if self.transaction.is_decided() {
            return Step::Idle;
        }
        let Some(recipient) = self.transaction.handed.recipient(place) else { return Step::Data };
        let arena = Bump::new();
        let parameters = parameters::of_rcpt(recipient, self.session.extensions());
        let path = quoted(&arena, &recipient.address);
        if self.session.rcpt(path, &parameters, &mut self.out).is_err() {
            let cause = Cause::new(5, 1, 3, "bad address syntax");
            self.transaction.decide(&Outcome::Failed(cause));
            return Step::Idle;
        }
        Step::Recipient(place + 1)
    }

    fn fail_connection(&mut self, cause: Cause) {
        if !self.transaction.is_decided() {
            self.transaction.decide(&Outcome::Deferred(cause.clone()));
            self.transaction.health = Health::Failed(cause);
        }
        self.step = Step::Close;
    }
}

/// The outcome that a reply other than success means.
fn outcome(reply: &Reply<'_>, cause: Cause) -> Outcome {
    if reply.code() / 100 == 4 { Outcome::Deferred(cause) } else { Outcome::Failed(cause) }
}
