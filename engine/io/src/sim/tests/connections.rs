use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;

const ENFILE: i32 = 23;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;

const SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 25));

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
    io.submit(Token(8), Operation::Connect { server: server.into(), source: None });
    let mut completions = settle(world, io);
    match completions.pop() {
        Some(Completion::Connected { token: Token(8), result }) if completions.is_empty() => {
            result.map_err(|error| error.raw_os_error().unwrap())
        }
        other => panic!("{other:?} after {completions:?}"),
    }
}

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
    io.submit(Token(8), Operation::Connect { server: SERVER.into(), source: None });
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
