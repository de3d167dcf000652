//! Owns understanding replies: what each means for the message under way, and what is to be sent next.

use std::io::Write as _;

use mailrace_io::{Io, Piece};

use super::Load;
use crate::client::{Action, Awaited};
use crate::reply::Reply;

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
        let Some(awaited) = client.awaited.pop_front() else {
            self.statistics.unexpected(reply);
            self.lost(index);
            return false;
        };
        let is_good = awaited.is_answered_by(reply.code);
        if !is_good {
            self.statistics.unexpected(reply);
        }
        if reply.code == 421 || (awaited == Awaited::Content && client.is_in_content) {
            self.lost(index);
            return false;
        }
        match awaited {
            Awaited::Greeting | Awaited::Hello if !is_good => {
                self.lost(index);
                return false;
            }
            Awaited::Greeting => {
                self.statistics.connect.record(self.now.since(client.connect_started));
                client.next = Some(Action::Hello);
                self.failing_since = None;
            }
            Awaited::Hello if self.options.idle.is_some() => self.hold(),
            Awaited::Hello | Awaited::Reset => client.next = Some(Action::Transaction),
            Awaited::Mail => self.mail_replied(index, is_good),
            Awaited::Recipient => self.recipient_replied(index, is_good),
            Awaited::Data if is_good => client.next = Some(Action::Content),
            Awaited::Data => {
                self.failed(index);
                self.clients[index as usize].next = Some(Action::Reset);
            }
            Awaited::Content => self.content_replied(index, is_good),
            Awaited::Quit => {
                self.close(index);
                return false;
            }
        }
        true
    }

    fn hold(&mut self) {
        self.idle += 1;
        if self.idle == self.clients.len() {
            let _ = writeln!(std::io::stderr(), "mailrace-load: {} idle connections are open", self.idle);
        }
    }

    fn mail_replied(&mut self, index: u32, is_good: bool) {
        let client = &mut self.clients[index as usize];
        if let Some(transaction) = client.current.filter(|it| is_good && !it.is_behind_content) {
            self.statistics.mail.record(self.now.since(transaction.started));
        }
        if !self.options.pipelining {
            if is_good {
                client.next = Some(Action::Recipient);
            } else {
                self.failed(index);
                self.clients[index as usize].next = Some(Action::Transaction);
            }
        }
    }

    fn recipient_replied(&mut self, index: u32, is_good: bool) {
        let client = &mut self.clients[index as usize];
        let Some(transaction) = client.current.as_mut() else { return };
        transaction.recipients_taken += u32::from(is_good);
        if self.options.pipelining {
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
            self.statistics.octets +=
                self.messages[self.size_index(transaction.number)].content().len() as u64;
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
