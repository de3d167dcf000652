//! The real ring: one io_uring for one worker. **The only unsafe code of the workspace.**
//!
//! What got the kernel's share down, as measured: `SINGLE_ISSUER | DEFER_TASKRUN`, multishot accept and
//! receive, a ring of provided buffers (incremental where the kernel has it), direct descriptors, and one
//! `io_uring_enter` a turn. A multishot accept cannot tell the client's address, and a direct descriptor has
//! no number to ask `getpeername` about; the ring's own getsockopt(SO_PEERNAME) can (Linux 6.7).
//!
//! Every operation's memory is owned by this module from submission to completion: blocks, reads and sends in
//! slabs, addresses and receive buffers in regions that are never freed.
#![expect(unsafe_code, reason = "the ring hands memory to the kernel; each block says why it may")]

mod buffers;
mod completions;
mod entry;
mod operations;
mod region;
mod settings;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use crate::files::Files;
use crate::operation::Serial;
use crate::slab::Slab;
use crate::system::{Random, WakeDescriptor, monotonic, wall_clock};
use crate::{
    Block, Completion, ConnectionId, FileId, Instant, Io, IoError, Operation, OsDisk, OsFile, Piece, Token,
    Waker,
};
use buffers::ReceiveBuffers;
use entry::{Address, AddressTable, Kind, UserData};

pub use region::limit_huge_pages;
pub(crate) use region::zeros;
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
    reads: Slab<ReadUnderWay>,
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

struct ReadUnderWay {
    token: Token,
    file: FileId,
    buffer: Vec<u8>,
    offset: u64,
    /// Bytes read so far.
    filled: usize,
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
            reads: Slab::new(),
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
            Operation::Connect { server, source } => self.connect(token, &server, source),
            Operation::Receive(connection) => self.receive(token, connection, false),
            Operation::ReceiveSome(connection) => self.receive(token, connection, true),
            Operation::StopReceiving(connection) => self.stop_receiving(connection),
            Operation::Send(connection, memory) => self.send(token, connection, memory),
            Operation::Close(connection) => self.close(connection),
            Operation::Write { file, block, offset, is_durable } => {
                self.write(token, file, block, offset, is_durable)
            }
            Operation::Read { file, buffer, offset } => self.read(token, file, buffer, offset),
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
        // at or write to must outlive that, so it is given up.
        for send in self.sends.drain() {
            std::mem::forget(send.memory);
        }
        for write in self.writes.drain() {
            std::mem::forget(write.block);
        }
        for read in self.reads.drain() {
            std::mem::forget(read.buffer);
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
        (opcode::Read::CODE, "read"),
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
