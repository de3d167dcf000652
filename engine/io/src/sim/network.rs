//! The simulated network: connections between clients, played by the caller, and workers.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::Fault;
use super::world::{State, lock};
use crate::{ConnectionId, Instant, Token};

/// How long bytes take at most when the network is slow.
const SLOW: Duration = Duration::from_secs(3);

/// A connection, as both of its ends see it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) worker: usize,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
    /// When it reaches the worker's socket; later after it was refused once.
    pub(super) arrives: Instant,
    /// On their way to the server.
    to_server: VecDeque<(Instant, Vec<u8>)>,
    /// Arrived there and not received.
    pub(super) inbox: VecDeque<u8>,
    /// When the worker last received some of it.
    pub(super) received_at: Instant,
    /// When the client's end of stream arrives.
    fin: Option<Instant>,
    /// When its reset arrives.
    reset: Option<Instant>,
    /// Nothing arrives before what was sent earlier.
    last_arrival: Instant,
    /// All that the server's kernel took from the worker.
    said: Vec<u8>,
    /// When how much of it reaches the client.
    to_client: VecDeque<(Instant, usize)>,
    arrived: usize,
    taken: usize,
    is_deaf: bool,
    /// When the client sees that the server closed.
    closes: Option<Instant>,
    pub(super) receive: Option<Token>,
    /// It ends after one piece.
    pub(super) receives_some: bool,
    pub(super) send: Option<Send>,
}

/// Where a connection is with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not accepted yet.
    Backlog,
    /// A worker has it.
    Open(ConnectionId),
    /// The server has closed it, or is gone.
    Over,
}

/// A send under way.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) token: Token,
    pub(super) memory: Vec<u8>,
    sent: usize,
}

impl Send {
    pub(super) const fn new(token: Token, memory: Vec<u8>) -> Self {
        Self { token, memory, sent: 0 }
    }
}

impl Link {
    /// Takes what has arrived from the client.
    pub(super) fn arrive(&mut self, now: Instant) {
        while self.to_server.front().is_some_and(|(time, _)| *time <= now) {
            self.inbox.extend(self.to_server.pop_front().into_iter().flat_map(|(_, octets)| octets));
        }
    }

    /// Whether the client's end of stream has arrived, with all before it.
    pub(super) fn is_shut(&self, now: Instant) -> bool {
        self.fin.is_some_and(|time| time <= now) && self.to_server.is_empty() && self.inbox.is_empty()
    }

    /// Whether the client's reset has arrived.
    pub(super) fn is_reset(&self, now: Instant) -> bool {
        self.reset.is_some_and(|time| time <= now)
    }

    /// Lets the send under way go on as far as there is room. True: all of it is out.
    pub(super) fn go_on_sending(&mut self, window: usize, arrival: Instant) -> bool {
        let Some(send) = self.send.as_mut() else { return false };
        let room = window.saturating_sub(self.said.len() - self.taken);
        let rest = &send.memory[send.sent..];
        let count = rest.len().min(room);
        if count > 0 {
            self.said.extend_from_slice(&rest[..count]);
            send.sent += count;
            let last = self.to_client.back().map_or(arrival, |(time, _)| *time);
            self.to_client.push_back((arrival.max(last), self.said.len()));
        }
        send.sent == send.memory.len()
    }

    fn can_send(&self, window: usize) -> bool {
        let Some(send) = self.send.as_ref() else { return false };
        send.sent == send.memory.len() || self.said.len() - self.taken < window
    }

    /// When something comes of it for the worker.
    pub(super) fn next_event(&self, now: Instant, window: usize) -> Option<Instant> {
        match self.place {
            Place::Over => None,
            Place::Backlog => Some(self.arrives),
            Place::Open(_) => {
                let mut next = None;
                let mut consider = |time: Option<Instant>| {
                    if let Some(time) = time {
                        next = Some(next.map_or(time, |next: Instant| next.min(time)));
                    }
                };
                if self.receive.is_some() {
                    consider((!self.inbox.is_empty()).then_some(now));
                    consider(self.to_server.front().map(|(time, _)| *time));
                    consider(self.fin);
                    consider(self.reset);
                }
                if self.send.is_some() {
                    consider(self.can_send(window).then_some(now));
                    consider(self.reset);
                }
                next
            }
        }
    }

    /// The worker closes it: what was said still arrives.
    pub(super) fn close(&mut self, arrival: Instant) {
        let last = self.to_client.back().map_or(arrival, |(time, _)| *time);
        self.closes = Some(arrival.max(last));
        self.place = Place::Over;
        self.receive = None;
    }

    /// The network or the client's machine ends it.
    pub(super) fn break_off(&mut self, now: Instant) {
        self.reset = Some(self.reset.map_or(now, |time| time.min(now)));
        self.closes = Some(now);
    }

    /// The server's process has ended: its kernel closes what it had.
    pub(super) fn server_is_gone(&mut self) {
        if self.place != Place::Over {
            self.place = Place::Over;
            self.closes.get_or_insert_default();
            self.receive = None;
            self.send = None;
        }
    }
}

/// A client's end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    world: Arc<Mutex<State>>,
    index: usize,
}

impl Peer {
    pub(super) fn connect(world: &Arc<Mutex<State>>, worker: usize) -> Self {
        let mut guard = lock(world);
        let state = &mut *guard;
        let index = state.links.len();
        let port = 1024 + u16::try_from(index % 60_000).unwrap_or(0);
        // Some have a host of their own, some share one.
        let host = 1 + u8::try_from(index % 5).unwrap_or(0);
        let peer = if host == 4 {
            SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 4), port))
        } else {
            SocketAddr::from((Ipv4Addr::new(192, 0, 2, host), port))
        };
        let arrives = State::soon(state.now, state.conditions.latency, &mut state.network_random);
        state.links.push(Link {
            worker,
            peer,
            place: Place::Backlog,
            arrives,
            to_server: VecDeque::new(),
            inbox: VecDeque::new(),
            received_at: Instant::default(),
            fin: None,
            reset: None,
            last_arrival: arrives,
            said: Vec::new(),
            to_client: VecDeque::new(),
            arrived: 0,
            taken: 0,
            is_deaf: false,
            closes: None,
            receive: None,
            receives_some: false,
            send: None,
        });
        state.note("client {} connects to worker {}", [index as u64, worker as u64, 0]);
        drop(guard);
        Self { world: Arc::clone(world), index }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.world)
    }

    /// Its number; later ones are greater.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.index
    }

    /// Its address, as the server sees it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.state().links[self.index].peer
    }

    /// Sends bytes, which arrive later, in their order, in any pieces.
    pub fn send(&self, octets: &[u8]) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.note("client {} sends {} octets", [self.index as u64, octets.len() as u64, 0]);
        let mut rest = octets;
        while !rest.is_empty() {
            let is_slow = state.network_fault(Fault::SlowNetwork);
            let (most, size) = if is_slow {
                (SLOW, 1 + state.network_random.index(rest.len()))
            } else {
                (state.conditions.latency, rest.len())
            };
            let (piece, behind) = rest.split_at(size);
            let time = State::soon(state.now, most, &mut state.network_random);
            let link = &mut state.links[self.index];
            link.last_arrival = link.last_arrival.max(time);
            link.to_server.push_back((link.last_arrival, piece.to_vec()));
            rest = behind;
        }
    }

    /// Ends what it sends (FIN).
    pub fn shut(&self) {
        let mut state = self.state();
        state.note("client {} shuts", [self.index as u64, 0, 0]);
        let now = state.now;
        let link = &mut state.links[self.index];
        link.fin = Some(link.last_arrival.max(now));
    }

    /// Goes away (RST): what is on its way may be lost.
    pub fn reset(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.note("client {} resets", [self.index as u64, 0, 0]);
        let is_late = state.network_random.one_in(2);
        let link = &mut state.links[self.index];
        let time = if is_late { link.last_arrival.max(state.now) } else { state.now };
        link.reset = Some(time);
        link.closes = Some(state.now);
        if link.place == Place::Backlog && !is_late {
            link.place = Place::Over;
        }
    }

    /// Takes what has arrived from the server.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        let mut state = self.state();
        let now = state.now;
        let link = &mut state.links[self.index];
        while let Some((_, length)) = link.to_client.front().filter(|(time, _)| *time <= now) {
            link.arrived = *length;
            link.to_client.pop_front();
        }
        if link.is_deaf {
            return Vec::new();
        }
        let octets = link.said[link.taken..link.arrived].to_vec();
        link.taken = link.arrived;
        octets
    }

    /// Takes all that the server's kernel had taken for it, whether or not it arrived.
    #[must_use]
    pub fn take_all(&self) -> Vec<u8> {
        let mut state = self.state();
        let link = &mut state.links[self.index];
        let octets = link.said.split_off(link.taken);
        link.said.shrink_to_fit();
        link.arrived = link.taken;
        link.to_client.clear();
        octets
    }

    /// Stops reading.
    pub fn stop_reading(&self) {
        self.state().links[self.index].is_deaf = true;
    }

    /// Whether the server has closed the connection, as far as the client knows.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let state = self.state();
        let link = &state.links[self.index];
        // What is on its way when a connection breaks is lost.
        let has_all = link.taken == link.said.len() || link.is_deaf || link.reset.is_some();
        link.closes.is_some_and(|time| time <= state.now) && has_all
    }

    /// Whether the connection waits in the listener's backlog.
    #[must_use]
    pub fn is_in_backlog(&self) -> bool {
        let state = self.state();
        matches!(state.links[self.index].place, Place::Backlog)
    }

    /// When the server last read bytes of this client; the start of time if it never did.
    #[must_use]
    pub fn received_at(&self) -> Instant {
        let state = self.state();
        state.links[self.index].received_at
    }

    /// Whether the server has yet to read bytes of this client's.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        let state = self.state();
        let link = &state.links[self.index];
        !link.to_server.is_empty() || !link.inbox.is_empty()
    }

    /// When something reaches the client.
    #[must_use]
    pub fn next_event(&self) -> Option<Instant> {
        let state = self.state();
        let link = &state.links[self.index];
        let octets = link.to_client.front().map(|(time, _)| *time).filter(|_| !link.is_deaf);
        let octets = octets.or_else(|| (link.taken < link.arrived && !link.is_deaf).then_some(state.now));
        [octets, link.closes].into_iter().flatten().min()
    }
}
