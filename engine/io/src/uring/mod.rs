//! The real ring: one io_uring for one worker. **The only unsafe code of the workspace.**
//!
//! What got the kernel's share down, as measured: `SINGLE_ISSUER | DEFER_TASKRUN`, multishot accept and
//! receive, a ring of provided buffers (incremental where the kernel has it), direct descriptors, and one
//! `io_uring_enter` a turn. A multishot accept cannot tell the client's address, and a direct descriptor has
//! no number to ask `getpeername` about; the ring's own getsockopt(SO_PEERNAME) can (Linux 6.7).
//!
//! Every operation's memory is owned by this module from submission to completion: blocks and sends in
//! slabs, addresses and receive buffers in regions that are never freed.
#![expect(unsafe_code, reason = "the ring hands memory to the kernel; each block says why it may")]

mod buffers;
mod entry;
mod region;
mod settings;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use crate::block::{BLOCK_ALIGNMENT, Registration};
use crate::files::Files;
use crate::operation::{ACCEPT_PAUSE, Serial};
use crate::slab::Slab;
use crate::system::{Random, WakeDescriptor, monotonic, wall_clock};
use crate::{
    Block, Completion, ConnectionId, FileId, Instant, Io, IoError, Operation, OsDisk, OsFile, Piece,
    ReceiveEnd, SOME, Token, Waker,
};
use buffers::ReceiveBuffers;
use entry::{Address, AddressTable, Kind, UserData};
use region::Region;

pub use settings::Settings;

/// Completions that one wait hands out at most; the rest is there at the next one. A burst of clients costs time
/// then, and no memory.
const COMPLETIONS_MAX: usize = 1024;

/// One worker's ring.
pub struct Uring {
    ring: IoUring,
    buffers: ReceiveBuffers,
    connections: Vec<Connection>,
    open_connections: u32,
    /// When to accept again what the system had no room for.
    accept_at: Option<Instant>,
    addresses: AddressTable,
    listeners: Vec<Listener>,
    /// How often the listeners were closed: tells late completions of earlier ones.
    listener_epoch: u32,
    files: Files<OsFile>,
    sends: Slab<SendUnderWay>,
    writes: Slab<WriteUnderWay>,
    connects: Slab<ConnectUnderWay>,
    wake: WakeDescriptor,
    /// Found at submission or in a completion's aftermath, to be handed out at the next wait.
    ready: Vec<Completion>,
    /// Taken out of the completion queue and not looked at yet.
    entries: Vec<cqueue::Entry>,
    now: Instant,
    random: Random,
    /// Tells blocks that are registered with this ring from those of others.
    serial: Serial,
    has_blocks: bool,
}

/// A place of the connection table.
#[derive(Clone, Copy, Default)]
struct Connection {
    generation: u32,
    is_open: bool,
    is_receiving: bool,
    /// A receive of a few bytes is in progress; it ends by itself.
    receives_some: bool,
    receive_token: Token,
    send: Option<u32>,
}

struct Listener {
    socket: TcpListener,
    is_ipv6: bool,
    is_accepting: bool,
}

struct SendUnderWay {
    token: Token,
    connection: ConnectionId,
    memory: Vec<u8>,
    sent: usize,
}

struct WriteUnderWay {
    token: Token,
    file: FileId,
    block: Block,
    offset: u64,
    written: usize,
    is_durable: bool,
}

struct ConnectUnderWay {
    token: Token,
    server: Box<Address>,
    source: Option<Box<Address>>,
    slot: Option<u32>,
}

impl Uring {
    /// A ring with its buffers and tables registered.
    ///
    /// # Errors
    /// [`IoError`] whose text says what to do: io_uring is not permitted, the kernel is too old, or a limit
    /// is too low.
    pub fn new(settings: Settings) -> Result<Self, IoError> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(settings.completion_entries)
            .build(settings.submission_entries)
            .map_err(setup_error)?;
        let submitter = ring.submitter();
        require_operations(&submitter)?;
        submitter.register_files_sparse(settings.connections).map_err(|source| IoError::Limit {
            what: "making the table of connections",
            remedy: "raise the limit of open files (ulimit -n, or LimitNOFILE= of the service), or lower max_connections",
            source,
        })?;
        let buffers =
            ReceiveBuffers::register(&submitter, settings.receive_buffers, settings.receive_buffer_size)
                .map_err(|source| IoError::Limit {
                    what: "registering receive buffers",
                    remedy: "raise the limit of locked memory (ulimit -l, or LimitMEMLOCK= of the service)",
                    source,
                })?;
        let wake = WakeDescriptor::new().map_err(|source| IoError::Ring { operation: "eventfd", source })?;
        let mut uring = Self {
            ring,
            buffers,
            connections: vec![
                Connection {
                    generation: Serial::next().first_generation(),
                    ..Connection::default()
                };
                settings.connections as usize
            ],
            open_connections: 0,
            accept_at: None,
            addresses: AddressTable::new(settings.connections),
            listeners: Vec::new(),
            listener_epoch: 0,
            files: Files::default(),
            sends: Slab::new(),
            writes: Slab::new(),
            connects: Slab::new(),
            wake,
            ready: Vec::new(),
            entries: Vec::new(),
            now: monotonic(),
            random: Random::new(),
            serial: Serial::next(),
            has_blocks: false,
        };
        uring.arm_wake();
        uring.check_peer_name()?;
        Ok(uring)
    }

    fn push(&mut self, entry: &squeue::Entry, user_data: UserData) {
        let entry = entry.clone().user_data(user_data.number());
        // SAFETY: every entry is built in this module from memory that is owned by a slab or region here until
        // its completion was seen (see the fields), or that the kernel does not touch.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            // The queue is full: start what is there.
            if let Err(error) = self.ring.submit() {
                assert!(is_transient(&error), "io_uring_enter failed: {error}");
                // EBUSY and EAGAIN leave it full, until there is room in the completion queue and memory for requests: both
                // come from taking completions out. They are looked at in the next wait.
                self.entries.extend(self.ring.completion());
            }
        }
    }

    fn arm_wake(&mut self) {
        let poll = opcode::PollAdd::new(io_uring::types::Fd(self.wake.as_fd().as_raw_fd()), entry::POLL_IN)
            .multi(true)
            .build();
        self.push(&poll, UserData::new(Kind::Wake, 0, 0));
    }

    fn accept(&mut self, socket: TcpListener) {
        let is_ipv6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
        self.listeners.push(Listener { socket, is_ipv6, is_accepting: false });
        self.arm_accepts();
    }

    fn arm_accepts(&mut self) {
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if !listener.is_accepting {
                listener.is_accepting = true;
                let socket = io_uring::types::Fd(listener.socket.as_raw_fd());
                let accept = opcode::AcceptMulti::new(socket).allocate_file_index(true).build();
                self.push(&accept, UserData::new(Kind::Accept, self.listener_epoch, index_of(index)));
            }
        }
    }

    fn stop_accepting(&mut self) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].is_accepting {
                self.cancel(UserData::new(Kind::Accept, self.listener_epoch, index_of(index)));
            }
        }
        // The cancelled accepts hold the sockets until the queue is next started, which is soon.
        self.listeners.clear();
        self.listener_epoch = (self.listener_epoch + 1) & entry::GENERATION_MAX;
    }

    fn cancel(&mut self, what: UserData) {
        let cancel = opcode::AsyncCancel::new(what.number()).build();
        self.push(&cancel, UserData::new(Kind::Cancel, 0, 0));
    }

    /// Takes a slot that the kernel gave out.
    fn open(&mut self, slot: u32) -> ConnectionId {
        let connection = &mut self.connections[slot as usize];
        assert!(!connection.is_open, "the kernel gave out a direct descriptor twice");
        let generation = connection.generation;
        *connection = Connection { generation, is_open: true, ..Connection::default() };
        self.open_connections += 1;
        ConnectionId { slot, generation }
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(id.slot as usize)?;
        (connection.is_open && connection.generation == id.generation).then_some(connection)
    }

    fn connect(&mut self, token: Token, server: SocketAddr, source: Option<IpAddr>) {
        let family = if server.is_ipv6() { entry::FAMILY_IPV6 } else { entry::FAMILY_IPV4 };
        let index = self.connects.insert(ConnectUnderWay {
            token,
            server: Box::new(Address::from(server)),
            source: source.map(|source| Box::new(Address::from(SocketAddr::new(source, 0)))),
            slot: None,
        });
        let socket = opcode::Socket::new(family, entry::SOCKET_STREAM, 0)
            .file_index(Some(io_uring::types::DestinationSlot::auto_target()))
            .build();
        self.push(&socket, UserData::new(Kind::Socket, 0, index));
    }

    fn receive(&mut self, token: Token, id: ConnectionId, receives_some: bool) {
        let Some(connection) = self.connection(id) else { return };
        assert!(!connection.is_receiving, "receiving is under way already");
        connection.is_receiving = true;
        connection.receives_some = receives_some;
        connection.receive_token = token;
        let receive = if receives_some {
            entry::receive_some(id.slot, buffers::BUFFER_GROUP, SOME)
        } else {
            entry::receive(id.slot, buffers::BUFFER_GROUP)
        };
        self.push(&receive, UserData::of(Kind::Receive, id));
    }

    fn stop_receiving(&mut self, id: ConnectionId) {
        if self.connection(id).is_some_and(|connection| connection.is_receiving) {
            self.cancel(UserData::of(Kind::Receive, id));
        }
    }

    fn send(&mut self, token: Token, id: ConnectionId, memory: Vec<u8>) {
        if self.connection(id).is_none() {
            let result = Err(io::ErrorKind::NotConnected.into());
            self.ready.push(Completion::Sent { token, connection: id, memory, result });
            return;
        }
        let index = self.sends.insert(SendUnderWay { token, connection: id, memory, sent: 0 });
        let connection = &mut self.connections[id.slot as usize];
        assert!(connection.send.is_none(), "a send is under way already");
        connection.send = Some(index);
        self.submit_send(index);
    }

    fn submit_send(&mut self, index: u32) {
        let Some(send) = self.sends.get(index) else { return };
        let rest = &send.memory[send.sent..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(Fixed(send.connection.slot), rest.as_ptr(), length)
            .flags(entry::SEND_WHOLE)
            .build();
        self.push(&send, UserData::new(Kind::Send, 0, index));
    }

    fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        let (is_receiving, send) = (connection.is_receiving, connection.send.take());
        connection.is_open = false;
        connection.is_receiving = false;
        connection.generation = (connection.generation + 1) & entry::GENERATION_MAX;
        // Closing a direct descriptor ends neither a multishot receive nor a send that waits for a client.
        if is_receiving {
            self.cancel(UserData::of(Kind::Receive, id));
        }
        if let Some(send) = send {
            self.cancel(UserData::new(Kind::Send, 0, send));
        }
        self.push(&opcode::Close::new(Fixed(id.slot)).build(), UserData::of(Kind::Close, id));
    }

    fn write(&mut self, token: Token, file: FileId, block: Block, offset: u64, is_durable: bool) {
        let index = self.writes.insert(WriteUnderWay { token, file, block, offset, written: 0, is_durable });
        self.submit_write(index);
    }

    fn submit_write(&mut self, index: u32) {
        let Some(write) = self.writes.get(index) else { return };
        let file = self.files.get(write.file);
        let rest = &write.block.filled()[write.written..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let flags = if write.is_durable { entry::WRITE_DURABLE } else { 0 };
        let (file, offset) =
            (io_uring::types::Fd(file.file.as_raw_fd()), write.offset + write.written as u64);
        let write = match write.block.registration().filter(|registration| registration.ring == self.serial) {
            Some(Registration { index, .. }) => opcode::WriteFixed::new(file, rest.as_ptr(), length, index)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Write::new(file, rest.as_ptr(), length).offset(offset).rw_flags(flags).build(),
        };
        self.push(&write, UserData::new(Kind::Write, 0, index));
    }

    /// Registers memory for `count` blocks, so that the kernel looks its pages up once instead of at each write. If the limit
    /// of locked memory forbids it, they are written as other memory is.
    fn register_blocks(&mut self, count: usize, capacity: usize) -> Vec<Block> {
        let mut pieces = Region::pieces(count, capacity.next_multiple_of(BLOCK_ALIGNMENT));
        let buffers = pieces.iter_mut();
        let buffers =
            buffers.map(|piece| libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() });
        let buffers: Vec<libc::iovec> = buffers.collect();
        // SAFETY: the memory is a region's, which is never freed.
        let is_registered = unsafe { self.ring.submitter().register_buffers(&buffers) }.is_ok();
        let ring = self.serial;
        let registration = |index| {
            let index = is_registered.then(|| u16::try_from(index).ok()).flatten()?;
            Some(Registration { ring, index })
        };
        let pieces = pieces.into_iter().enumerate();
        pieces.map(|(index, piece)| Block::lasting(piece, registration(index))).collect()
    }

    /// One kernel completion; what it means to the caller goes to `completions`.
    fn complete(&mut self, entry: &cqueue::Entry, completions: &mut Vec<Completion>) {
        let (kind, id, index) = UserData::parse(entry.user_data());
        let (result, flags) = (entry.result(), entry.flags());
        match kind {
            Kind::Accept if id.generation == self.listener_epoch => {
                self.accepted(index, result, flags, completions)
            }
            Kind::Accept => self.accepted_late(result),
            Kind::PeerName => self.peer_named(id, result, completions),
            Kind::Receive => self.received_some(id, result, flags, completions),
            Kind::Send => self.sent(index, result, completions),
            Kind::Write => self.written(index, result, completions),
            Kind::Socket => self.socket_made(index, result, completions),
            Kind::Bind => self.bound(index, result, completions),
            Kind::Connect => self.connected(index, result, completions),
            Kind::Close => {
                self.open_connections -= 1;
                self.arm_accepts();
            }
            Kind::Wake => {
                self.wake.clear();
                if !cqueue::more(flags) {
                    self.arm_wake();
                }
            }
            Kind::Cancel => {}
        }
    }

    fn accepted(&mut self, index: u32, result: i32, flags: u32, completions: &mut Vec<Completion>) {
        let Some(listener) = self.listeners.get_mut(index as usize) else { return };
        listener.is_accepting = cqueue::more(flags);
        let is_ipv6 = listener.is_ipv6;
        if let Ok(slot) = u32::try_from(result) {
            let id = self.open(slot);
            let query = self.addresses.query(slot, is_ipv6);
            self.push(&query, UserData::of(Kind::PeerName, id));
            self.arm_accepts();
            return;
        }
        // With the table full (ENFILE), or the system short of something, accepting again would fail at once, over and over.
        // Of the table the next close makes a place; the system does not say when it has room again. Anything else is
        // this one connection's trouble.
        if !matches!(-result, entry::ENFILE | entry::EMFILE | entry::ENOBUFS | entry::ENOMEM) {
            self.arm_accepts();
        } else if (self.open_connections as usize) < self.connections.len() {
            self.accept_at = Some(self.now.after(ACCEPT_PAUSE));
        }
        completions.push(Completion::AcceptFailed { error: io::Error::from_raw_os_error(-result) });
    }

    /// A connection that came to a listener that was closed meanwhile is turned away.
    fn accepted_late(&mut self, result: i32) {
        if let Ok(slot) = u32::try_from(result) {
            let id = self.open(slot);
            self.close(id);
        }
    }

    fn peer_named(&mut self, id: ConnectionId, result: i32, completions: &mut Vec<Completion>) {
        let peer = if result < 0 { None } else { self.addresses.read(id.slot) };
        match peer {
            Some(peer) => completions.push(Completion::Accepted { connection: id, peer }),
            // ENOTCONN: it is gone already.
            None => self.close(id),
        }
    }

    fn received_some(
        &mut self,
        id: ConnectionId,
        result: i32,
        flags: u32,
        completions: &mut Vec<Completion>,
    ) {
        let piece = match (u32::try_from(result), cqueue::buffer_select(flags)) {
            (Ok(length), Some(buffer)) if length > 0 => {
                Some(self.buffers.lend(buffer, length, cqueue::buffer_more(flags)))
            }
            _ => None,
        };
        let has_more = cqueue::more(flags);
        let Some(connection) = self.connection(id) else {
            // A late completion of a connection that was closed.
            if let Some(piece) = piece {
                self.buffers.recycle(piece);
            }
            return;
        };
        let (token, receives_some) = (connection.receive_token, connection.receives_some);
        connection.is_receiving = has_more;
        if let Some(piece) = piece {
            completions.push(Completion::Received { token, connection: id, piece });
        }
        if !has_more {
            let end = match -result {
                0 => ReceiveEnd::Closed,
                entry::ENOBUFS => ReceiveEnd::OutOfBuffers,
                entry::ECANCELED => ReceiveEnd::Stopped,
                error if error < 0 && receives_some => ReceiveEnd::Stopped,
                // The kernel ended the multishot with bytes in hand: the caller asks again.
                error if error < 0 => ReceiveEnd::OutOfBuffers,
                error => ReceiveEnd::Failed(io::Error::from_raw_os_error(error)),
            };
            completions.push(Completion::ReceiveEnded { token, connection: id, end });
        }
    }

    fn sent(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Some(send) = self.sends.get_mut(index) else { return };
        let outcome = match usize::try_from(result) {
            Ok(count) => {
                send.sent += count;
                if send.sent < send.memory.len() && count > 0 && self.is_sending(index) {
                    self.submit_send(index);
                    return;
                }
                let send = self.sends.get(index).expect("looked up above");
                if send.sent == send.memory.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
            }
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        let send = self.sends.take(index).expect("looked up above");
        if let Some(connection) = self.connection(send.connection) {
            connection.send = None;
        }
        let SendUnderWay { token, connection, memory, .. } = send;
        completions.push(Completion::Sent { token, connection, memory, result: outcome });
    }

    /// Whether the send's connection is still open.
    fn is_sending(&mut self, index: u32) -> bool {
        let connection = self.sends.get(index).map(|send| send.connection);
        connection.is_some_and(|id| self.connection(id).is_some())
    }

    fn written(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Some(write) = self.writes.get_mut(index) else { return };
        let outcome = match usize::try_from(result) {
            // A short write to a file means that there is no room for the rest.
            Ok(count) if count < write.block.len() - write.written => Err(io::ErrorKind::StorageFull.into()),
            Ok(_) => Ok(()),
            Err(_) if matches!(-result, entry::EINTR | entry::EAGAIN) => {
                self.submit_write(index);
                return;
            }
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        let write = self.writes.take(index).expect("looked up above");
        completions.push(Completion::Written { token: write.token, block: write.block, result: outcome });
    }

    fn socket_made(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Ok(slot) = u32::try_from(result) else {
            let Some(connect) = self.connects.take(index) else { return };
            let result = Err(io::Error::from_raw_os_error(-result));
            completions.push(Completion::Connected { token: connect.token, result });
            return;
        };
        self.open(slot);
        let Some(connect) = self.connects.get_mut(index) else { return };
        connect.slot = Some(slot);
        let (operation, kind) = match &connect.source {
            Some(source) => (source.bind(slot), Kind::Bind),
            None => (connect.server.connect(slot), Kind::Connect),
        };
        self.push(&entry::no_delay(slot), UserData::new(Kind::Cancel, 0, 0));
        self.push(&operation, UserData::new(kind, 0, index));
    }

    fn bound(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        match self.connects.get_mut(index) {
            Some(ConnectUnderWay { server, slot: Some(slot), .. }) if result >= 0 => {
                let operation = server.connect(*slot);
                self.push(&operation, UserData::new(Kind::Connect, 0, index));
            }
            // It ends as if it had failed to connect.
            _ => self.connected(index, result, completions),
        }
    }

    fn connected(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Some(ConnectUnderWay { token, slot: Some(slot), .. }) = self.connects.take(index) else { return };
        let id = ConnectionId { slot, generation: self.connections[slot as usize].generation };
        let result = if result < 0 {
            self.close(id);
            Err(io::Error::from_raw_os_error(-result))
        } else {
            Ok(id)
        };
        completions.push(Completion::Connected { token, result });
    }

    /// Moves what the kernel completed to `completions`.
    fn drain(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.ready);
        // Handling one needs the whole ring, so the entries are taken out first.
        let mut entries = std::mem::take(&mut self.entries);
        entries.extend(self.ring.completion().take(COMPLETIONS_MAX));
        for entry in &entries {
            self.complete(entry, completions);
        }
        entries.clear();
        // Handling one may have taken out more.
        entries.append(&mut self.entries);
        self.entries = entries;
    }

    /// Asks the ring for the name of a socket's peer once, so that a kernel that cannot is found at the start.
    fn check_peer_name(&mut self) -> Result<(), IoError> {
        let failed = |operation| move |source| IoError::Ring { operation, source };
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).map_err(failed("bind"))?;
        let address = listener.local_addr().map_err(failed("getsockname"))?;
        let client = std::net::TcpStream::connect(address).map_err(failed("connect"))?;
        let expected = client.local_addr().map_err(failed("getsockname"))?;
        self.accept(listener);
        let mut completions = Vec::new();
        let deadline = monotonic().after(CHECK_TIME);
        while completions.is_empty() && self.now < deadline {
            self.wait(Some(deadline), &mut completions)?;
        }
        self.stop_accepting();
        match completions.pop() {
            Some(Completion::Accepted { connection, peer }) if peer == expected => {
                self.close(connection);
                while self.open_connections > 0 && self.now < deadline {
                    self.wait(Some(deadline), &mut completions)?;
                }
                Ok(())
            }
            _ => Err(IoError::Unsupported("getsockopt of sockets (SOCKET_URING_OP_GETSOCKOPT)")),
        }
    }
}

impl Io for Uring {
    type Disk = OsDisk;

    fn attach(&mut self, file: OsFile) -> FileId {
        self.files.attach(file)
    }

    fn detach(&mut self, file: FileId) -> OsFile {
        self.files.detach(file)
    }

    fn blocks(&mut self, count: usize, capacity: usize) -> Vec<Block> {
        assert!(!std::mem::replace(&mut self.has_blocks, true), "a ring has blocks once");
        self.register_blocks(count, capacity)
    }

    fn submit(&mut self, token: Token, operation: Operation) {
        match operation {
            Operation::Accept(socket) => self.accept(socket),
            Operation::StopAccepting => self.stop_accepting(),
            Operation::Connect { server, source } => self.connect(token, server, source),
            Operation::Receive(connection) => self.receive(token, connection, false),
            Operation::ReceiveSome(connection) => self.receive(token, connection, true),
            Operation::StopReceiving(connection) => self.stop_receiving(connection),
            Operation::Send(connection, memory) => self.send(token, connection, memory),
            Operation::Close(connection) => self.close(connection),
            Operation::Write { file, block, offset, is_durable } => {
                self.write(token, file, block, offset, is_durable)
            }
        }
    }

    fn wait(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> Result<(), IoError> {
        let deadline = [deadline, self.accept_at].into_iter().flatten().min();
        let wait = if self.ready.is_empty() && self.entries.is_empty() {
            deadline.map(|deadline| deadline.since(self.now))
        } else {
            Some(std::time::Duration::ZERO)
        };
        let entered = match wait {
            Some(wait) => {
                let timeout = Timespec::from(wait);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
            None => self.ring.submit_and_wait(1),
        };
        self.now = monotonic();
        if let Err(source) = entered
            && !is_transient(&source)
        {
            return Err(call_error("io_uring_enter", source));
        }
        self.drain(completions);
        if self.accept_at.is_some_and(|time| time <= self.now) {
            self.accept_at = None;
            self.arm_accepts();
        }
        Ok(())
    }

    fn received(&self, piece: &Piece) -> &[u8] {
        self.buffers.octets(piece)
    }

    fn recycle(&mut self, piece: Piece) {
        self.buffers.recycle(piece);
    }

    fn now(&mut self) -> Instant {
        self.now
    }

    fn wall_clock(&mut self) -> u64 {
        wall_clock()
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel ends what is under way some time after the ring is closed. Memory that it may still look
        // at must outlive that, so it is given up.
        for send in self.sends.drain() {
            std::mem::forget(send.memory);
        }
        for write in self.writes.drain() {
            std::mem::forget(write.block);
        }
        for connect in self.connects.drain() {
            std::mem::forget((connect.server, connect.source));
        }
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Uring")
            .field("open_connections", &self.open_connections)
            .finish_non_exhaustive()
    }
}

/// How long the kernel may take over the check at the start.
const CHECK_TIME: std::time::Duration = std::time::Duration::from_secs(2);

fn index_of(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 listeners")
}

/// EINTR, ETIME (the deadline passed) and EBUSY or EAGAIN (the completion queue is to be drained first).
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(entry::EINTR | entry::ETIME | entry::EBUSY | entry::EAGAIN))
}

/// A call of io_uring's own failed. A seccomp profile may forbid each of the three by itself; EACCES is how SELinux says it.
fn call_error(operation: &'static str, source: io::Error) -> IoError {
    match source.raw_os_error() {
        Some(entry::EPERM | entry::ENOSYS | entry::EACCES) => IoError::NotPermitted(source),
        _ => IoError::Ring { operation, source },
    }
}

fn setup_error(source: io::Error) -> IoError {
    match source.raw_os_error() {
        Some(entry::EINVAL) => IoError::Unsupported("SINGLE_ISSUER and DEFER_TASKRUN"),
        Some(entry::ENOMEM) => IoError::Limit {
            what: "making the ring",
            remedy: "raise the limit of locked memory (ulimit -l, or LimitMEMLOCK= of the service)",
            source,
        },
        _ => call_error("io_uring_setup", source),
    }
}

fn require_operations(submitter: &io_uring::Submitter<'_>) -> Result<(), IoError> {
    let mut probe = Probe::new();
    submitter.register_probe(&mut probe).map_err(|source| call_error("IORING_REGISTER_PROBE", source))?;
    let needed = [
        (opcode::AcceptMulti::CODE, "accept"),
        (opcode::RecvMulti::CODE, "receive"),
        (opcode::Recv::CODE, "receive once"),
        (opcode::Send::CODE, "send"),
        (opcode::Close::CODE, "close"),
        (opcode::Write::CODE, "write"),
        (opcode::WriteFixed::CODE, "write from registered memory"),
        (opcode::AsyncCancel::CODE, "cancel"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::Socket::CODE, "socket"),
        (opcode::Connect::CODE, "connect"),
        (opcode::SetSockOpt::CODE, "socket commands"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(IoError::Unsupported(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
