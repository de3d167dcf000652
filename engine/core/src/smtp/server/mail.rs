//! MAIL (RFC 5321 §4.1.1.2).

use alloc::boxed::Box;

use super::command::{self, Verb};
use super::content::Decoder;
use super::exchange::Exchange;
use super::parameter;
use super::relay::has_destination;
use super::session::{Outcome, Session};
use super::transaction::{Chunking, Transaction};
use crate::address::split_path;
use crate::envelope::Envelope;

impl Session {
    pub(super) fn mail(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        let settings = exchange.settings;
        if settings.smtpd_helo_required && !self.has_greeted {
            return self.error(exchange, &[b"503 5.5.1 Error: send HELO/EHLO first"]);
        }
        if self.transaction.is_some() {
            return self.error(exchange, &[b"503 5.5.1 Error: nested MAIL command"]);
        }
        if self.chunking != Chunking::None {
            return self.error(exchange, &[b"503 5.5.1 Error: MAIL after BDAT"]);
        }
        let Some(argument) =
            command::after(argument, b"FROM:").filter(|argument| !argument.trim_ascii().is_empty())
        else {
            return self.error(exchange, &[b"501 5.5.4 Syntax: MAIL FROM:<address>"]);
        };
        let Ok((sender, parameters)) = split_path(argument, settings.strict_rfc821_envelopes) else {
            return self.error(exchange, &[b"501 5.1.7 Bad sender address syntax"]);
        };
        let is_utf8 = parameter::split(parameters).any(|name| name.eq_ignore_ascii_case(b"SMTPUTF8"));
        if !sender.is_empty() && !has_destination(settings, &sender, is_utf8) {
            return self.error(exchange, &[b"501 5.1.7 Bad sender address syntax"]);
        }
        let mut envelope = Envelope { arrival: exchange.wall, sender, ..Envelope::default() };
        if let Err(error) = parameter::mail(parameters, self.offer(settings), &mut envelope) {
            return self.refuse_parameter(exchange, Verb::Mail, error);
        }
        if exchange.is_storage_low {
            let text: &[u8] = b"452 4.3.1 Insufficient system storage";
            self.refuse(exchange, "MAIL", "storage_low", &[text], None, None);
            return self.next(exchange);
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
        self.ok(exchange, &[b"250 2.1.0 Ok"])
    }
}
