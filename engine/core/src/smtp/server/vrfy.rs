//! VRFY (RFC 5321 §4.1.1.6).

use bumpalo::Bump;

use super::command::Verb;
use super::decision::Decision;
use super::exchange::Exchange;
use super::rcpt::ForwardPath;
use super::relay::has_destination;
use super::session::{Outcome, Session};
use crate::address::split_path;
use crate::smtp::reply;

impl Session {
    pub(super) fn vrfy(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        let settings = exchange.settings;
        if settings.disable_vrfy_command {
            return self.error(exchange, &reply::VRFY_DISABLED);
        }
        if argument.is_empty() {
            return self.error(exchange, &reply::VRFY_SYNTAX);
        }
        match split_path(argument, false) {
            Ok((path, parameters)) if !path.is_empty() && has_destination(settings, &path, true) => {
                if !(parameters.is_empty() || parameters.eq_ignore_ascii_case(b"SMTPUTF8")) {
                    return self.error(exchange, &reply::VRFY_SYNTAX);
                }
                let typed = argument.get(..argument.len() - parameters.len()).unwrap_or_default();
                let sender = self.sender_in_question(settings);
                let arena = Bump::new();
                let forward = ForwardPath { verb: Verb::Vrfy, address: &path, typed, arena: &arena };
                let decision = self.decide_destination(exchange, &forward, &sender);
                if self.transaction.is_none() && !matches!(decision, Decision::Ask(_)) {
                    self.answers = None;
                }
                match self.enforce(exchange, decision) {
                    Some(outcome) => outcome,
                    None => self.ok(exchange, reply::NOT_VERIFIED.with(typed.trim_ascii())),
                }
            }
            _ => self.error(exchange, &reply::BAD_RECIPIENT),
        }
    }
}
