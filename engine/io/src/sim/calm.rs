//! Worlds without chance, for tests that say themselves what goes wrong.
//!
//! Nothing takes time there: everything completes at the next wait, in the order in which it was submitted, and bytes
//! arrive in the pieces in which they were sent, one at each wait. A wait in which nothing completes lets time pass until its
//! deadline. A power cut takes exactly what was not synced. What fails or stops is what the test orders. The contract is
//! checked as in any other world.

use std::net::IpAddr;
use std::time::Duration;

use super::kernel::SimIo;
use super::world::{Conditions, State, lock};
use super::{Crash, Fault, Faults, Peer, Random, SimDisk, World};

/// What tests order.
#[derive(Debug, Default)]
pub(super) struct Orders {
    failing_writes: u32,
    pub(super) is_read_only: bool,
    pub(super) is_taken_away: bool,
}

impl Orders {
    /// Whether a write of an operation fails.
    pub(super) const fn take_failure(&mut self) -> bool {
        let is_failing = self.failing_writes > 0;
        self.failing_writes = self.failing_writes.saturating_sub(1);
        is_failing
    }
}

impl State {
    /// Returns either at random, and false where nothing happens by chance.
    pub(super) fn disk_coin(&mut self) -> bool {
        !self.is_calm && self.disk_random.one_in(2)
    }
}

impl World {
    /// A world without chance, in which there is enough of everything.
    #[must_use]
    pub fn calm() -> Self {
        let conditions = Conditions {
            is_direct: true,
            capacity: 1 << 40,
            receive_buffers: 1024,
            receive_buffer_size: 1 << 20,
            send_window: usize::MAX,
            slots: 1024,
            latency: Duration::ZERO,
            write_time: Duration::ZERO,
        };
        let world = Self::new(1, conditions, Faults::new(&mut Random::new(1, "faults"), &Fault::ALL), false);
        lock(&world.0).is_calm = true;
        world
    }
}

impl SimDisk {
    /// The world that it is in.
    #[must_use]
    pub fn world(&self) -> World {
        World(self.0.clone())
    }

    /// Lets the next `count` writes of operations fail with EIO, the first half of their bytes written.
    pub fn fail_writes(&self, count: u32) {
        lock(&self.0).orders.failing_writes = count;
    }

    /// Lets all that would change a file or a name fail, until it is taken back.
    pub fn set_read_only(&self, is_read_only: bool) {
        lock(&self.0).orders.is_read_only = is_read_only;
    }

    /// Lets the directory be gone from its place; its files can still be written.
    pub fn set_taken_away(&self, is_taken_away: bool) {
        lock(&self.0).orders.is_taken_away = is_taken_away;
    }

    /// Changes bytes of a file without any operation. All that it then has is durable.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = lock(&self.0);
        let number = *state.files.names.get(path).expect("damage names a file that exists");
        state.files.content(number).damage(change);
    }

    /// Cuts the power. Open files must not be used afterwards.
    pub fn cut_power(&self) {
        self.world().crash(Crash::PowerCut);
    }
}

impl SimIo {
    /// A client connects to the worker from this address.
    #[must_use]
    pub fn connect_from(&self, address: IpAddr) -> Peer {
        let peer = self.world().connect(self.worker());
        peer.set_address(address);
        peer
    }

    /// Lets time pass.
    pub fn pass(&mut self, duration: Duration) {
        let world = self.world();
        world.advance(world.now().after(duration));
        self.now = world.now();
    }

    /// Lets no write go on from now on: a disk that has stopped answering.
    pub fn hold_writes(&self) {
        self.kernel(|kernel| _ = kernel.held_writes.get_or_insert_default());
    }

    /// Lets writes go on.
    pub fn release_writes(&self) {
        self.kernel(|kernel| {
            let held = kernel.held_writes.take().unwrap_or_default();
            kernel.queued.extend(held);
        });
    }

    /// Returns the number of pieces that were received and not given back.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.kernel(|kernel| kernel.is_lent.iter().filter(|is_lent| **is_lent).count())
    }
}
