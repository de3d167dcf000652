//! BDAT and its chunks (RFC 3030). Whether a chunk may come is decided in [`Session::decide_chunk`].

use alloc::string::ToString;

use super::command;
use super::content::{Decoded, Decoder};
use super::data::bare_newline;
use super::decision::Refusal;
use super::event::Event;
use super::exchange::Exchange;
use super::session::{Mode, Outcome, Session};
use super::settings::Settings;
use super::transaction::{Chunking, Refused};
use crate::envelope::BodyType;
use crate::smtp::reply::{self, Filled};

impl Session {
    pub(super) fn bdat(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        let Some((size, is_last)) = command::chunk(argument) else {
            // How much follows is not known.
            self.refuse(exchange, Refusal::new("BDAT", "syntax", &reply::BDAT_SYNTAX).as_error());
            return self.close();
        };
        let chunking = self.chunking;
        let refused = self.decide_chunk(exchange.settings, size, is_last);
        if refused.is_none() {
            self.begin_chunk(exchange.settings, size);
        }
        self.chunking = if refused.is_some() { Chunking::Failed } else { Chunking::Open };
        self.mode = Mode::Chunk { size, left: size, is_last, refused };
        match (chunking, refused) {
            (Chunking::None, None) => Outcome::Event(Event::ContentBegin),
            (Chunking::Open, Some(_)) => Outcome::Event(Event::ContentAbandon),
            _ => Outcome::Next,
        }
    }

    /// Decides whether a chunk of this size may come.
    fn decide_chunk(&self, settings: &Settings, size: u64, is_last: bool) -> Option<Refused> {
        let limit = settings.message_size_limit;
        match self.transaction.as_deref() {
            _ if size == 0 && !is_last => Some(Refused::NullChunk),
            _ if self.chunking == Chunking::Failed => Some(Refused::AfterError),
            None => Some(Refused::NeedRecipient),
            Some(transaction) if transaction.envelope.recipients.is_empty() => {
                Some(Refused::NoValidRecipients)
            }
            Some(transaction) if limit > 0 && size > limit.saturating_sub(transaction.chunks_size) => {
                Some(Refused::TooBig)
            }
            Some(_) => None,
        }
    }

    fn begin_chunk(&mut self, settings: &Settings, size: u64) {
        let (chunking, bare_newline) = (self.chunking, self.bare_newline(settings));
        let Some(transaction) = self.transaction.as_mut() else { return };
        transaction.chunks_size = transaction.chunks_size.saturating_add(size);
        if chunking == Chunking::None {
            transaction.decoder = Decoder::new(bare_newline, false);
            transaction.envelope.content.has_raw_start = true;
        }
    }

    pub(super) fn take_chunk<'a>(
        &mut self,
        exchange: &mut Exchange<'_>,
        input: &'a [u8],
    ) -> (usize, Option<Event<'a>>) {
        let Mode::Chunk { size, left, is_last, refused } = self.mode else { return (0, None) };
        if left == 0 {
            return (0, self.end_chunk(exchange, size, is_last, refused));
        }
        let part =
            input.get(..usize::try_from(left).unwrap_or(usize::MAX).min(input.len())).unwrap_or_default();
        if part.is_empty() {
            return (0, Some(Event::NeedInput));
        }
        let mut left_after = |used: usize, refused| {
            self.mode = Mode::Chunk { size, left: left - used as u64, is_last, refused };
        };
        let Some(transaction) = self.transaction.as_mut().filter(|_| refused.is_none()) else {
            left_after(part.len(), refused);
            return (part.len(), None);
        };
        if transaction.envelope.body == BodyType::BinaryMime {
            transaction.content_size += part.len() as u64;
            left_after(part.len(), None);
            return (part.len(), Some(Event::Content(part)));
        }
        let (used, decoded) = transaction.decoder.step(part);
        if transaction.decoder.is_refused() {
            left_after(used, Some(Refused::BareNewline));
            self.chunking = Chunking::Failed;
            return (used, Some(Event::ContentAbandon));
        }
        left_after(used, None);
        match decoded {
            Decoded::Piece(piece) => {
                transaction.content_size += piece.len() as u64;
                (used, Some(Event::Content(piece)))
            }
            Decoded::Nothing | Decoded::End => (used, None),
        }
    }

    fn end_chunk<'a>(
        &mut self,
        exchange: &mut Exchange<'_>,
        size: u64,
        is_last: bool,
        refused: Option<Refused>,
    ) -> Option<Event<'a>> {
        self.mode = Mode::Command;
        let digits = size.to_string();
        let digits = digits.as_bytes();
        let Some(refused) = refused else {
            if !is_last {
                exchange.reply(reply::CHUNK_OK.with(digits));
                return self.after_reply(exchange);
            }
            if let Some(transaction) = self.transaction.as_mut()
                && transaction.envelope.body != BodyType::BinaryMime
            {
                let rest = transaction.decoder.finish();
                if !rest.is_empty() {
                    // The next call finds the chunk at its end again.
                    self.mode = Mode::Chunk { size, left: 0, is_last, refused: None };
                    return Some(Event::Content(rest));
                }
            }
            self.mode = Mode::Verdict { is_chunked: true };
            return Some(Event::ContentEnd);
        };
        if is_last {
            self.chunking = Chunking::None;
        }
        let transaction = if is_last { self.end_transaction() } else { None };
        let refusal = |reason, reply| {
            let refusal = Refusal::new("BDAT", reason, reply);
            refusal.in_transaction(transaction.as_deref()).as_error()
        };
        self.refuse(
            exchange,
            match refused {
                Refused::BareNewline => bare_newline("BDAT"),
                Refused::AfterError => refusal("after_error", reply::CHUNK_DISCARDED.with(digits)),
                Refused::NullChunk => refusal("null_chunk", Filled::from(&reply::NULL_CHUNK)),
                Refused::TooBig => refusal("too_big", Filled::from(&reply::CHUNK_TOO_BIG)),
                Refused::NeedRecipient => refusal("order", Filled::from(&reply::NEED_RECIPIENT)),
                Refused::NoValidRecipients => {
                    refusal("no_valid_recipients", Filled::from(&reply::NO_VALID_RECIPIENTS))
                }
            },
        );
        self.after_reply(exchange)
    }
}
