//! Attackers that exhaust a shared resource of a server, each in one way, for as long as they can.
//!
//! One thread serves all connections in turn. A connection that the server ends is opened again.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailrace_core::smtp::client::ReplyReader;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::BenchError;

/// A step of an attacker on a connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Waits for this number of replies.
    Read(u32),
    /// Sends bytes, and reads meanwhile.
    Say(Arc<[u8]>),
    /// Sends the same bytes repeatedly, as fast as the server takes them.
    Flood(Arc<[u8]>),
    /// Sends one byte every 100 ms.
    Crumbs(Arc<[u8]>),
    /// Reads nothing from now on.
    StopReading,
    /// Reads a byte every 100 ms from now on.
    ReadSlowly,
    /// Does nothing more.
    Hold,
    /// Closes the connection and opens another.
    Leave,
}

/// Counters of the attackers.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Connections that were made.
    pub connections: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Replies by their first three digits: 2yz, 3yz, 4yz, 5yz.
    pub replies: [u64; 4],
}

struct Stranger {
    source: Ipv4Addr,
    socket: Option<TcpStream>,
    step: usize,
    /// Bytes of the step that have been sent.
    sent: usize,
    /// Replies that have arrived before the step that waits for them, such as the greeting.
    replies: u32,
    reader: ReplyReader,
    reads: Reads,
    /// Time of the next action.
    next: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    All,
    Slowly,
    Nothing,
}

/// Runs attackers at `sources` that follow `steps` on `connections` connections in total, until `stop` is set.
///
/// # Errors
/// [`BenchError`] if no socket can be created.
pub fn attack(
    server: SocketAddr,
    steps: &[Step],
    sources: &[Ipv4Addr],
    connections: usize,
    stop: &AtomicBool,
) -> Result<Seen, BenchError> {
    let now = Instant::now();
    let sources = sources.iter().cycle().take(connections);
    let mut strangers: Vec<Stranger> = sources.map(|source| Stranger::new(*source, now)).collect();
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let mut has_moved = false;
        for stranger in &mut strangers {
            let now = Instant::now();
            if stranger.next <= now {
                has_moved |= stranger.go_on(server, steps, now, &mut seen);
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        if !has_moved {
            std::thread::sleep(IDLE_PAUSE);
        }
    }
    Ok(seen)
}

impl Stranger {
    fn new(source: Ipv4Addr, now: Instant) -> Self {
        let reader = ReplyReader::default();
        Self { source, socket: None, step: 0, sent: 0, replies: 0, reader, reads: Reads::All, next: now }
    }

    /// Makes progress without waiting. Returns whether it did anything.
    fn go_on(&mut self, server: SocketAddr, steps: &[Step], now: Instant, seen: &mut Seen) -> bool {
        if self.socket.is_none() {
            self.socket = connect(self.source, server).ok();
            seen.connections += u64::from(self.socket.is_some());
            if self.socket.is_none() {
                self.next = now + RETRY_PAUSE;
            }
            return self.socket.is_some();
        }
        match self.follow(steps, now, seen) {
            Ok(has_moved) => has_moved,
            Err(_) => {
                seen.ended += 1;
                *self = Self::new(self.source, now + RETRY_PAUSE);
                true
            }
        }
    }

    fn follow(&mut self, steps: &[Step], now: Instant, seen: &mut Seen) -> std::io::Result<bool> {
        let mut has_moved = self.read(now, seen)?;
        match steps.get(self.step) {
            Some(Step::Read(count)) => {
                if let Some(left) = self.replies.checked_sub(*count) {
                    self.replies = left;
                    self.next_step();
                    has_moved = true;
                }
            }
            Some(Step::Say(bytes)) => {
                has_moved |= self.send(bytes, seen)? > 0;
                if self.sent == bytes.len() {
                    self.next_step();
                }
            }
            Some(Step::Flood(bytes)) => {
                has_moved |= self.send(bytes, seen)? > 0;
                self.sent %= bytes.len();
            }
            Some(Step::Crumbs(bytes)) => {
                let end = bytes.len().min(self.sent + 1);
                has_moved |= self.send(&bytes[..end], seen)? > 0;
                self.next = now + SLOW_PAUSE;
                if self.sent == bytes.len() {
                    self.next_step();
                }
            }
            Some(Step::StopReading) => {
                self.reads = Reads::Nothing;
                self.next_step();
            }
            Some(Step::ReadSlowly) => {
                self.reads = Reads::Slowly;
                self.next_step();
            }
            Some(Step::Leave) => {
                *self = Self::new(self.source, now);
                return Ok(true);
            }
            Some(Step::Hold) | None => self.next = now + SLOW_PAUSE,
        }
        Ok(has_moved)
    }

    const fn next_step(&mut self) {
        self.step += 1;
        self.sent = 0;
    }

    fn send(&mut self, bytes: &[u8], seen: &mut Seen) -> std::io::Result<usize> {
        let Some(socket) = self.socket.as_mut() else { return Ok(0) };
        let rest = bytes.get(self.sent..).unwrap_or_default();
        match socket.write(rest) {
            Ok(count) => {
                self.sent += count;
                seen.bytes += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, now: Instant, seen: &mut Seen) -> std::io::Result<bool> {
        let mut buffer = [0; 4096];
        let room = match self.reads {
            Reads::All => &mut buffer[..],
            Reads::Slowly => {
                self.next = now + SLOW_PAUSE;
                &mut buffer[..1]
            }
            Reads::Nothing => return Ok(false),
        };
        let Some(socket) = self.socket.as_mut() else { return Ok(false) };
        let count = match socket.read(room) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut input = buffer.get(..count).unwrap_or_default();
        while let Some(Ok(reply)) = self.reader.read(&mut input) {
            self.replies = self.replies.saturating_add(1);
            if let Some(replies) = seen.replies.get_mut(usize::from(reply.code() / 100 - 2)) {
                *replies += 1;
            }
        }
        Ok(true)
    }
}

fn connect(source: Ipv4Addr, server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&server.into(), CONNECT_PATIENCE)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

const IDLE_PAUSE: Duration = Duration::from_millis(2);
const SLOW_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE: Duration = Duration::from_millis(20);
const CONNECT_PATIENCE: Duration = Duration::from_millis(200);
