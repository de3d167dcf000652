//! Connections that an `Io` accepted: receives, sends, ends.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use rustix::net::SendFlags;

use super::{Bench, Client, PATIENCE, Subject};
use crate::system::monotonic;
use crate::{Operation, OsDisk, ReceiveEnd, SOME, Token};

pub(crate) fn an_echo_goes_round_over_both_families<I: Subject>(make: &impl Fn() -> I) {
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
        let Ok(mut bench) = Bench::listening(make(), address) else { continue };
        let (mut client, connection) = bench.connected();
        bench.io.submit(Token(2), Operation::Receive(connection));
        // More than both buffers hold, so that each is used again.
        for round in 0..20u8 {
            client.say(&[round; 1000]);
            let mut echoed = 0;
            while echoed < 1000 {
                let octets = bench.received(Token(2));
                assert!(octets.iter().all(|octet| *octet == round));
                echoed += octets.len();
                bench.io.submit(Token(3), Operation::Send(connection, octets));
                let (token, result) = bench.sent();
                assert_eq!(token, Token(3));
                result.unwrap();
            }
            assert_eq!(client.hear(1000), [round; 1000]);
        }
        client.end();
        assert!(matches!(bench.receive_ended(), ReceiveEnd::Closed));
    }
}

/// Three clients at once, with fewer buffers than they need: each hears and says its own bytes only.
pub(crate) fn streams_of_several_clients_are_not_mixed<I: Subject>(make: &impl Fn() -> I) {
    const SIZES: [usize; 6] = [1, 4095, 4096, 4097, 9000, 2];
    let pattern = |end: usize, size: usize| -> Vec<u8> {
        (0..size).map(|at| u8::try_from((at * 7 + end * 50) % 251).unwrap()).collect()
    };
    let mut bench = Bench::new(make());
    let mut ends: Vec<_> = (0..3).map(|_| bench.connected()).collect();
    for (number, (_, connection)) in ends.iter().enumerate() {
        bench.io.submit(Token(number as u64), Operation::Receive(*connection));
    }
    for size in SIZES {
        for (number, (client, connection)) in ends.iter_mut().enumerate() {
            client.say(&pattern(number, size));
            let octets = pattern(10 + number, size);
            bench.io.submit(Token(10 + number as u64), Operation::Send(*connection, octets));
        }
        let connections: Vec<_> = ends.iter().map(|(_, connection)| *connection).collect();
        let received = bench.received_by_each(&connections, size);
        for (number, (client, _)) in ends.iter_mut().enumerate() {
            assert!(received[number] == pattern(number, size), "{size} octets of client {number}");
            assert!(client.hear(size) == pattern(10 + number, size), "{size} octets for client {number}");
        }
        for _ in 0..3 {
            let (token, result) = bench.sent();
            assert!((10..13).contains(&token.0), "{token:?}");
            result.unwrap();
        }
    }
}

pub(crate) fn receiving_ends_when_buffers_run_out_and_goes_on_when_asked<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (mut client, connection) = bench.connected();
    bench.io.submit(Token(2), Operation::Receive(connection));
    let content: Vec<u8> = (0..20_000u32).map(|at| (at % 251) as u8).collect();
    client.say(&content);
    assert!(matches!(bench.receive_ended(), ReceiveEnd::OutOfBuffers));
    bench.io.submit(Token(2), Operation::Receive(connection));
    assert_eq!(bench.received_in_all(connection, content.len()), content);
}

pub(crate) fn some_octets_are_received_and_then_no_more<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (mut client, connection) = bench.connected();
    let content: Vec<u8> = (0..SOME * 2).map(|at| (at % 251) as u8).collect();
    client.say(&content);
    let (mut received, mut largest) = (Vec::new(), 0);
    while received.len() < content.len() {
        bench.io.submit(Token(2), Operation::ReceiveSome(connection));
        let piece = bench.received(Token(2));
        largest = largest.max(piece.len());
        received.extend(piece);
        assert!(matches!(bench.receive_ended(), ReceiveEnd::Stopped));
    }
    assert_eq!(received, content);
    // All of it was there for the taking.
    assert_eq!(largest, SOME as usize);
    // Both ways may follow each other, and what waits for bytes can be stopped.
    bench.io.submit(Token(3), Operation::ReceiveSome(connection));
    bench.poll();
    bench.io.submit(Token(0), Operation::StopReceiving(connection));
    assert!(matches!(bench.receive_ended(), ReceiveEnd::Stopped));
    bench.io.submit(Token(4), Operation::Receive(connection));
    client.say(b"first");
    assert_eq!(bench.received(Token(4)), b"first");
    client.say(b"second");
    assert_eq!(bench.received(Token(4)), b"second");
    bench.io.submit(Token(0), Operation::StopReceiving(connection));
    assert!(matches!(bench.receive_ended(), ReceiveEnd::Stopped));
    client.end();
    bench.io.submit(Token(5), Operation::ReceiveSome(connection));
    assert!(matches!(bench.receive_ended(), ReceiveEnd::Closed));
}

pub(crate) fn receiving_stops_and_goes_on_with_what_came_meanwhile<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (mut client, connection) = bench.connected();
    bench.io.submit(Token(2), Operation::Receive(connection));
    client.say(b"first");
    assert_eq!(bench.received(Token(2)), b"first");
    bench.io.submit(Token(0), Operation::StopReceiving(connection));
    assert!(matches!(bench.receive_ended(), ReceiveEnd::Stopped));
    client.say(b"second");
    // What is not asked for stays in the kernel, but its event comes: a second client shows that one would have.
    let (mut other, other_connection) = bench.connected();
    bench.io.submit(Token(3), Operation::Receive(other_connection));
    other.say(b"other");
    assert_eq!(bench.received(Token(3)), b"other");
    assert!(bench.completions.is_empty(), "{:?}", bench.completions);
    bench.io.submit(Token(4), Operation::Receive(connection));
    assert_eq!(bench.received(Token(4)), b"second");
    client.say(b"third");
    assert_eq!(bench.received(Token(4)), b"third");
}

pub(crate) fn the_end_of_a_stream_comes_behind_its_octets<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (mut client, connection) = bench.connected();
    // Both are there before the server receives.
    client.say(b"QUIT\r\n");
    client.end();
    bench.poll();
    bench.io.submit(Token(2), Operation::Receive(connection));
    assert_eq!(bench.received(Token(2)), b"QUIT\r\n");
    assert!(matches!(bench.receive_ended(), ReceiveEnd::Closed));
}

pub(crate) fn urgent_octets_hold_nothing_up<I: Subject<Disk = OsDisk, Client = TcpStream>>(
    make: &impl Fn() -> I,
) {
    let mut bench = Bench::new(make());
    let (mut client, connection) = bench.connected();
    client.write_all(b"before").unwrap();
    rustix::net::send(&client, b"!", SendFlags::OOB).unwrap();
    client.write_all(b"behind").unwrap();
    bench.poll();
    bench.io.submit(Token(2), Operation::Receive(connection));
    // The urgent byte itself is not part of the stream.
    assert_eq!(bench.received_in_all(connection, 12), b"beforebehind");
}

pub(crate) fn a_send_without_room_goes_on_when_there_is_some<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (mut client, connection) = bench.connected();
    // Twice, since the second time the kernel is asked already to tell of room.
    for round in 0..2 {
        let content: Vec<u8> = (0..20_000_000u32).map(|at| ((at + round) % 251) as u8).collect();
        bench.io.submit(Token(5), Operation::Send(connection, content.clone()));
        bench.poll();
        assert!(bench.completions.is_empty(), "more than sockets hold was sent at once");
        let mut octets = client.hear_some();
        let give_up = monotonic().after(PATIENCE);
        while octets.len() < content.len() {
            let soon = bench.io.now().after(Duration::from_millis(5));
            bench.io.wait_for(soon, &mut bench.completions);
            octets.extend(client.hear_some());
            assert!(monotonic() < give_up, "{} octets came", octets.len());
        }
        let (token, result) = bench.sent();
        assert_eq!(token, Token(5));
        result.unwrap();
        assert!(octets == content, "octets were lost or doubled");
    }
    bench.io.submit(Token(6), Operation::Close(connection));
    bench.poll();
    client.hear_end();
}

pub(crate) fn closing_ends_a_send_that_waits<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (client, connection) = bench.connected();
    bench.io.submit(Token(5), Operation::Send(connection, vec![b'x'; 20_000_000]));
    bench.poll();
    bench.io.submit(Token(6), Operation::Close(connection));
    let (token, result) = bench.sent();
    assert_eq!(token, Token(5));
    assert!(result.is_err());
    drop(client);
    let (_, next) = bench.connected();
    assert_eq!((next.slot, next.generation), (connection.slot, connection.generation + 1));
    assert!(bench.completions.is_empty(), "{:?}", bench.completions);
}

pub(crate) fn nothing_names_a_closed_connection<I: Subject<Disk = OsDisk, Client = TcpStream>>(
    make: &impl Fn() -> I,
) {
    let mut bench = Bench::new(make());
    let (mut client, connection) = bench.connected();
    bench.io.submit(Token(2), Operation::Receive(connection));
    bench.poll();
    client.write_all(b"late").unwrap();
    bench.io.submit(Token(0), Operation::StopReceiving(connection));
    bench.io.submit(Token(0), Operation::Close(connection));
    // Names of the past mean nothing, in any operation.
    bench.io.submit(Token(2), Operation::Receive(connection));
    bench.io.submit(Token(0), Operation::StopReceiving(connection));
    bench.io.submit(Token(0), Operation::Close(connection));
    let (_other, other_connection) = bench.connected();
    assert_ne!(other_connection, connection);
    assert!(bench.completions.is_empty(), "{:?}", bench.completions);
    bench.io.submit(Token(7), Operation::Send(connection, b"late".to_vec()));
    let (token, result) = bench.sent();
    assert_eq!(token, Token(7));
    assert!(result.is_err());
}
