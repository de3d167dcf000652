//! RCPT (RFC 5321 §4.1.1.3). Whether a recipient is accepted is decided in [`Session::decide_recipient`].

use super::command::{self, Verb};
use super::decision::{Decision, Refusal};
use super::exchange::Exchange;
use super::parameter;
use super::relay::{has_destination, is_destination_permitted};
use super::session::{Outcome, Session};
use super::transaction::Chunking;
use crate::address::split_path;
use crate::envelope::Recipient;
use crate::lookup::{Asker, LookupError};
use crate::smtp::reply;

impl Session {
    pub(super) fn rcpt(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        let settings = exchange.settings;
        let Some(transaction) = self.transaction.as_mut() else {
            return self.error(exchange, &reply::NEED_MAIL);
        };
        if self.chunking != Chunking::None {
            return self.error(exchange, &reply::RCPT_AFTER_BDAT);
        }
        let Some(argument) =
            command::after(argument, b"TO:").filter(|argument| !argument.trim_ascii().is_empty())
        else {
            return self.error(exchange, &reply::RCPT_SYNTAX);
        };
        let is_utf8 = transaction.envelope.smtputf8;
        let (path, parameters) = match split_path(argument, settings.strict_rfc821_envelopes) {
            Ok((path, parameters)) if !path.is_empty() && has_destination(settings, &path, is_utf8) => {
                (path, parameters)
            }
            _ => return self.error(exchange, &reply::BAD_RECIPIENT),
        };
        let typed = argument.get(..argument.len() - parameters.len()).unwrap_or_default();
        let mut recipient = Recipient::default();
        if let Err(error) = parameter::rcpt(parameters, &mut recipient) {
            return self.refuse_parameter(exchange, Verb::Rcpt, error);
        }
        let decision = self.decide_recipient(exchange, &path, typed);
        if let Some(outcome) = self.enforce(exchange, decision) {
            return outcome;
        }
        recipient.address = path;
        if let Some(transaction) = self.transaction.as_mut() {
            let original_size = recipient.dsn_original.as_ref().map_or(0, |original| original.len());
            // The list has room for up to twice as many.
            transaction.recipients_memory +=
                2 * size_of::<Recipient>() + recipient.address.capacity() + original_size;
            transaction.envelope.recipients.push(recipient);
        }
        self.ok(exchange, &reply::RECIPIENT_OK)
    }

    /// Decides whether the transaction may have this recipient, which the client wrote as `typed`.
    fn decide_recipient<'t>(
        &mut self,
        exchange: &Exchange<'_>,
        address: &[u8],
        typed: &'t [u8],
    ) -> Decision<'t> {
        let settings = exchange.settings;
        let refusal = |reason, reply| Refusal::new(Verb::Rcpt.name(), reason, reply).about(typed);
        if let Some(transaction) = self.transaction.as_mut()
            && transaction.envelope.recipients.len() >= settings.smtpd_recipient_limit as usize
        {
            transaction.surplus_recipients += 1;
            let is_error = transaction.surplus_recipients > settings.smtpd_recipient_overshoot_limit;
            let refusal = refusal("too_many_recipients", &reply::TOO_MANY_RECIPIENTS);
            return Decision::Refuse(Refusal { is_error, ..refusal });
        }
        if exchange.is_storage_low {
            return Decision::Refuse(refusal("storage_low", &reply::INSUFFICIENT_STORAGE));
        }
        self.decide_destination(exchange, Verb::Rcpt, address, typed)
    }

    /// Decides whether mail from this client may go to `address`. `postmaster` without a domain may always be sent to (RFC
    /// 5321 §4.5.1).
    pub(super) fn decide_destination<'t>(
        &mut self,
        exchange: &Exchange<'_>,
        verb: Verb,
        address: &[u8],
        typed: &'t [u8],
    ) -> Decision<'t> {
        if self.is_trusted || address.eq_ignore_ascii_case(b"postmaster") {
            return Decision::Accept;
        }
        let destinations = &exchange.settings.destinations;
        let may_wait = destinations.relay_domains.may_wait() || destinations.virtual_alias_domains.may_wait();
        let asker = if may_wait {
            Asker::new(self.origin.sharer(), self.answers.get_or_insert_default())
        } else {
            self.origin.sharer().into()
        };
        let (reason, reply) = match is_destination_permitted(exchange.settings, address, asker) {
            Ok(true) => return Decision::Accept,
            Err(LookupError::Pending(ticket)) => return Decision::Ask(ticket),
            Ok(false) => ("relay_denied", &reply::RELAY_DENIED),
            Err(LookupError::Unavailable) => ("lookup_failed", &reply::LOOKUP_FAILED),
        };
        let typed = typed.trim_ascii();
        let bare = typed.strip_prefix(b"<").and_then(|typed| typed.strip_suffix(b">")).unwrap_or(typed);
        Decision::Refuse(Refusal::new(verb.name(), reason, reply.with(bare)).about(bare).as_error())
    }
}
