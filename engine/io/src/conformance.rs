//! What every [`Io`] does alike: one suite, run by [`conformance`] for those over the operating system, and as far as it
//! goes without that by [`conformance_anywhere`] for the simulated one.
//!
//! A simulated kernel has no sockets of the system, and time that only its caller lets pass: [`Subject`] says how a test
//! reaches it. What is for the system alone is what it does not simulate (urgent bytes, devices and directories in the place
//! of files, a client turned away when the table is full, a wait that blocks) and what it takes for a breach of the contract, where the system's
//! kernels are lenient (names of the past).

mod reads;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::net::SendFlags;

use crate::operation::Serial;
use crate::system::monotonic;
use crate::{
    BLOCK_ALIGNMENT, Block, Completion, ConnectionId, Disk, FileId, FileKind, Instant, Io, Operation, OsDisk,
    OsFile, ReceiveEnd, SOME, Token,
};

/// Runs the suite for an `Io` with 4 connections and 2 receive buffers of 4096 bytes; and what needs larger ones with 8 of
/// 65,536 bytes. `Settings` are those of the module in which it stands.
macro_rules! conformance {
    ($io:ty) => {
        fn with_buffers(receive_buffers: u16, receive_buffer_size: u32) -> $io {
            let settings =
                Settings { connections: 4, receive_buffers, receive_buffer_size, ..Settings::default() };
            <$io>::new(settings).unwrap()
        }

        fn small() -> $io {
            with_buffers(2, 4096)
        }

        fn roomy() -> $io {
            with_buffers(8, 65_536)
        }

        impl $crate::conformance::Subject for $io {
            type Client = std::net::TcpStream;
            type Place = $crate::conformance::Directory;

            fn listen(&mut self, address: std::net::IpAddr) -> std::io::Result<std::net::SocketAddr> {
                $crate::conformance::listen_on_the_system(self, address)
            }

            fn connect(&self, target: std::net::SocketAddr) -> std::io::Result<std::net::TcpStream> {
                std::net::TcpStream::connect(target)
            }

            fn nobody(&self) -> std::net::SocketAddr {
                $crate::conformance::nobody_on_the_system()
            }

            fn beside(&self, make: &impl Fn() -> Self) -> Self {
                make()
            }

            fn wait_for(
                &mut self,
                deadline: $crate::Instant,
                completions: &mut Vec<$crate::Completion>,
            ) {
                $crate::Io::wait(self, Some(deadline), completions).unwrap();
            }

            fn place(&self) -> (OsDisk, $crate::conformance::Directory) {
                $crate::conformance::Directory::new()
            }
        }

        $crate::conformance::conformance_anywhere!();
        $crate::conformance::conformance! { small:
            urgent_octets_hold_nothing_up
            nothing_names_a_closed_connection
            a_full_table_takes_the_next_client_after_a_close
            a_write_that_fails_says_why_and_the_next_one_is_done
            a_read_that_fails_says_why_and_the_next_one_is_done
            connections_of_another_are_names_of_the_past
            another_thread_wakes_a_wait
        }
    };
    ($make:path: $($name:ident)*) => {
        $(#[test] fn $name() { $crate::conformance::$name(&$make); })*
    };
}
pub(crate) use conformance;

/// Runs what of the suite needs no system, for a [`Subject`] that `small` and `roomy` make.
macro_rules! conformance_anywhere {
    () => {
        $crate::conformance::conformance! { roomy:
            some_octets_are_received_and_then_no_more
            a_connection_that_was_made_carries_more_than_it_holds
        }
        $crate::conformance::conformance! { small:
            an_echo_goes_round_over_both_families
            receiving_ends_when_buffers_run_out_and_goes_on_when_asked
            receiving_stops_and_goes_on_with_what_came_meanwhile
            the_end_of_a_stream_comes_behind_its_octets
            closing_ends_a_send_that_waits
            durable_writes_are_on_the_file
            blocks_of_this_kernel_and_of_others_are_written
            durable_writes_are_read_back
            a_read_ends_with_its_file
            several_reads_are_done_at_once
            reads_beside_writes_are_not_disturbed
            only_a_file_opened_for_reading_is_read
            a_file_is_not_detached_while_it_is_read
            reads_may_be_in_progress_at_the_end
            pieces_and_files_of_another_are_not_taken
            a_send_without_room_goes_on_when_there_is_some
            no_connection_is_accepted_after_accepting_stopped
            two_of_them_talk_through_connect
            a_connection_comes_from_the_address_that_is_wanted
            connecting_to_nobody_fails
            a_deadline_ends_a_wait
        }
    };
}
pub(crate) use conformance_anywhere;

pub(crate) use reads::*;

/// An [`Io`] under test, and how a test reaches it.
pub(crate) trait Subject: Io {
    /// A client's end of a connection.
    type Client: Client;
    /// Keeps the files of [`Subject::place`] for as long as it lives.
    type Place;

    /// Accepts connections at an address; returns it with its port.
    fn listen(&mut self, address: IpAddr) -> std::io::Result<SocketAddr>;

    /// Connects a client to what `listen` returned.
    fn connect(&self, target: SocketAddr) -> std::io::Result<Self::Client>;

    /// An address at which no connection is accepted.
    fn nobody(&self) -> SocketAddr;

    /// Another one, which `make` makes if they reach each other so.
    fn beside(&self, make: &impl Fn() -> Self) -> Self;

    /// Waits as [`Io::wait`] does, and lets the time pass that this takes.
    fn wait_for(&mut self, deadline: Instant, completions: &mut Vec<Completion>);

    /// An empty disk.
    fn place(&self) -> (Self::Disk, Self::Place);
}

/// A client's end of a connection. What fails is a panic.
pub(crate) trait Client {
    fn address(&self) -> SocketAddr;
    fn say(&mut self, octets: &[u8]);
    /// Receives as many bytes.
    fn hear(&mut self, count: usize) -> Vec<u8>;
    /// Receives what is there.
    fn hear_some(&mut self) -> Vec<u8>;
    /// Waits for the end of what it receives.
    fn hear_end(&mut self);
    /// Ends what it says.
    fn end(&mut self);
}

impl Client for TcpStream {
    fn address(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }

    fn say(&mut self, octets: &[u8]) {
        self.write_all(octets).unwrap();
    }

    fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        self.read_exact(&mut octets).unwrap();
        octets
    }

    fn hear_some(&mut self) -> Vec<u8> {
        self.set_nonblocking(true).unwrap();
        let mut octets = vec![0; 1 << 20];
        let count = match self.read(&mut octets) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            result => result.unwrap(),
        };
        self.set_nonblocking(false).unwrap();
        octets.truncate(count);
        octets
    }

    fn hear_end(&mut self) {
        assert_eq!(self.read(&mut [0]).unwrap(), 0);
    }

    fn end(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

pub(crate) fn listen_on_the_system<I: Io>(io: &mut I, address: IpAddr) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0))?;
    let target = listener.local_addr()?;
    io.submit(Token(1), Operation::Accept(listener));
    Ok(target)
}

pub(crate) fn nobody_on_the_system() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// How long something may take that takes no time.
const PATIENCE: Duration = Duration::from_secs(20);

/// An `Io` with a listener, and what it completed that no test has taken yet.
pub(crate) struct Bench<I> {
    pub(crate) io: I,
    pub(crate) completions: Vec<Completion>,
    pub(crate) target: SocketAddr,
}

impl<I: Subject> Bench<I> {
    pub(crate) fn new(io: I) -> Self {
        Self::listening(io, IpAddr::from(Ipv4Addr::LOCALHOST)).unwrap()
    }

    fn listening(mut io: I, address: IpAddr) -> std::io::Result<Self> {
        let target = io.listen(address)?;
        let mut bench = Self { io, completions: Vec::new(), target };
        bench.poll();
        Ok(bench)
    }

    /// Starts what was submitted, and takes what is there.
    pub(crate) fn poll(&mut self) {
        self.io.wait(Some(Instant::default()), &mut self.completions).unwrap();
    }

    /// Waits until `take` wants one of the completions; the others stay.
    pub(crate) fn until<T>(&mut self, take: impl Fn(&mut Completion) -> Option<T>) -> T {
        let give_up = monotonic().after(PATIENCE);
        while monotonic() < give_up {
            for place in 0..self.completions.len() {
                if let Some(taken) = take(&mut self.completions[place]) {
                    self.completions.remove(place);
                    return taken;
                }
            }
            self.io.wait_for(give_up, &mut self.completions);
        }
        panic!("nothing of the kind came: {:?}", self.completions);
    }

    pub(crate) fn accepted(&mut self) -> (ConnectionId, SocketAddr) {
        self.until(|completion| match completion {
            Completion::Accepted { connection, peer } => Some((*connection, *peer)),
            _ => None,
        })
    }

    /// A client and its connection.
    pub(crate) fn connected(&mut self) -> (I::Client, ConnectionId) {
        let client = self.io.connect(self.target).unwrap();
        let (connection, peer) = self.accepted();
        assert_eq!(peer, client.address());
        (client, connection)
    }

    /// The bytes of the next piece for `wanted`, which is given back.
    fn received(&mut self, wanted: Token) -> Vec<u8> {
        let piece = self.until(|completion| match completion {
            Completion::Received { token, piece, .. } if *token == wanted => {
                // A piece cannot be copied: a placeholder that is never given back stays.
                let nothing = crate::Piece { owner: Serial::next(), buffer: 0, offset: 0, length: 0 };
                Some(std::mem::replace(piece, nothing))
            }
            _ => None,
        });
        let octets = self.io.received(&piece).to_vec();
        self.io.recycle(piece);
        octets
    }

    /// As many bytes as wanted, received again where buffers ran out.
    fn received_in_all(&mut self, connection: ConnectionId, wanted: usize) -> Vec<u8> {
        let mut octets = Vec::new();
        while octets.len() < wanted {
            self.take_received(connection, &mut octets);
            if octets.len() < wanted {
                let give_up = monotonic().after(PATIENCE);
                self.io.wait_for(give_up, &mut self.completions);
                assert!(monotonic() < give_up, "{} octets came", octets.len());
            }
        }
        octets
    }

    /// Appends the bytes that were received; receives again where buffers ran out.
    fn take_received(&mut self, connection: ConnectionId, octets: &mut Vec<u8>) {
        for completion in std::mem::take(&mut self.completions) {
            match completion {
                Completion::Received { piece, .. } => {
                    octets.extend_from_slice(self.io.received(&piece));
                    self.io.recycle(piece);
                }
                Completion::ReceiveEnded { token, end: ReceiveEnd::OutOfBuffers, .. } => {
                    self.io.submit(token, Operation::Receive(connection));
                }
                other => self.completions.push(other),
            }
        }
    }

    fn receive_ended(&mut self) -> ReceiveEnd {
        self.until(|completion| match completion {
            Completion::ReceiveEnded { end, .. } => Some(std::mem::replace(end, ReceiveEnd::Closed)),
            _ => None,
        })
    }

    fn sent(&mut self) -> (Token, Result<(), std::io::Error>) {
        self.until(|completion| match completion {
            Completion::Sent { token, result, .. } => Some((*token, std::mem::replace(result, Ok(())))),
            _ => None,
        })
    }

    fn read(&mut self) -> (Token, Vec<u8>, Result<usize, std::io::Error>) {
        self.until(|completion| match completion {
            Completion::Read { token, buffer, result } => {
                Some((*token, std::mem::take(buffer), std::mem::replace(result, Ok(0))))
            }
            _ => None,
        })
    }

    fn written(&mut self) -> (Token, Block, Result<(), std::io::Error>) {
        self.until(|completion| match completion {
            Completion::Written { token, block, result } => {
                Some((*token, std::mem::replace(block, Block::new(0)), std::mem::replace(result, Ok(()))))
            }
            _ => None,
        })
    }
}

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
    assert_eq!(error, std::io::ErrorKind::AddrNotAvailable);
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
        assert_eq!(error, std::io::ErrorKind::ConnectionRefused);
    }
}

/// A directory that is removed when it is dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> (OsDisk, Self) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mailrace-io-{}-{number}", std::process::id()));
        (OsDisk::new(&path).unwrap(), Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All bytes of a file.
fn read<D: Disk>(disk: &D, path: &str) -> Vec<u8> {
    let file = disk.open(path, FileKind::Buffered).unwrap();
    let mut content = vec![0; usize::try_from(disk.size(&file).unwrap()).unwrap()];
    assert_eq!(disk.read_at(&file, &mut content, 0).unwrap(), content.len());
    content
}

fn write<I: Io>(io: &mut I, number: u64, file: FileId, is_durable: bool) {
    write_from(io, Block::new(2 * BLOCK_ALIGNMENT), number, file, is_durable);
}

fn write_from<I: Io>(io: &mut I, mut block: Block, number: u64, file: FileId, is_durable: bool) {
    block.extend(format!("durable {number}").as_bytes());
    block.pad(BLOCK_ALIGNMENT);
    let offset = number * BLOCK_ALIGNMENT as u64;
    io.submit(Token(number), Operation::Write { file, block, offset, is_durable });
}

pub(crate) fn durable_writes_are_on_the_file<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let file = disk.create("segment", 65_536, FileKind::Direct).unwrap();
    let file = bench.io.attach(file);
    // More at once than a caller writes at a time; they may come back in any order.
    (0..16).for_each(|number| write(&mut bench.io, number, file, true));
    let mut tokens = Vec::new();
    for _ in 0..16 {
        let (token, block, result) = bench.written();
        result.unwrap();
        assert!(block.filled().starts_with(format!("durable {}\0", token.0).as_bytes()));
        tokens.push(token.0);
    }
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq(0..16));
    let content = read(&disk, "segment");
    for (number, piece) in content.chunks(BLOCK_ALIGNMENT).enumerate() {
        assert!(piece.starts_with(format!("durable {number}\0").as_bytes()));
    }
    assert_eq!(disk.size(&bench.io.detach(file)).unwrap(), 65_536);
}

pub(crate) fn blocks_of_this_kernel_and_of_others_are_written<I: Subject>(make: &impl Fn() -> I) {
    let (mut own, mut other) = (Bench::new(make()), Bench::new(make()));
    let (disk, _place) = own.io.place();
    let file = disk.create("segment", 65_536, FileKind::Direct).unwrap();
    let file = own.io.attach(file);
    let blocks = own.io.blocks(4, BLOCK_ALIGNMENT + 1);
    assert!(blocks.iter().all(|block| block.capacity() == 2 * BLOCK_ALIGNMENT && block.is_empty()));
    let foreign = other.io.blocks(4, BLOCK_ALIGNMENT + 1);
    for (number, block) in (0..).zip(blocks.into_iter().chain(foreign)) {
        write_from(&mut own.io, block, number, file, true);
        // The same block again, and what it was filled with is what is written.
        let (_, mut block, result) = own.written();
        result.unwrap();
        block.clear();
        write_from(&mut own.io, block, 8 + number, file, true);
        own.written().2.unwrap();
    }
    let content = read(&disk, "segment");
    assert_eq!(content.len(), 16 * BLOCK_ALIGNMENT);
    for (number, piece) in content.chunks(BLOCK_ALIGNMENT).enumerate() {
        assert!(piece.starts_with(format!("durable {number}\0").as_bytes()), "{number}");
    }
}

pub(crate) fn a_write_that_fails_says_why_and_the_next_one_is_done<
    I: Subject<Disk = OsDisk, Client = TcpStream>,
>(
    make: &impl Fn() -> I,
) {
    let (disk, _place) = Directory::new();
    let mut bench = Bench::new(make());
    let device = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let full = bench.io.attach(OsFile::of_any_kind(device, FileKind::Buffered));
    let sound = bench.io.attach(disk.create("segment", 65_536, FileKind::Buffered).unwrap());
    for number in 0..8 {
        let is_sound = number % 2 == 1;
        write(&mut bench.io, number, if is_sound { sound } else { full }, is_sound);
        let (token, block, result) = bench.written();
        assert_eq!((token, block.len()), (Token(number), BLOCK_ALIGNMENT));
        let error = result.map_err(|error| error.kind());
        assert_eq!(error, if is_sound { Ok(()) } else { Err(std::io::ErrorKind::StorageFull) });
    }
}

/// Whether `work` panics.
fn panics(work: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err()
}

pub(crate) fn pieces_and_files_of_another_are_not_taken<I: Subject>(make: &impl Fn() -> I) {
    let (mut own, mut other) = (Bench::new(make()), Bench::new(make()));
    let (mut client, connection) = own.connected();
    own.io.submit(Token(2), Operation::Receive(connection));
    client.say(b"received");
    let piece = own.until(|completion| match completion {
        Completion::Received { piece, .. } => {
            let nothing = crate::Piece { owner: Serial::next(), buffer: 0, offset: 0, length: 0 };
            Some(std::mem::replace(piece, nothing))
        }
        _ => None,
    });
    assert!(panics(|| _ = other.io.received(&piece).to_vec()));
    assert_eq!(own.io.received(&piece), b"received");
    assert!(panics(|| other.io.recycle(piece)));

    let (disk, _place) = own.io.place();
    let (other_disk, _other_place) = other.io.place();
    let create = |disk: &I::Disk, name| disk.create(name, 65_536, FileKind::Buffered).unwrap();
    let file = own.io.attach(create(&disk, "own"));
    let others = other.io.attach(create(&other_disk, "other"));
    // Both have the first place of their table.
    assert!(panics(|| {
        write(&mut other.io, 1, file, false);
        other.poll();
    }));
    assert!(panics(|| drop(other.io.detach(file))));
    // Nor does a name live on when its file is detached and another one has its place.
    drop(own.io.detach(file));
    let next = own.io.attach(create(&disk, "next"));
    assert!(next != file && others != file);
    assert!(panics(|| drop(own.io.detach(file))));
    write(&mut own.io, 1, next, true);
    own.written().2.unwrap();
}

pub(crate) fn connections_of_another_are_names_of_the_past<I: Subject<Disk = OsDisk, Client = TcpStream>>(
    make: &impl Fn() -> I,
) {
    let (mut own, mut other) = (Bench::new(make()), Bench::new(make()));
    let (_client, connection) = own.connected();
    let (mut others_client, others) = other.connected();
    assert_eq!(connection.slot, others.slot);
    other.io.submit(Token(3), Operation::Close(connection));
    other.io.submit(Token(4), Operation::Send(connection, b"not for this one".to_vec()));
    assert!(other.sent().1.is_err());
    other.io.submit(Token(5), Operation::Send(others, b"220 ".to_vec()));
    other.sent().1.unwrap();
    let mut octets = [0; 4];
    others_client.read_exact(&mut octets).unwrap();
    assert_eq!(&octets, b"220 ");
}

pub(crate) fn another_thread_wakes_a_wait<I: Subject<Disk = OsDisk, Client = TcpStream>>(
    make: &impl Fn() -> I,
) {
    let mut io = make();
    let waker = io.waker();
    let start = std::time::Instant::now();
    for _ in 0..3 {
        let waker = waker.clone();
        let thread = std::thread::spawn(move || waker.wake());
        io.wait(Some(monotonic().after(Duration::from_secs(20))), &mut Vec::new()).unwrap();
        thread.join().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(15));
}

pub(crate) fn a_deadline_ends_a_wait<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let start = bench.io.now();
    let deadline = start.after(Duration::from_millis(30));
    while bench.io.now() < deadline {
        bench.io.wait_for(deadline, &mut bench.completions);
    }
    assert!(bench.io.now().since(start) < Duration::from_secs(10));
    assert!(bench.completions.is_empty());
}
