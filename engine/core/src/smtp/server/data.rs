//! DATA and its content (RFC 5321 §4.1.1.4).

use super::content::Decoded;
use super::event::Event;
use super::exchange::Exchange;
use super::session::{Mode, Outcome, Session};
use super::transaction::{Chunking, Refused};
use crate::envelope::BodyType;

impl Session {
    pub(super) fn data(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        if self.chunking != Chunking::None {
            return self.error(exchange, &[b"503 5.5.1 Error: DATA after BDAT"]);
        }
        let Some(transaction) = self.transaction.as_mut() else {
            return self.error(exchange, &[b"503 5.5.1 Error: need RCPT command"]);
        };
        if transaction.envelope.recipients.is_empty() {
            return self.error(exchange, &[b"554 5.5.1 Error: no valid recipients"]);
        }
        if !argument.is_empty() {
            return self.error(exchange, &[b"501 5.5.4 Syntax: DATA"]);
        }
        if transaction.envelope.body == BodyType::BinaryMime {
            // RFC 3030 §3.
            return self.error(exchange, &[b"503 5.5.1 Error: BODY=BINARYMIME needs BDAT"]);
        }
        self.mode = Mode::Data { refused: None };
        exchange.reply(&[b"354 End data with <CR><LF>.<CR><LF>"]);
        Outcome::Event(Event::ContentBegin)
    }

    pub(super) fn take_data<'a>(
        &mut self,
        exchange: &mut Exchange<'_>,
        input: &'a [u8],
        refused: Option<Refused>,
    ) -> (usize, Option<Event<'a>>) {
        let limit = exchange.settings.message_size_limit;
        let Some(transaction) = self.transaction.as_mut() else {
            self.mode = Mode::Command;
            return (0, None);
        };
        let (used, decoded) = transaction.decoder.step(input);
        transaction.envelope.has_raw_start |= transaction.decoder.has_odd_start();
        match decoded {
            Decoded::Nothing => (used, Some(Event::NeedInput)),
            Decoded::Piece(_) if refused.is_some() => (used, None),
            Decoded::Piece(piece) => {
                transaction.content_size += piece.len() as u64;
                let refused = if limit > 0 && transaction.content_size > limit {
                    Some(Refused::TooBig)
                } else {
                    transaction.decoder.is_refused().then_some(Refused::BareNewline)
                };
                if refused.is_some() {
                    self.mode = Mode::Data { refused };
                    return (used, Some(Event::ContentAbandon));
                }
                (used, Some(Event::Content(piece)))
            }
            Decoded::End => match refused {
                None => {
                    // The single dot itself may have been at odds with the mode.
                    if transaction.decoder.is_refused() {
                        self.mode = Mode::Data { refused: Some(Refused::BareNewline) };
                        self.end_refused_data(exchange, Refused::BareNewline);
                        return (used, Some(Event::ContentAbandon));
                    }
                    self.mode = Mode::Verdict { is_chunked: false };
                    (used, Some(Event::ContentEnd))
                }
                Some(refused) => {
                    self.end_refused_data(exchange, refused);
                    (used, self.after_reply(exchange))
                }
            },
        }
    }

    pub(super) fn end_refused_data(&mut self, exchange: &mut Exchange<'_>, refused: Refused) {
        self.mode = Mode::Command;
        self.errors += 1;
        let transaction = self.transaction.take();
        if refused == Refused::BareNewline {
            self.refuse_bare_newline(exchange, "DATA");
        } else {
            let text: &[u8] = b"552 5.3.4 Error: message file too big";
            let transaction = transaction.as_deref();
            self.refuse(exchange, "END-OF-MESSAGE", "too_big", &[text], transaction, None);
        }
    }
}
