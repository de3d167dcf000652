//! The loop: completions in, replies understood, the next bytes out.
//!
//! It ends by itself, whatever the server does: every wait for the server is bounded by `--timeout`, every retry by
//! `--patience`, and what is under way when `--duration` is over or a signal came is cut off after a while.

mod connect;
mod listen;
mod speak;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailrace_core::smtp::client::Awaited;
use mailrace_io::{Completion, Instant, Io, IoError, Operation, ReceiveEnd, Token};
use mailrace_postmark::Template;

use crate::client::{Client, Stage};
use crate::options::Options;
use crate::retry::Retry;
use crate::statistics::{Cause, End, Statistics};

/// A load test under way.
pub(crate) struct Load<I: Io> {
    io: I,
    server: SocketAddr,
    options: Options,
    /// One for each size.
    messages: Vec<Template>,
    clients: Vec<Client>,
    /// Clients that wait for their turn to connect.
    unconnected: VecDeque<u32>,
    connecting: usize,
    /// Connections whose EHLO or HELO was not accepted yet.
    unproven: usize,
    /// EHLO or HELO was accepted on some connection.
    is_proven: bool,
    retry: Retry,
    /// Clients whose last connection was of no use.
    failing: usize,
    /// What went wrong last.
    last_failure: String,
    has_told_of_failure: bool,
    has_given_up: bool,
    /// Clients with something left to do.
    busy: usize,
    /// Of these the ones that pause, or whose connecting takes too long.
    resting: usize,
    /// Connections held open by `--idle`.
    idle: usize,
    /// When clients have something to do that no completion tells.
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    /// When clients are looked through for one that has waited too long.
    next_sweep: Instant,
    /// Memory of sends, to be used again.
    spare: Vec<Vec<u8>>,
    /// Memory of the path in a command.
    path: Vec<u8>,
    next_number: u64,
    /// Messages that connections are being made for.
    promised: u64,
    /// No message has this number or a later one.
    end_number: u64,
    warmup_left: u64,
    stop_at: Option<Instant>,
    stop: Arc<AtomicBool>,
    /// When what is still under way is cut off.
    cut_at: Option<Instant>,
    is_signalled: bool,
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
            .map(|size| Template::new(*size, &options.sender, &options.recipient))
            .collect();
        let count = options.connections;
        Self {
            server,
            messages,
            clients: (0..count).map(|_| Client::default()).collect(),
            unconnected: (0..count).collect(),
            connecting: 0,
            unproven: 0,
            is_proven: false,
            retry: Retry::new(options.patience),
            failing: 0,
            last_failure: String::new(),
            has_told_of_failure: false,
            has_given_up: false,
            busy: count as usize,
            resting: 0,
            idle: 0,
            due: BinaryHeap::new(),
            next_sweep: now,
            spare: Vec::new(),
            path: Vec::new(),
            next_number: 0,
            promised: 0,
            end_number: options.messages.map_or(u64::MAX, |messages| messages.saturating_add(options.warmup)),
            warmup_left: options.warmup,
            stop_at: None,
            stop,
            cut_at: None,
            is_signalled: false,
            now,
            statistics: Statistics::new(now),
            io,
            options,
        }
    }

    /// Runs to the end: what was counted, and how it ended.
    pub(crate) fn run(mut self) -> (Statistics, End) {
        let result = self.work();
        self.cut_off();
        let end = self.end(result.err());
        (self.statistics, end)
    }

    fn work(&mut self) -> Result<(), IoError> {
        let mut completions = Vec::new();
        // Building large messages took time, of which the ring knows after its first turn.
        self.io.wait(Some(self.now), &mut completions)?;
        self.now = self.io.now();
        if self.warmup_left == 0 {
            self.start_counting();
        }
        while self.goes_on() {
            self.connect_some();
            self.io.wait(Some(self.wakes_at()), &mut completions)?;
            self.now = self.io.now();
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            self.act_on_time();
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        let is_cut = self.cut_at.is_some_and(|cut_at| self.now >= cut_at);
        // Clients that pause have nothing to come back for when the last message has been begun.
        let is_needed = self.busy > self.resting || self.has_more();
        self.busy > 0 && is_needed && !is_cut && !self.has_given_up
    }

    fn wakes_at(&self) -> Instant {
        let tick = self.now.after(TICK);
        let due = self.due.peek().map(|Reverse((due, _))| *due);
        let attempt = self.retry.next_attempt().filter(|_| !self.unconnected.is_empty());
        [due, attempt].into_iter().flatten().fold(tick, Instant::min)
    }

    fn start_counting(&mut self) {
        self.statistics = Statistics::new(self.now);
        self.stop_at = self.options.duration.map(|duration| self.now.after(duration));
    }

    /// Whether another message may be started.
    fn has_more(&self) -> bool {
        self.next_number < self.end_number && !self.is_over()
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
            // The entry may belong to a connection that has ended meanwhile.
            if client.due == Some(due) {
                client.due = None;
                if client.connection.is_some() {
                    self.proceed(index);
                } else {
                    self.wake(index);
                }
            }
        }
        self.notice_end();
        if self.now >= self.next_sweep {
            self.next_sweep = self.now.after((self.options.timeout / 8).clamp(SWEEP_MIN, SWEEP_MAX));
            self.time_out();
        }
    }

    /// Sets a bound for what is under way when the time is over or a signal came.
    fn notice_end(&mut self) {
        let bound = if self.stop.load(Ordering::Relaxed) && !self.is_signalled {
            self.is_signalled = true;
            SIGNAL_TIME_MAX
        } else if self.is_over() && self.cut_at.is_none() {
            self.options.timeout
        } else {
            return;
        };
        let cut_at = self.now.after(bound);
        self.cut_at = Some(self.cut_at.map_or(cut_at, |earlier| earlier.min(cut_at)));
        if self.options.idle.is_some() {
            // The process is about to end, and its connections with it.
            self.busy = 0;
        }
    }

    /// Ends connections whose server has been silent for too long.
    fn time_out(&mut self) {
        let is_over = self.is_over();
        for index in 0..self.options.connections {
            let client = &self.clients[index as usize];
            let Some(since) = client.waits_since() else { continue };
            // Replies that no message depends on are not worth a long wait.
            let is_courtesy = is_over || client.session.awaited() == Some(Awaited::Quit);
            let timeout = self.options.timeout;
            let bound = if is_courtesy { timeout.min(COURTESY_TIME_MAX) } else { timeout };
            if self.now.since(since) <= bound {
                continue;
            }
            if client.stage == Stage::Connecting {
                self.overdue(index);
            } else {
                let phase = client.phase();
                self.statistics.error(phase, "timeout");
                self.last_failure = format!("{phase}: no reply for {bound:?}");
                self.lost(index);
            }
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
                        ReceiveEnd::Closed | ReceiveEnd::Stopped => self.broken(index, None),
                        ReceiveEnd::Failed(error) => self.broken(index, Some(&error)),
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
                        Ok(()) => {
                            self.touch(index);
                            self.proceed(index);
                        }
                        Err(error) => self.broken(index, Some(&error)),
                    }
                }
            }
            // Nothing else was asked for.
            Completion::Accepted { .. }
            | Completion::AcceptFailed { .. }
            | Completion::Written { .. }
            | Completion::Read { .. } => {}
        }
    }

    /// Counts what is still under way as it stands.
    fn cut_off(&mut self) {
        for index in 0..self.options.connections {
            let client = &self.clients[index as usize];
            if client.stage == Stage::Open && self.options.idle.is_none() {
                self.statistics.error(client.phase(), "cut_off");
                self.statistics.connections_lost += 1;
                self.fail_all(index);
            }
        }
    }

    fn end(&self, error: Option<IoError>) -> End {
        let is_bounded = self.options.messages.is_some();
        let not_begun = if is_bounded { self.end_number.saturating_sub(self.next_number) } else { 0 };
        let is_done = not_begun == 0 && is_bounded;
        let (cause, reason) = match error {
            Some(error) => (Cause::Failed, Some(error.to_string())),
            None if self.has_given_up => (Cause::GaveUp, Some(self.given_up_since())),
            None if is_done => (Cause::Done, None),
            None if self.is_signalled => (Cause::Signal, None),
            None if self.is_over() => (Cause::Duration, None),
            None => (Cause::Done, None),
        };
        End { cause, reason, not_begun }
    }

    fn given_up_since(&self) -> String {
        let seconds = self.retry.failing_for(self.now).as_secs_f64();
        format!(
            "for {seconds:.1} s no connection to {} was usable; last failure: {}",
            self.server, self.last_failure
        )
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

/// How late a signal or the end of `--duration` may be seen.
const TICK: Duration = Duration::from_millis(50);
/// How often clients are looked through.
const SWEEP_MIN: Duration = Duration::from_millis(10);
const SWEEP_MAX: Duration = Duration::from_millis(250);
/// What is under way after a signal is cut off after this.
const SIGNAL_TIME_MAX: Duration = Duration::from_secs(1);
/// The wait for the reply to QUIT, and for any reply once the time is over.
const COURTESY_TIME_MAX: Duration = Duration::from_secs(3);
