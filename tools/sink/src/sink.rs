//! The loop: completions in, sessions fed, replies out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mailrace_core::queue_id::QueueIdSource;
use mailrace_core::smtp::{Settings, Verdict};
use mailrace_core::{Envelope, Origin, QueueId, Timestamp};
use mailrace_io::{Completion, ConnectionId, Instant, Io, IoError, Operation, ReceiveEnd, Token};
use serde::Serialize;

use crate::client::{Client, Outcome, Receiving, WaitsFor};

/// A sink for mail.
pub(crate) struct Sink<I: Io> {
    io: I,
    settings: Settings,
    clients: Vec<Option<Client>>,
    /// When waiting clients are to be looked at again: slot and generation.
    due: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    /// Memory of sends, to be used again.
    spare: Vec<Vec<u8>>,
    ids: QueueIdSource,
    store: Option<PathBuf>,
    delay: Duration,
    is_strict: bool,
    messages_max: u64,
    counts: Counts,
}

/// What was taken.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) sessions: u64,
    pub(crate) messages: u64,
    pub(crate) recipients: u64,
    /// Of content, with CRLF line ends.
    pub(crate) octets: u64,
    /// Messages that could not be stored; they were answered with 451.
    pub(crate) not_stored: u64,
    /// Messages that strict mode refused for their line ends; they were answered with 550.
    pub(crate) refused: u64,
}

impl<I: Io> Sink<I> {
    pub(crate) fn new(mut io: I, listener: TcpListener, connections: u32) -> Self {
        io.submit(Token::default(), Operation::Accept(listener));
        Self {
            io,
            settings: Settings::default(),
            clients: (0..connections).map(|_| None).collect(),
            due: BinaryHeap::new(),
            spare: Vec::new(),
            ids: QueueIdSource::new(0, Timestamp::default()),
            store: None,
            delay: Duration::ZERO,
            is_strict: false,
            messages_max: u64::MAX,
            counts: Counts::default(),
        }
    }

    pub(crate) fn store_in(&mut self, directory: Option<PathBuf>) {
        self.store = directory;
    }

    pub(crate) const fn answer_after(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// Refuses line ends other than CRLF.
    pub(crate) const fn be_strict(&mut self, is_strict: bool) {
        self.is_strict = is_strict;
    }

    pub(crate) fn end_after(&mut self, messages: Option<u64>) {
        self.messages_max = messages.unwrap_or(u64::MAX);
    }

    /// Serves until `stop` is set, there were enough messages or the ring failed.
    pub(crate) fn run(mut self, stop: &AtomicBool) -> (Counts, Result<(), IoError>) {
        let result = self.serve(stop);
        (self.counts, result)
    }

    fn serve(&mut self, stop: &AtomicBool) -> Result<(), IoError> {
        let mut completions = Vec::new();
        while !stop.load(Ordering::Relaxed) && self.counts.messages < self.messages_max {
            let tick = self.io.now().after(TICK);
            let due = self.due.peek().map_or(tick, |Reverse((due, ..))| (*due).min(tick));
            self.io.wait(Some(due), &mut completions)?;
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            self.act_on_time();
        }
        // What was answered in the last turn is to leave.
        let now = self.now();
        self.io.wait(Some(now), &mut completions)
    }

    fn now(&mut self) -> Instant {
        self.io.now()
    }

    fn wall(&mut self) -> Timestamp {
        Timestamp::from_unix_microseconds(self.io.wall_clock())
    }

    fn client(&mut self, connection: ConnectionId) -> Option<&mut Client> {
        let client = self.clients.get_mut(connection.slot as usize)?.as_mut();
        client.filter(|client| client.connection == connection)
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { connection, peer } => {
                self.counts.sessions += 1;
                let mut client = Client::new(connection, Origin::new(peer.ip(), peer.port()), self.is_strict);
                let wall = self.wall();
                client.greet(&self.settings, wall);
                self.clients[connection.slot as usize] = Some(client);
                self.io.submit(Token::default(), Operation::Receive(connection));
                self.send(connection);
            }
            Completion::Received { connection, piece, .. } => {
                if let Some(client) = self.clients.get_mut(connection.slot as usize).and_then(Option::as_mut)
                    && client.connection == connection
                {
                    client.backlog.extend_from_slice(self.io.received(&piece));
                    if client.receiving == Receiving::On && client.backlog.len() > BACKLOG_MAX {
                        client.receiving = Receiving::Stopping;
                        self.io.submit(Token::default(), Operation::StopReceiving(connection));
                    }
                }
                self.io.recycle(piece);
                self.drive(connection);
            }
            Completion::ReceiveEnded { connection, end, .. } => match end {
                ReceiveEnd::OutOfBuffers => self.io.submit(Token::default(), Operation::Receive(connection)),
                ReceiveEnd::Stopped => {
                    if let Some(client) = self.client(connection) {
                        client.receiving = Receiving::Off;
                    }
                    self.drive(connection);
                }
                ReceiveEnd::Closed | ReceiveEnd::Failed(_) => self.close(connection),
            },
            Completion::Sent { connection, memory, result, .. } => {
                self.spare.push(memory);
                let Some(client) = self.client(connection) else { return };
                client.is_sending = false;
                if result.is_err() {
                    return self.close(connection);
                }
                if client.replies.is_empty() && client.waits_for == WaitsFor::Replies {
                    client.waits_for = WaitsFor::Nothing;
                }
                self.drive(connection);
            }
            Completion::AcceptFailed { .. }
            | Completion::Connected { .. }
            | Completion::Written { .. }
            | Completion::Read { .. } => {}
        }
    }

    /// Gives the session what was received, sends its replies, and does what it asks for.
    fn drive(&mut self, connection: ConnectionId) {
        loop {
            let wall = self.wall();
            let keeps = self.store.is_some();
            let Some(client) = self.clients.get_mut(connection.slot as usize).and_then(Option::as_mut) else {
                return;
            };
            if client.connection != connection || client.waits_for != WaitsFor::Nothing {
                break;
            }
            let input = std::mem::take(&mut client.backlog);
            let (used, outcome) = client.feed(&self.settings, wall, &input, keeps);
            client.backlog = input;
            client.backlog.drain(..used);
            match outcome {
                Outcome::Goes => break,
                Outcome::Delay(milliseconds) => {
                    self.call_back(connection, Duration::from_millis(u64::from(milliseconds)));
                    break;
                }
                Outcome::Message if self.delay > Duration::ZERO => {
                    self.call_back(connection, self.delay);
                    break;
                }
                Outcome::Message => self.answer(connection),
            }
        }
        self.send(connection);
    }

    /// Stores and counts a whole message, and lets its session answer.
    fn answer(&mut self, connection: ConnectionId) {
        let wall = self.wall();
        let id = self.ids.next(wall);
        let Some(client) = self.clients.get_mut(connection.slot as usize).and_then(Option::as_mut) else {
            return;
        };
        let verdict = if let Some(fault) = client.line_end_fault() {
            self.counts.refused += 1;
            let reply = format!("550 5.5.2 Error: {fault} of the content; lines end with <CR><LF>");
            Verdict::Refused { reason: "line_end", reply: reply.into_bytes().into() }
        } else {
            let stored = match (&self.store, client.session.envelope()) {
                (Some(directory), Some(envelope)) => store(directory, id, envelope, &client.content),
                _ => Ok(()),
            };
            match stored {
                Ok(()) => {
                    self.counts.messages += 1;
                    self.counts.octets += client.content_size;
                    self.counts.recipients +=
                        client.session.envelope().map_or(0, |it| it.recipients.len() as u64);
                    Verdict::Queued(id)
                }
                Err(error) => {
                    self.counts.not_stored += 1;
                    eprintln!("mailrace-sink: {error}");
                    Verdict::QueueWriteFailed
                }
            }
        };
        if let Outcome::Delay(milliseconds) = client.verdict(&self.settings, wall, verdict) {
            self.call_back(connection, Duration::from_millis(u64::from(milliseconds)));
        }
    }

    fn call_back(&mut self, connection: ConnectionId, delay: Duration) {
        let due = self.now().after(delay);
        self.due.push(Reverse((due, connection.slot, connection.generation)));
    }

    fn act_on_time(&mut self) {
        let now = self.now();
        while let Some(Reverse((due, slot, generation))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            let connection = ConnectionId { slot, generation };
            let Some(client) = self.client(connection) else { continue };
            match client.waits_for {
                WaitsFor::Verdict => self.answer(connection),
                WaitsFor::Delay => client.waits_for = WaitsFor::Nothing,
                WaitsFor::Nothing | WaitsFor::Replies | WaitsFor::Close => {}
            }
            self.drive(connection);
        }
    }

    /// Sends what may be sent; asks for more input once there is room.
    fn send(&mut self, connection: ConnectionId) {
        let mut memory = self.spare.pop().unwrap_or_default();
        memory.clear();
        let Some(client) = self.client(connection) else { return self.spare.push(memory) };
        let is_held = matches!(client.waits_for, WaitsFor::Delay);
        if !client.replies.is_empty() && !client.is_sending && !is_held {
            client.is_sending = true;
            let replies = std::mem::replace(&mut client.replies, memory);
            self.io.submit(Token::default(), Operation::Send(connection, replies));
            return;
        }
        let is_over = client.waits_for == WaitsFor::Close && !client.is_sending;
        let wants_input = client.receiving == Receiving::Off && client.backlog.len() <= BACKLOG_MAX;
        self.spare.push(memory);
        if is_over {
            self.close(connection);
        } else if wants_input {
            self.resume(connection);
        }
    }

    fn resume(&mut self, connection: ConnectionId) {
        if let Some(client) = self.client(connection) {
            client.receiving = Receiving::On;
            self.io.submit(Token::default(), Operation::Receive(connection));
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        if self.client(connection).is_some() {
            self.clients[connection.slot as usize] = None;
            self.io.submit(Token::default(), Operation::Close(connection));
        }
    }
}

/// Writes content and envelope; the envelope last, so that its presence tells that the content is whole. An error names
/// the file.
fn store(directory: &Path, id: QueueId, envelope: &Envelope, content: &[u8]) -> Result<(), String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let recipients: Vec<String> = envelope.recipients.iter().map(|it| text(&it.address)).collect();
    let json = serde_json::json!({ "sender": text(&envelope.sender), "recipients": recipients });
    let write = |name: String, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))
    };
    write(format!("{id}.eml"), content)?;
    write(format!("{id}.json"), format!("{json}\n").as_bytes())
}

/// How late a signal may be seen.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of a client that wait for its session before nothing more is received.
const BACKLOG_MAX: usize = 64 * 1024;
