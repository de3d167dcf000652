//! Understands replies: what each means for the message under way, and what is to be sent next.

use std::io::Write as _;

use mailrace_io::{Io, Piece};

use super::Load;
use crate::client::{Action, Awaited};
use crate::reply::{Extensions, Reply, UNINTELLIGIBLE};
use crate::statistics::printable;

impl<I: Io> Load<I> {
    /// Understands the replies in a piece, then goes on.
    pub(super) fn received(&mut self, index: u32, piece: &Piece) {
        let mut reader = std::mem::take(&mut self.clients[index as usize].reader);
        // The closure changes everything but the receive buffers, so it cannot borrow from `self.io`;
        // a reply or a few of them is all there is to copy.
        let mut replies = self.spare.pop().unwrap_or_default();
        replies.clear();
        replies.extend_from_slice(self.io.received(piece));
        let mut is_open = true;
        reader.read(&replies, |reply| {
            is_open = self.replied(index, &reply);
            is_open
        });
        self.spare.push(replies);
        if is_open {
            self.clients[index as usize].reader = reader;
            self.proceed(index);
        }
    }

    /// Acts on one reply; false when the connection is gone.
    fn replied(&mut self, index: u32, reply: &Reply<'_>) -> bool {
        self.statistics.replied(reply.code);
        let client = &mut self.clients[index as usize];
        client.waiting_since = self.now;
        let is_early = client.is_in_content && client.awaited.front() == Some(&Awaited::Content);
        let Some(awaited) = client.awaited.pop_front() else {
            return self.is_out_of_step(index, "idle", reply);
        };
        let is_good = awaited.is_answered_by(reply.code);
        if is_early || reply.code == 421 || reply.code == UNINTELLIGIBLE {
            return self.is_out_of_step(index, awaited.phase(), reply);
        }
        if !is_good {
            self.statistics.unexpected(awaited.phase(), reply);
        }
        match awaited {
            // Servers without extensions refuse EHLO (RFC 5321 3.2).
            Awaited::Ehlo if reply.code / 100 == 5 => {
                self.statistics.without.ehlo += 1;
                client.next = Some(Action::Helo);
            }
            Awaited::Greeting | Awaited::Ehlo | Awaited::Helo if !is_good => {
                self.last_failure = format!("{}: {}", awaited.phase(), printable(reply.line));
                self.lost(index);
                return false;
            }
            Awaited::Greeting => {
                self.statistics.connect.record(self.now.since(client.connect_started));
                client.next = Some(Action::Ehlo);
            }
            Awaited::Ehlo => self.greeted(index, Extensions::offered_by(reply)),
            Awaited::Helo => self.greeted(index, Extensions::default()),
            Awaited::Reset => client.next = Some(Action::Transaction),
            Awaited::Mail => self.mail_replied(index, is_good),
            Awaited::Recipient => self.recipient_replied(index, is_good),
            Awaited::Data if is_good => client.next = Some(Action::Content),
            Awaited::Data => {
                self.failed(index);
                self.clients[index as usize].next = Some(Action::Reset);
            }
            Awaited::Content => self.content_replied(index, is_good),
            Awaited::Quit => {
                self.left(index);
                return false;
            }
        }
        true
    }

    /// After such a reply the dialogue cannot go on: one that says so (421), one that is none, or one that nothing asked
    /// for. Always false.
    fn is_out_of_step(&mut self, index: u32, phase: &'static str, reply: &Reply<'_>) -> bool {
        self.statistics.unexpected(phase, reply);
        self.last_failure = format!("{phase}: {}", printable(reply.line));
        self.lost(index);
        false
    }

    /// EHLO or HELO was accepted: only what the server offers is used.
    fn greeted(&mut self, index: u32, offered: Extensions) {
        self.is_proven = true;
        self.unproven -= 1;
        self.clients[index as usize].is_proven = true;
        if self.options.idle.is_some() {
            self.of_use(index);
            return self.hold();
        }
        let (pipelining, chunking) = (self.options.pipelining, self.options.bdat);
        self.statistics.without.pipelining += u64::from(pipelining && !offered.pipelining);
        self.statistics.without.chunking += u64::from(chunking && !offered.chunking);
        let client = &mut self.clients[index as usize];
        client.uses = Extensions {
            pipelining: pipelining && offered.pipelining,
            chunking: chunking && offered.chunking,
        };
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
        if let Some(transaction) = client.current.as_mut().filter(|_| is_good) {
            transaction.is_open = true;
            if !transaction.is_behind_content {
                self.statistics.mail.record(self.now.since(transaction.started));
            }
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
        let Some(transaction) = client.current.as_mut() else { return };
        transaction.recipients_taken += u32::from(is_good);
        // Without MAIL there is no recipient to refuse.
        self.statistics.recipients_refused += u64::from(!is_good && transaction.is_open);
        if client.uses.pipelining {
            return;
        }
        if transaction.recipients_asked < self.options.recipients {
            client.next = Some(Action::Recipient);
        } else if transaction.recipients_taken > 0 {
            client.next = Some(Action::Data);
        } else {
            self.failed(index);
            self.clients[index as usize].next = Some(Action::Reset);
        }
    }

    fn content_replied(&mut self, index: u32, is_good: bool) {
        let client = &mut self.clients[index as usize];
        let Some(transaction) = client.current else { return };
        if is_good && transaction.recipients_taken > 0 {
            self.statistics.end_of_data.record(self.now.since(client.content_ended));
            self.statistics.transaction.record(self.now.since(transaction.started));
            self.statistics.accepted += 1;
            self.statistics.recipients_accepted += u64::from(transaction.recipients_taken);
            self.statistics.octets +=
                self.messages[self.size_index(transaction.number)].content().len() as u64;
            self.of_use(index);
            self.answered();
        } else {
            self.failed(index);
        }
        let client = &mut self.clients[index as usize];
        client.current = client.upcoming.take();
        if client.awaited.is_empty() {
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
