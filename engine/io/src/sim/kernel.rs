//! A worker's simulated kernel: takes operations, checks them against the seam's contract, completes them in time.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::disk::{Landing, SECTOR_SIZE, read_error, write_error};
use super::network::{Place, Send};
use super::world::{Conditions, State, Step, lock};
use super::{Fault, Random, SimDisk, SimFile};
use crate::files::Files;
use crate::operation::Serial;
use crate::{
    BLOCK_ALIGNMENT, Block, Completion, ConnectionId, FileId, FileKind, Instant, Io, IoError, Operation,
    Piece, ReceiveEnd, SOME, Token, Waker,
};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ECANCELED: i32 = 125;

/// How long a write takes when the disk is slow, as a multiple.
const SLOW_FACTOR: u32 = 400;
/// How long a connection waits that was not accepted.
const REFUSED: std::time::Duration = std::time::Duration::from_millis(200);

/// Of a place in the connection table; it begins anew after that.
const GENERATION_MAX: u32 = 0x00ff_ffff;
/// Some begin shortly before that.
const FIRST_GENERATIONS: [u32; 3] = [0, GENERATION_MAX, GENERATION_MAX - 2];

/// One worker's side of the kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    queued: Vec<(Token, Operation)>,
    /// What completes when; the number keeps those of one time apart.
    due: BTreeMap<(Instant, u64), Due>,
    next_due: u64,
    files: Files<Attached>,
    is_accepting: bool,
    /// Link and generation of each place of the connection table.
    places: Vec<(Option<usize>, u32)>,
    is_lent: Vec<bool>,
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
    Sent { token: Token, connection: ConnectionId, memory: Vec<u8>, result: Result<(), io::Error> },
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Write {
    token: Token,
    file: FileId,
    pub(super) number: u64,
    pub(super) block: Block,
    pub(super) offset: usize,
    is_durable: bool,
}

/// A read under way.
#[derive(Debug)]
struct Read {
    token: Token,
    file: FileId,
    number: u64,
    buffer: Vec<u8>,
    offset: u64,
    /// Number of bytes, if they were read when it began.
    count: Option<usize>,
}

impl Kernel {
    pub(super) fn new(conditions: &Conditions) -> Self {
        Self {
            queued: Vec::new(),
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
        let open = self.places.iter().filter(|(link, _)| link.is_some()).count();
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
                let waiting = self.links.iter_mut();
                for link in waiting.filter(|link| link.worker == worker && link.place == Place::Backlog) {
                    link.server_is_gone();
                }
            }
            Operation::Connect { .. } => panic!("a worker connects to nobody"),
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
            Operation::Send(id, memory) => {
                let index = kernel.open_link(id, "a send");
                assert!(self.links[index].send.is_none(), "a send is under way already");
                assert!(!memory.is_empty(), "a send of nothing");
                if self.network_fault(Fault::LinkLost) {
                    self.links[index].break_off(now);
                }
                self.note(
                    "worker {} sends {} octets to client {}",
                    [worker as u64, memory.len() as u64, index as u64],
                );
                self.links[index].send = Some(Send::new(token, memory));
                self.go_on_sending(worker, id, index);
            }
            Operation::Close(id) => self.close(worker, id),
            Operation::Write { file, block, offset, is_durable } => {
                self.start_write(worker, token, file, block, offset, is_durable);
            }
            Operation::Read { file, buffer, offset } => self.start_read(worker, token, file, buffer, offset),
        }
    }

    fn close(&mut self, worker: usize, id: ConnectionId) {
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

    fn start_write(
        &mut self,
        worker: usize,
        token: Token,
        file: FileId,
        block: Block,
        offset: u64,
        is_durable: bool,
    ) {
        let (size, offset) = (block.len(), usize::try_from(offset).expect("simulated files are small"));
        let kernel = &mut self.kernels[worker];
        let attached = kernel.files.get_mut(file);
        assert!(size > 0, "a write of nothing");
        if attached.file.kind == FileKind::Direct {
            let is_aligned = offset.is_multiple_of(BLOCK_ALIGNMENT) && size.is_multiple_of(BLOCK_ALIGNMENT);
            assert!(is_aligned, "a direct write is not aligned: {size} octets at {offset}");
        }
        let overlaps = |(from, to): &(usize, usize)| *from < offset + size && offset < *to;
        assert!(!attached.writing.iter().any(overlaps), "writes under way overlap at {offset}");
        let number = attached.file.number;
        attached.writing.push((offset, offset + size));
        assert!(offset + size <= self.files.size(number), "a write reaches past the end of its file");
        let time = self.disk_time();
        self.note("write into file {} begins: {} octets at {}", [number, size as u64, offset as u64]);
        let write = Write { token, file, number, block, offset, is_durable };
        self.kernels[worker].complete_at(time, Due::Write(write));
    }

    /// When a write or read ends that begins now.
    fn disk_time(&mut self) -> Instant {
        let most =
            self.conditions.write_time * if self.disk_fault(Fault::SlowDisk) { SLOW_FACTOR } else { 1 };
        Self::soon(self.now, most, &mut self.disk_random)
    }

    fn start_read(&mut self, worker: usize, token: Token, file: FileId, mut buffer: Vec<u8>, offset: u64) {
        let sim_file = &self.kernels[worker].files.get_mut(file).file;
        sim_file.kind.check_read();
        let number = sim_file.number;
        let time = self.disk_time();
        self.note("read of file {} begins: {} octets at {}", [number, buffer.len() as u64, offset]);
        // It finds what was there when it began or what is there when it ends, as the disk likes.
        let is_early = self.disk_random.one_in(2);
        let count = is_early.then(|| self.read(number, &mut buffer, offset));
        let read = Read { token, file, number, buffer, offset, count };
        self.kernels[worker].complete_at(time, Due::Read(read));
    }

    /// Reads what is there now: of a write under way, any of its sectors may be.
    fn read(&mut self, number: u64, buffer: &mut [u8], offset: u64) -> usize {
        let count = self.files.read(number, buffer, offset);
        let end = offset + count as u64;
        for write in self.kernels.iter().flat_map(Kernel::writes).filter(|write| write.number == number) {
            for (index, sector) in write.block.filled().chunks(SECTOR_SIZE).enumerate() {
                let start = (write.offset + index * SECTOR_SIZE) as u64;
                let (from, to) = (offset.max(start), end.min(start + sector.len() as u64));
                if from < to && self.disk_random.one_in(2) {
                    let place = |at: u64, base: u64| usize::try_from(at - base).expect("both are in memory");
                    buffer[place(from, offset)..place(to, offset)]
                        .copy_from_slice(&sector[place(from, start)..place(to, start)]);
                }
            }
        }
        count
    }

    fn end_read(&mut self, worker: usize, read: Read, completions: &mut Vec<Completion>) {
        let Read { token, file, number, mut buffer, offset, count } = read;
        if self.is_over() {
            // Its outcome is never reported.
            return;
        }
        self.kernels[worker].files.end(file);
        let result = match read_error(self) {
            Some(error) => Err(error),
            None => Ok(count.unwrap_or_else(|| self.read(number, &mut buffer, offset))),
        };
        let what =
            if result.is_ok() { "read of file {} at {} is done" } else { "read of file {} at {} failed" };
        self.note(what, [number, offset, 0]);
        completions.push(Completion::Read { token, buffer, result });
    }

    /// When a worker's wait ends.
    pub(super) fn next_event(&self, worker: usize) -> Option<Instant> {
        let kernel = &self.kernels[worker];
        if kernel.woken.load(Ordering::Relaxed) || !kernel.queued.is_empty() {
            return Some(self.now);
        }
        let window = self.conditions.send_window;
        let links = self.links.iter().filter(|link| link.worker == worker);
        let links = links.filter_map(|link| match link.place {
            Place::Backlog if !kernel.is_accepting || kernel.is_full() => None,
            _ => link.next_event(self.now, window),
        });
        kernel.due.keys().next().map(|(time, _)| *time).into_iter().chain(links).min()
    }

    fn go_on_sending(&mut self, worker: usize, id: ConnectionId, index: usize) {
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

    /// Gathers what has completed for a worker by now; received bytes go to `memory`.
    fn complete(&mut self, worker: usize, memory: &mut [Vec<u8>], completions: &mut Vec<Completion>) {
        let receives_first = self.network_random.one_in(2);
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
                Due::Sent { token, connection, memory, result } => {
                    completions.push(Completion::Sent { token, connection, memory, result });
                }
            }
        }
        if !receives_first {
            self.receive_all(worker, memory, completions);
        }
    }

    fn accept_all(&mut self, worker: usize, completions: &mut Vec<Completion>) {
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

    fn receive_all(&mut self, worker: usize, memory: &mut [Vec<u8>], completions: &mut Vec<Completion>) {
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

    fn stop_receiving(&mut self, worker: usize, id: ConnectionId, completions: &mut Vec<Completion>) {
        let Some(index) = self.kernels[worker].link(id) else { return };
        if let Some(token) = self.links[index].receive.take() {
            let end = ReceiveEnd::Stopped;
            completions.push(Completion::ReceiveEnded { token, connection: id, end });
        }
    }

    fn end_write(&mut self, worker: usize, write: Write, completions: &mut Vec<Completion>) {
        let Write { token, file, number, block, offset, is_durable } = write;
        let step = self.step();
        if step != Step::Go {
            // Its outcome is never reported.
            let landing = Landing::Torn;
            self.files.put(number, block.filled(), offset, false, landing, &mut self.disk_random);
            return;
        }
        let attached = self.kernels[worker].files.get_mut(file);
        attached.writing.retain(|(from, _)| *from != offset);
        self.kernels[worker].files.end(file);
        let failure = write_error(self);
        let is_flush_failing = self.disk_fault(Fault::FlushError);
        let is_lost = self.disk_fault(Fault::LostWrite);
        let is_misdirected = self.disk_fault(Fault::MisdirectedWrite);
        let is_rotting = self.disk_fault(Fault::BitRot);
        let Self { files, disk_random, .. } = self;
        let octets = block.filled();
        let result = if let Some(error) = failure {
            files.put(number, octets, offset, false, Landing::Torn, disk_random);
            Err(error)
        } else if is_flush_failing && is_durable {
            files.put(number, octets, offset, false, Landing::Whole, disk_random);
            files.fail_flush(number, disk_random);
            Err(io::Error::from_raw_os_error(EIO))
        } else if is_lost || is_misdirected {
            files.note_lost(number, octets, offset);
            if is_misdirected {
                files.misdirect(octets, disk_random);
            }
            Ok(())
        } else {
            files.put(number, octets, offset, is_durable, Landing::Whole, disk_random);
            Ok(())
        };
        if is_rotting {
            files.rot(disk_random);
        }
        let what = if result.is_ok() {
            "write into file {} at {} is done"
        } else {
            "write into file {} at {} failed"
        };
        self.note(what, [number, offset as u64, 0]);
        completions.push(Completion::Written { token, block, result });
    }
}

impl Kernel {
    fn is_full(&self) -> bool {
        self.places.iter().all(|(link, _)| link.is_some())
    }
}

/// A worker's [`Io`] in a simulated world.
///
/// It accepts from its start on. Its wait never blocks: the code that runs the workers asks [`super::World::next_event`] when one
/// of them has something to do. It panics when a worker breaks the contract of the seam.
#[derive(Debug)]
pub struct SimIo {
    world: Arc<Mutex<State>>,
    worker: usize,
    /// Receive buffers.
    memory: Vec<Vec<u8>>,
    now: Instant,
    random: Random,
}

impl SimIo {
    pub(super) fn new(
        world: Arc<Mutex<State>>,
        worker: usize,
        conditions: &Conditions,
        now: Instant,
        seed: u64,
    ) -> Self {
        Self {
            world,
            worker,
            memory: vec![Vec::new(); usize::from(conditions.receive_buffers)],
            now,
            random: Random::new(seed ^ worker as u64, "kernel"),
        }
    }

    /// The world that it is in.
    #[cfg(test)]
    pub(super) fn world(&self) -> super::World {
        super::World(Arc::clone(&self.world))
    }

    /// Gives a piece's buffer back while it is lent, so that the kernel has it twice once the piece is recycled. The
    /// type of [`Io::recycle`] does not let an engine do this; a test of the simulator does.
    pub fn recycle_early(&self, piece: &Piece) {
        lock(&self.world).kernels[self.worker].free.push(piece.buffer);
    }
}

impl Io for SimIo {
    type Disk = SimDisk;

    fn attach(&mut self, file: SimFile) -> FileId {
        let attached = Attached { file, writing: Vec::new() };
        lock(&self.world).kernels[self.worker].files.attach(attached)
    }

    fn detach(&mut self, file: FileId) -> SimFile {
        lock(&self.world).kernels[self.worker].files.detach(file).file
    }

    fn submit(&mut self, token: Token, operation: Operation) {
        let mut state = lock(&self.world);
        let kernel = &mut state.kernels[self.worker];
        if let Operation::Write { file, .. } | Operation::Read { file, .. } = &operation {
            kernel.files.begin(*file);
        }
        kernel.queued.push((token, operation));
    }

    fn wait(&mut self, _: Option<Instant>, completions: &mut Vec<Completion>) -> Result<(), IoError> {
        let mut state = lock(&self.world);
        state.enter(self.worker);
        state.kernels[self.worker].woken.store(false, Ordering::Relaxed);
        self.now = state.now;
        if !state.is_over() {
            state.complete(self.worker, &mut self.memory, completions);
        }
        Ok(())
    }

    fn received(&self, piece: &Piece) -> &[u8] {
        let state = lock(&self.world);
        let kernel = &state.kernels[self.worker];
        assert!(piece.owner == kernel.serial, "a piece is read by the worker that received it");
        let is_lent = kernel.is_lent[usize::from(piece.buffer)];
        drop(state);
        assert!(is_lent, "a piece is read after it was given back");
        &self.memory[usize::from(piece.buffer)]
    }

    fn recycle(&mut self, piece: Piece) {
        let mut state = lock(&self.world);
        let kernel = &mut state.kernels[self.worker];
        assert!(piece.owner == kernel.serial, "a piece is given back by the worker that received it");
        kernel.is_lent[usize::from(piece.buffer)] = false;
        kernel.free.push(piece.buffer);
    }

    fn now(&mut self) -> Instant {
        self.now
    }

    fn wall_clock(&mut self) -> u64 {
        lock(&self.world).wall_clock()
    }

    fn random(&mut self) -> u64 {
        self.random.bits()
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&lock(&self.world).kernels[self.worker].woken);
        Waker::new(move || woken.store(true, Ordering::Relaxed))
    }
}
