//! The ends of connections that the caller plays: clients, and servers with their listeners.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use super::Fault;
use super::network::{Link, Listening, Place, SLOW};
use super::world::{State, lock};
use crate::{Endpoint, Instant};

/// The caller's end of a worker's connection: as a client, or as a server that a [`Listener`] stands for.
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
        state.links.push(Link::new(worker, peer, Place::Backlog, arrives));
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

    /// The address that the connection was made from: its own, or the worker's if that connected; unspecified (0.0.0.0)
    /// if it connected to a UNIX-domain socket.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.state().links[self.index].peer
    }

    pub(super) fn set_address(&self, address: IpAddr) {
        self.state().links[self.index].peer.set_ip(address);
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
            state.links[self.index].deliver(time, piece.to_vec());
            rest = behind;
        }
    }

    /// Ends what it sends (FIN).
    pub fn shut(&self) {
        let mut state = self.state();
        state.note("client {} shuts", [self.index as u64, 0, 0]);
        let now = state.now;
        state.links[self.index].end(now);
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
        while let Some((_, length)) = link.to_peer.front().filter(|(time, _)| *time <= now) {
            link.arrived = *length;
            link.to_peer.pop_front();
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
        link.to_peer.clear();
        octets
    }

    /// Stops reading.
    pub fn stop_reading(&self) {
        self.state().links[self.index].is_deaf = true;
    }

    /// Whether the server has closed the connection, as far as the client knows; in a calm world it knows at once.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let state = self.state();
        let link = &state.links[self.index];
        // What is on its way when a connection breaks is lost.
        let has_all = link.taken == link.said.len() || link.is_deaf || link.reset.is_some();
        link.closes.is_some_and(|time| time <= state.now) && (has_all || state.is_calm)
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

    /// Number of this client's bytes that the server has yet to read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.state().links[self.index].unread()
    }

    /// When something reaches the client.
    #[must_use]
    pub fn next_event(&self) -> Option<Instant> {
        let state = self.state();
        let link = &state.links[self.index];
        let octets = link.to_peer.front().map(|(time, _)| *time).filter(|_| !link.is_deaf);
        let octets = octets.or_else(|| (link.taken < link.arrived && !link.is_deaf).then_some(state.now));
        [octets, link.closes].into_iter().flatten().min()
    }
}

/// A server that the caller plays: workers connect to it until it is dropped.
#[derive(Debug)]
pub struct Listener {
    world: Arc<Mutex<State>>,
    address: Endpoint,
}

impl Listener {
    pub(super) fn new(world: &Arc<Mutex<State>>, address: Endpoint) -> Self {
        let before = lock(world).listening.insert(address.clone(), Listening::Caller(VecDeque::new()));
        assert!(before.is_none(), "two listen at {address:?}");
        Self { world: Arc::clone(world), address }
    }

    /// The next connection that a worker made.
    #[must_use]
    pub fn accept(&self) -> Option<Peer> {
        let mut state = lock(&self.world);
        let Some(Listening::Caller(waiting)) = state.listening.get_mut(&self.address) else { return None };
        let index = waiting.pop_front()?;
        Some(Peer { world: Arc::clone(&self.world), index })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = lock(&self.world);
        if let Some(Listening::Caller(waiting)) = state.listening.remove(&self.address) {
            waiting.into_iter().for_each(|index| state.break_off(index));
        }
    }
}
