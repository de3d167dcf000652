//! Sends: commands, pipelined groups and content, one send at a time for each connection.

use std::io::Write as _;
use std::time::Duration;

use mailrace_io::{Io, Operation};

use super::{Load, token};
use crate::client::{Action, Awaited, Transaction};

impl<I: Io> Load<I> {
    /// Sends what is to be sent next, unless a send is under way.
    pub(super) fn proceed(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if client.is_sending {
            return;
        }
        if client.is_in_content {
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
            Action::Ehlo => {
                let _ = write!(memory, "EHLO {}\r\n", self.options.helo);
                client.awaited.push_back(Awaited::Ehlo);
            }
            Action::Helo => {
                let _ = write!(memory, "HELO {}\r\n", self.options.helo);
                client.awaited.push_back(Awaited::Helo);
            }
            Action::Reset => {
                memory.extend_from_slice(b"RSET\r\n");
                client.awaited.push_back(Awaited::Reset);
            }
            Action::Recipient => self.append_recipient(index, false, &mut memory),
            Action::Data if !client.uses.chunking => {
                memory.extend_from_slice(b"DATA\r\n");
                client.awaited.push_back(Awaited::Data);
            }
            Action::Data | Action::Content => return self.begin_content(index, memory),
            Action::Transaction => {
                self.append_transaction(index, false, &mut memory);
                let client = &self.clients[index as usize];
                if client.uses.chunking && client.uses.pipelining && client.current.is_some() {
                    return self.begin_content(index, memory);
                }
            }
        }
        self.send(index, memory);
    }

    /// MAIL and, with pipelining, all up to DATA; QUIT when there is no more to send here.
    fn append_transaction(&mut self, index: u32, is_behind_content: bool, memory: &mut Vec<u8>) {
        let has_more = self.has_more();
        self.redeem(index);
        let client = &mut self.clients[index as usize];
        if client.messages_left == 0 || !has_more {
            memory.extend_from_slice(b"QUIT\r\n");
            client.awaited.push_back(Awaited::Quit);
            client.is_of_use = true;
            return;
        }
        client.messages_left -= 1;
        let transaction = Transaction {
            number: self.next_number,
            started: self.now,
            is_behind_content,
            is_open: false,
            recipients_asked: 0,
            recipients_taken: 0,
        };
        self.next_number += 1;
        memory.extend_from_slice(b"MAIL FROM:<");
        append_numbered(&self.options.sender, transaction.number, memory);
        memory.extend_from_slice(b">\r\n");
        client.awaited.push_back(Awaited::Mail);
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
                memory.extend_from_slice(b"DATA\r\n");
                self.clients[index as usize].awaited.push_back(Awaited::Data);
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
        memory.extend_from_slice(b"RCPT TO:<");
        append_numbered(&self.options.recipient, number, memory);
        memory.extend_from_slice(b">\r\n");
        client.awaited.push_back(Awaited::Recipient);
    }

    fn begin_content(&mut self, index: u32, mut memory: Vec<u8>) {
        let client = &mut self.clients[index as usize];
        let Some(transaction) = client.current else { return };
        client.awaited.push_back(Awaited::Content);
        client.is_in_content = true;
        client.content_sent = 0;
        let is_chunked = client.uses.chunking;
        let length = self.messages[self.size_index(transaction.number)].content().len();
        if is_chunked {
            let _ = write!(memory, "BDAT {length} LAST\r\n");
        } else if transaction.recipients_taken == 0 {
            // 354 although no recipient was taken: nothing but the end may be sent (RFC 2920 §3.1).
            self.clients[index as usize].content_sent = length;
        }
        self.send_content(index, memory);
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
            // The first bytes hold the number, which is written in one go.
            let count = left.len().min(at_once.max(message.head_length()));
            memory.extend_from_slice(&left[..count]);
            message.set_number(&mut memory, start, transaction.number);
            client.content_sent = count;
        } else {
            let count = left.len().min(at_once);
            memory.extend_from_slice(&left[..count]);
            client.content_sent += count;
        }
        if client.content_sent == message.content().len() {
            client.is_in_content = false;
            client.content_ended = self.now;
            if !client.uses.chunking {
                memory.extend_from_slice(b".\r\n");
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

    /// A send starts or is over: replies are waited for from now on. Not so where content is sent slowly, which takes its
    /// time whatever the server does.
    pub(super) fn touch(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if !(client.is_in_content && self.options.rate.is_some()) {
            client.waiting_since = self.now;
        }
    }

    fn take_memory(&mut self) -> Vec<u8> {
        let mut memory = self.spare.pop().unwrap_or_default();
        memory.clear();
        memory
    }
}

fn append_numbered(template: &str, number: u64, memory: &mut Vec<u8>) {
    match template.split_once("{n}") {
        Some((before, after)) => {
            let _ = write!(memory, "{before}{number}{after}");
        }
        None => memory.extend_from_slice(template.as_bytes()),
    }
}

/// Bytes of content in one send.
const CHUNK: usize = 256 * 1024;
const TICKS_PER_SECOND: usize = 10;
const PACE: Duration = Duration::from_millis(100);
