//! Misbehaving clients: a given number of connections, of all kinds in turn, from separate addresses.
//!
//! Unlike the load test, this module tests what a server withstands. It has a separate event loop over plain sockets, which
//! can be bound to an address, left unread and reset.

mod kind;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailrace_core::smtp::client::ReplyReader;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) use kind::Kind;
use kind::Next;

use crate::retry::Retry;
use crate::statistics::{Cause, UNINTELLIGIBLE};

/// Results.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Connections that were made.
    pub(crate) connections: u64,
    /// Connections that could not be made.
    pub(crate) connections_failed: u64,
    /// Connections that the server ended.
    pub(crate) ended_by_server: u64,
    /// Connections that were reset.
    pub(crate) resets: u64,
    /// Replies that were read, by their codes.
    pub(crate) replies: BTreeMap<u16, u64>,
    /// Bytes that the server accepted.
    pub(crate) octets: u64,
    /// Connections that are open at the end.
    pub(crate) open: u64,
    /// Length of the run in seconds.
    pub(crate) seconds: f64,
    /// Reason for the end.
    pub(crate) end: Cause,
    /// Error, if that is the reason.
    pub(crate) reason: Option<String>,
}

struct Client {
    kind: Kind,
    source: IpAddr,
    stream: Option<TcpStream>,
    /// Start of connecting, until the connection is established.
    connecting_since: Option<Instant>,
    /// Steps of this connection so far.
    step: u64,
    /// Number of the connection, counted per client.
    life: u64,
    /// Bytes not sent yet.
    rest: Vec<u8>,
    /// Action after they have been sent.
    next: Next,
    reader: ReplyReader,
    /// Time of the next action without an event.
    due: Option<Instant>,
}

struct Hostile {
    epoll: OwnedFd,
    server: SocketAddr,
    clients: Vec<Client>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Clients with more to read than one turn allows.
    unread: Vec<usize>,
    /// Connecting, when it fails.
    retry: Retry,
    last_failure: Option<String>,
    has_given_up: bool,
    started: Instant,
    report: Report,
}

/// Which clients, and for how long.
pub(crate) struct Plan<'p> {
    /// Number of clients.
    pub(crate) count: u32,
    /// Their kinds, in turn.
    pub(crate) kinds: &'p [Kind],
    /// How long, unless a signal comes before.
    pub(crate) duration: Option<Duration>,
    /// The run ends when no connection could be made for this time.
    pub(crate) patience: Duration,
}

/// Runs misbehaving clients until their time is over, `stop` is set or the server is gone. What the server makes of connections,
/// once they are made, ends nothing: it may defend itself.
///
/// # Errors
/// When there are no events to wait for.
pub(crate) fn run(server: SocketAddr, plan: &Plan<'_>, stop: &AtomicBool) -> io::Result<Report> {
    let started = Instant::now();
    let end = plan.duration.map(|duration| started + duration);
    let report = Report {
        connections: 0,
        connections_failed: 0,
        ended_by_server: 0,
        resets: 0,
        replies: BTreeMap::new(),
        octets: 0,
        open: 0,
        seconds: 0.0,
        end: Cause::Duration,
        reason: None,
    };
    let mut hostile = Hostile {
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        server,
        clients: Vec::new(),
        due: BinaryHeap::new(),
        unread: Vec::new(),
        retry: Retry::new(plan.patience),
        last_failure: None,
        has_given_up: false,
        started,
        report,
    };
    for index in 0..plan.count as usize {
        let due = started + RAMP * u32::try_from(index).unwrap_or(0);
        let client = Client {
            kind: plan.kinds[index % plan.kinds.len()],
            source: source(server, index / CONNECTIONS_OF_ONE),
            stream: None,
            connecting_since: None,
            step: 0,
            // All variants occur from the start.
            life: index as u64,
            rest: Vec::new(),
            next: Next::Asked,
            reader: ReplyReader::default(),
            due: Some(due),
        };
        hostile.clients.push(client);
        hostile.due.push(Reverse((due, index)));
    }
    let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
    let (cause, reason) = loop {
        if stop.load(Ordering::Relaxed) {
            break (Cause::Signal, None);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            break (Cause::Duration, None);
        }
        if hostile.has_given_up {
            break (Cause::GaveUp, hostile.last_failure.take());
        }
        if let Err(error) = hostile.turn(&mut events) {
            break (Cause::Failed, Some(error.to_string()));
        }
    };
    let is_open = |client: &&Client| client.stream.is_some() && client.connecting_since.is_none();
    let open = hostile.clients.iter().filter(is_open).count() as u64;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Report { open, seconds, end: cause, reason, ..hostile.report })
}

/// Returns the source address of a client: in the loopback network if the server is there, else the system's choice.
fn source(server: SocketAddr, client: usize) -> IpAddr {
    let [high, low, ..] = u16::try_from(client % 60_000).unwrap_or(0).to_be_bytes();
    match server.ip() {
        IpAddr::V4(address) if address.is_loopback() => Ipv4Addr::new(127, 66, high, low).into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl Hostile {
    fn turn(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let unread = std::mem::take(&mut self.unread);
        let pause = if unread.is_empty() { TICK } else { Duration::ZERO };
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for index in unread {
            self.readable(index);
        }
        for event in events.drain(..) {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let flags = event.flags;
            if self.clients[index].connecting_since.is_some() && !self.is_connected(index, flags) {
                continue;
            }
            let client = &self.clients[index];
            if flags.intersects(EventFlags::HUP | EventFlags::ERR) && !client.kind.reads(client.step) {
                self.ended(index);
            } else if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.readable(index);
            }
            if flags.contains(EventFlags::OUT) {
                self.writable(index);
            }
        }
        let now = Instant::now();
        while let Some(Reverse((due, index))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            let client = &mut self.clients[index];
            if client.due == Some(due) {
                client.due = None;
                match client.stream {
                    Some(_) => self.act(index),
                    None => self.connect(index),
                }
            }
        }
        Ok(())
    }

    fn call_back(&mut self, index: usize, delay: Duration) {
        let due = Instant::now() + delay;
        self.clients[index].due = Some(due);
        self.due.push(Reverse((due, index)));
    }

    /// Returns a time on the clock of [`Retry`].
    fn clock(&self, time: Instant) -> mailrace_io::Instant {
        mailrace_io::Instant::default().after(time.saturating_duration_since(self.started))
    }

    fn connect(&mut self, index: usize) {
        let began = Instant::now();
        let now = self.clock(began);
        if let Some(next) = self.retry.next_attempt() {
            if now < next {
                return self.call_back(index, next.since(now));
            }
            self.retry.attempted(now, random());
        }
        let client = &mut self.clients[index];
        let made = open(client.source, self.server).and_then(|socket| {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&self.epoll, socket.as_fd(), EventData::new_u64(index as u64), flags)?;
            Ok(socket)
        });
        match made {
            Ok(socket) => {
                client.stream = Some(socket.into());
                client.connecting_since = Some(began);
                client.step = 0;
                client.rest.clear();
                client.reader.reset();
                // Wait for the greeting.
                client.next = Next::Asked;
            }
            Err(error) => self.not_connected(index, began, &error),
        }
    }

    /// Returns whether the connection is established. It may have failed, may need more time, or may have ended already.
    fn is_connected(&mut self, index: usize, flags: EventFlags) -> bool {
        let client = &mut self.clients[index];
        let (Some(stream), Some(began)) = (&client.stream, client.connecting_since) else { return false };
        let error = stream.take_error().unwrap_or_else(Some);
        let is_made = stream.peer_addr().is_ok();
        match error {
            // The connection was established, and reset before this program noticed.
            Some(error) if error.kind() != ErrorKind::ConnectionReset => {
                client.stream = None;
                client.connecting_since = None;
                self.not_connected(index, began, &error);
                false
            }
            None if !is_made && !flags.intersects(EventFlags::HUP | EventFlags::ERR) => false,
            _ => {
                client.connecting_since = None;
                self.report.connections += 1;
                self.retry.succeeded();
                if !is_made {
                    self.ended(index);
                }
                is_made
            }
        }
    }

    fn not_connected(&mut self, index: usize, began: Instant, error: &io::Error) {
        let reason = format!("connecting to {}: {error}", self.server);
        if self.last_failure.is_none() {
            let _ = writeln!(io::stderr(), "mailrace-load: {reason}");
        }
        self.last_failure = Some(reason);
        self.report.connections_failed += 1;
        let (began, now) = (self.clock(began), self.clock(Instant::now()));
        self.has_given_up |= self.retry.failed(began, now, random());
        self.call_back(index, REST);
    }

    /// Reads the available input, up to a limit. The server may have ended the connection.
    fn readable(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if !client.kind.reads(client.step) {
            return;
        }
        let Some(stream) = client.stream.as_mut() else { return };
        let mut memory = [0; 4096];
        let mut has_reply = false;
        let mut reads = 0;
        loop {
            // A server that sends faster than this reads must not keep the others waiting.
            if reads == READS_AT_ONCE {
                self.unread.push(index);
                break;
            }
            reads += 1;
            match stream.read(&mut memory) {
                Ok(0) => return self.ended(index),
                Ok(count) => {
                    let mut input = &memory[..count];
                    while let Some(received) = client.reader.read(&mut input) {
                        let code = received.as_ref().map_or(UNINTELLIGIBLE, |reply| reply.code());
                        let is_invalid = received.is_err();
                        *self.report.replies.entry(code).or_default() += 1;
                        has_reply = true;
                        // Misbehaving clients continue after an invalid reply.
                        if is_invalid {
                            client.reader.reset();
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.ended(index),
            }
        }
        if has_reply && client.next == Next::Asked && client.rest.is_empty() {
            client.next = Next::Sent;
            self.act(index);
        }
    }

    fn writable(&mut self, index: usize) {
        let client = &self.clients[index];
        if client.stream.is_some()
            && client.connecting_since.is_none()
            && (client.next == Next::Sent || !client.rest.is_empty())
            && client.due.is_none()
        {
            self.act(index);
        }
    }

    /// Sends the rest of the last step, then further steps until the socket is full or the client rests.
    fn act(&mut self, index: usize) {
        for _ in 0..STEPS_AT_ONCE {
            let client = &mut self.clients[index];
            let Some(stream) = client.stream.as_mut() else { return };
            if client.rest.is_empty() {
                client.next = client.kind.append(client.step, client.life, &mut client.rest);
                match client.next {
                    Next::Sent | Next::Rested(_) | Next::Asked => client.step += 1,
                    Next::Idle => return,
                    Next::Reset => return self.reset(index),
                }
            }
            match stream.write(&client.rest) {
                Ok(count) => {
                    self.report.octets += count as u64;
                    client.rest.drain(..count);
                }
                // An event reports when the socket is writable again.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // The server may have given its reason before it ended the connection.
                    self.readable(index);
                    if self.clients[index].stream.is_some() {
                        self.ended(index);
                    }
                    return;
                }
            }
            match client.next {
                Next::Asked if client.rest.is_empty() => return,
                Next::Rested(pause) if client.rest.is_empty() => return self.call_back(index, pause),
                _ => {}
            }
        }
        // Let other clients have their turn.
        self.call_back(index, Duration::ZERO);
    }

    fn reset(&mut self, index: usize) {
        if let Some(stream) = self.clients[index].stream.take() {
            // The server must see a reset, whether or not there is unread input.
            let _ = Socket::from(stream).set_linger(Some(Duration::ZERO));
            self.report.resets += 1;
        }
        self.clients[index].life += 1;
        self.call_back(index, REST);
    }

    fn ended(&mut self, index: usize) {
        self.clients[index].stream = None;
        self.clients[index].life += 1;
        self.report.ended_by_server += 1;
        self.call_back(index, REST);
    }
}

/// Returns a random number that varies pauses.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the pauses are equal, which only makes the pace less even.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}

/// Starts a connection.
fn open(source: IpAddr, server: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.set_nonblocking(true)?;
    match socket.connect(&server.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Ok(socket)
        }
        Err(error) => Err(error),
    }
}

/// Number of connections per address, fewer than a server commonly allows.
const CONNECTIONS_OF_ONE: usize = 40;
/// Interval between the first connections of two clients.
const RAMP: Duration = Duration::from_micros(200);
/// Pause before a client whose connection has ended reconnects.
const REST: Duration = Duration::from_secs(1);
/// Maximum delay before the end is noticed.
const TICK: Duration = Duration::from_millis(20);
const EVENTS_AT_ONCE: usize = 1024;
/// Maximum number of reads of a client per turn.
const READS_AT_ONCE: usize = 16;
/// Maximum number of steps of a client per turn.
const STEPS_AT_ONCE: usize = 16;
