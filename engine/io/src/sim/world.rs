//! The world that workers, disk and clients share: its clock, its faults, its end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::calm::Orders;
use super::files::{Corruption, Files, Landing};
use super::kernel::Kernel;
use super::network::{Link, Listening};
use super::peer::{Listener, Peer};
use super::{Fault, Faults, Random, SimDisk, SimIo, Trace};
use crate::{Endpoint, FileKind, Instant};

/// What a world is like while nothing goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Whether files can be written past the page cache.
    pub is_direct: bool,
    /// Bytes of the disk.
    pub capacity: u64,
    /// Receive buffers of a worker; at most 2^16.
    pub receive_buffers: u16,
    /// Bytes of one.
    pub receive_buffer_size: usize,
    /// Bytes that the network holds for a client that does not read.
    pub send_window: usize,
    /// Connections of a worker.
    pub slots: usize,
    /// How long bytes are on their way, at most.
    pub latency: Duration,
    /// How long a write takes, at most.
    pub write_time: Duration,
}

impl Conditions {
    /// How a file is open that was to be opened so.
    pub(super) fn kind(&self, wanted: FileKind) -> FileKind {
        if wanted == FileKind::Direct && !self.is_direct { FileKind::Buffered } else { wanted }
    }
}

/// How an engine's life ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed; what the kernel and the disk have in their caches stays.
    Kill,
    /// The machine loses power.
    PowerCut,
}

/// Whether an operation still happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It does.
    Go,
    /// The end comes in the middle of it.
    Last,
    /// The end was before.
    Off,
}

/// All of a world.
#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Instant,
    /// The wall clock at the start of time, in microseconds.
    wall_start: u64,
    /// The wall clock stands still.
    is_clock_still: bool,
    pub(super) conditions: Conditions,
    faults: Faults,
    /// Nothing happens by chance.
    pub(super) is_calm: bool,
    pub(super) orders: Orders,
    pub(super) disk_random: Random,
    pub(super) network_random: Random,
    end_random: Random,
    trace: Trace,
    /// Operations until the end.
    fuse: Option<u64>,
    is_over: bool,
    operations: u64,
    pub(super) files: Files,
    pub(super) kernels: Vec<Kernel>,
    pub(super) links: Vec<Link>,
    /// Who takes connections of workers, by address.
    pub(super) listening: BTreeMap<Endpoint, Listening>,
    pub(super) failures: u64,
}

impl State {
    /// Counts an operation.
    pub(super) fn step(&mut self) -> Step {
        if self.is_over {
            return Step::Off;
        }
        self.operations += 1;
        match self.fuse.as_mut() {
            Some(0) => {
                self.is_over = true;
                self.note("the end comes", [0; 3]);
                Step::Last
            }
            Some(left) => {
                *left -= 1;
                Step::Go
            }
            None => Step::Go,
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn disk_fault(&mut self, fault: Fault) -> bool {
        let strikes = self.faults.strikes(fault, &mut self.disk_random);
        self.note_fault(strikes, fault);
        let is_failure = matches!(
            fault,
            Fault::WriteError | Fault::ReadError | Fault::NoSpace | Fault::Quota | Fault::FlushError
        );
        self.failures += u64::from(strikes && is_failure);
        strikes
    }

    pub(super) fn network_fault(&mut self, fault: Fault) -> bool {
        let strikes = self.faults.strikes(fault, &mut self.network_random);
        self.note_fault(strikes, fault);
        strikes
    }

    fn note_fault(&mut self, strikes: bool, fault: Fault) {
        if strikes {
            self.trace.note(self.now, fault.name(), [0; 3]);
        }
    }

    pub(super) fn note(&mut self, what: &'static str, numbers: [u64; 3]) {
        self.trace.note(self.now, what, numbers);
    }

    /// The wall clock, in microseconds of the Unix epoch.
    pub(super) const fn wall_clock(&self) -> u64 {
        if self.is_clock_still {
            return self.wall_start;
        }
        self.wall_start.saturating_add(self.now.nanoseconds() / 1000)
    }

    /// A time from now that is at most so long; now, if that is zero.
    pub(super) fn soon(now: Instant, most: Duration, random: &mut Random) -> Instant {
        if most.is_zero() {
            return now;
        }
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1000);
        now.after(Duration::from_nanos(random.between(most / 64 + 1, most)))
    }
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // The panic over a broken contract has been reported; later checks only add to the report.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A simulated world; clones are the same.
#[derive(Clone, Debug)]
pub struct World(pub(super) Arc<Mutex<State>>);

impl World {
    /// The world of a seed: an empty disk, no worker, no client on the network. `is_traced`: its events are kept.
    #[must_use]
    pub fn new(seed: u64, conditions: Conditions, faults: Faults, is_traced: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: Instant::from_nanoseconds(1_000_000),
            wall_start: 1_700_000_000_000_000,
            is_clock_still: false,
            conditions,
            faults,
            is_calm: false,
            orders: Orders::default(),
            disk_random: Random::new(seed, "disk"),
            network_random: Random::new(seed, "network"),
            end_random: Random::new(seed, "end"),
            trace: Trace::new(is_traced),
            fuse: None,
            is_over: false,
            operations: 0,
            files: Files::default(),
            kernels: Vec::new(),
            links: Vec::new(),
            listening: BTreeMap::new(),
            failures: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> SimDisk {
        SimDisk(Arc::clone(&self.0))
    }

    /// Kernels for the workers of an engine that starts; those of earlier ones are gone.
    #[must_use]
    pub fn boot(&self, workers: usize) -> Vec<SimIo> {
        let mut state = self.state();
        let (conditions, now) = (state.conditions, state.now);
        let seed = state.end_random.bits();
        state.links.clear();
        for listening in state.listening.values_mut() {
            if let Listening::Caller(waiting) = listening {
                waiting.clear();
            }
        }
        state.kernels.clear();
        state.kernels.resize_with(workers, || Kernel::new(&conditions));
        (0..workers).map(|worker| SimIo::new(Arc::clone(&self.0), worker, &conditions, now, seed)).collect()
    }

    /// A client connects to a worker.
    #[must_use]
    pub fn connect(&self, worker: usize) -> Peer {
        Peer::connect(&self.0, worker)
    }

    /// A server for workers to connect to, which the caller plays.
    ///
    /// # Panics
    /// When the address is in use.
    #[must_use]
    pub fn listen(&self, address: impl Into<Endpoint>) -> Listener {
        Listener::new(&self.0, address.into())
    }

    /// Lets workers connect to a worker at this address, as long as it accepts. It may also connect from there.
    pub fn set_address(&self, worker: usize, address: SocketAddr) {
        self.state().listening.insert(address.into(), Listening::Worker(worker));
    }

    /// One more worker beside those of [`World::boot`].
    #[cfg(test)]
    pub(super) fn join(&self) -> SimIo {
        let mut state = self.state();
        let (conditions, now, worker) = (state.conditions, state.now, state.kernels.len());
        let seed = state.end_random.bits();
        state.kernels.push(Kernel::new(&conditions));
        SimIo::new(Arc::clone(&self.0), worker, &conditions, now, seed)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.state().now
    }

    /// The wall clock, in microseconds of the Unix epoch.
    #[must_use]
    pub fn wall_clock(&self) -> u64 {
        self.state().wall_clock()
    }

    /// Lets time pass up to `time`.
    pub fn advance(&self, time: Instant) {
        let mut state = self.state();
        state.now = state.now.max(time);
    }

    /// Sets the wall clock forward or back.
    pub fn jump(&self, microseconds: i64) {
        let mut state = self.state();
        state.wall_start = state.wall_start.saturating_add_signed(microseconds);
        state.note("the wall clock jumps by {} s", [microseconds.unsigned_abs() / 1_000_000, 0, 0]);
    }

    /// Sets the wall clock to a time in microseconds of the Unix epoch, as a machine without a battery does whenever it
    /// starts. `is_still`: there it stays.
    pub fn set_wall_clock(&self, microseconds: u64, is_still: bool) {
        let mut state = self.state();
        state.is_clock_still = is_still;
        let passed = if is_still { 0 } else { state.now.nanoseconds() / 1000 };
        state.wall_start = microseconds.saturating_sub(passed);
        state.note("the wall clock is set to {} s", [microseconds / 1_000_000, 0, 0]);
    }

    /// A worker goes into its wait: what it has queued begins.
    pub fn enter(&self, worker: usize) {
        self.state().enter(worker);
    }

    /// When a worker's wait ends; in the past if it has already.
    #[must_use]
    pub fn next_event(&self, worker: usize) -> Option<Instant> {
        self.state().next_event(worker)
    }

    /// Whether a fault strikes that the caller brings about.
    pub fn strikes(&self, fault: Fault, random: &mut Random) -> bool {
        let mut state = self.state();
        let strikes = state.faults.strikes(fault, random);
        state.note_fault(strikes, fault);
        strikes
    }

    /// Whether a fault happens in this world.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.state().faults.has(fault)
    }

    /// Ends or resumes all faults; returns whether they had ended.
    pub fn set_faults_off(&self, are_off: bool) -> bool {
        self.state().faults.set_off(are_off)
    }

    /// Breaks a file, so that operations on it fail, or mends it.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn set_broken(&self, path: &str, is_broken: bool) {
        self.state().files.set_broken(path, is_broken);
    }

    /// Changes the size of the disk.
    pub fn set_capacity(&self, octets: u64) {
        self.state().conditions.capacity = octets;
    }

    /// Ends the world after this number of operations of disk and kernel.
    pub fn set_fuse(&self, operations: Option<u64>) {
        self.state().fuse = operations;
    }

    /// Whether the end has come: nothing has an effect any more until [`World::crash`].
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Ends all workers as they are; the engine has to be dropped before it is started again.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.state();
        let state = &mut *state;
        state.note(if crash == Crash::Kill { "the process is killed" } else { "the power is cut" }, [0; 3]);
        let mut writes: Vec<_> = state.kernels.iter_mut().flat_map(Kernel::take_writes).collect();
        while !state.is_calm && !writes.is_empty() {
            let write = writes.swap_remove(state.end_random.index(writes.len()));
            let is_durable = crash == Crash::PowerCut && state.end_random.one_in(2);
            state.files.put(
                write.number,
                write.block.filled(),
                write.offset,
                is_durable,
                Landing::Torn,
                &mut state.end_random,
            );
        }
        if crash == Crash::PowerCut {
            let random = (!state.is_calm).then_some(&mut state.end_random);
            state.files.cut_power(random);
        }
        self.end(state);
    }

    /// Ends the network of an engine that ended by itself.
    pub fn finish(&self) {
        self.end(&mut self.state());
    }

    fn end(&self, state: &mut State) {
        state.files.forget_nameless();
        for link in &mut state.links {
            link.worker_is_gone();
        }
        state.is_over = false;
        state.fuse = None;
    }

    /// What the disk damaged, since this was asked last.
    #[must_use]
    pub fn take_corruptions(&self) -> Vec<Corruption> {
        self.state().files.take_corruptions()
    }

    /// Operations of the disk that failed, since the start of time.
    #[must_use]
    pub fn disk_failures(&self) -> u64 {
        self.state().failures
    }

    /// Operations of disk and kernel, since the start of time.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How often each fault struck.
    #[must_use]
    pub fn fault_counts(&self) -> [u64; Fault::ALL.len()] {
        *self.state().faults.counts()
    }

    /// Notes an event.
    pub fn note(&self, what: &'static str, numbers: [u64; 3]) {
        self.state().note(what, numbers);
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.state().trace.clone()
    }

    /// Checks what a worker owes the kernel when it has ended by itself.
    ///
    /// # Panics
    /// When a connection is open, a buffer is lent, or an operation is under way.
    pub fn check_ended(&self, worker: usize) {
        self.state().kernels[worker].check_ended();
    }

    /// Bytes that a disk writes as a whole or not at all.
    pub const SECTOR_SIZE: usize = super::files::SECTOR_SIZE;
}
