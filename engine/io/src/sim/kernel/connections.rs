//! The connections of a worker: accepted, made, received from, sent to, closed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Due;
use crate::operation::unix_path;
use crate::sim::Fault;
use crate::sim::network::{Link, Listening, Place, SLOW, Send};
use crate::sim::world::State;
use crate::{Completion, ConnectionId, Endpoint, Piece, ReceiveEnd, SOME, Token};

const ENOENT: i32 = 2;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const EADDRNOTAVAIL: i32 = 99;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;
const ECANCELED: i32 = 125;

/// How long a connection waits that was not accepted.
const REFUSED: Duration = Duration::from_millis(200);

/// A connection that a worker is making.
#[derive(Debug)]
pub(super) struct Connect {
    token: Token,
    connection: ConnectionId,
    link: usize,
    server: Endpoint,
}

impl State {
    pub(super) fn start_connect(
        &mut self,
        worker: usize,
        token: Token,
        server: Endpoint,
        source: Option<IpAddr>,
    ) {
        let is_slow = self.network_fault(Fault::SlowNetwork);
        let is_lost = self.network_fault(Fault::LinkLost);
        let most = if is_slow { SLOW } else { self.conditions.latency };
        let time = Self::soon(self.now, most, &mut self.network_random);
        match &server {
            Endpoint::Inet(server) => {
                self.note("worker {} connects to port {}", [worker as u64, server.port().into(), 0]);
            }
            Endpoint::Unix(_) => self.note("worker {} connects to a path", [worker as u64, 0, 0]),
        }
        let begun = match self.local_address(worker, &server, source) {
            Err(error) => Err((error, self.now)),
            // Nothing that it sends arrives.
            Ok(_) if is_lost => Err((io::Error::from_raw_os_error(ETIMEDOUT), time.after(SLOW))),
            Ok(address) => match self.kernels[worker].free_slot() {
                Some(slot) => Ok((address, slot)),
                None => Err((io::Error::from_raw_os_error(ENFILE), self.now)),
            },
        };
        let index = self.links.len();
        let kernel = &mut self.kernels[worker];
        let (address, slot) = match begun {
            Ok(begun) => begun,
            Err((error, time)) => return kernel.complete_at(time, Due::NotConnected { token, error }),
        };
        let connection = kernel.occupy(slot, index);
        kernel.complete_at(time, Due::Connect(Connect { token, connection, link: index, server }));
        let port = 32_768 + u16::try_from(index % 28_000).unwrap_or(0);
        self.links.push(Link::new(worker, SocketAddr::new(address, port), Place::Connecting, time));
    }

    /// The address that a worker connects from; the unspecified one to a UNIX-domain socket, whose ends have none.
    fn local_address(&self, worker: usize, server: &Endpoint, source: Option<IpAddr>) -> io::Result<IpAddr> {
        match (server, source) {
            (Endpoint::Inet(_), Some(source)) if self.is_local(source) => Ok(source),
            (Endpoint::Inet(_), Some(_)) => Err(io::Error::from_raw_os_error(EADDRNOTAVAIL)),
            (Endpoint::Inet(server), None) => Ok(address_of(worker, server.ip())),
            (Endpoint::Unix(path), _) => unix_path(path).map(|_| Ipv4Addr::UNSPECIFIED.into()),
        }
    }

    /// Whether workers can connect from an address.
    fn is_local(&self, address: IpAddr) -> bool {
        let is_of_worker = |(place, listening): (&Endpoint, &Listening)| {
            matches!(place, Endpoint::Inet(place) if place.ip() == address)
                && matches!(listening, Listening::Worker(_))
        };
        address.is_loopback() || self.listening.iter().any(is_of_worker)
    }

    pub(super) fn end_connect(&mut self, worker: usize, connect: Connect, completions: &mut Vec<Completion>) {
        let Connect { token, connection, link: index, server } = connect;
        let is_taken = match self.listening.get_mut(&server) {
            Some(Listening::Caller(waiting)) => {
                waiting.push_back(index);
                true
            }
            Some(Listening::Worker(target))
                if self.kernels.get(*target).is_some_and(|kernel| kernel.is_accepting) =>
            {
                let twin = Link::new(*target, self.links[index].peer, Place::Backlog, self.now);
                self.links[index].twin = Some(self.links.len());
                self.links.push(Link { twin: Some(index), ..twin });
                true
            }
            Some(Listening::Worker(_)) | None => false,
        };
        let result = if is_taken {
            self.links[index].place = Place::Open(connection);
            Ok(connection)
        } else {
            self.links[index].place = Place::Over;
            self.kernels[worker].vacate(connection);
            let error = if matches!(server, Endpoint::Unix(_)) { ENOENT } else { ECONNREFUSED };
            Err(io::Error::from_raw_os_error(error))
        };
        let what = if is_taken { "worker {} is connected" } else { "worker {} connects to nobody" };
        self.note(what, [worker as u64, 0, 0]);
        completions.push(Completion::Connected { token, result });
    }

    /// The network ends a connection, for both of its ends.
    pub(in crate::sim) fn break_off(&mut self, index: usize) {
        let now = self.now;
        self.links[index].break_off(now);
        if let Some(twin) = self.links[index].twin {
            self.links[twin].break_off(now);
        }
    }

    /// Ends a connection that was not accepted.
    pub(super) fn turn_away(&mut self, index: usize) {
        self.links[index].worker_is_gone();
        if let Some(twin) = self.links[index].twin {
            self.links[twin].break_off(self.now);
        }
    }

    pub(super) fn accept_all(&mut self, worker: usize, completions: &mut Vec<Completion>) {
        if !self.kernels[worker].is_accepting {
            return;
        }
        for index in 0..self.links.len() {
            let link = &self.links[index];
            if link.worker != worker || link.place != Place::Backlog || link.arrives > self.now {
                continue;
            }
            let Some(slot) = self.kernels[worker].free_slot() else { return };
            if self.network_fault(Fault::AcceptRefused) {
                let is_gone = self.network_random.one_in(2);
                let error = if is_gone { ECONNABORTED } else { EMFILE };
                completions.push(Completion::AcceptFailed { error: io::Error::from_raw_os_error(error) });
                if is_gone {
                    self.turn_away(index);
                } else {
                    self.links[index].arrives = self.now.after(REFUSED);
                }
                continue;
            }
            let connection = self.kernels[worker].occupy(slot, index);
            let link = &mut self.links[index];
            link.place = Place::Open(connection);
            completions.push(Completion::Accepted { connection, peer: link.peer });
            self.note("worker {} accepts client {}", [worker as u64, index as u64, 0]);
        }
    }

    pub(super) fn receive_all(
        &mut self,
        worker: usize,
        memory: &mut [Vec<u8>],
        completions: &mut Vec<Completion>,
    ) {
        let count = self.links.len();
        let start = if count > 0 && !self.is_calm { self.network_random.index(count) } else { 0 };
        for index in (0..count).map(|index| (start + index) % count) {
            let link = &mut self.links[index];
            let Place::Open(connection) = link.place else { continue };
            if link.worker != worker {
                continue;
            }
            if link.send.is_some() {
                self.go_on_sending(worker, connection, index);
            }
            let now = self.now;
            let link = &mut self.links[index];
            let Some(token) = link.receive else { continue };
            link.arrive(now, self.is_calm);
            let has_octets = !link.inbox.is_empty();
            if has_octets && self.network_fault(Fault::LinkLost) {
                self.break_off(index);
            }
            let end = self.receive(worker, index, token, connection, memory, completions);
            if let Some(end) = end {
                self.links[index].receive = None;
                completions.push(Completion::ReceiveEnded { token, connection, end });
            }
        }
    }

    /// Receives from one client; why that ends, if it does.
    fn receive(
        &mut self,
        worker: usize,
        index: usize,
        token: Token,
        connection: ConnectionId,
        memory: &mut [Vec<u8>],
        completions: &mut Vec<Completion>,
    ) -> Option<ReceiveEnd> {
        loop {
            if self.links[index].is_reset(self.now) {
                return Some(ReceiveEnd::Failed(io::Error::from_raw_os_error(ECONNRESET)));
            }
            if self.links[index].inbox.is_empty() {
                return self.links[index].is_shut(self.now).then_some(ReceiveEnd::Closed);
            }
            let is_short = self.network_fault(Fault::ShortReceive);
            let has_none = self.network_fault(Fault::NoBuffers);
            let kernel = &mut self.kernels[worker];
            if has_none || kernel.free.is_empty() {
                return Some(ReceiveEnd::OutOfBuffers);
            }
            // Either end of the ring, so that no use of a buffer is the same as the one before.
            let buffer = kernel.free.swap_remove(self.network_random.index(kernel.free.len()));
            kernel.is_lent[usize::from(buffer)] = true;
            let receives_some = self.links[index].receives_some;
            let inbox = &mut self.links[index].inbox;
            let mut length = inbox.len().min(self.conditions.receive_buffer_size);
            if receives_some {
                length = length.min(SOME as usize);
            }
            if is_short {
                length = 1 + self.network_random.index(length);
            }
            let place = &mut memory[usize::from(buffer)];
            place.clear();
            place.extend(inbox.drain(..length));
            self.links[index].received_at = self.now;
            let length = u32::try_from(length).expect("a buffer is small");
            let piece = Piece { owner: kernel.serial, buffer, offset: 0, length };
            self.note(
                "worker {} receives {} octets from client {}",
                [worker as u64, u64::from(length), index as u64],
            );
            completions.push(Completion::Received { token, connection, piece });
            if receives_some {
                return Some(ReceiveEnd::Stopped);
            }
            if is_short {
                return None;
            }
        }
    }

    pub(super) fn stop_receiving(
        &mut self,
        worker: usize,
        id: ConnectionId,
        completions: &mut Vec<Completion>,
    ) {
        let Some(index) = self.kernels[worker].link(id) else { return };
        if let Some(token) = self.links[index].receive.take() {
            let end = ReceiveEnd::Stopped;
            completions.push(Completion::ReceiveEnded { token, connection: id, end });
        }
    }

    /// Number of bytes that the network would take from a worker for a connection. A calm one holds nothing for a client
    /// that does not read.
    pub(super) fn room(&self, index: usize) -> usize {
        let link = &self.links[index];
        if self.is_calm && link.is_deaf {
            return 0;
        }
        let unread = match link.twin {
            Some(twin) => self.links[twin].unreceived(),
            None => link.said.len() - link.taken,
        };
        self.conditions.send_window.saturating_sub(unread)
    }

    /// Sends what the kernel took from a worker to the worker at the other end, if that is one. If it has closed, its
    /// kernel answers with a reset.
    fn carry(&mut self, index: usize) {
        let Some(twin) = self.links[index].twin else { return };
        let Some((time, octets)) = self.links[index].take_said() else { return };
        if self.links[twin].place == Place::Over {
            self.links[index].break_off(time);
        } else {
            self.links[twin].deliver(time, octets);
        }
    }

    pub(super) fn start_send(&mut self, worker: usize, token: Token, id: ConnectionId, memory: Vec<u8>) {
        let index = self.kernels[worker].open_link(id, "a send");
        assert!(self.links[index].send.is_none(), "a send is under way already");
        assert!(!memory.is_empty(), "a send of nothing");
        if self.network_fault(Fault::LinkLost) {
            self.break_off(index);
        }
        self.note(
            "worker {} sends {} octets to client {}",
            [worker as u64, memory.len() as u64, index as u64],
        );
        self.links[index].send = Some(Send::new(token, memory));
        self.go_on_sending(worker, id, index);
    }

    pub(super) fn go_on_sending(&mut self, worker: usize, id: ConnectionId, index: usize) {
        let now = self.now;
        let arrival = Self::soon(now, self.conditions.latency, &mut self.network_random);
        let room = self.room(index);
        let link = &mut self.links[index];
        let is_reset = link.is_reset(now);
        let is_out = !is_reset && link.go_on_sending(room, arrival);
        self.carry(index);
        if !(is_reset || is_out) {
            return;
        }
        let Some(Send { token, memory, .. }) = self.links[index].send.take() else { return };
        let result = if is_out { Ok(()) } else { Err(io::Error::from_raw_os_error(ECONNRESET)) };
        let time = Self::soon(now, self.conditions.latency / 8, &mut self.network_random);
        self.kernels[worker].complete_at(time, Due::Sent { token, connection: id, memory, result });
    }

    pub(super) fn close(&mut self, worker: usize, id: ConnectionId) {
        let kernel = &mut self.kernels[worker];
        let index = kernel.open_link(id, "a close");
        kernel.vacate(id);
        let now = self.now;
        let arrival = Self::soon(now, self.conditions.latency, &mut self.network_random);
        if let Some(Send { token, memory, .. }) = self.links[index].send.take() {
            let result = Err(io::Error::from_raw_os_error(ECANCELED));
            self.kernels[worker].complete_at(now, Due::Sent { token, connection: id, memory, result });
        }
        self.links[index].close(arrival);
        if let Some(twin) = self.links[index].twin {
            self.links[twin].end(arrival);
        }
        self.note("worker {} closes client {}", [worker as u64, index as u64, 0]);
    }
}

/// The address from which a worker connects to a server.
fn address_of(worker: usize, server: IpAddr) -> IpAddr {
    let host = 128 + u8::try_from(worker % 100).unwrap_or(0);
    match server {
        server if server.is_loopback() => server,
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, host).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into(),
    }
}
