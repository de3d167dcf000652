//! Owns the loop: completions in, replies understood, the next octets out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailrace_io::{Completion, ConnectionId, Instant, Io, IoError, Operation, Piece, ReceiveEnd, Token};

use crate::client::{Action, Awaited, Client, Transaction};
use crate::message::Message;
use crate::options::Options;
use crate::reply::Reply;
use crate::statistics::Statistics;

/// A load test under way.
pub(crate) struct Load<I: Io> {
    io: I,
    server: SocketAddr,
    options: Options,
    /// One for each size.
    messages: Vec<Message>,
    clients: Vec<Client>,
    /// Clients that wait for their turn to connect.
    unconnected: VecDeque<u32>,
    connecting: usize,
    /// Since when connections have failed one after the other, without a greeting between.
    failing_since: Option<Instant>,
    /// Clients with something left to do.
    busy: usize,
    /// Connections held open by `--idle`.
    idle: usize,
    /// When clients have something to do that no completion tells.
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Memory of sends, to be used again.
    spare: Vec<Vec<u8>>,
    next_number: u64,
    /// No message has this number or a later one.
    end_number: u64,
    warmup_left: u64,
    stop_at: Option<Instant>,
    stop: Arc<AtomicBool>,
    now: Instant,
    statistics: Statistics,
}

impl<I: Io> Load<I> {
    /// A test that has not begun; `stop` ends it early.
    pub(crate) fn new(mut io: I, server: SocketAddr, options: Options, stop: Arc<AtomicBool>) -> Self {
        let now = io.now();
        let messages = options
            .sizes
            .iter()
            .map(|size| Message::new(*size, &options.sender, &options.recipient))
            .collect();
        let count = options.connections;
        Self {
            server,
            messages,
            clients: (0..count).map(|_| Client::default()).collect(),
            unconnected: (0..count).collect(),
            connecting: 0,
            failing_since: None,
            busy: count as usize,
            idle: 0,
            due: BinaryHeap::new(),
            spare: Vec::new(),
            next_number: 0,
            end_number: options.messages.map_or(u64::MAX, |messages| messages.saturating_add(options.warmup)),
            warmup_left: options.warmup,
            stop_at: None,
            stop,
            now,
            statistics: Statistics::new(now),
            io,
            options,
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// When the ring failed.
    pub(crate) fn run(mut self) -> Result<Statistics, IoError> {
        let mut completions = Vec::new();
        if self.warmup_left == 0 {
            self.start_counting();
        }
        while self.busy > 0 && !self.is_hopeless() {
            self.connect_some();
            let tick = self.now.after(TICK);
            let due = self.due.peek().map_or(tick, |Reverse((due, _))| (*due).min(tick));
            self.io.wait(Some(due), &mut completions)?;
            self.now = self.io.now();
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            self.act_on_time();
        }
        Ok(self.statistics)
    }

    fn is_hopeless(&self) -> bool {
        self.failing_since.is_some_and(|since| self.now.since(since) > FAILING_TIME_MAX)
    }

    fn start_counting(&mut self) {
        self.statistics = Statistics::new(self.now);
        let duration = self.options.duration.map(Duration::from_secs_f64);
        self.stop_at = duration.map(|duration| self.now.after(duration));
    }

    fn connect_some(&mut self) {
        while self.connecting < CONNECTING_MAX
            && let Some(index) = self.unconnected.pop_front()
        {
            if !self.has_more() {
                self.busy -= 1;
                continue;
            }
            self.connecting += 1;
            self.clients[index as usize].connect_started = self.now;
            self.io.submit(token(index), Operation::Connect(self.server));
        }
    }

    /// Whether another message may be started.
    fn has_more(&self) -> bool {
        self.next_number < self.end_number && !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.stop_at.is_some_and(|stop_at| self.now >= stop_at) || self.stop.load(Ordering::Relaxed)
    }

    fn act_on_time(&mut self) {
        while let Some(Reverse((due, index))) = self.due.peek().copied()
            && due <= self.now
        {
            self.due.pop();
            let client = &mut self.clients[index as usize];
            // A connection that ended meanwhile left its entry behind.
            if client.due == Some(due) {
                client.due = None;
                if client.connection.is_some() {
                    self.proceed(index);
                } else {
                    self.unconnected.push_back(index);
                }
            }
        }
        if self.options.idle.is_some() && self.is_over() {
            // The process is about to end, and its connections with it.
            self.busy = 0;
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Connected { token, result } => self.connected(index(token), result),
            Completion::Received { token, connection, piece } => {
                let index = index(token);
                if self.clients[index as usize].connection == Some(connection) {
                    self.received(index, &piece);
                }
                self.io.recycle(piece);
            }
            Completion::ReceiveEnded { token, connection, end } => {
                let index = index(token);
                if self.clients[index as usize].connection == Some(connection) {
                    match end {
                        ReceiveEnd::OutOfBuffers => self.io.submit(token, Operation::Receive(connection)),
                        ReceiveEnd::Closed | ReceiveEnd::Stopped | ReceiveEnd::Failed(_) => self.lost(index),
                    }
                }
            }
            Completion::Sent { token, connection, memory, result } => {
                self.spare.push(memory);
                let index = index(token);
                let client = &mut self.clients[index as usize];
                if client.connection == Some(connection) {
                    client.is_sending = false;
                    match result {
                        Ok(()) => self.proceed(index),
                        Err(_) => self.lost(index),
                    }
                }
            }
            // Nothing else was asked for.
            Completion::Accepted { .. } | Completion::AcceptFailed { .. } | Completion::Written { .. } => {}
        }
    }

    fn connected(&mut self, index: u32, result: Result<ConnectionId, std::io::Error>) {
        self.connecting -= 1;
        match result {
            Ok(connection) => {
                self.statistics.connections += 1;
                let client = &mut self.clients[index as usize];
                client.connection = Some(connection);
                client.awaited.push_back(Awaited::Greeting);
                client.messages_left = match self.options.per_connection {
                    0 => u64::MAX,
                    count => count,
                };
                self.io.submit(token(index), Operation::Receive(connection));
            }
            Err(error) => {
                if self.failing_since.is_none() {
                    let _ =
                        writeln!(std::io::stderr(), "mailrace-load: connecting to {}: {error}", self.server);
                }
                self.statistics.connections_failed += 1;
                self.failing_since.get_or_insert(self.now);
                self.call_back(index, RETRY_DELAY);
            }
        }
    }

    /// Understands the replies in a piece, then goes on.
    fn received(&mut self, index: u32, piece: &Piece) {
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
    fn failed(&mut self, index: u32) {
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

    /// The connection ended before its time.
    fn lost(&mut self, index: u32) {
        self.statistics.connections_lost += 1;
        if self.clients[index as usize].awaited.front() == Some(&Awaited::Greeting) {
            self.failing_since.get_or_insert(self.now);
        }
        self.failed(index);
        let upcoming = self.clients[index as usize].upcoming.take();
        self.clients[index as usize].current = upcoming;
        self.failed(index);
        self.close(index);
    }

    /// Ends the connection; its client starts over, or is done.
    fn close(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if let Some(connection) = client.connection {
            self.io.submit(token(index), Operation::Close(connection));
        }
        client.reset();
        if self.options.idle.is_some() || !self.has_more() {
            self.busy -= 1;
        } else {
            self.unconnected.push_back(index);
        }
    }

    /// Sends what is to be sent next, unless a send is under way.
    fn proceed(&mut self, index: u32) {
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
            Action::Hello => {
                let _ = write!(memory, "EHLO {}\r\n", self.options.helo);
                client.awaited.push_back(Awaited::Hello);
            }
            Action::Reset => {
                memory.extend_from_slice(b"RSET\r\n");
                client.awaited.push_back(Awaited::Reset);
            }
            Action::Recipient => self.append_recipient(index, false, &mut memory),
            Action::Data if !self.options.bdat => {
                memory.extend_from_slice(b"DATA\r\n");
                client.awaited.push_back(Awaited::Data);
            }
            Action::Data | Action::Content => return self.begin_content(index, memory),
            Action::Transaction => {
                self.append_transaction(index, false, &mut memory);
                if self.options.bdat
                    && self.options.pipelining
                    && self.clients[index as usize].current.is_some()
                {
                    return self.begin_content(index, memory);
                }
            }
        }
        self.send(index, memory);
    }

    /// MAIL and, with pipelining, all up to DATA; QUIT when there is no more to send here.
    fn append_transaction(&mut self, index: u32, is_behind_content: bool, memory: &mut Vec<u8>) {
        let has_more = self.has_more();
        let client = &mut self.clients[index as usize];
        if client.messages_left == 0 || !has_more {
            memory.extend_from_slice(b"QUIT\r\n");
            client.awaited.push_back(Awaited::Quit);
            return;
        }
        client.messages_left -= 1;
        let transaction = Transaction {
            number: self.next_number,
            started: self.now,
            is_behind_content,
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
        if self.options.pipelining {
            for _ in 0..self.options.recipients {
                self.append_recipient(index, is_behind_content, memory);
            }
            if !self.options.bdat {
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
        let length = self.messages[self.size_index(transaction.number)].content().len();
        if self.options.bdat {
            let _ = write!(memory, "BDAT {length} LAST\r\n");
        } else if transaction.recipients_taken == 0 {
            // 354 although no recipient was taken: nothing but the end may be sent (RFC 2920 §3.1).
            self.clients[index as usize].content_sent = length;
        }
        self.send_content(index, memory);
    }

    /// Appends the next octets of content, and behind its end what may follow at once, and sends all.
    fn send_content(&mut self, index: u32, mut memory: Vec<u8>) {
        let Some(transaction) = self.clients[index as usize].current else { return };
        let message = &self.messages[self.size_index(transaction.number)];
        let client = &mut self.clients[index as usize];
        let left = &message.content()[client.content_sent..];
        let at_once = self.options.rate.map_or(CHUNK, |rate| (rate / TICKS_PER_SECOND).clamp(1, CHUNK));
        let start = memory.len();
        if client.content_sent == 0 && !left.is_empty() {
            // The first octets hold the number, which is written in one go.
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
            if !self.options.bdat {
                memory.extend_from_slice(b".\r\n");
                if self.options.pipelining {
                    self.append_transaction(index, true, &mut memory);
                }
            }
        } else if self.options.rate.is_some() {
            self.call_back(index, PACE);
        }
        self.send(index, memory);
    }

    fn call_back(&mut self, index: u32, delay: Duration) {
        let due = self.now.after(delay);
        self.clients[index as usize].due = Some(due);
        self.due.push(Reverse((due, index)));
    }

    fn send(&mut self, index: u32, memory: Vec<u8>) {
        let client = &mut self.clients[index as usize];
        if let Some(connection) = client.connection {
            client.is_sending = true;
            self.io.submit(token(index), Operation::Send(connection, memory));
        }
    }

    fn take_memory(&mut self) -> Vec<u8> {
        let mut memory = self.spare.pop().unwrap_or_default();
        memory.clear();
        memory
    }

    #[expect(clippy::cast_possible_truncation, reason = "below the number of sizes")]
    const fn size_index(&self, number: u64) -> usize {
        (number % self.messages.len() as u64) as usize
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

fn token(index: u32) -> Token {
    Token(u64::from(index))
}

#[expect(clippy::cast_possible_truncation, reason = "made by token()")]
const fn index(token: Token) -> u32 {
    token.0 as u32
}

/// Connects under way at once: a listener's queue is not endless, and an overflow costs a second.
const CONNECTING_MAX: usize = 256;
const RETRY_DELAY: Duration = Duration::from_millis(20);
/// A server that never greets is given up on.
const FAILING_TIME_MAX: Duration = Duration::from_secs(3);
/// How late a signal or the end of `--duration` may be seen.
const TICK: Duration = Duration::from_millis(50);
/// Octets of content in one send.
const CHUNK: usize = 256 * 1024;
const TICKS_PER_SECOND: usize = 10;
const PACE: Duration = Duration::from_millis(100);
