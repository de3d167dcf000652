//! Decisions at the stages of the dialogue, and how a refusal is answered and reported.
//!
//! One function per stage decides: [`Session::decide_mail`], [`Session::decide_recipient`], `decide_data`,
//! `decide_chunk`, and `decide_piece` for content while it comes; the caller's [`Verdict`](super::Verdict) decides about
//! the message. A restriction, a policy server or a milter that has a say at a stage is asked in its function; the
//! validation of addresses is [`Session::reject_unlisted`].

use super::event::{Event, Reject};
use super::exchange::Exchange;
use super::session::{Outcome, Session};
use super::transaction::Transaction;
use crate::lookup::Ticket;
use crate::smtp::reply::Filled;

/// Outcome of a stage.
pub(super) enum Decision<'a> {
    /// The command takes effect.
    Accept,
    /// The command is refused.
    Refuse(Refusal<'a>),
    /// Ask again when this question is answered.
    Ask(Ticket),
}

impl<'a> Decision<'a> {
    /// The next decision, if this one accepts.
    pub(super) fn and_then(self, next: impl FnOnce() -> Self) -> Self {
        if matches!(self, Self::Accept) { next() } else { self }
    }

    /// The same about this forward-path.
    pub(super) fn about(self, recipient: &'a [u8]) -> Self {
        match self {
            Self::Refuse(refusal) => Self::Refuse(refusal.about(recipient)),
            decision => decision,
        }
    }
}

/// A reply that is also reported to the observer.
#[derive(Clone, Copy)]
pub(super) struct Refusal<'a> {
    pub(super) stage: &'static str,
    pub(super) reason: &'static str,
    pub(super) reply: Filled<'a>,
    /// Whether it counts as an error of the client.
    pub(super) is_error: bool,
    pub(super) sender: Option<&'a [u8]>,
    pub(super) recipient: Option<&'a [u8]>,
}

impl<'a> Refusal<'a> {
    /// A refusal that is not the client's error.
    pub(super) fn new(stage: &'static str, reason: &'static str, reply: impl Into<Filled<'a>>) -> Self {
        Self { stage, reason, reply: reply.into(), is_error: false, sender: None, recipient: None }
    }

    /// The same as an error of the client.
    pub(super) const fn as_error(self) -> Self {
        Self { is_error: true, ..self }
    }

    /// The same about this forward-path.
    pub(super) const fn about(self, recipient: &'a [u8]) -> Self {
        Self { recipient: Some(recipient), ..self }
    }

    /// The same in a transaction that the session has ended.
    pub(super) fn in_transaction(self, transaction: Option<&'a Transaction>) -> Self {
        Self { sender: transaction.map(|transaction| transaction.envelope.sender.as_slice()), ..self }
    }
}

impl Session {
    /// Carries out a decision; `None`: the command continues. A reply of 421 or 521 ends the session (RFC 5321 §3.8,
    /// RFC 7504 §3).
    pub(super) fn enforce(&mut self, exchange: &mut Exchange<'_>, decision: Decision<'_>) -> Option<Outcome> {
        match decision {
            Decision::Accept => None,
            Decision::Refuse(refusal) => {
                let code = refusal.reply.code;
                self.refuse(exchange, refusal);
                Some(if matches!(code, 421 | 521) { self.close() } else { self.next(exchange) })
            }
            Decision::Ask(ticket) => Some(Outcome::Event(Event::Ask(ticket))),
        }
    }

    /// Writes the reply, and reports it.
    pub(super) fn refuse(&mut self, exchange: &mut Exchange<'_>, refusal: Refusal<'_>) {
        self.errors += u32::from(refusal.is_error);
        let start = exchange.replies.len();
        exchange.reply(refusal.reply);
        self.report(exchange, start, refusal.stage, refusal.reason, refusal.sender, refusal.recipient);
    }

    /// Reports the reply that begins at `start`.
    pub(super) fn report(
        &self,
        exchange: &mut Exchange<'_>,
        start: usize,
        stage: &'static str,
        reason: &'static str,
        sender: Option<&[u8]>,
        recipient: Option<&[u8]>,
    ) {
        let reply = exchange.replies.get(start..).unwrap_or_default().trim_ascii_end();
        let open = self.transaction.as_ref().map(|transaction| transaction.envelope.sender.as_slice());
        let sender = sender.or(open);
        exchange.observer.rejected(&self.origin, &Reject { stage, reason, reply, sender, recipient });
    }
}
