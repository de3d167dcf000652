//! VRFY (RFC 5321 §4.1.1.6).

use super::command::Verb;
use super::exchange::Exchange;
use super::relay::has_destination;
use super::session::{Outcome, Session};
use crate::address::split_path;
use crate::smtp::reply;

impl Session {
    pub(super) fn vrfy(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        let settings = exchange.settings;
        if settings.disable_vrfy_command {
            return self.error(exchange, &[b"502 5.5.1 VRFY command is disabled"]);
        }
        if argument.is_empty() {
            return self.error(exchange, &[b"501 5.5.4 Syntax: VRFY address [SMTPUTF8]"]);
        }
        match split_path(argument, false) {
            Ok((path, parameters)) if !path.is_empty() && has_destination(settings, &path, true) => {
                if !(parameters.is_empty() || parameters.eq_ignore_ascii_case(b"SMTPUTF8")) {
                    return self.error(exchange, &[b"501 5.5.4 Syntax: VRFY address [SMTPUTF8]"]);
                }
                let typed = argument.get(..argument.len() - parameters.len()).unwrap_or_default();
                match self.refused_destination(exchange, Verb::Vrfy, &path, typed) {
                    Some(refused) => refused,
                    None => self.ok(exchange, &[b"252 2.0.0 ", &reply::echo(typed.trim_ascii())]),
                }
            }
            _ => self.error(exchange, &[b"501 5.1.3 Bad recipient address syntax"]),
        }
    }
}
