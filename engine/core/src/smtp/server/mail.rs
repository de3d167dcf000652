//! MAIL (RFC 5321 §4.1.1.2). Whether the sender may begin a transaction is decided in [`Session::decide_mail`].

use alloc::boxed::Box;

use super::command::{self, Verb};
use super::content::Decoder;
use super::decision::{Decision, Refusal};
use super::exchange::Exchange;
use super::parameter;
use super::relay::has_destination;
use super::session::{Outcome, Session};
use super::transaction::{Chunking, Transaction};
use crate::address::split_path;
use crate::envelope::Envelope;
use crate::smtp::reply;

impl Session {
    pub(super) fn mail(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        let settings = exchange.settings;
        if settings.smtpd_helo_required && !self.has_greeted {
            return self.error(exchange, &reply::NEED_HELLO);
        }
        if self.transaction.is_some() {
            return self.error(exchange, &reply::NESTED_MAIL);
        }
        if self.chunking != Chunking::None {
            return self.error(exchange, &reply::MAIL_AFTER_BDAT);
        }
        let Some(argument) =
            command::after(argument, b"FROM:").filter(|argument| !argument.trim_ascii().is_empty())
        else {
            return self.error(exchange, &reply::MAIL_SYNTAX);
        };
        let Ok((sender, parameters)) = split_path(argument, settings.strict_rfc821_envelopes) else {
            return self.error(exchange, &reply::BAD_SENDER);
        };
        let is_utf8 = parameter::split(parameters).any(|name| name.eq_ignore_ascii_case(b"SMTPUTF8"));
        if !sender.is_empty() && !has_destination(settings, &sender, is_utf8) {
            return self.error(exchange, &reply::BAD_SENDER);
        }
        let mut envelope = Envelope { arrival: exchange.wall, sender, ..Envelope::default() };
        if let Err(error) = parameter::mail(parameters, self.offer(settings), &mut envelope) {
            return self.refuse_parameter(exchange, Verb::Mail, error);
        }
        if let Some(outcome) = self.enforce(exchange, Self::decide_mail(exchange)) {
            return outcome;
        }
        let bare_newline = self.bare_newline(settings);
        self.transaction = Some(Box::new(Transaction {
            envelope,
            recipients_memory: 0,
            is_sender_listed: false,
            surplus_recipients: 0,
            decoder: Decoder::new(bare_newline, true),
            content_size: 0,
            chunks_size: 0,
        }));
        self.ok(exchange, &reply::SENDER_OK)
    }

    /// Decides whether a transaction may begin.
    fn decide_mail(exchange: &Exchange<'_>) -> Decision<'static> {
        if exchange.is_storage_low {
            return Decision::Refuse(Refusal::new("MAIL", "storage_low", &reply::INSUFFICIENT_STORAGE));
        }
        Decision::Accept
    }
}
