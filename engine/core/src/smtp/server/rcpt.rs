//! RCPT (RFC 5321 §4.1.1.3). Whether a recipient is accepted is decided in [`Session::decide_recipient`].

use alloc::vec::Vec;

use bumpalo::Bump;

use super::command::{self, Verb};
use super::decision::{Decision, Refusal};
use super::exchange::Exchange;
use super::parameter;
use super::relay::{has_destination, is_destination_permitted};
use super::session::{Outcome, Session};
use super::settings::Settings;
use super::transaction::Chunking;
use super::unlisted::Side;
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
        let sender = self.sender_in_question(settings);
        let arena = Bump::new();
        let forward = ForwardPath { verb: Verb::Rcpt, address: &path, typed, arena: &arena };
        let decision = self.decide_recipient(exchange, &forward, &sender);
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

    /// Decides whether the transaction may have this recipient. `sender`: [`Session::sender_in_question`].
    fn decide_recipient<'t>(
        &mut self,
        exchange: &Exchange<'_>,
        path: &ForwardPath<'t>,
        sender: &'t [u8],
    ) -> Decision<'t> {
        let settings = exchange.settings;
        let refusal = |reason, reply| Refusal::new(path.verb.name(), reason, reply).about(path.typed);
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
        self.decide_destination(exchange, path, sender)
    }

    /// Decides whether mail from this client, and from this sender if it is in question, may go to a forward-path.
    ///
    /// The order is Postfix's: the sender, the right to send there, the recipient. `postmaster` without a domain may
    /// always be sent to (RFC 5321 §4.5.1).
    pub(super) fn decide_destination<'t>(
        &mut self,
        exchange: &Exchange<'_>,
        path: &ForwardPath<'t>,
        sender: &'t [u8],
    ) -> Decision<'t> {
        if path.address.eq_ignore_ascii_case(b"postmaster") {
            return Decision::Accept;
        }
        let listed = exchange.settings.listed_addresses.as_ref();
        self.decide_sender(exchange, path, sender)
            .and_then(|| self.decide_relay(exchange, path))
            .and_then(|| match listed.smtpd_reject_unlisted_recipient {
                true => self.reject_unlisted(exchange, path, Side::Recipient, path.address),
                false => Decision::Accept,
            })
            .about(path.bare())
    }

    /// Decides whether mail may come from the transaction's sender, if it is in question.
    fn decide_sender<'t>(
        &mut self,
        exchange: &Exchange<'_>,
        path: &ForwardPath<'t>,
        sender: &'t [u8],
    ) -> Decision<'t> {
        if sender.is_empty() {
            return Decision::Accept;
        }
        let decision = self.reject_unlisted(exchange, path, Side::Sender, sender);
        if let Some(transaction) = self.transaction.as_mut() {
            transaction.is_sender_listed = matches!(decision, Decision::Accept);
        }
        decision
    }

    /// Decides whether this client may send to a forward-path.
    fn decide_relay<'t>(&mut self, exchange: &Exchange<'_>, path: &ForwardPath<'t>) -> Decision<'t> {
        if self.is_trusted {
            return Decision::Accept;
        }
        let settings = exchange.settings;
        let asker = self.asker(settings.destinations.may_wait());
        let (reason, reply) = match is_destination_permitted(settings, path.address, asker) {
            Ok(true) => return Decision::Accept,
            Err(LookupError::Pending(ticket)) => return Decision::Ask(ticket),
            Ok(false) => ("relay_denied", &reply::RELAY_DENIED),
            Err(LookupError::Unavailable) => ("lookup_failed", &reply::LOOKUP_FAILED),
        };
        Decision::Refuse(Refusal::new(path.verb.name(), reason, reply.with(path.bare())).as_error())
    }

    /// The transaction's reverse-path, as long as `smtpd_reject_unlisted_sender` has not accepted it; else empty, as is the
    /// null reverse-path. A route may depend on the recipient, so with routes it is in question for each.
    pub(super) fn sender_in_question(&self, settings: &Settings) -> Vec<u8> {
        let listed = settings.listed_addresses.as_ref();
        let is_asked = listed.smtpd_reject_unlisted_sender;
        let transaction = self
            .transaction
            .as_ref()
            .filter(|transaction| is_asked && (!transaction.is_sender_listed || listed.routes.is_some()));
        transaction.map(|transaction| transaction.envelope.sender.clone()).unwrap_or_default()
    }

    /// The party on whose behalf tables are asked; `may_wait`: one of them may have to be waited for, so that answers are
    /// kept.
    pub(super) fn asker(&mut self, may_wait: bool) -> Asker<'_> {
        if may_wait {
            Asker::new(self.origin.sharer(), self.answers.get_or_insert_default())
        } else {
            self.origin.sharer().into()
        }
    }
}

/// A forward-path that is being decided about.
pub(super) struct ForwardPath<'t> {
    /// The command that has it.
    pub(super) verb: Verb,
    /// In internal form.
    pub(super) address: &'t [u8],
    /// As the client wrote it.
    pub(super) typed: &'t [u8],
    /// Holds the text of a route until the reply is written.
    pub(super) arena: &'t Bump,
}

impl<'t> ForwardPath<'t> {
    /// As the client wrote it, without spaces and angle brackets around it.
    fn bare(&self) -> &'t [u8] {
        let typed = self.typed.trim_ascii();
        typed.strip_prefix(b"<").and_then(|typed| typed.strip_suffix(b">")).unwrap_or(typed)
    }
}
