//! What every [`Io`] does alike: one suite, run by [`conformance`] for those over the operating system, and as far as it
//! goes without that by [`conformance_anywhere`] for the simulated one.
//!
//! A simulated kernel has no sockets of the system, and time that only its caller lets pass: [`Subject`] says how a test
//! reaches it. What is for the system alone is what it does not simulate (urgent bytes, a client turned away when the table is
//! full, a wait that blocks) and what it takes for a breach of the contract, where the system's kernels are lenient (names of
//! the past).

mod connecting;
mod connections;
mod names;
mod reads;
mod system;
mod writes;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::operation::Serial;
use crate::system::monotonic;
use crate::{Block, Completion, ConnectionId, Endpoint, FileId, Instant, Io, Operation, ReceiveEnd, Token};

pub(crate) use connecting::*;
pub(crate) use connections::*;
pub(crate) use names::*;
pub(crate) use reads::*;
pub(crate) use system::*;
pub(crate) use writes::*;

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

            fn serve(
                &self,
                place: &Self::Place,
            ) -> ($crate::Endpoint, impl FnMut() -> std::net::TcpStream + use<>) {
                $crate::conformance::serve_on_the_system(place)
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

            fn broken_files(&mut self, _: &OsDisk) -> $crate::conformance::BrokenFiles {
                $crate::conformance::broken_files_of_the_system(self)
            }
        }

        $crate::conformance::conformance_anywhere!();
        $crate::conformance::conformance! { small:
            urgent_octets_hold_nothing_up
            nothing_names_a_closed_connection
            a_full_table_takes_the_next_client_after_a_close
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
            streams_of_several_clients_are_not_mixed
            receiving_ends_when_buffers_run_out_and_goes_on_when_asked
            receiving_stops_and_goes_on_with_what_came_meanwhile
            the_end_of_a_stream_comes_behind_its_octets
            closing_ends_a_send_that_waits
            durable_writes_are_on_the_file
            blocks_of_this_kernel_and_of_others_are_written
            a_later_write_replaces_its_bytes_only
            a_write_that_fails_says_why_and_the_next_one_is_done
            durable_writes_are_read_back
            a_read_that_fails_says_why_and_the_next_one_is_done
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
            a_connection_to_a_path_talks_both_ways
            connecting_to_a_path_that_nobody_serves_fails
            a_path_that_no_address_holds_fails_to_connect
            a_deadline_ends_a_wait
        }
    };
}
pub(crate) use conformance_anywhere;

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

    /// A server at a path in `place`; and what accepts the next connection that was made to it.
    fn serve(&self, place: &Self::Place) -> (Endpoint, impl FnMut() -> Self::Client + use<Self>);

    /// Another one, which `make` makes if they reach each other so.
    fn beside(&self, make: &impl Fn() -> Self) -> Self;

    /// Waits as [`Io::wait`] does, and lets the time pass that this takes.
    fn wait_for(&mut self, deadline: Instant, completions: &mut Vec<Completion>);

    /// An empty disk.
    fn place(&self) -> (Self::Disk, Self::Place);

    /// Attaches files that fail, on this disk or elsewhere.
    fn broken_files(&mut self, disk: &Self::Disk) -> BrokenFiles;
}

/// Files on which operations fail, with the numbers of their errors.
pub(crate) struct BrokenFiles {
    /// Opened for writing.
    pub(crate) unwritable: (FileId, i32),
    /// Opened for reading.
    pub(crate) unreadable: (FileId, i32),
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

    /// As many bytes as wanted of each connection; the token of its receive is its place in the list.
    fn received_by_each(&mut self, connections: &[ConnectionId], wanted: usize) -> Vec<Vec<u8>> {
        let give_up = monotonic().after(PATIENCE);
        let mut octets = vec![Vec::new(); connections.len()];
        let place = |token: Token| usize::try_from(token.0).unwrap();
        while octets.iter().any(|octets| octets.len() < wanted) {
            for completion in std::mem::take(&mut self.completions) {
                match completion {
                    Completion::Received { token, piece, .. } => {
                        octets[place(token)].extend_from_slice(self.io.received(&piece));
                        self.io.recycle(piece);
                    }
                    Completion::ReceiveEnded { token, end: ReceiveEnd::OutOfBuffers, .. } => {
                        self.io.submit(token, Operation::Receive(connections[place(token)]));
                    }
                    other => self.completions.push(other),
                }
            }
            if octets.iter().any(|octets| octets.len() < wanted) {
                assert!(
                    monotonic() < give_up,
                    "{:?} octets came",
                    octets.iter().map(Vec::len).collect::<Vec<_>>()
                );
                self.io.wait_for(give_up, &mut self.completions);
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

/// Whether `work` panics.
fn panics(work: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err()
}
