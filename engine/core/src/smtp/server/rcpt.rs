//! RCPT (RFC 5321 §4.1.1.3).

use super::command::{self, Verb};
use super::event::Event;
use super::exchange::Exchange;
use super::parameter;
use super::relay::{has_destination, is_destination_permitted};
use super::session::{Outcome, Session};
use super::transaction::Chunking;
use crate::address::split_path;
use crate::envelope::Recipient;
use crate::lookup::LookupError;
use crate::smtp::reply;

impl Session {
    pub(super) fn rcpt(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        let settings = exchange.settings;
        let Some(transaction) = self.transaction.as_mut() else {
            return self.error(exchange, &[b"503 5.5.1 Error: need MAIL command"]);
        };
        if self.chunking != Chunking::None {
            return self.error(exchange, &[b"503 5.5.1 Error: RCPT after BDAT"]);
        }
        let Some(argument) =
            command::after(argument, b"TO:").filter(|argument| !argument.trim_ascii().is_empty())
        else {
            return self.error(exchange, &[b"501 5.5.4 Syntax: RCPT TO:<address>"]);
        };
        let is_utf8 = transaction.envelope.smtputf8;
        let (path, parameters) = match split_path(argument, settings.strict_rfc821_envelopes) {
            Ok((path, parameters)) if !path.is_empty() && has_destination(settings, &path, is_utf8) => {
                (path, parameters)
            }
            _ => return self.error(exchange, &[b"501 5.1.3 Bad recipient address syntax"]),
        };
        let typed = argument.get(..argument.len() - parameters.len()).unwrap_or_default();
        let mut recipient = Recipient::default();
        if let Err(error) = parameter::rcpt(parameters, &mut recipient) {
            return self.refuse_parameter(exchange, Verb::Rcpt, error);
        }
        if transaction.envelope.recipients.len() >= settings.smtpd_recipient_limit as usize {
            transaction.surplus_recipients += 1;
            let is_error = transaction.surplus_recipients > settings.smtpd_recipient_overshoot_limit;
            self.errors += u32::from(is_error);
            let text: &[u8] = b"452 4.5.3 Error: too many recipients";
            self.refuse_recipient(exchange, Verb::Rcpt, "too_many_recipients", &[text], typed);
            return self.next(exchange);
        }
        if exchange.is_storage_low {
            let text: &[u8] = b"452 4.3.1 Insufficient system storage";
            self.refuse_recipient(exchange, Verb::Rcpt, "storage_low", &[text], typed);
            return self.next(exchange);
        }
        if let Some(refused) = self.refused_destination(exchange, Verb::Rcpt, &path, typed) {
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
        self.ok(exchange, &[b"250 2.1.5 Ok"])
    }

    /// What is done if mail from this client may not go to `address`, or if that is not known. `postmaster` without a
    /// domain may always be sent to (RFC 5321 §4.5.1).
    pub(super) fn refused_destination(
        &mut self,
        exchange: &mut Exchange<'_>,
        verb: Verb,
        address: &[u8],
        typed: &[u8],
    ) -> Option<Outcome> {
        let may_always = self.is_trusted || address.eq_ignore_ascii_case(b"postmaster");
        let answer = if may_always {
            Ok(true)
        } else {
            is_destination_permitted(exchange.settings, address, self.origin.sharer())
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
        self.refuse_recipient(exchange, verb, reason, &[front, &reply::echo(bare), back], bare);
        Some(self.next(exchange))
    }

    pub(super) fn refuse_recipient(
        &mut self,
        exchange: &mut Exchange<'_>,
        verb: Verb,
        reason: &'static str,
        text: &[&[u8]],
        recipient: &[u8],
    ) {
        self.refuse(exchange, verb.name(), reason, text, self.transaction.as_deref(), Some(recipient));
    }
}
