//! Connections that an `Io` makes, and the table that all of them are in.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use super::{Bench, Client, PATIENCE, Subject};
use crate::system::monotonic;
use crate::{Completion, ConnectionId, Operation, OsDisk, ReceiveEnd, Token};

pub(crate) fn two_of_them_talk_through_connect<I: Subject>(make: &impl Fn() -> I) {
    let mut server = Bench::new(make());
    let mut client = Bench::new(server.io.beside(make));
    client.io.submit(Token(9), Operation::Connect { server: server.target, source: None });
    let connection = client.until(|completion| match completion {
        Completion::Connected { token: Token(9), result: Ok(connection) } => Some(*connection),
        _ => None,
    });
    let (accepted, _) = server.accepted();
    client.io.submit(Token(1), Operation::Receive(connection));
    client.poll();
    server.io.submit(Token(1), Operation::Send(accepted, b"220 hello\r\n".to_vec()));
    server.poll();
    assert_eq!(client.received(Token(1)), b"220 hello\r\n");
    server.io.submit(Token(2), Operation::Receive(accepted));
    client.io.submit(Token(2), Operation::Send(connection, b"QUIT\r\n".to_vec()));
    client.sent().1.unwrap();
    assert_eq!(server.received(Token(2)), b"QUIT\r\n");
}

pub(crate) fn a_connection_that_was_made_carries_more_than_it_holds<I: Subject>(make: &impl Fn() -> I) {
    let mut server = Bench::new(make());
    let mut client = Bench::new(server.io.beside(make));
    client.io.submit(Token(9), Operation::Connect { server: server.target, source: None });
    let connection = client.until(|completion| match completion {
        Completion::Connected { result: Ok(connection), .. } => Some(*connection),
        _ => None,
    });
    let (accepted, _) = server.accepted();
    let content: Vec<u8> = (0..20_000_000u32).map(|at| (at % 251) as u8).collect();
    client.io.submit(Token(5), Operation::Send(connection, content.clone()));
    client.poll();
    assert!(client.completions.is_empty(), "more than sockets hold was sent at once");
    server.io.submit(Token(2), Operation::Receive(accepted));
    let mut octets = Vec::new();
    let give_up = monotonic().after(PATIENCE);
    while octets.len() < content.len() {
        let soon = server.io.now().after(Duration::from_millis(5));
        server.io.wait_for(soon, &mut server.completions);
        server.take_received(accepted, &mut octets);
        client.poll();
        assert!(monotonic() < give_up, "{} octets came", octets.len());
    }
    client.sent().1.unwrap();
    assert!(octets == content, "octets were lost or doubled");
    client.io.submit(Token(0), Operation::Close(connection));
    client.poll();
    assert!(matches!(server.receive_ended(), ReceiveEnd::Closed));
}

pub(crate) fn a_connection_comes_from_the_address_that_is_wanted<I: Subject>(make: &impl Fn() -> I) {
    let mut server = Bench::new(make());
    let mut client = Bench::new(server.io.beside(make));
    for source in [[127, 65, 0, 1], [127, 65, 0, 255]].map(IpAddr::from) {
        client.io.submit(Token(9), Operation::Connect { server: server.target, source: Some(source) });
        let connection = client.until(|completion| match completion {
            Completion::Connected { token: Token(9), result: Ok(connection) } => Some(*connection),
            _ => None,
        });
        let (_, peer) = server.accepted();
        assert_eq!(peer.ip(), source);
        client.io.submit(Token(0), Operation::Close(connection));
    }
    // TEST-NET-3 has no hosts.
    let source = Some(IpAddr::from([203, 0, 113, 1]));
    client.io.submit(Token(7), Operation::Connect { server: server.target, source });
    let error = client.until(|completion| match completion {
        Completion::Connected { token: Token(7), result: Err(error) } => Some(error.kind()),
        _ => None,
    });
    assert_eq!(error, ErrorKind::AddrNotAvailable);
}

pub(crate) fn connecting_to_nobody_fails<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let nobody = bench.io.nobody();
    // More often than there are places.
    for _ in 0..6 {
        bench.io.submit(Token(7), Operation::Connect { server: nobody, source: None });
        let error = bench.until(|completion| match completion {
            Completion::Connected { token: Token(7), result: Err(error) } => Some(error.kind()),
            _ => None,
        });
        assert_eq!(error, ErrorKind::ConnectionRefused);
    }
}

pub(crate) fn a_full_table_takes_the_next_client_after_a_close<
    I: Subject<Disk = OsDisk, Client = TcpStream>,
>(
    make: &impl Fn() -> I,
) {
    let mut bench = Bench::new(make());
    let clients: Vec<(TcpStream, ConnectionId)> = (0..4).map(|_| bench.connected()).collect();
    // For the next one there is no place: it is dropped, or has to wait.
    let fifth = TcpStream::connect(bench.target).unwrap();
    bench.until(|completion| matches!(completion, Completion::AcceptFailed { .. }).then_some(()));
    let sixth = TcpStream::connect(bench.target).unwrap();
    bench.poll();
    let (_, closed) = &clients[2];
    bench.io.submit(Token(2), Operation::Close(*closed));
    let (connection, peer) = bench.accepted();
    assert_eq!((connection.slot, connection.generation), (closed.slot, closed.generation + 1));
    assert!([&fifth, &sixth].iter().any(|client| client.local_addr().unwrap() == peer));
}

pub(crate) fn no_connection_is_accepted_after_accepting_stopped<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (mut client, connection) = bench.connected();
    bench.io.submit(Token(0), Operation::StopAccepting);
    bench.poll();
    assert!(bench.io.connect(bench.target).is_err());
    // Who was taken before stays.
    bench.io.submit(Token(3), Operation::Send(connection, b"221\r\n".to_vec()));
    bench.sent().1.unwrap();
    assert_eq!(client.hear(5), b"221\r\n");
}
