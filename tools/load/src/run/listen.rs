//! Understands replies: what each means for the message under way, and what is to be sent next.

use std::io::Write as _;

use mailrace_core::smtp::client::{Awaited, Event, InvalidReply, Reply};
use mailrace_io::{Io, Piece};

use super::Load;
use crate::client::{Action, Uses, phase};
use crate::statistics::{UNINTELLIGIBLE, printable};

impl<I: Io> Load<I> {
    /// Understands the replies in a piece, then goes on.
    pub(super) fn received(&mut self, index: u32, piece: &Piece) {
        let mut reader = std::mem::take(&mut self.clients[index as usize].reader);
        // What a reply changes is borrowed together with the receive buffers, so the replies are copied. They are short.
        let mut replies = self.spare.pop().unwrap_or_default();
        replies.clear();
        replies.extend_from_slice(self.io.received(piece));
        let mut input = &replies[..];
        let mut is_open = true;
        while is_open && let Some(received) = reader.read(&mut input) {
            is_open = self.replied(index, &received);
        }
        self.spare.push(replies);
        if is_open {
            self.clients[index as usize].reader = reader;
            self.proceed(index);
        }
    }

    /// Acts on one reply; false when the connection is gone.
    fn replied(&mut self, index: u32, received: &Result<Reply<'_>, InvalidReply<'_>>) -> bool {
        let (code, line) = match received {
            Ok(reply) => (reply.code(), reply.line()),
            Err(invalid) => (UNINTELLIGIBLE, invalid.got),
        };
        self.statistics.replied(code);
        let client = &mut self.clients[index as usize];
        client.waiting_since = self.now;
        let awaited = match client.session.reply_received(received) {
            Event::Answer(awaited) => awaited,
            Event::Early => return self.is_out_of_step(index, Some(Awaited::Content), code, line),
            Event::Unsolicited => return self.is_out_of_step(index, None, code, line),
            Event::Closing(awaited) | Event::Invalid(awaited) => {
                return self.is_out_of_step(index, awaited, code, line);
            }
        };
        let is_good = awaited.is_answered_by(code);
        if !is_good {
            self.statistics.unexpected(phase(Some(awaited)), code, line);
        }
        match awaited {
            // Servers without extensions refuse EHLO (RFC 5321 3.2).
            Awaited::Ehlo if code / 100 == 5 => {
                self.statistics.without.ehlo += 1;
                client.next = Some(Action::Helo);
            }
            Awaited::Greeting | Awaited::Ehlo | Awaited::Lhlo | Awaited::Helo if !is_good => {
                self.failed_with(Some(awaited), line);
                self.lost(index);
                return false;
            }
            Awaited::Greeting => {
                self.statistics.connect.record(self.now.since(client.connect_started));
                client.next = Some(Action::Ehlo);
            }
            Awaited::Ehlo | Awaited::Lhlo | Awaited::Helo => self.greeted(index),
            Awaited::Reset => client.next = Some(Action::Transaction),
            Awaited::Mail => self.mail_replied(index, is_good),
            Awaited::Recipient => self.recipient_replied(index, is_good),
            // 354 although no recipient was accepted: nothing but the end may be sent (RFC 2920 3.1).
            Awaited::Data if is_good && client.session.recipients_accepted() == 0 => self.skip_content(index),
            // Content is next. No other command is sent.
            Awaited::Data if is_good => {}
            Awaited::Other => {}
            Awaited::Data => {
                self.failed(index);
                self.clients[index as usize].next = Some(Action::Reset);
            }
            Awaited::Chunk | Awaited::Content => self.content_replied(index, is_good),
            Awaited::Quit => {
                self.left(index);
                return false;
            }
        }
        true
    }

    /// After such a reply the dialogue cannot go on: one that says so (421), one that is none, or one that nothing asked
    /// for. Always false.
    fn is_out_of_step(&mut self, index: u32, awaited: Option<Awaited>, code: u16, line: &[u8]) -> bool {
        self.statistics.unexpected(phase(awaited), code, line);
        self.failed_with(awaited, line);
        self.lost(index);
        false
    }

    fn failed_with(&mut self, awaited: Option<Awaited>, line: &[u8]) {
        self.last_failure = format!("{}: {}", phase(awaited), printable(line));
    }

    /// EHLO or HELO was accepted: only what the server offers is used.
    fn greeted(&mut self, index: u32) {
        self.is_proven = true;
        self.unproven -= 1;
        self.clients[index as usize].is_proven = true;
        if self.options.idle.is_some() {
            self.of_use(index);
            return self.hold();
        }
        let (pipelining, chunking) = (self.options.pipelining, self.options.bdat);
        let client = &mut self.clients[index as usize];
        let offered = client.session.extensions();
        self.statistics.without.pipelining += u64::from(pipelining && !offered.pipelining);
        self.statistics.without.chunking += u64::from(chunking && !offered.chunking);
        client.uses =
            Uses { pipelining: pipelining && offered.pipelining, chunking: chunking && offered.chunking };
        client.next = Some(Action::Transaction);
    }

    fn hold(&mut self) {
        self.idle += 1;
        if self.idle == self.clients.len() {
            let _ = writeln!(std::io::stderr(), "mailrace-load: {} idle connections are open", self.idle);
        }
    }

    fn mail_replied(&mut self, index: u32, is_good: bool) {
        let client = &mut self.clients[index as usize];
        let is_pipelining = client.uses.pipelining;
        if let Some(transaction) = client.current.filter(|it| is_good && !it.is_behind_content) {
            self.statistics.mail.record(self.now.since(transaction.started));
        }
        if is_pipelining {
            return;
        }
        if is_good {
            client.next = Some(Action::Recipient);
        } else {
            self.failed(index);
            self.clients[index as usize].next = Some(Action::Transaction);
        }
    }

    fn recipient_replied(&mut self, index: u32, is_good: bool) {
        let client = &mut self.clients[index as usize];
        let Some(transaction) = client.current else { return };
        // Without MAIL there is no recipient to refuse.
        self.statistics.recipients_refused += u64::from(!is_good && client.session.is_mail_accepted());
        if client.uses.pipelining {
            return;
        }
        if transaction.recipients_asked < self.options.recipients {
            client.next = Some(Action::Recipient);
        } else if client.session.recipients_accepted() > 0 {
            client.next = Some(Action::Data);
        } else {
            self.failed(index);
            self.clients[index as usize].next = Some(Action::Reset);
        }
    }

    fn content_replied(&mut self, index: u32, is_good: bool) {
        let client = &mut self.clients[index as usize];
        let Some(transaction) = client.current else { return };
        let recipients = client.session.recipients_accepted();
        if is_good && recipients > 0 {
            self.statistics.end_of_data.record(self.now.since(client.content_ended));
            self.statistics.transaction.record(self.now.since(transaction.started));
            self.statistics.accepted += 1;
            self.statistics.recipients_accepted += u64::from(recipients);
            self.statistics.octets +=
                self.messages[self.size_index(transaction.number)].content().len() as u64;
            self.of_use(index);
            self.answered();
        } else {
            self.failed(index);
        }
        let client = &mut self.clients[index as usize];
        client.current = client.upcoming.take();
        if client.session.awaited().is_none() {
            client.next = Some(Action::Transaction);
        }
    }

    /// The current message was not accepted.
    pub(super) fn failed(&mut self, index: u32) {
        if self.clients[index as usize].current.take().is_some() {
            self.statistics.failed += 1;
            self.answered();
        }
    }

    fn answered(&mut self) {
        self.statistics.answered(self.now);
        if self.warmup_left > 0 {
            self.warmup_left -= 1;
            if self.warmup_left == 0 {
                self.start_counting();
            }
        }
    }
}
