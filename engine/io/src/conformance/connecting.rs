//! Connections that an `Io` makes, and the table that all of them are in.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::{Bench, Client, PATIENCE, Subject};
use crate::system::monotonic;
use crate::{Completion, ConnectionId, Endpoint, Operation, OsDisk, ReceiveEnd, Token, UNIX_PATH_SIZE_MAX};

pub(crate) fn two_of_them_talk_through_connect<I: Subject>(make: &impl Fn() -> I) {
    let mut server = Bench::new(make());
    let mut client = Bench::new(server.io.beside(make));
    client.io.submit(Token(9), Operation::Connect { server: server.target.into(), source: None });
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
    client.io.submit(Token(9), Operation::Connect { server: server.target.into(), source: None });
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
        client.io.submit(Token(9), Operation::Connect { server: server.target.into(), source: Some(source) });
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
    client.io.submit(Token(7), Operation::Connect { server: server.target.into(), source });
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
        bench.io.submit(Token(7), Operation::Connect { server: nobody.into(), source: None });
        let error = bench.until(|completion| match completion {
            Completion::Connected { token: Token(7), result: Err(error) } => Some(error.kind()),
            _ => None,
        });
        assert_eq!(error, ErrorKind::ConnectionRefused);
    }
}

pub(crate) fn a_connection_to_a_path_talks_both_ways<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (_, place) = bench.io.place();
    let (server, mut accept) = bench.io.serve(&place);
    // More often than there are places; the address that it comes from is one of TCP.
    for source in [None, Some(IpAddr::from([203, 0, 113, 1]))].into_iter().cycle().take(6) {
        bench.io.submit(Token(9), Operation::Connect { server: server.clone(), source });
        let connection = bench.until(|completion| match completion {
            Completion::Connected { token: Token(9), result: Ok(connection) } => Some(*connection),
            _ => None,
        });
        let mut accepted = accept();
        bench.io.submit(Token(1), Operation::Receive(connection));
        accepted.say(b"220 hello\r\n");
        assert_eq!(bench.received(Token(1)), b"220 hello\r\n");
        bench.io.submit(Token(2), Operation::Send(connection, b"LHLO here\r\n".to_vec()));
        bench.sent().1.unwrap();
        assert_eq!(accepted.hear(11), b"LHLO here\r\n");
        accepted.end();
        assert!(matches!(bench.receive_ended(), ReceiveEnd::Closed));
        bench.io.submit(Token(0), Operation::Close(connection));
        bench.poll();
        accepted.hear_end();
    }
}

pub(crate) fn connecting_to_a_path_that_nobody_serves_fails<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let nobody = Endpoint::Unix(Path::new("/nonexistent/server").into());
    // More often than there are places.
    for _ in 0..6 {
        assert_eq!(bench.failed_connect(nobody.clone()).kind(), ErrorKind::NotFound);
    }
}

pub(crate) fn a_path_that_no_address_holds_fails_to_connect<I: Subject>(make: &impl Fn() -> I) {
    const EINVAL: i32 = 22;
    const ENAMETOOLONG: i32 = 36;
    let mut bench = Bench::new(make());
    let path = |size: usize| format!("/{}", "x".repeat(size - 1));
    let cases =
        [(path(UNIX_PATH_SIZE_MAX + 1), ENAMETOOLONG), (String::new(), EINVAL), ("/a\0b".into(), EINVAL)];
    for (path, expected) in cases.iter().cycle().take(6) {
        let error = bench.failed_connect(Endpoint::Unix(Path::new(path).into()));
        assert_eq!(error.raw_os_error(), Some(*expected), "{path:?}");
    }
    let longest = Endpoint::Unix(Path::new(&path(UNIX_PATH_SIZE_MAX)).into());
    assert_eq!(bench.failed_connect(longest).kind(), ErrorKind::NotFound);
}

impl<I: Subject> Bench<I> {
    /// Why connecting to a server fails.
    fn failed_connect(&mut self, server: Endpoint) -> std::io::Error {
        self.io.submit(Token(7), Operation::Connect { server, source: None });
        self.until(|completion| match completion {
            Completion::Connected { token: Token(7), result: result @ Err(_) } => {
                let taken = std::mem::replace(result, Err(ErrorKind::Other.into()));
                taken.err()
            }
            _ => None,
        })
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
