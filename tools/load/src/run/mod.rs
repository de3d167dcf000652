//! Owns the loop: completions in, replies understood, the next octets out.

mod listen;
mod speak;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailrace_io::{Completion, ConnectionId, Instant, Io, IoError, Operation, ReceiveEnd, Token};

use crate::client::{Awaited, Client};
use crate::message::Message;
use crate::options::{Network, Options};
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
    /// Messages that connections are being made for.
    promised: u64,
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
            promised: 0,
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
            // No connection is made that would find all messages taken.
            if self.next_number.saturating_add(self.promised) >= self.end_number || self.is_over() {
                self.busy -= 1;
                continue;
            }
            self.connecting += 1;
            self.promised += 1;
            let client = &mut self.clients[index as usize];
            client.is_promised = true;
            client.connect_started = self.now;
            let source = self.options.source.as_mut().map(Network::next_address);
            self.io.submit(token(index), Operation::Connect { server: self.server, source });
        }
    }

    /// Whether another message may be started.
    fn has_more(&self) -> bool {
        self.next_number < self.end_number && !self.is_over()
    }

    /// The message that a connection was made for is begun, or never will be.
    fn redeem(&mut self, index: u32) {
        if std::mem::take(&mut self.clients[index as usize].is_promised) {
            self.promised -= 1;
        }
    }

    fn is_over(&self) -> bool {
        self.stop_at.is_some_and(|stop_at| self.now >= stop_at) || self.stop.load(Ordering::Relaxed)
    }

    fn call_back(&mut self, index: u32, delay: Duration) {
        let due = self.now.after(delay);
        self.clients[index as usize].due = Some(due);
        self.due.push(Reverse((due, index)));
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
                self.redeem(index);
                self.failing_since.get_or_insert(self.now);
                self.call_back(index, RETRY_DELAY);
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
        self.redeem(index);
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

    #[expect(clippy::cast_possible_truncation, reason = "below the number of sizes")]
    const fn size_index(&self, number: u64) -> usize {
        (number % self.messages.len() as u64) as usize
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
