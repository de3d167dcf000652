//! A worker's simulated kernel: takes operations, checks them against the seam's contract, completes them in time.

mod connections;
mod transfers;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::SimFile;
use super::network::Place;
use super::world::{Conditions, State, Step};
use crate::files::Files;
use crate::operation::Serial;
use crate::{Completion, ConnectionId, Instant, Operation, Token};
use connections::Connect;
use transfers::{Read, Write};

pub use worker::SimIo;

const EIO: i32 = 5;

/// Of a place in the connection table; it begins anew after that.
const GENERATION_MAX: u32 = 0x00ff_ffff;
/// Some begin shortly before that.
const FIRST_GENERATIONS: [u32; 3] = [0, GENERATION_MAX, GENERATION_MAX - 2];

/// One worker's side of the kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) queued: Vec<(Token, Operation)>,
    /// Writes that do not go on.
    pub(super) held_writes: Option<Vec<(Token, Operation)>>,
    /// What completes when; the number keeps those of one time apart.
    due: BTreeMap<(Instant, u64), Due>,
    next_due: u64,
    files: Files<Attached>,
    is_accepting: bool,
    /// Link and generation of each place of the connection table.
    places: Vec<(Option<usize>, u32)>,
    pub(super) is_lent: Vec<bool>,
    /// Tells its pieces from those of others.
    serial: Serial,
    free: Vec<u16>,
    woken: Arc<AtomicBool>,
}

/// A file that operations can name.
#[derive(Debug)]
struct Attached {
    file: SimFile,
    /// Bytes that writes under way are about.
    writing: Vec<(usize, usize)>,
}

/// Something that completes later.
#[derive(Debug)]
enum Due {
    Write(Write),
    Read(Read),
    Stop(ConnectionId),
    Connect(Connect),
    NotConnected { token: Token, error: io::Error },
    Sent { token: Token, connection: ConnectionId, memory: Vec<u8>, result: Result<(), io::Error> },
}

impl Kernel {
    pub(super) fn new(conditions: &Conditions) -> Self {
        Self {
            queued: Vec::new(),
            held_writes: None,
            due: BTreeMap::new(),
            next_due: 0,
            files: Files::default(),
            is_accepting: true,
            places: (0..conditions.slots).map(|slot| (None, FIRST_GENERATIONS[slot % 3])).collect(),
            is_lent: vec![false; usize::from(conditions.receive_buffers)],
            serial: Serial::next(),
            free: (0..conditions.receive_buffers).rev().collect(),
            woken: Arc::default(),
        }
    }

    /// The link of a connection; `None`: it is closed.
    fn link(&self, id: ConnectionId) -> Option<usize> {
        let (link, generation) = *self.places.get(id.slot as usize)?;
        link.filter(|_| generation == id.generation)
    }

    fn open_link(&self, id: ConnectionId, what: &str) -> usize {
        self.link(id).unwrap_or_else(|| panic!("{what} names a connection that is closed"))
    }

    fn complete_at(&mut self, time: Instant, due: Due) {
        self.due.insert((time, self.next_due), due);
        self.next_due += 1;
    }

    /// The writes under way.
    fn writes(&self) -> impl Iterator<Item = &Write> {
        self.due.values().filter_map(|due| if let Due::Write(write) = due { Some(write) } else { None })
    }

    /// The writes under way, which will never complete.
    pub(super) fn take_writes(&mut self) -> Vec<Write> {
        let due = std::mem::take(&mut self.due);
        due.into_values()
            .filter_map(|due| if let Due::Write(write) = due { Some(write) } else { None })
            .collect()
    }

    pub(super) fn check_ended(&self) {
        let is_close = |operation: &(Token, Operation)| matches!(operation.1, Operation::Close(_));
        let closed: Vec<ConnectionId> =
            self.queued.iter().filter_map(|(_, operation)| closes(operation)).collect();
        // What it wanted of connections that it closes in the same breath is of no use to it.
        let is_end = |operation: &(Token, Operation)| match &operation.1 {
            Operation::Close(_) | Operation::StopAccepting => true,
            Operation::Receive(id)
            | Operation::ReceiveSome(id)
            | Operation::StopReceiving(id)
            | Operation::Send(id, _) => closed.contains(id),
            _ => false,
        };
        assert!(self.queued.iter().all(is_end), "operations were queued by a worker that ended");
        let is_of_file = |due: &Due| matches!(due, Due::Write(_) | Due::Read(_));
        assert!(!self.due.values().any(is_of_file), "a worker ended with a write or read under way");
        assert!(
            !self.is_lent.contains(&true),
            "a worker ended with received octets that it did not give back"
        );
        let closing = self.queued.iter().filter(|operation| is_close(operation)).count();
        let taken = self.places.iter().filter(|(link, _)| link.is_some()).count();
        // No operation ends an attempt to connect.
        let open = taken - self.due.values().filter(|due| matches!(due, Due::Connect(_))).count();
        assert!(open <= closing, "a worker ended with {open} connections, {closing} of which it closes");
    }
}

const fn closes(operation: &Operation) -> Option<ConnectionId> {
    if let Operation::Close(id) = operation { Some(*id) } else { None }
}

impl State {
    /// Starts what a worker has queued.
    pub(super) fn enter(&mut self, worker: usize) {
        for (token, operation) in std::mem::take(&mut self.kernels[worker].queued) {
            if self.step() == Step::Go {
                self.start(worker, token, operation);
            }
        }
    }

    fn start(&mut self, worker: usize, token: Token, operation: Operation) {
        let kernel = &mut self.kernels[worker];
        let now = self.now;
        let receives_some = matches!(operation, Operation::ReceiveSome(_));
        match operation {
            Operation::Accept(_) => kernel.is_accepting = true,
            Operation::StopAccepting => {
                kernel.is_accepting = false;
                for index in 0..self.links.len() {
                    let link = &self.links[index];
                    if link.worker == worker && link.place == Place::Backlog {
                        self.turn_away(index);
                    }
                }
            }
            Operation::Connect { server, source } => self.start_connect(worker, token, server, source),
            Operation::Receive(id) | Operation::ReceiveSome(id) => {
                let link = &mut self.links[kernel.open_link(id, "a receive")];
                assert!(link.receive.is_none(), "receiving is under way already");
                link.receive = Some(token);
                link.receives_some = receives_some;
            }
            Operation::StopReceiving(id) => {
                kernel.open_link(id, "the end of receiving");
                let time = Self::soon(now, self.conditions.latency / 8, &mut self.network_random);
                kernel.complete_at(time, Due::Stop(id));
            }
            Operation::Send(id, memory) => self.start_send(worker, token, id, memory),
            Operation::Close(id) => self.close(worker, id),
            Operation::Write { file, block, offset, is_durable } => {
                self.start_write(worker, token, file, block, offset, is_durable);
            }
            Operation::Read { file, buffer, offset } => self.start_read(worker, token, file, buffer, offset),
        }
    }

    /// When a worker's wait ends.
    pub(super) fn next_event(&self, worker: usize) -> Option<Instant> {
        let kernel = &self.kernels[worker];
        if kernel.woken.load(Ordering::Relaxed) || !kernel.queued.is_empty() {
            return Some(self.now);
        }
        let links = self.links.iter().enumerate().filter(|(_, link)| link.worker == worker);
        let links = links.filter_map(|(index, link)| match link.place {
            Place::Backlog if !kernel.is_accepting || kernel.free_slot().is_none() => None,
            _ => link.next_event(self.now, self.room(index)),
        });
        kernel.due.keys().next().map(|(time, _)| *time).into_iter().chain(links).min()
    }

    /// Gathers what has completed for a worker by now; received bytes go to `memory`.
    fn complete(&mut self, worker: usize, memory: &mut [Vec<u8>], completions: &mut Vec<Completion>) {
        let receives_first = !self.is_calm && self.network_random.one_in(2);
        if receives_first {
            self.receive_all(worker, memory, completions);
        }
        self.accept_all(worker, completions);
        while let Some(((time, _), _)) = self.kernels[worker].due.first_key_value()
            && *time <= self.now
        {
            let Some((_, due)) = self.kernels[worker].due.pop_first() else { break };
            match due {
                Due::Write(write) => self.end_write(worker, write, completions),
                Due::Read(read) => self.end_read(worker, read, completions),
                Due::Stop(id) => self.stop_receiving(worker, id, completions),
                Due::Connect(connect) => self.end_connect(worker, connect, completions),
                Due::NotConnected { token, error } => {
                    completions.push(Completion::Connected { token, result: Err(error) });
                }
                Due::Sent { token, connection, memory, result } => {
                    completions.push(Completion::Sent { token, connection, memory, result });
                }
            }
        }
        if !receives_first {
            self.receive_all(worker, memory, completions);
        }
    }
}

impl Kernel {
    fn free_slot(&self) -> Option<usize> {
        self.places.iter().position(|(link, _)| link.is_none())
    }

    /// Gives a place of the table to a link.
    fn occupy(&mut self, slot: usize, link: usize) -> ConnectionId {
        let place = &mut self.places[slot];
        place.0 = Some(link);
        let slot = u32::try_from(slot).expect("a table has fewer than 2^32 places");
        ConnectionId { slot, generation: place.1 }
    }

    /// Frees the place of a connection, whose name means nothing from now on.
    fn vacate(&mut self, id: ConnectionId) {
        let (link, generation) = &mut self.places[id.slot as usize];
        *link = None;
        *generation = (*generation + 1) & GENERATION_MAX;
    }
}
