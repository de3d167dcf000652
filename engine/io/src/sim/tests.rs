use std::time::Duration;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use super::*;
use crate::conformance::{self, Subject, conformance_anywhere};
use crate::{
    Block, Completion, ConnectionId, Disk, FileId, FileKind, Instant, Io, Operation, ReceiveEnd, Token,
};

const ENFILE: i32 = 23;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;

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

fn file(world: &World, io: &mut SimIo) -> FileId {
    let disk = world.disk();
    let file = disk.create("a", 16 << 10, FileKind::Direct).unwrap();
    disk.sync(&file).unwrap();
    disk.sync_directory("").unwrap();
    io.attach(file)
}

fn block(octet: u8) -> Block {
    let mut block = Block::new(4096);
    block.extend(&[octet; 4096]);
    block
}

fn write(io: &mut SimIo, file: FileId, octet: u8, offset: u64, is_durable: bool) {
    io.submit(Token(1), Operation::Write { file, block: block(octet), offset, is_durable });
}

fn octets(world: &World, offset: u64) -> Vec<u8> {
    let disk = world.disk();
    let mut octets = vec![0; 4096];
    disk.read_at(&disk.open("a", FileKind::Buffered).unwrap(), &mut octets, offset).unwrap();
    octets
}

/// A worker with one client.
fn connected(world: &World) -> (SimIo, Peer, ConnectionId) {
    let mut io = world.boot(1).remove(0);
    let peer = world.connect(0);
    let completions = settle(world, &mut io);
    let Some(Completion::Accepted { connection, .. }) = completions.first() else {
        panic!("{completions:?}")
    };
    (io, peer, *connection)
}

fn connect(world: &World, io: &mut SimIo, server: SocketAddr) -> Result<ConnectionId, i32> {
    io.submit(Token(8), Operation::Connect { server, source: None });
    let mut completions = settle(world, io);
    match completions.pop() {
        Some(Completion::Connected { token: Token(8), result }) if completions.is_empty() => {
            result.map_err(|error| error.raw_os_error().unwrap())
        }
        other => panic!("{other:?} after {completions:?}"),
    }
}

const SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 25));

#[test]
fn a_worker_talks_to_a_server_that_the_caller_plays() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let listener = world.listen(SERVER);
    let connection = connect(&world, &mut io, SERVER).unwrap();
    let server = listener.accept().unwrap();
    assert!(listener.accept().is_none());
    assert_eq!(server.address().ip(), IpAddr::from([192, 0, 2, 128]));
    server.send(b"220 hello\r\n");
    io.submit(Token(2), Operation::Receive(connection));
    let completions = settle(&world, &mut io);
    let [Completion::Received { piece, .. }] = &completions[..] else { panic!("{completions:?}") };
    assert_eq!(io.received(piece), b"220 hello\r\n");
    for completion in completions {
        let Completion::Received { piece, .. } = completion else { continue };
        io.recycle(piece);
    }
    io.submit(Token(3), Operation::Send(connection, b"QUIT\r\n".to_vec()));
    assert!(matches!(settle(&world, &mut io)[..], [Completion::Sent { result: Ok(()), .. }]));
    world.advance(server.next_event().unwrap());
    assert_eq!(server.take(), b"QUIT\r\n");
    server.reset();
    let completions = settle(&world, &mut io);
    assert!(
        matches!(&completions[..], [Completion::ReceiveEnded { end: ReceiveEnd::Failed(_), .. }]),
        "{completions:?}"
    );
    io.submit(Token(0), Operation::Close(connection));
    world.check_ended(0);
}

#[test]
fn connecting_fails_when_nobody_listens_and_when_the_table_is_full() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    assert_eq!(connect(&world, &mut io, SERVER), Err(ECONNREFUSED));
    let listener = world.listen(SERVER);
    let connections: Vec<ConnectionId> =
        (0..CONDITIONS.slots).map(|_| connect(&world, &mut io, SERVER).unwrap()).collect();
    assert_eq!(connect(&world, &mut io, SERVER), Err(ENFILE));
    // Those that the server did not take end with it.
    let taken = listener.accept().unwrap();
    drop(listener);
    for connection in &connections {
        io.submit(Token(2), Operation::Receive(*connection));
    }
    assert_eq!(settle(&world, &mut io).len(), CONDITIONS.slots - 1);
    assert!(!taken.is_closed());
    io.submit(Token(0), Operation::Close(connections[2]));
    assert_eq!(connect(&world, &mut io, SERVER), Err(ECONNREFUSED));
    // What is being made at the end of a worker is no breach.
    io.submit(Token(8), Operation::Connect { server: SERVER, source: None });
    world.enter(0);
    for connection in [connections[0], connections[1], connections[3]] {
        io.submit(Token(0), Operation::Close(connection));
    }
    world.check_ended(0);
}

#[test]
fn a_network_that_loses_connections_may_lose_one_that_is_being_made() {
    let without: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| *fault != Fault::LinkLost).collect();
    let mut faults = (0..).map(|seed| Faults::new(&mut Random::new(seed, "faults"), &without));
    let world = World::new(1, CONDITIONS, faults.find(|faults| faults.has(Fault::LinkLost)).unwrap(), true);
    let mut io = world.boot(1).remove(0);
    let _listener = world.listen(SERVER);
    let mut failures = 0;
    for _ in 0..2000 {
        match connect(&world, &mut io, SERVER) {
            Ok(connection) => io.submit(Token(0), Operation::Close(connection)),
            Err(error) => {
                assert_eq!(error, ETIMEDOUT);
                failures += 1;
            }
        }
    }
    assert!((1..1000).contains(&failures), "{failures}");
}

#[test]
fn what_a_worker_sends_to_one_that_has_closed_is_answered_with_a_reset() {
    let world = world();
    let mut workers = world.boot(2);
    world.set_address(1, SERVER);
    let connection = connect(&world, &mut workers[0], SERVER).unwrap();
    let mut completions = Vec::new();
    workers[1].wait(None, &mut completions).unwrap();
    let [Completion::Accepted { connection: accepted, peer }] = completions[..] else {
        panic!("{completions:?}")
    };
    assert_eq!(peer.ip(), IpAddr::from([192, 0, 2, 128]));
    workers[1].submit(Token(0), Operation::Close(accepted));
    workers[1].wait(None, &mut Vec::new()).unwrap();
    workers[0].submit(Token(2), Operation::Receive(connection));
    let closed = settle(&world, &mut workers[0]);
    assert!(matches!(closed[..], [Completion::ReceiveEnded { end: ReceiveEnd::Closed, .. }]), "{closed:?}");
    workers[0].submit(Token(3), Operation::Send(connection, b"QUIT\r\n".to_vec()));
    assert!(matches!(settle(&world, &mut workers[0])[..], [Completion::Sent { result: Ok(()), .. }]));
    world.advance(world.now().after(CONDITIONS.latency));
    workers[0].submit(Token(2), Operation::Receive(connection));
    let reset = settle(&world, &mut workers[0]);
    assert!(matches!(reset[..], [Completion::ReceiveEnded { end: ReceiveEnd::Failed(_), .. }]), "{reset:?}");
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

#[test]
fn a_durable_write_is_there_after_a_loss_of_power() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let file = file(&world, &mut io);
    write(&mut io, file, 1, 4096, true);
    assert!(matches!(settle(&world, &mut io)[..], [Completion::Written { result: Ok(()), .. }]));
    world.crash(Crash::PowerCut);
    assert_eq!(octets(&world, 4096), [1; 4096]);
}

#[test]
fn a_write_under_way_is_torn_by_sectors_or_not_at_all() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let mut file = file(&world, &mut io);
    let mut is_torn = false;
    for round in 0..20 {
        write(&mut io, file, round, 4096, true);
        world.enter(0);
        world.crash(Crash::PowerCut);
        let octets = octets(&world, 4096);
        for sector in octets.chunks(World::SECTOR_SIZE) {
            assert!(sector.iter().all(|octet| *octet == sector[0]));
        }
        is_torn |= octets.iter().any(|octet| *octet != octets[0]);
        io = world.boot(1).remove(0);
        file = io.attach(world.disk().open("a", FileKind::Direct).unwrap());
    }
    assert!(is_torn);
}

#[test]
fn names_become_durable_in_their_order() {
    let world = world();
    let disk = world.disk();
    disk.create("one", 4096, FileKind::Buffered).unwrap();
    disk.sync_directory("").unwrap();
    disk.create("two", 4096, FileKind::Buffered).unwrap();
    disk.create("three", 4096, FileKind::Buffered).unwrap();
    world.crash(Crash::PowerCut);
    let mut names = disk.list("").unwrap();
    names.sort();
    assert!(
        [&["one"][..], &["one", "two"], &["one", "three", "two"]]
            .contains(&&names.iter().map(String::as_str).collect::<Vec<_>>()[..]),
        "{names:?}"
    );
}

#[test]
fn a_kill_leaves_what_was_written() {
    let world = world();
    let disk = world.disk();
    let file = disk.create("a", 8192, FileKind::Buffered).unwrap();
    disk.write_at(&file, &[7; 4096], 0).unwrap();
    world.crash(Crash::Kill);
    assert_eq!(octets(&world, 0), [7; 4096]);
}

#[test]
fn nothing_has_an_effect_after_the_end() {
    let world = world();
    let disk = world.disk();
    let file = disk.create("a", 8192, FileKind::Buffered).unwrap();
    world.set_fuse(Some(1));
    disk.write_at(&file, &[1; 512], 0).unwrap();
    assert!(disk.sync(&file).is_err());
    assert!(world.is_over());
    assert!(disk.write_at(&file, &[2; 512], 0).is_err());
    assert!(disk.remove("a").is_err());
    world.crash(Crash::Kill);
    // The flush that the end came in may have lost the first write.
    assert!(octets(&world, 0)[0] < 2);
}

#[test]
fn octets_come_in_order_whatever_the_pieces() {
    let world = world();
    let (mut io, peer, connection) = connected(&world);
    io.submit(Token(2), Operation::Receive(connection));
    let sent: Vec<u8> = (0..=255).collect();
    peer.send(&sent);
    peer.shut();
    let mut received = Vec::new();
    let mut is_closed = false;
    for _ in 0..10 {
        for completion in settle(&world, &mut io) {
            match completion {
                Completion::Received { piece, .. } => {
                    received.extend_from_slice(io.received(&piece));
                    io.recycle(piece);
                }
                // Two buffers of 100 bytes are not enough for all of it.
                Completion::ReceiveEnded { end: ReceiveEnd::OutOfBuffers, .. } => {
                    io.submit(Token(2), Operation::Receive(connection));
                }
                Completion::ReceiveEnded { end: ReceiveEnd::Closed, .. } => is_closed = true,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((received, is_closed), (sent, true));
}

#[test]
#[should_panic(expected = "a send is under way already")]
fn two_sends_at_once_are_a_breach() {
    let world = world();
    let (mut io, peer, connection) = connected(&world);
    peer.stop_reading();
    // More than the network holds for a client that does not read.
    io.submit(Token(3), Operation::Send(connection, vec![b'x'; 5000]));
    settle(&world, &mut io);
    io.submit(Token(3), Operation::Send(connection, vec![b'x']));
    settle(&world, &mut io);
}

#[test]
#[should_panic(expected = "names a connection that is closed")]
fn an_operation_on_a_closed_connection_is_a_breach() {
    let world = world();
    let (mut io, _, connection) = connected(&world);
    io.submit(Token(3), Operation::Close(connection));
    io.submit(Token(3), Operation::Receive(connection));
    settle(&world, &mut io);
}

#[test]
#[should_panic(expected = "overlap")]
fn writes_to_the_same_place_at_once_are_a_breach() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let file = file(&world, &mut io);
    write(&mut io, file, 1, 4096, true);
    write(&mut io, file, 2, 4096, true);
    world.enter(0);
}

#[test]
#[should_panic(expected = "not aligned")]
fn a_direct_write_out_of_line_is_a_breach() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let file = file(&world, &mut io);
    write(&mut io, file, 1, 512, true);
    world.enter(0);
}

/// A read of a file's second block, while `write` is in progress there.
fn read_beside_a_write(world: &World, io: &mut SimIo, writer: FileId, reader: FileId, octet: u8) -> Vec<u8> {
    write(io, writer, octet, 4096, true);
    io.submit(Token(2), Operation::Read { file: reader, buffer: vec![0; 4096], offset: 4096 });
    let mut completions = settle(world, io);
    completions.retain(|completion| matches!(completion, Completion::Read { .. }));
    match completions.pop() {
        Some(Completion::Read { buffer, result: Ok(4096), .. }) => buffer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_beside_a_write_finds_any_of_its_sectors() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let writer = file(&world, &mut io);
    let reader = io.attach(world.disk().open("a", FileKind::Read).unwrap());
    let (mut is_old, mut is_new, mut is_mixed) = (false, false, false);
    for octet in 1..100 {
        let buffer = read_beside_a_write(&world, &mut io, writer, reader, octet);
        for sector in buffer.chunks(World::SECTOR_SIZE) {
            assert!(sector.iter().all(|at| *at == sector[0]) && [octet - 1, octet].contains(&sector[0]));
        }
        let count = buffer.iter().filter(|at| **at == octet).count();
        is_old |= count == 0;
        is_new |= count == 4096;
        is_mixed |= !matches!(count, 0 | 4096);
    }
    // All old by chance is rare; a read that begins before the write would show it, too.
    assert!(is_new && is_mixed, "old {is_old}, new {is_new}, mixed {is_mixed}");
}

#[test]
fn what_a_read_found_of_a_write_is_lost_with_the_power() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let writer = file(&world, &mut io);
    let reader = io.attach(world.disk().open("a", FileKind::Read).unwrap());
    write(&mut io, writer, 1, 4096, false);
    settle(&world, &mut io);
    io.submit(Token(2), Operation::Read { file: reader, buffer: vec![0; 4096], offset: 4096 });
    let completions = settle(&world, &mut io);
    let [Completion::Read { buffer, result: Ok(4096), .. }] = &completions[..] else {
        panic!("{completions:?}")
    };
    assert_eq!(buffer, &[1; 4096]);
    // A read in progress when the power is cut is never heard of.
    io.submit(Token(3), Operation::Read { file: reader, buffer: vec![0; 4096], offset: 4096 });
    world.enter(0);
    world.crash(Crash::PowerCut);
    assert!(settle(&world, &mut io).is_empty());
    let found = octets(&world, 4096);
    assert!(found.chunks(World::SECTOR_SIZE).all(|sector| sector.iter().all(|at| *at == sector[0])));
    assert_ne!(found, [1; 4096]);
}

#[test]
fn a_read_may_fail() {
    let without: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| *fault != Fault::ReadError).collect();
    let mut faults = (0..).map(|seed| Faults::new(&mut Random::new(seed, "faults"), &without));
    let faults = faults.find(|faults| faults.has(Fault::ReadError)).unwrap();
    let world = World::new(1, CONDITIONS, faults, true);
    let mut io = world.boot(1).remove(0);
    world.set_faults_off(true);
    let _ = file(&world, &mut io);
    let reader = io.attach(world.disk().open("a", FileKind::Read).unwrap());
    world.set_faults_off(false);
    let mut failures = 0;
    for _ in 0..10_000 {
        io.submit(Token(2), Operation::Read { file: reader, buffer: vec![0; 10], offset: 0 });
        world.enter(0);
        world.advance(world.next_event(0).unwrap());
        let mut completions = Vec::new();
        io.wait(None, &mut completions).unwrap();
        let [Completion::Read { buffer, result, .. }] = &completions[..] else { panic!("{completions:?}") };
        assert_eq!(buffer.len(), 10);
        failures += u64::from(result.is_err());
    }
    assert!(failures > 0);
    assert_eq!(world.disk_failures(), failures);
}

#[test]
#[should_panic(expected = "detached while it is written to")]
fn a_file_detached_too_early_is_a_breach() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let file = file(&world, &mut io);
    write(&mut io, file, 1, 4096, true);
    world.enter(0);
    drop(io.detach(file));
}
