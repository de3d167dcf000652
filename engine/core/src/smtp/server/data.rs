//! DATA and its content (RFC 5321 §4.1.1.4). Whether content may come is decided in [`Session::decide_data`], whether it
//! may go on in [`Transaction::decide_piece`].

use super::content::Decoded;
use super::decision::Refusal;
use super::event::Event;
use super::exchange::Exchange;
use super::session::{Mode, Outcome, Session};
use super::transaction::{Chunking, Refused, Transaction};
use crate::envelope::BodyType;
use crate::smtp::reply::{self, Reply};

impl Session {
    pub(super) fn data(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        if let Some(reply) = self.decide_data(argument) {
            return self.error(exchange, reply);
        }
        self.mode = Mode::Data { refused: None };
        exchange.reply(&reply::START_CONTENT);
        Outcome::Event(Event::ContentBegin)
    }

    /// Decides whether content may come; a reply if not.
    fn decide_data(&self, argument: &[u8]) -> Option<&'static Reply> {
        let envelope = self.transaction.as_ref().map(|transaction| &transaction.envelope);
        match envelope {
            _ if self.chunking != Chunking::None => Some(&reply::DATA_AFTER_BDAT),
            None => Some(&reply::NEED_RECIPIENT),
            Some(envelope) if envelope.recipients.is_empty() => Some(&reply::NO_VALID_RECIPIENTS),
            Some(_) if !argument.is_empty() => Some(&reply::DATA_SYNTAX),
            Some(envelope) if envelope.body == BodyType::BinaryMime => Some(&reply::BINARYMIME_NEEDS_BDAT),
            Some(_) => None,
        }
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
        transaction.envelope.content.has_raw_start |= transaction.decoder.has_odd_start();
        match decoded {
            Decoded::Nothing => (used, Some(Event::NeedInput)),
            Decoded::Piece(_) if refused.is_some() => (used, None),
            Decoded::Piece(piece) => {
                transaction.content_size += piece.len() as u64;
                let refused = transaction.decide_piece(limit);
                if refused.is_some() {
                    self.mode = Mode::Data { refused };
                    return (used, Some(Event::ContentAbandon));
                }
                (used, Some(Event::Content(piece)))
            }
            Decoded::End => match refused {
                None => {
                    // The single dot itself may have violated the mode.
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

    fn end_refused_data(&mut self, exchange: &mut Exchange<'_>, refused: Refused) {
        self.mode = Mode::Command;
        let transaction = self.end_transaction();
        let refusal = if refused == Refused::BareNewline {
            bare_newline("DATA")
        } else {
            Refusal::new("END-OF-MESSAGE", "too_big", &reply::MESSAGE_TOO_BIG)
                .in_transaction(transaction.as_deref())
                .as_error()
        };
        self.refuse(exchange, refusal);
    }
}

impl Transaction {
    /// Decides whether the content may continue after the piece that was counted last.
    fn decide_piece(&self, limit: u64) -> Option<Refused> {
        if limit > 0 && self.content_size > limit {
            Some(Refused::TooBig)
        } else {
            self.decoder.is_refused().then_some(Refused::BareNewline)
        }
    }
}

/// A bare newline is an error of the client at any stage.
pub(super) fn bare_newline(stage: &'static str) -> Refusal<'static> {
    Refusal::new(stage, "bare_newline", &reply::BARE_NEWLINE).as_error()
}
