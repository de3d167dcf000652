use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use super::*;
use crate::{Disk, FileKind};

fn small() -> Uring {
    Uring::new(Settings {
        connections: 4,
        receive_buffers: 2,
        receive_buffer_size: 4096,
        ..Settings::default()
    })
    .unwrap()
}

/// Waits until `found` finds what it wants among the completions; the others stay.
fn until<T>(
    ring: &mut Uring,
    completions: &mut Vec<Completion>,
    found: impl Fn(&Completion) -> bool,
    take: impl Fn(Completion) -> T,
) -> T {
    for _ in 0..1000 {
        if let Some(place) = completions.iter().position(&found) {
            return take(completions.remove(place));
        }
        let deadline = monotonic().after(Duration::from_secs(5));
        ring.wait(Some(deadline), completions).unwrap();
    }
    panic!("nothing of the kind came: {completions:?}");
}

fn accepted(ring: &mut Uring, completions: &mut Vec<Completion>) -> (ConnectionId, SocketAddr) {
    until(
        ring,
        completions,
        |completion| matches!(completion, Completion::Accepted { .. }),
        |completion| {
            let Completion::Accepted { connection, peer } = completion else { unreachable!() };
            (connection, peer)
        },
    )
}

#[test]
fn an_echo_goes_round_over_both_families() {
    let mut ring = small();
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
        let Ok(listener) = TcpListener::bind((address, 0)) else { continue };
        let target = listener.local_addr().unwrap();
        let mut completions = Vec::new();
        ring.submit(Token(1), Operation::Accept(listener));
        ring.wait(Some(Instant::default()), &mut completions).unwrap();
        let mut client = TcpStream::connect(target).unwrap();
        let (connection, peer) = accepted(&mut ring, &mut completions);
        assert_eq!(peer, client.local_addr().unwrap());
        ring.submit(Token(2), Operation::Receive(connection));
        // More than both buffers hold, so that each goes to the kernel again.
        for round in 0..20u8 {
            client.write_all(&[round; 1000]).unwrap();
            let mut echoed = 0;
            while echoed < 1000 {
                let piece = until(
                    &mut ring,
                    &mut completions,
                    |it| matches!(it, Completion::Received { .. }),
                    |it| {
                        let Completion::Received { token: Token(2), piece, .. } = it else { unreachable!() };
                        piece
                    },
                );
                let octets = ring.received(&piece).to_vec();
                assert!(octets.iter().all(|octet| *octet == round));
                echoed += octets.len();
                ring.recycle(piece);
                ring.submit(Token(3), Operation::Send(connection, octets));
                until(
                    &mut ring,
                    &mut completions,
                    |it| matches!(it, Completion::Sent { .. }),
                    |it| {
                        let Completion::Sent { token: Token(3), result, .. } = it else { unreachable!() };
                        result.unwrap();
                    },
                );
            }
            let mut back = [0; 1000];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, [round; 1000]);
        }
        drop(client);
        until(
            &mut ring,
            &mut completions,
            |it| matches!(it, Completion::ReceiveEnded { .. }),
            |it| {
                assert!(matches!(it, Completion::ReceiveEnded { end: ReceiveEnd::Closed, .. }));
            },
        );
        ring.submit(Token(4), Operation::Close(connection));
        ring.submit(Token(5), Operation::StopAccepting);
        ring.wait(Some(Instant::default()), &mut completions).unwrap();
    }
}

#[test]
fn receiving_ends_when_buffers_run_out_and_goes_on_when_asked() {
    let mut ring = small();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    let mut completions = Vec::new();
    ring.submit(Token(1), Operation::Accept(listener));
    ring.wait(Some(Instant::default()), &mut completions).unwrap();
    let mut client = TcpStream::connect(target).unwrap();
    let (connection, _) = accepted(&mut ring, &mut completions);
    ring.submit(Token(2), Operation::Receive(connection));
    client.write_all(&[b'x'; 20_000]).unwrap();
    until(
        &mut ring,
        &mut completions,
        |it| matches!(it, Completion::ReceiveEnded { .. }),
        |it| {
            assert!(matches!(it, Completion::ReceiveEnded { end: ReceiveEnd::OutOfBuffers, .. }));
        },
    );
    let mut received = 0;
    while received < 20_000 {
        for completion in std::mem::take(&mut completions) {
            match completion {
                Completion::Received { piece, .. } => {
                    received += piece.len();
                    ring.recycle(piece);
                }
                Completion::ReceiveEnded { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        if ring.connection(connection).is_some_and(|connection| !connection.is_receiving) {
            ring.submit(Token(2), Operation::Receive(connection));
        }
        ring.wait(Some(monotonic().after(Duration::from_secs(1))), &mut completions).unwrap();
    }
    assert_eq!(received, 20_000);
}

#[test]
fn a_full_table_takes_the_next_client_after_a_close() {
    let mut ring = small();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    let mut completions = Vec::new();
    ring.submit(Token(1), Operation::Accept(listener));
    ring.wait(Some(Instant::default()), &mut completions).unwrap();
    let clients: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(target).unwrap()).collect();
    let taken: Vec<ConnectionId> = (0..4).map(|_| accepted(&mut ring, &mut completions).0).collect();
    // The kernel drops the one for which it finds no place.
    let mut dropped = TcpStream::connect(target).unwrap();
    until(&mut ring, &mut completions, |it| matches!(it, Completion::AcceptFailed { .. }), drop);
    assert_eq!(dropped.read(&mut [0; 1]).unwrap_or(0), 0);
    let late = TcpStream::connect(target).unwrap();
    ring.submit(Token(2), Operation::Close(taken[2]));
    let (connection, peer) = accepted(&mut ring, &mut completions);
    assert_eq!(connection.slot, taken[2].slot);
    assert_ne!(connection.generation, taken[2].generation);
    assert_eq!(peer, late.local_addr().unwrap());
    drop(clients);
    // The old name means nothing any more.
    ring.submit(Token(3), Operation::Send(taken[2], b"late".to_vec()));
    until(
        &mut ring,
        &mut completions,
        |it| matches!(it, Completion::Sent { .. }),
        |it| {
            assert!(matches!(it, Completion::Sent { result: Err(_), .. }));
        },
    );
}

#[test]
fn two_rings_talk_through_connect() {
    let mut server = small();
    let mut client = small();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    server.submit(Token(1), Operation::Accept(listener));
    server.wait(Some(Instant::default()), &mut at_server).unwrap();
    client.submit(Token(9), Operation::Connect(target));
    let connection = until(
        &mut client,
        &mut at_client,
        |it| matches!(it, Completion::Connected { .. }),
        |it| {
            let Completion::Connected { token: Token(9), result } = it else { unreachable!() };
            result.unwrap()
        },
    );
    let (accepted, _) = accepted(&mut server, &mut at_server);
    client.submit(Token(1), Operation::Receive(connection));
    client.wait(Some(Instant::default()), &mut at_client).unwrap();
    server.submit(Token(1), Operation::Send(accepted, b"220 hello\r\n".to_vec()));
    server.wait(Some(Instant::default()), &mut at_server).unwrap();
    let piece = until(
        &mut client,
        &mut at_client,
        |it| matches!(it, Completion::Received { .. }),
        |it| {
            let Completion::Received { piece, .. } = it else { unreachable!() };
            piece
        },
    );
    assert_eq!(client.received(&piece), b"220 hello\r\n");
}

#[test]
fn connecting_to_nobody_fails() {
    let mut ring = small();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let mut completions = Vec::new();
    ring.submit(Token(7), Operation::Connect(target));
    until(
        &mut ring,
        &mut completions,
        |it| matches!(it, Completion::Connected { .. }),
        |it| {
            assert!(matches!(it, Completion::Connected { token: Token(7), result: Err(_) }));
        },
    );
}

#[test]
fn a_durable_write_is_on_the_file() {
    let root = std::env::temp_dir().join(format!("mailrace-io-{}", std::process::id()));
    let disk = OsDisk::new(&root).unwrap();
    let file = disk.create("segment", 65_536, FileKind::Direct).unwrap();
    let mut ring = small();
    let id = ring.attach(file);
    let mut block = Block::new(8192);
    block.extend(b"durable");
    block.pad(4096);
    let mut completions = Vec::new();
    ring.submit(Token(5), Operation::Write { file: id, block, offset: 4096, is_durable: true });
    until(
        &mut ring,
        &mut completions,
        |it| matches!(it, Completion::Written { .. }),
        |it| {
            assert!(matches!(it, Completion::Written { token: Token(5), result: Ok(()), .. }));
        },
    );
    let content = std::fs::read(root.join("segment")).unwrap();
    assert_eq!(&content[4096..4103], b"durable");
    drop(ring.detach(id));
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn another_thread_wakes_a_wait() {
    let mut ring = small();
    let waker = ring.waker();
    let start = std::time::Instant::now();
    for _ in 0..3 {
        let waker = waker.clone();
        let thread = std::thread::spawn(move || waker.wake());
        ring.wait(Some(monotonic().after(Duration::from_secs(20))), &mut Vec::new()).unwrap();
        thread.join().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(15));
}
