//! The connections of a worker: accepted, received from, sent to, closed.

use std::io;
use std::time::Duration;

use super::{Due, GENERATION_MAX};
use crate::sim::Fault;
use crate::sim::network::{Place, Send};
use crate::sim::world::State;
use crate::{Completion, ConnectionId, Piece, ReceiveEnd, SOME, Token};

const EMFILE: i32 = 24;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ECANCELED: i32 = 125;

/// How long a connection waits that was not accepted.
const REFUSED: Duration = Duration::from_millis(200);

impl State {
    pub(super) fn accept_all(&mut self, worker: usize, completions: &mut Vec<Completion>) {
        if !self.kernels[worker].is_accepting {
            return;
        }
        for index in 0..self.links.len() {
            let link = &self.links[index];
            if link.worker != worker || link.place != Place::Backlog || link.arrives > self.now {
                continue;
            }
            let Some(slot) = self.kernels[worker].places.iter().position(|(link, _)| link.is_none()) else {
                return;
            };
            if self.network_fault(Fault::AcceptRefused) {
                let is_gone = self.network_random.one_in(2);
                let error = if is_gone { ECONNABORTED } else { EMFILE };
                completions.push(Completion::AcceptFailed { error: io::Error::from_raw_os_error(error) });
                let link = &mut self.links[index];
                if is_gone {
                    link.server_is_gone();
                } else {
                    link.arrives = self.now.after(REFUSED);
                }
                continue;
            }
            let place = &mut self.kernels[worker].places[slot];
            place.0 = Some(index);
            let slot = u32::try_from(slot).expect("a table has fewer than 2^32 places");
            let connection = ConnectionId { slot, generation: place.1 };
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
        let start = if count > 0 { self.network_random.index(count) } else { 0 };
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
            link.arrive(now);
            let has_octets = !link.inbox.is_empty();
            if has_octets && self.network_fault(Fault::LinkLost) {
                self.links[index].break_off(now);
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

    pub(super) fn start_send(&mut self, worker: usize, token: Token, id: ConnectionId, memory: Vec<u8>) {
        let index = self.kernels[worker].open_link(id, "a send");
        assert!(self.links[index].send.is_none(), "a send is under way already");
        assert!(!memory.is_empty(), "a send of nothing");
        if self.network_fault(Fault::LinkLost) {
            self.links[index].break_off(self.now);
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
        let link = &mut self.links[index];
        let is_reset = link.is_reset(now);
        let is_out = !is_reset && link.go_on_sending(self.conditions.send_window, arrival);
        if !(is_reset || is_out) {
            return;
        }
        let Some(Send { token, memory, .. }) = link.send.take() else { return };
        let result = if is_out { Ok(()) } else { Err(io::Error::from_raw_os_error(ECONNRESET)) };
        let time = Self::soon(now, self.conditions.latency / 8, &mut self.network_random);
        self.kernels[worker].complete_at(time, Due::Sent { token, connection: id, memory, result });
    }

    pub(super) fn close(&mut self, worker: usize, id: ConnectionId) {
        let kernel = &mut self.kernels[worker];
        let index = kernel.open_link(id, "a close");
        let (link, generation) = &mut kernel.places[id.slot as usize];
        *link = None;
        *generation = (*generation + 1) & GENERATION_MAX;
        let now = self.now;
        let arrival = Self::soon(now, self.conditions.latency, &mut self.network_random);
        if let Some(Send { token, memory, .. }) = self.links[index].send.take() {
            let result = Err(io::Error::from_raw_os_error(ECANCELED));
            kernel.complete_at(now, Due::Sent { token, connection: id, memory, result });
        }
        self.links[index].close(arrival);
        self.note("worker {} closes client {}", [worker as u64, index as u64, 0]);
    }
}
