//! HELO and EHLO (RFC 5321 §4.1.1.1).

use alloc::string::ToString;

use super::command::Verb;
use super::exchange::Exchange;
use super::session::{Outcome, Session};
use crate::address::DOMAIN_SIZE_MAX;
use crate::envelope::Protocol;
use crate::smtp::reply;

impl Session {
    pub(super) fn hello(&mut self, exchange: &mut Exchange<'_>, verb: Verb, name: &[u8]) -> Outcome {
        if name.is_empty() {
            return self.error(exchange, &[b"501 Syntax: ", verb.name().as_bytes(), b" hostname"]);
        }
        // What could end a comment or a field in Received is not let in.
        let keep = |octet: &u8| match octet {
            b'<' | b'>' | b'(' | b')' | b'\\' | b'"' | b';' | b'@' | 0..=31 | 127 => b'?',
            octet => *octet,
        };
        self.origin.helo = name.iter().take(DOMAIN_SIZE_MAX).map(keep).collect();
        self.has_greeted = true;
        let event = self.reset();
        let settings = exchange.settings;
        if verb == Verb::Helo {
            // After EHLO this changes the name only, as in Postfix: the client still knows our extensions.
            exchange.reply(&[b"250 ", &settings.myhostname]);
            return self.next_or(exchange, event);
        }
        self.origin.protocol = Protocol::Esmtp;
        let offer = self.offer(settings);
        let size = settings.message_size_limit.to_string();
        let recipients = settings.smtpd_recipient_limit.to_string();
        exchange.observer.replied(250);
        reply::write(exchange.replies, &[b"250-", &settings.myhostname]);
        reply::write(exchange.replies, &[b"250-PIPELINING"]);
        reply::write(
            exchange.replies,
            &[
                b"250-SIZE",
                if offer.message_size_limit > 0 { b" " } else { b"" },
                if offer.message_size_limit > 0 { size.as_bytes() } else { b"" },
            ],
        );
        if !settings.disable_vrfy_command {
            reply::write(exchange.replies, &[b"250-VRFY"]);
        }
        for keyword in [&b"250-ENHANCEDSTATUSCODES"[..], b"250-8BITMIME", b"250-DSN", b"250-SMTPUTF8"] {
            reply::write(exchange.replies, &[keyword]);
        }
        reply::write(exchange.replies, &[b"250-LIMITS RCPTMAX=", recipients.as_bytes()]);
        if offer.has_binarymime {
            reply::write(exchange.replies, &[b"250-BINARYMIME"]);
        }
        reply::write(exchange.replies, &[b"250 CHUNKING"]);
        self.next_or(exchange, event)
    }
}
