//! A worker's side of its simulated kernel.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::{Attached, Kernel};
use crate::sim::world::{Conditions, State, lock};
use crate::sim::{Random, SimDisk, SimFile};
use crate::{Completion, FileId, Instant, Io, IoError, Operation, Piece, Token, Waker};

/// A worker's [`Io`] in a simulated world.
///
/// It accepts from its start on. Its wait never blocks: the code that runs the workers asks
/// [`next_event`](crate::sim::World::next_event) when one of them has something to do, and lets time pass. In a calm world a
/// wait lets time pass itself. It panics when a worker breaks the contract of the seam.
#[derive(Debug)]
pub struct SimIo {
    world: Arc<Mutex<State>>,
    worker: usize,
    /// Receive buffers.
    memory: Vec<Vec<u8>>,
    pub(in crate::sim) now: Instant,
    random: Random,
}

impl SimIo {
    pub(in crate::sim) fn new(
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

    pub(in crate::sim) fn kernel<T>(&self, use_it: impl FnOnce(&mut Kernel) -> T) -> T {
        use_it(&mut lock(&self.world).kernels[self.worker])
    }

    /// The world that it is in.
    pub(in crate::sim) fn world(&self) -> crate::sim::World {
        crate::sim::World(Arc::clone(&self.world))
    }

    pub(in crate::sim) const fn worker(&self) -> usize {
        self.worker
    }

    #[cfg(test)]
    pub(in crate::sim) fn is_accepting(&self) -> bool {
        lock(&self.world).kernels[self.worker].is_accepting
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
        match &mut kernel.held_writes {
            Some(held) if matches!(operation, Operation::Write { .. }) => held.push((token, operation)),
            _ => kernel.queued.push((token, operation)),
        }
    }

    fn wait(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> Result<(), IoError> {
        let before = completions.len();
        let mut state = lock(&self.world);
        state.enter(self.worker);
        state.kernels[self.worker].woken.store(false, Ordering::Relaxed);
        if !state.is_over() {
            state.complete(self.worker, &mut self.memory, completions);
        }
        if state.is_calm && completions.len() == before {
            state.now = state.now.max(deadline.unwrap_or_default());
        }
        self.now = state.now;
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
