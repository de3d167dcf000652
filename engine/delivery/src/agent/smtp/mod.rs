//! Hands a message over by SMTP (RFC 5321): one transaction on one connection, without I/O.
//!
//! The caller owns the connection. It passes what it received to [`SmtpDelivery::received`], sends what
//! [`SmtpDelivery::output`] has, gives content when it is wanted, and tells of a connection that is lost or late.

mod parameters;
mod settings;
#[cfg(test)]
mod tests;
mod text;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bumpalo::Bump;
use mailrace_core::address::quoted;
use mailrace_core::envelope::BodyType;
use mailrace_core::smtp::client::{Awaited, Event, InvalidReply, Protocol, Reply, ReplyReader, Session};

use crate::manager::Job;
use crate::outcome::{Health, Outcome, Reason};
use text::{doing, line_of, refused_to_talk, said, status_of};
use wire::Wire;

pub use settings::{SmtpSettings, Timeouts};

/// One transaction on one connection.
#[derive(Debug)]
pub struct SmtpDelivery {
    settings: Arc<SmtpSettings>,
    job: Job,
    /// Bytes of content.
    size: u64,
    /// Server's name and address, for texts.
    host: String,
    session: Session,
    replies: ReplyReader,
    step: Step,
    /// EHLO or HELO was answered.
    is_ready: bool,
    /// Number of replies to RCPT so far.
    answered: usize,
    /// Outcome of each recipient of the job, as soon as it is certain.
    outcomes: Vec<Option<Outcome>>,
    health: Health,
    wire: Wire,
    out: Vec<u8>,
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, until a reply comes.
    Wait,
    Mail,
    /// RCPT for the recipient with this place in the job.
    Recipient(usize),
    Data,
    /// The content, which the caller gives.
    Content,
    Quit,
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

/// What a job has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of each recipient of the job, in its order.
    pub outcomes: Vec<Outcome>,
    /// What it says about the destination.
    pub health: Health,
}

impl SmtpDelivery {
    /// A connection that was just made. `size`: bytes of content.
    #[must_use]
    pub fn new(job: Job, size: u64, settings: Arc<SmtpSettings>) -> Self {
        Self {
            host: job.next_hop.host(),
            outcomes: vec![None; job.recipients.len()],
            wire: Wire::new(settings.line_length_limit),
            settings,
            job,
            size,
            session: Session::new(Protocol::Smtp),
            replies: ReplyReader::default(),
            step: Step::Wait,
            is_ready: false,
            answered: 0,
            health: Health::Good,
            out: Vec::new(),
        }
    }

    /// What to do.
    #[must_use]
    pub const fn job(&self) -> &Job {
        &self.job
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
        let host = &self.host;
        let text = match loss {
            Loss::Closed => format!("lost connection with {host} while {doing}"),
            Loss::TimedOut => format!("conversation with {host} timed out while {doing}"),
        };
        self.fail_connection(Reason::new(4, 4, 2, text));
    }

    /// The connection could not be made.
    pub fn not_connected(&mut self, cause: &str) {
        let (host, port) = (&self.host, self.job.next_hop.address.port());
        self.fail_connection(Reason::new(4, 4, 1, format!("connect to {host}:{port}: {cause}")));
    }

    /// The content could not be read. The connection has to be closed, because a message that was begun cannot be taken back.
    pub fn content_failed(&mut self, cause: &str) {
        self.decide(&Outcome::Deferred(Reason::new(4, 3, 0, format!("queue file read error: {cause}"))));
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
        self.wire.append(piece, &mut self.out);
        if is_last {
            self.wire.end(&mut self.out);
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

    /// What the job has come to, once it is certain for each recipient. QUIT may still be on its way.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let outcomes: Option<Vec<Outcome>> = self.outcomes.iter().cloned().collect();
        outcomes.map(|outcomes| Report { outcomes, health: self.health.clone() })
    }

    fn on_event(&mut self, event: Event, reply: &Result<Reply<'_>, InvalidReply<'_>>) {
        match (event, reply) {
            (Event::Answer(awaited), Ok(reply)) => self.on_answer(awaited, reply),
            (Event::Closing(awaited), Ok(reply)) => match awaited {
                Some(awaited @ (Awaited::Mail | Awaited::Recipient | Awaited::Data | Awaited::Content)) => {
                    self.decide(&Outcome::Deferred(said(&self.host, reply, awaited)));
                    self.step = Step::Close;
                }
                _ => self.fail_connection(refused_to_talk(&self.host, reply)),
            },
            // The rest of the content can no longer be sent.
            (Event::Early, Ok(reply)) if !reply.is_positive() => {
                self.decide(&outcome(reply, said(&self.host, reply, Awaited::Content)));
                self.step = Step::Close;
            }
            (_, reply) => {
                let got = match reply {
                    Ok(reply) => line_of(reply),
                    Err(invalid) => invalid.got.to_vec(),
                };
                let got = String::from_utf8_lossy(&got).replace(char::is_control, "?");
                let text = format!("Protocol error: host {} said: {got}", self.host);
                self.fail_connection(Reason::new(4, 5, 0, text));
            }
        }
    }

    fn on_answer(&mut self, awaited: Awaited, reply: &Reply<'_>) {
        let is_success = awaited.is_answered_by(reply.code());
        match awaited {
            Awaited::Greeting if is_success => self.hello(true),
            Awaited::Ehlo | Awaited::Helo if is_success => self.begin_transaction(),
            Awaited::Ehlo => self.hello(false),
            // Postfix also defers: the server may be replaced, or change its mind.
            Awaited::Greeting => {
                let mut reason = refused_to_talk(&self.host, reply);
                reason.status.class = 4;
                self.fail_connection(reason);
            }
            Awaited::Helo => {
                let reason = refused_to_talk(&self.host, reply);
                if reply.code() / 100 == 5 {
                    self.decide(&Outcome::Failed(reason));
                    self.step = Step::Quit;
                } else {
                    self.fail_connection(reason);
                }
            }
            Awaited::Mail if is_success => {}
            Awaited::Recipient => {
                let place = self.answered;
                self.answered += 1;
                if !is_success && let Some(undecided @ None) = self.outcomes.get_mut(place) {
                    *undecided = Some(outcome(reply, said(&self.host, reply, awaited)));
                }
            }
            Awaited::Data if is_success => self.begin_content(),
            Awaited::Mail | Awaited::Data => {
                self.decide(&outcome(reply, said(&self.host, reply, awaited)));
                self.step = Step::Quit;
            }
            Awaited::Content if is_success => {
                let reason = Reason { status: status_of(reply), text: line_of(reply).into() };
                self.decide(&Outcome::Sent(reason));
                self.step = Step::Quit;
            }
            Awaited::Content => {
                self.decide(&outcome(reply, said(&self.host, reply, awaited)));
                self.step = Step::Quit;
            }
            Awaited::Lhlo | Awaited::Chunk | Awaited::Reset | Awaited::Quit | Awaited::Other => {}
        }
    }

    /// Appends EHLO, or HELO for a server that refuses EHLO.
    fn hello(&mut self, is_extended: bool) {
        let (session, name, out) = (&mut self.session, &self.settings.helo_name, &mut self.out);
        let appended = if is_extended { session.hello(name, out) } else { session.helo(name, out) };
        appended.expect("smtp_helo_name was checked: it has no line end");
    }

    /// Refuses what the server cannot take, or begins.
    fn begin_transaction(&mut self) {
        self.is_ready = true;
        let (offered, envelope) = (self.session.extensions(), &self.job.envelope);
        let host = &self.host;
        let reason = match offered.size {
            Some(limit) if limit > 0 && self.size > limit => {
                let size = self.size;
                Reason::new(
                    5,
                    3,
                    4,
                    format!("message size {size} exceeds size limit {limit} of server {host}"),
                )
            }
            _ if envelope.smtputf8 && !offered.smtputf8 => {
                Reason::new(5, 6, 7, format!("SMTPUTF8 is required, but was not offered by host {host}"))
            }
            _ if envelope.body == BodyType::EightBitMime && !offered.eight_bit_mime => {
                Reason::new(5, 6, 3, format!("8BITMIME is required, but was not offered by host {host}"))
            }
            // After DATA its line ends and NULs would not survive (RFC 3030 §3).
            _ if envelope.body == BodyType::BinaryMime => {
                Reason::new(5, 6, 3, "content of BODY=BINARYMIME cannot be sent with DATA")
            }
            _ => {
                self.step = Step::Mail;
                return;
            }
        };
        self.decide(&Outcome::Failed(reason));
        self.step = Step::Quit;
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
                Step::Mail => self.mail(),
                Step::Recipient(place) => self.rcpt(place),
                Step::Data => {
                    self.session.data(&mut self.out);
                    Step::Wait
                }
                Step::Quit => {
                    self.session.quit(&mut self.out);
                    // The reply would say nothing, so the client does not wait for it (smtp_skip_quit_response).
                    Step::Close
                }
                Step::Wait | Step::Content | Step::Close => return,
            };
        }
    }

    fn mail(&mut self) -> Step {
        let (arena, envelope) = (Bump::new(), &self.job.envelope);
        let parameters = parameters::of_mail(envelope, self.session.extensions(), self.size);
        let path = if envelope.sender.is_empty() { &[][..] } else { quoted(&arena, &envelope.sender) };
        match self.session.mail(path, &parameters, &mut self.out) {
            Ok(()) => Step::Recipient(0),
            Err(_) => {
                self.decide(&Outcome::Failed(Reason::new(5, 1, 7, "bad address syntax")));
                Step::Quit
            }
        }
    }

    /// Appends RCPT for the recipient with this place; DATA follows the last one, if any may have been accepted.
    fn rcpt(&mut self, place: usize) -> Step {
        let Some(number) = self.job.recipients.get(place) else {
            let is_hopeless = self.outcomes.iter().all(Option::is_some);
            return if is_hopeless { Step::Quit } else { Step::Data };
        };
        if self.outcomes.iter().all(Option::is_some) {
            return Step::Quit;
        }
        let recipient = self
            .job
            .envelope
            .recipients
            .get(*number as usize)
            .expect("a job names recipients of its envelope");
        let arena = Bump::new();
        let parameters = parameters::of_rcpt(recipient, self.session.extensions());
        let path = quoted(&arena, &recipient.address);
        if self.session.rcpt(path, &parameters, &mut self.out).is_err() {
            self.decide(&Outcome::Failed(Reason::new(5, 1, 3, "bad address syntax")));
            return Step::Quit;
        }
        Step::Recipient(place + 1)
    }

    /// Gives all recipients this outcome that have none.
    fn decide(&mut self, outcome: &Outcome) {
        for undecided in self.outcomes.iter_mut().filter(|found| found.is_none()) {
            *undecided = Some(outcome.clone());
        }
    }

    fn fail_connection(&mut self, reason: Reason) {
        if self.outcomes.iter().any(Option::is_none) {
            self.decide(&Outcome::Deferred(reason.clone()));
            self.health = Health::Failed(reason);
        }
        self.step = Step::Close;
    }
}

/// The outcome that a negative reply means.
fn outcome(reply: &Reply<'_>, reason: Reason) -> Outcome {
    if reply.code() / 100 == 5 { Outcome::Failed(reason) } else { Outcome::Deferred(reason) }
}
