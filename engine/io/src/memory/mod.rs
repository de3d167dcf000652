//! A kernel in memory, for tests: a network that the test plays the clients of, a disk, a clock that stands
//! still until it is moved. Everything completes at the next wait, in order.

mod disk;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::files::Files;
use crate::operation::Serial;
use crate::slab::Slab;
use crate::{
    Completion, ConnectionId, Disk, FileId, Instant, Io, IoError, Operation, Piece, ReceiveEnd, SOME, Token,
    Waker,
};

pub use disk::{MemoryDisk, MemoryFile};

/// An [`Io`] in memory.
#[derive(Debug)]
pub struct MemoryIo {
    disk: MemoryDisk,
    network: Rc<RefCell<Network>>,
    files: Files<MemoryFile>,
    lent: Slab<Vec<u8>>,
    /// Tells its pieces from those of others.
    serial: Serial,
    ready: Vec<Completion>,
    /// Writes that wait for [`MemoryIo::release_writes`].
    held_writes: Option<Vec<(Token, Operation)>>,
    now: Instant,
    wall_clock: u64,
    random: u64,
}

#[derive(Debug, Default)]
struct Network {
    connections: BTreeMap<u32, Connection>,
    next: u32,
    arriving: VecDeque<(ConnectionId, IpAddr)>,
    is_accepting: bool,
}

#[derive(Debug, Default)]
struct Connection {
    to_server: VecDeque<Vec<u8>>,
    from_server: Vec<u8>,
    receive: Option<Token>,
    /// It receives one piece, and then stops.
    receives_some: bool,
    is_shut: bool,
    is_closed: bool,
    /// The client reads nothing.
    is_deaf: bool,
    /// The send that waits for it.
    held_send: Option<(Token, Vec<u8>)>,
}

/// The client's end of a connection.
#[derive(Clone, Debug)]
pub struct Client {
    network: Rc<RefCell<Network>>,
    slot: u32,
}

impl Client {
    /// Sends bytes, which the server receives as one piece.
    pub fn send(&self, octets: &[u8]) {
        self.with(|connection| connection.to_server.push_back(octets.to_vec()));
    }

    /// Bytes that the server has not received.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.with(|connection| connection.to_server.iter().map(Vec::len).sum())
    }

    /// Shuts the sending side.
    pub fn shut(&self) {
        self.with(|connection| connection.is_shut = true);
    }

    /// Takes what the server has sent.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        self.with(|connection| std::mem::take(&mut connection.from_server))
    }

    /// Reads nothing from now on: sends to it do not end.
    pub fn stop_reading(&self) {
        self.with(|connection| connection.is_deaf = true);
    }

    /// Whether the server has closed the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.with(|connection| connection.is_closed)
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Connection) -> T) -> T {
        use_it(self.network.borrow_mut().connections.entry(self.slot).or_default())
    }
}

impl MemoryIo {
    /// A kernel with an empty network over `disk`; `seed` for randomness.
    #[must_use]
    pub fn new(disk: MemoryDisk, seed: u64) -> Self {
        Self {
            disk,
            network: Rc::default(),
            files: Files::default(),
            lent: Slab::new(),
            serial: Serial::next(),
            ready: Vec::new(),
            held_writes: None,
            now: Instant::from_nanoseconds(1),
            wall_clock: 1_700_000_000_000_000,
            random: seed | 1,
        }
    }

    /// A new client, which the server accepts at its next wait.
    #[must_use]
    pub fn connect(&self) -> Client {
        self.connect_from(Ipv4Addr::LOCALHOST.into())
    }

    /// The same, from this address.
    #[must_use]
    pub fn connect_from(&self, address: IpAddr) -> Client {
        let mut network = self.network.borrow_mut();
        let slot = network.next;
        network.next += 1;
        network.connections.insert(slot, Connection::default());
        network.arriving.push_back((ConnectionId { slot, generation: 0 }, address));
        Client { network: Rc::clone(&self.network), slot }
    }

    /// Moves both clocks.
    pub fn pass(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.wall_clock += u64::try_from(duration.as_micros()).unwrap_or(0);
    }

    /// Lets no write go on from now on: a disk that has stopped answering.
    pub fn hold_writes(&mut self) {
        self.held_writes.get_or_insert_default();
    }

    /// Lets writes go on.
    pub fn release_writes(&mut self) {
        for (token, operation) in self.held_writes.take().unwrap_or_default() {
            self.submit(token, operation);
        }
    }

    /// Accepts without a socket: clients of [`MemoryIo::connect`] arrive from now on.
    pub fn accept(&mut self) {
        self.network.borrow_mut().is_accepting = true;
    }

    fn send(&mut self, token: Token, id: ConnectionId, memory: Vec<u8>) {
        let mut network = self.network.borrow_mut();
        let result = match network.connections.get_mut(&id.slot) {
            Some(connection) if connection.is_deaf && !connection.is_closed => {
                connection.held_send = Some((token, memory));
                return;
            }
            Some(connection) if !connection.is_closed => {
                connection.from_server.extend_from_slice(&memory);
                Ok(())
            }
            _ => Err(io::ErrorKind::NotConnected.into()),
        };
        self.ready.push(Completion::Sent { token, connection: id, memory, result });
    }

    fn poll_network(&mut self, completions: &mut Vec<Completion>) {
        let mut network = self.network.borrow_mut();
        if network.is_accepting {
            while let Some((connection, address)) = network.arriving.pop_front() {
                let port = u16::try_from(connection.slot % 60_000).unwrap_or(0) + 1024;
                let peer = SocketAddr::from((address, port));
                completions.push(Completion::Accepted { connection, peer });
            }
        }
        for (slot, connection) in &mut network.connections {
            let id = ConnectionId { slot: *slot, generation: 0 };
            let Some(token) = connection.receive else { continue };
            if let Some(mut octets) = connection.to_server.pop_front() {
                if connection.receives_some && octets.len() > SOME as usize {
                    connection.to_server.push_front(octets.split_off(SOME as usize));
                }
                let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
                let buffer =
                    u16::try_from(self.lent.insert(octets)).expect("fewer than 2^16 pieces are lent out");
                completions.push(Completion::Received {
                    token,
                    connection: id,
                    piece: Piece { owner: self.serial, buffer, offset: 0, length },
                });
                if connection.receives_some {
                    connection.receive = None;
                    let end = ReceiveEnd::Stopped;
                    completions.push(Completion::ReceiveEnded { token, connection: id, end });
                }
            } else if connection.is_shut {
                connection.receive = None;
                completions.push(Completion::ReceiveEnded { token, connection: id, end: ReceiveEnd::Closed });
            }
        }
    }
}

impl Io for MemoryIo {
    type Disk = MemoryDisk;

    fn attach(&mut self, file: MemoryFile) -> FileId {
        self.files.attach(file)
    }

    fn detach(&mut self, file: FileId) -> MemoryFile {
        self.files.detach(file)
    }

    fn submit(&mut self, token: Token, operation: Operation) {
        let receives_some = matches!(operation, Operation::ReceiveSome(_));
        match operation {
            operation @ Operation::Write { .. } if self.held_writes.is_some() => {
                self.held_writes.get_or_insert_default().push((token, operation));
            }
            Operation::Accept(_) => self.accept(),
            Operation::StopAccepting => self.network.borrow_mut().is_accepting = false,
            Operation::Connect { .. } => {
                let result = Err(io::ErrorKind::Unsupported.into());
                self.ready.push(Completion::Connected { token, result });
            }
            Operation::Receive(id) | Operation::ReceiveSome(id) => {
                if let Some(connection) = self.network.borrow_mut().connections.get_mut(&id.slot) {
                    connection.receive = Some(token);
                    connection.receives_some = receives_some;
                }
            }
            Operation::StopReceiving(id) => {
                if let Some(connection) = self.network.borrow_mut().connections.get_mut(&id.slot)
                    && let Some(token) = connection.receive.take()
                {
                    let end = ReceiveEnd::Stopped;
                    self.ready.push(Completion::ReceiveEnded { token, connection: id, end });
                }
            }
            Operation::Send(id, memory) => self.send(token, id, memory),
            Operation::Close(id) => {
                if let Some(connection) = self.network.borrow_mut().connections.get_mut(&id.slot) {
                    connection.receive = None;
                    connection.is_closed = true;
                    if let Some((token, memory)) = connection.held_send.take() {
                        let result = Err(io::ErrorKind::NotConnected.into());
                        self.ready.push(Completion::Sent { token, connection: id, memory, result });
                    }
                }
            }
            Operation::Write { file, block, offset, is_durable } => {
                let file = self.files.get_mut(file);
                let result = self.disk.write(file, block.filled(), offset, is_durable);
                self.ready.push(Completion::Written { token, block, result });
            }
            Operation::Read { file, mut buffer, offset } => {
                let file = self.files.get_mut(file);
                file.kind.check_read();
                let result = self.disk.read_at(file, &mut buffer, offset);
                self.ready.push(Completion::Read { token, buffer, result });
            }
        }
    }

    fn wait(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> Result<(), IoError> {
        let before = completions.len();
        completions.append(&mut self.ready);
        self.poll_network(completions);
        if completions.len() == before
            && let Some(deadline) = deadline
        {
            let wait = deadline.since(self.now);
            self.pass(wait);
        }
        Ok(())
    }

    fn received(&self, piece: &Piece) -> &[u8] {
        assert!(piece.owner == self.serial, "a piece is read from the kernel that lent it");
        self.lent.get(u32::from(piece.buffer)).expect("a piece is read before it is recycled")
    }

    fn recycle(&mut self, piece: Piece) {
        assert!(piece.owner == self.serial, "a piece is given back to the kernel that lent it");
        assert!(self.lent.take(u32::from(piece.buffer)).is_some(), "a piece was given back twice");
    }

    fn now(&mut self) -> Instant {
        self.now
    }

    fn wall_clock(&mut self) -> u64 {
        self.wall_clock
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }
}

impl MemoryIo {
    /// The disk.
    #[must_use]
    pub const fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    /// Number of pieces that were received and not given back.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent.len()
    }
}
