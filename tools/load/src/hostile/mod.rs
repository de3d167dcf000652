//! Owns bad clients: as many connections as asked for, of all kinds in turn, from addresses of their own.
//!
//! Unlike the load test this is about what a server bears, so it has an event loop of its own over plain sockets: those
//! can be bound to an address, left unread and reset.

mod kind;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) use kind::Kind;
use kind::Next;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Connections that were made.
    pub(crate) connections: u64,
    /// Connections that the server ended.
    pub(crate) ended_by_server: u64,
    /// Connections that were reset.
    pub(crate) resets: u64,
    /// Replies that were read, by their codes.
    pub(crate) replies: BTreeMap<u16, u64>,
    /// Octets that the server took.
    pub(crate) octets: u64,
    /// Connections that are open at the end.
    pub(crate) open: u64,
    /// How long it ran.
    pub(crate) seconds: f64,
}

struct Client {
    kind: Kind,
    source: IpAddr,
    stream: Option<TcpStream>,
    /// Steps of this connection so far.
    step: u64,
    /// A number that each connection has one more of than the one before.
    life: u64,
    /// Not sent yet.
    rest: Vec<u8>,
    /// What follows when that was sent.
    next: Next,
    /// The line of a reply that has come in part.
    line: Vec<u8>,
    /// When it acts without an event.
    due: Option<Instant>,
}

struct Hostile {
    epoll: OwnedFd,
    server: SocketAddr,
    clients: Vec<Client>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    report: Report,
}

/// Runs `count` bad clients of these kinds in turn until `duration` is over or `stop` is set.
///
/// # Errors
/// When no connection can be made at all, or events cannot be waited for.
pub(crate) fn run(
    server: SocketAddr,
    count: u32,
    kinds: &[Kind],
    duration: Option<Duration>,
    stop: &AtomicBool,
) -> io::Result<Report> {
    let started = Instant::now();
    let end = duration.map(|duration| started + duration);
    let mut hostile = Hostile {
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        server,
        clients: Vec::new(),
        due: BinaryHeap::new(),
        report: Report::default(),
    };
    for index in 0..count as usize {
        let kind = kinds[index % kinds.len()];
        let source = source(server, index / CONNECTIONS_OF_ONE);
        let due = started + RAMP * u32::try_from(index).unwrap_or(0);
        let client = Client {
            kind,
            source,
            stream: None,
            step: 0,
            // All states and lies are there from the start.
            life: index as u64,
            rest: Vec::new(),
            next: Next::Asked,
            line: Vec::new(),
            due: Some(due),
        };
        hostile.clients.push(client);
        hostile.due.push(Reverse((due, index)));
    }
    let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
    while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        hostile.turn(&mut events)?;
    }
    hostile.report.open = hostile.clients.iter().filter(|client| client.stream.is_some()).count() as u64;
    hostile.report.seconds = started.elapsed().as_secs_f64();
    Ok(hostile.report)
}

/// An address of the client with this number: of the loopback network, where the server is there, else the system's
/// choice.
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
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let flags = event.flags;
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

    fn connect(&mut self, index: usize) {
        let client = &mut self.clients[index];
        match open(client.source, self.server) {
            Ok(socket) => {
                let flags = EventFlags::IN | EventFlags::OUT;
                let data = EventData::new_u64(index as u64);
                if epoll::add(&self.epoll, socket.as_fd(), data, flags | EventFlags::ET).is_ok() {
                    client.stream = Some(socket.into());
                    client.step = 0;
                    client.rest.clear();
                    client.line.clear();
                    // The greeting is waited for.
                    client.next = Next::Asked;
                    self.report.connections += 1;
                    return;
                }
            }
            Err(error) => {
                let is_known = matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::AddrInUse);
                if !is_known && self.report.connections == 0 {
                    let _ = writeln!(io::stderr(), "mailrace-load: connecting to {}: {error}", self.server);
                }
            }
        }
        self.call_back(index, REST);
    }

    /// Reads all that is there; the server may have ended the connection.
    fn readable(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if !client.kind.reads(client.step) {
            return;
        }
        let Some(stream) = client.stream.as_mut() else { return };
        let mut memory = [0; 4096];
        let mut has_reply = false;
        loop {
            match stream.read(&mut memory) {
                Ok(0) => return self.ended(index),
                Ok(count) => {
                    for octet in &memory[..count] {
                        if client.line.len() < LINE_MAX {
                            client.line.push(*octet);
                        }
                        if *octet != b'\n' {
                            continue;
                        }
                        // The last line of a reply has no hyphen behind its code.
                        if let Some(code) = code_of(&client.line) {
                            *self.report.replies.entry(code).or_default() += 1;
                            has_reply = true;
                        }
                        client.line.clear();
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
                // An event tells when there is room again.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.ended(index),
            }
            match client.next {
                Next::Asked if client.rest.is_empty() => return,
                Next::Rested(pause) if client.rest.is_empty() => return self.call_back(index, pause),
                _ => {}
            }
        }
        // The others are to have their turn.
        self.call_back(index, Duration::ZERO);
    }

    fn reset(&mut self, index: usize) {
        if let Some(stream) = self.clients[index].stream.take() {
            // Unread octets or not: the server is to see a reset.
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

/// The code of a line that ends a reply.
fn code_of(line: &[u8]) -> Option<u16> {
    let (code, rest) = line.split_at_checked(3)?;
    (rest.first() != Some(&b'-')).then(|| std::str::from_utf8(code).ok()?.parse().ok()).flatten()
}

/// A connection that is being made.
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

/// Connections from one address: fewer than a server commonly allows.
const CONNECTIONS_OF_ONE: usize = 40;
/// Between the first connections of two clients.
const RAMP: Duration = Duration::from_micros(200);
/// A client whose connection has ended comes back after this.
const REST: Duration = Duration::from_secs(1);
/// How late the end may be seen.
const TICK: Duration = Duration::from_millis(20);
/// Octets of a reply's line that are looked at.
const LINE_MAX: usize = 64;
const EVENTS_AT_ONCE: usize = 1024;
/// Steps of a client before others have their turn.
const STEPS_AT_ONCE: usize = 16;
