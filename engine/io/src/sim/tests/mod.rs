mod calm;
mod connections;
mod disk;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::conformance::{self, BrokenFiles, Subject, conformance_anywhere};
use crate::{
    Block, Completion, ConnectionId, Disk, Endpoint, FileId, FileKind, Instant, Io, Operation, ReceiveEnd,
    Token,
};

const CONDITIONS: Conditions = Conditions {
    is_direct: true,
    capacity: 1 << 20,
    receive_buffers: 2,
    receive_buffer_size: 100,
    send_window: 1000,
    slots: 4,
    latency: Duration::from_millis(1),
    write_time: Duration::from_millis(1),
};

fn faultless(conditions: Conditions) -> World {
    World::new(1, conditions, Faults::new(&mut Random::new(1, "faults"), &Fault::ALL), true)
}

fn world() -> World {
    faultless(CONDITIONS)
}

fn with_buffers(receive_buffers: u16, receive_buffer_size: usize) -> SimIo {
    let conditions = Conditions {
        capacity: 1 << 24,
        receive_buffers,
        receive_buffer_size,
        send_window: 65_536,
        ..CONDITIONS
    };
    faultless(conditions).boot(1).remove(0)
}

fn small() -> SimIo {
    with_buffers(2, 4096)
}

fn roomy() -> SimIo {
    with_buffers(8, 65_536)
}

conformance_anywhere!();

impl Subject for SimIo {
    type Client = (World, Peer);
    type Place = ();

    fn listen(&mut self, address: IpAddr) -> std::io::Result<SocketAddr> {
        // It accepts from its start on.
        let worker = u16::try_from(self.worker()).unwrap();
        let target = SocketAddr::from((address, 25 + worker));
        self.world().set_address(self.worker(), target);
        Ok(target)
    }

    fn connect(&self, _: SocketAddr) -> std::io::Result<(World, Peer)> {
        if !self.is_accepting() {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        Ok((self.world(), self.world().connect(self.worker())))
    }

    fn nobody(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    fn serve(&self, (): &()) -> (Endpoint, impl FnMut() -> (World, Peer) + use<>) {
        let (world, server) = (self.world(), Endpoint::Unix(Path::new("/server").into()));
        let listener = world.listen(server.clone());
        (server, move || (world.clone(), listener.accept().unwrap()))
    }

    fn beside(&self, _: &impl Fn() -> Self) -> Self {
        self.world().join()
    }

    fn wait_for(&mut self, deadline: Instant, completions: &mut Vec<Completion>) {
        let world = self.world();
        world.enter(self.worker());
        world.advance(world.next_event(self.worker()).map_or(deadline, |event| event.min(deadline)));
        self.wait(Some(deadline), completions).unwrap();
    }

    fn place(&self) -> (SimDisk, ()) {
        (self.world().disk(), ())
    }

    fn broken_files(&mut self, disk: &SimDisk) -> BrokenFiles {
        const EIO: i32 = 5;
        let writer = disk.create("broken", 65_536, FileKind::Buffered).unwrap();
        let reader = disk.open("broken", FileKind::Read).unwrap();
        self.world().set_broken("broken", true);
        BrokenFiles { unwritable: (self.attach(writer), EIO), unreadable: (self.attach(reader), EIO) }
    }
}

impl conformance::Client for (World, Peer) {
    fn address(&self) -> SocketAddr {
        self.1.address()
    }

    fn say(&mut self, octets: &[u8]) {
        self.1.send(octets);
    }

    fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut octets = self.1.take();
        while octets.len() < count {
            self.0.advance(self.1.next_event().expect("bytes are on their way"));
            octets.extend(self.1.take());
        }
        octets
    }

    fn hear_some(&mut self) -> Vec<u8> {
        self.1.take()
    }

    fn hear_end(&mut self) {
        while !self.1.is_closed() {
            self.0.advance(self.1.next_event().expect("its end is on its way"));
            assert!(self.1.take().is_empty());
        }
    }

    fn end(&mut self) {
        self.1.shut();
    }
}

/// Lets time pass until nothing more happens.
fn settle(world: &World, io: &mut SimIo) -> Vec<Completion> {
    let mut completions = Vec::new();
    for _ in 0..100 {
        if let Some(time) = world.next_event(0) {
            world.advance(time);
        }
        io.wait(None, &mut completions).unwrap();
    }
    completions
}

#[test]
fn a_wake_ends_a_wait() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    assert_eq!(world.next_event(0), None);
    io.waker().wake();
    assert_eq!(world.next_event(0), Some(world.now()));
    io.wait(None, &mut Vec::new()).unwrap();
    assert_eq!(world.next_event(0), None);
}
