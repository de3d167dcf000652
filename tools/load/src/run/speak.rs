//! Sends: commands, pipelined groups and content, one send at a time for each connection.

use std::io::Write as _;
use std::time::Duration;

use mailrace_io::{Io, Operation};

use super::{Load, token};
use crate::client::{Action, Transaction};

impl<I: Io> Load<I> {
    /// Starts the next send, unless one is in progress.
    pub(super) fn proceed(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if client.is_sending {
            return;
        }
        if client.session.is_in_content() {
            if client.due.is_some() {
                return;
            }
            let memory = self.take_memory();
            return self.send_content(index, memory);
        }
        let Some(action) = client.next.take() else { return };
        let mut memory = self.take_memory();
        let client = &mut self.clients[index as usize];
        match action {
            Action::Ehlo => client.session.hello(self.options.helo.as_bytes(), &mut memory).expect(ONE_LINE),
            Action::Helo => client.session.helo(self.options.helo.as_bytes(), &mut memory).expect(ONE_LINE),
            Action::Reset => client.session.reset(&mut memory),
            Action::Recipient => self.append_recipient(index, false, &mut memory),
            Action::Data if !client.uses.chunking => client.session.data(&mut memory),
            Action::Data => return self.begin_chunk(index, memory),
            Action::Transaction => {
                self.append_transaction(index, false, &mut memory);
                let client = &self.clients[index as usize];
                if client.uses.chunking && client.uses.pipelining && client.current.is_some() {
                    return self.begin_chunk(index, memory);
                }
            }
        }
        self.send(index, memory);
    }

    /// Appends MAIL and, with pipelining, all commands up to DATA; QUIT if nothing is left to send on this connection.
    fn append_transaction(&mut self, index: u32, is_behind_content: bool, memory: &mut Vec<u8>) {
        let has_more = self.has_more();
        self.redeem(index);
        let client = &mut self.clients[index as usize];
        if client.messages_left == 0 || !has_more {
            client.session.quit(memory);
            client.is_of_use = true;
            return;
        }
        client.messages_left -= 1;
        let transaction = Transaction {
            number: self.next_number,
            started: self.now,
            is_behind_content,
            recipients_asked: 0,
        };
        self.next_number += 1;
        set_numbered(&mut self.path, &self.options.sender, transaction.number);
        client.session.mail(&self.path, b"", memory).expect(ONE_LINE);
        client.content_sent = 0;
        if is_behind_content {
            client.upcoming = Some(transaction);
        } else {
            client.current = Some(transaction);
        }
        let uses = client.uses;
        if uses.pipelining {
            for _ in 0..self.options.recipients {
                self.append_recipient(index, is_behind_content, memory);
            }
            if !uses.chunking {
                self.clients[index as usize].session.data(memory);
            }
        }
    }

    fn append_recipient(&mut self, index: u32, is_upcoming: bool, memory: &mut Vec<u8>) {
        let client = &mut self.clients[index as usize];
        let transaction = if is_upcoming { client.upcoming.as_mut() } else { client.current.as_mut() };
        let Some(transaction) = transaction else { return };
        let number =
            transaction.number * u64::from(self.options.recipients) + u64::from(transaction.recipients_asked);
        transaction.recipients_asked += 1;
        set_numbered(&mut self.path, &self.options.recipient, number);
        client.session.rcpt(&self.path, b"", memory).expect(ONE_LINE);
    }

    /// BDAT and the content.
    fn begin_chunk(&mut self, index: u32, mut memory: Vec<u8>) {
        let Some(length) = self.content_length(index) else { return };
        self.clients[index as usize].session.bdat(length as u64, true, &mut memory);
        self.send_content(index, memory);
    }

    /// Skips all of the content but its end.
    pub(super) fn skip_content(&mut self, index: u32) {
        if let Some(length) = self.content_length(index) {
            self.clients[index as usize].content_sent = length;
        }
    }

    /// Returns the content size of the current message, in bytes.
    fn content_length(&self, index: u32) -> Option<usize> {
        let transaction = self.clients[index as usize].current?;
        Some(self.messages[self.size_index(transaction.number)].content().len())
    }

    /// Appends the next bytes of content, and after its end what may follow at once, and sends all.
    fn send_content(&mut self, index: u32, mut memory: Vec<u8>) {
        let Some(transaction) = self.clients[index as usize].current else { return };
        let message = &self.messages[self.size_index(transaction.number)];
        let client = &mut self.clients[index as usize];
        let left = &message.content()[client.content_sent..];
        let at_once = self.options.rate.map_or(CHUNK, |rate| (rate / TICKS_PER_SECOND).clamp(1, CHUNK));
        let start = memory.len();
        if client.content_sent == 0 && !left.is_empty() {
            // The first bytes hold the number, which is sent in one piece.
            let count = left.len().min(at_once.max(message.head_length()));
            client.session.content(&left[..count], &mut memory);
            message.set_number(&mut memory, start, transaction.number);
            client.content_sent = count;
        } else {
            let count = left.len().min(at_once);
            client.session.content(&left[..count], &mut memory);
            client.content_sent += count;
        }
        if client.content_sent == message.content().len() {
            client.content_ended = self.now;
            if !client.uses.chunking {
                client.session.end_of_data(&mut memory);
                if client.uses.pipelining {
                    self.append_transaction(index, true, &mut memory);
                }
            }
        } else if self.options.rate.is_some() {
            self.call_back(index, PACE);
        }
        self.send(index, memory);
    }

    fn send(&mut self, index: u32, memory: Vec<u8>) {
        let client = &mut self.clients[index as usize];
        if let Some(connection) = client.connection {
            client.is_sending = true;
            client.send_started = self.now;
            self.touch(index);
            self.io.submit(token(index), Operation::Send(connection, memory));
        }
    }

    /// Restarts the wait for replies when a send starts or ends, except for slow content, whose duration does not depend on
    /// the server.
    pub(super) fn touch(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if !(client.session.is_in_content() && self.options.rate.is_some()) {
            client.waiting_since = self.now;
        }
    }

    fn take_memory(&mut self) -> Vec<u8> {
        let mut memory = self.spare.pop().unwrap_or_default();
        memory.clear();
        memory
    }
}

/// Makes `path` the template with the number in it.
fn set_numbered(path: &mut Vec<u8>, template: &str, number: u64) {
    path.clear();
    match template.split_once("{n}") {
        Some((before, after)) => {
            let _ = write!(path, "{before}{number}{after}");
        }
        None => path.extend_from_slice(template.as_bytes()),
    }
}

/// Bytes of content in one send.
const CHUNK: usize = 256 * 1024;
const ONE_LINE: &str = "the options refuse line ends";
const TICKS_PER_SECOND: usize = 10;
const PACE: Duration = Duration::from_millis(100);
