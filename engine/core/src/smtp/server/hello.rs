//! HELO and EHLO (RFC 5321 §4.1.1.1). No restriction applies to them yet: one that does decides before the name is
//! taken.

use alloc::string::ToString;

use super::command::Verb;
use super::exchange::Exchange;
use super::session::{Outcome, Session};
use crate::address::DOMAIN_SIZE_MAX;
use crate::envelope::Protocol;
use crate::smtp::extension::{Argument, Condition, EXTENSIONS};
use crate::smtp::reply;

/// Extensions offered to this client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) has_vrfy: bool,
    /// BODY=BINARYMIME.
    pub(super) has_binarymime: bool,
    /// 0: no limit.
    pub(super) message_size_limit: u64,
    pub(super) recipient_limit: u32,
}

impl Offer {
    const fn has(&self, condition: Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Vrfy => self.has_vrfy,
            Condition::BinaryMime => self.has_binarymime,
            Condition::Never => false,
        }
    }
}

impl Session {
    pub(super) fn hello(&mut self, exchange: &mut Exchange<'_>, verb: Verb, name: &[u8]) -> Outcome {
        if name.is_empty() {
            return self.error(exchange, reply::HELLO_SYNTAX.with(verb.name().as_bytes()));
        }
        // Characters that could end a comment or a field in Received are not accepted.
        let keep = |octet: &u8| match octet {
            b'<' | b'>' | b'(' | b')' | b'\\' | b'"' | b';' | b'@' | 0..=31 | 127 => b'?',
            octet => *octet,
        };
        self.origin.helo = name.iter().take(DOMAIN_SIZE_MAX).map(keep).collect();
        self.has_greeted = true;
        let event = self.reset();
        let start = exchange.replies.len();
        exchange.reply(&reply::HELLO);
        // After EHLO, HELO changes the name only, as in Postfix: the client still knows our extensions.
        if verb == Verb::Ehlo {
            self.origin.protocol = Protocol::Esmtp;
            write_keywords(exchange, start, &self.offer(exchange.settings));
        }
        self.next_or(exchange, event)
    }
}

/// Continues the reply that begins at `start` with the keywords.
fn write_keywords(exchange: &mut Exchange<'_>, start: usize, offer: &Offer) {
    let size = offer.message_size_limit.to_string();
    let recipients = offer.recipient_limit.to_string();
    let mut last = start;
    for extension in EXTENSIONS.iter().filter(|extension| offer.has(extension.condition)) {
        let argument: [&[u8]; 2] = match extension.argument {
            Argument::SizeLimit if offer.message_size_limit > 0 => [b" ", size.as_bytes()],
            Argument::None | Argument::SizeLimit => [b"", b""],
            Argument::RecipientLimit => [b" RCPTMAX=", recipients.as_bytes()],
        };
        let pieces = [extension.keyword.as_bytes(), argument[0], argument[1]];
        last = reply::continue_with(exchange.replies, last, &pieces);
    }
}
