//! BDAT and its chunks (RFC 3030).

use alloc::string::ToString;

use super::command;
use super::content::{Decoded, Decoder};
use super::event::Event;
use super::exchange::Exchange;
use super::session::{Mode, Outcome, Session};
use super::transaction::{Chunking, Refused};
use crate::envelope::BodyType;

impl Session {
    pub(super) fn bdat(&mut self, exchange: &mut Exchange<'_>, argument: &[u8]) -> Outcome {
        let Some((size, is_last)) = command::chunk(argument) else {
            // Nobody knows how much follows.
            self.errors += 1;
            let text: &[u8] = b"521 5.5.4 Syntax: BDAT count [LAST]";
            self.refuse(exchange, "BDAT", "syntax", &[text], None, None);
            return self.close();
        };
        let limit = exchange.settings.message_size_limit;
        let bare_newline = self.bare_newline(exchange.settings);
        let chunking = self.chunking;
        let refused = match self.transaction.as_mut() {
            _ if size == 0 && !is_last => Some(Refused::NullChunk),
            _ if chunking == Chunking::Failed => Some(Refused::AfterError),
            None => Some(Refused::NeedRecipient),
            Some(transaction) if transaction.envelope.recipients.is_empty() => {
                Some(Refused::NoValidRecipients)
            }
            Some(transaction) if limit > 0 && size > limit.saturating_sub(transaction.chunks_size) => {
                Some(Refused::TooBig)
            }
            Some(transaction) => {
                transaction.chunks_size = transaction.chunks_size.saturating_add(size);
                if chunking == Chunking::None {
                    transaction.decoder = Decoder::new(bare_newline, false);
                    transaction.envelope.has_raw_start = true;
                }
                None
            }
        };
        self.chunking = if refused.is_some() { Chunking::Failed } else { Chunking::Open };
        self.mode = Mode::Chunk { size, left: size, is_last, refused };
        match (chunking, refused) {
            (Chunking::None, None) => Outcome::Event(Event::ContentBegin),
            (Chunking::Open, Some(_)) => Outcome::Event(Event::ContentAbandon),
            _ => Outcome::Next,
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

    pub(super) fn end_chunk<'a>(
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
                exchange.reply(&[b"250 2.0.0 Ok: ", digits, b" bytes"]);
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
        self.errors += 1;
        if is_last {
            self.chunking = Chunking::None;
        }
        let transaction = if is_last { self.transaction.take() } else { None };
        let transaction = transaction.as_deref();
        match refused {
            Refused::BareNewline => self.refuse_bare_newline(exchange, "BDAT"),
            Refused::AfterError => {
                let text: [&[u8]; 3] = [b"551 5.0.0 Discarded ", digits, b" bytes after earlier error"];
                self.refuse(exchange, "BDAT", "after_error", &text, transaction, None);
            }
            Refused::NullChunk => {
                let text: &[u8] = b"551 5.7.1 Null BDAT request";
                self.refuse(exchange, "BDAT", "null_chunk", &[text], transaction, None);
            }
            Refused::TooBig => {
                let text: &[u8] = b"552 5.3.4 Chunk exceeds message size limit";
                self.refuse(exchange, "BDAT", "too_big", &[text], transaction, None);
            }
            Refused::NeedRecipient => {
                let text: &[u8] = b"503 5.5.1 Error: need RCPT command";
                self.refuse(exchange, "BDAT", "order", &[text], transaction, None);
            }
            Refused::NoValidRecipients => {
                let text: &[u8] = b"554 5.5.1 Error: no valid recipients";
                self.refuse(exchange, "BDAT", "no_valid_recipients", &[text], transaction, None);
            }
        }
        self.after_reply(exchange)
    }
}
