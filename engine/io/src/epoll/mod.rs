//! The kernel without io_uring, where that is forbidden: readiness from epoll, durable writes with `pwritev2` and
//! reads on separate threads. Safe code only.
//!
//! Descriptors are watched edge-triggered and registered once, when a connection begins; readiness is kept in the
//! table until a receive or send exhausts it. So a message costs no `epoll_ctl`, and interest never has to follow
//! what the engine waits for. A connection that can continue is queued; each gets one receive of bounded size per wait,
//! so that a client that floods gets the same part of a turn as the others.
//!
//! Receives are done inside [`Io::wait`]; sends and closes when they are submitted, since they nearly always need no
//! waiting.

mod buffers;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod writers;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::time::Timespec;

use crate::files::Files;
use crate::operation::ACCEPT_PAUSE;
use crate::system::{Random, WakeDescriptor, monotonic, wall_clock};
use crate::{
    Completion, ConnectionId, FileId, Instant, Io, IoError, Operation, OsDisk, OsFile, Piece, ReceiveEnd,
    SOME, Token, Waker,
};
use buffers::ReceiveBuffers;
use table::{Connection, Input, SendUnderWay, Table};
use writers::{Memory, Task, Writers};

pub use settings::Settings;

/// Approximate number of completions that one wait returns; the next one returns the rest.
const COMPLETIONS_MAX: usize = 1024;
/// Connections that one wait accepts from a listener; the next one accepts the rest.
const ACCEPTS_MAX: usize = 128;
/// The longest wait that all kernels support.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// One worker's kernel on epoll.
pub struct EpollIo {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    wake: WakeDescriptor,
    buffers: ReceiveBuffers,
    table: Table,
    /// Connections that can continue.
    line: VecDeque<ConnectionId>,
    listeners: Vec<Listener>,
    pause: Pause,
    files: Files<Arc<OsFile>>,
    writers: Writers,
    /// Completions found at submission, which the next wait returns.
    ready: Vec<Completion>,
    /// A listener could not be watched: no client would ever be accepted.
    failure: Option<IoError>,
    now: Instant,
    random: Random,
}

struct Listener {
    socket: TcpListener,
    /// Clients may wait.
    has_clients: bool,
}

/// Whether clients are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    No,
    /// The table is full.
    UntilClose,
    /// Descriptors or memory ran out, perhaps through other processes: retry at that time, or at the next close.
    Until(Instant),
}

/// The subject of an event: the value that epoll returns with it.
enum Watched {
    Connection(ConnectionId),
    Listener(usize),
    Wake,
}

impl Watched {
    const LISTENER: u64 = 1 << 63;
    const WAKE: u64 = u64::MAX;

    const fn data(&self) -> EventData {
        EventData::new_u64(match self {
            // A generation has 24 bits.
            Self::Connection(id) => ((id.generation as u64) << 32) | id.slot as u64,
            Self::Listener(index) => Self::LISTENER | *index as u64,
            Self::Wake => Self::WAKE,
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes apart what data put together")]
    fn parse(data: EventData) -> Self {
        match data.u64() {
            Self::WAKE => Self::Wake,
            data if data & Self::LISTENER != 0 => Self::Listener((data & !Self::LISTENER) as usize),
            data => Self::Connection(ConnectionId { slot: data as u32, generation: (data >> 32) as u32 }),
        }
    }
}

/// Whether a listening socket has a client. If poll fails, a client is assumed to wait: accept will tell.
fn is_readable(socket: &TcpListener) -> bool {
    let mut sockets = [PollFd::new(socket, PollFlags::IN)];
    rustix::event::poll(&mut sockets, Some(&Timespec::default())) != Ok(0)
}

/// The events watched on a connection from its beginning.
fn input_events() -> EventFlags {
    EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP | EventFlags::ET
}

impl EpollIo {
    /// An epoll instance with its buffers and threads.
    ///
    /// # Errors
    /// [`IoError::Epoll`] when the system gives no descriptor or thread.
    pub fn new(settings: Settings) -> Result<Self, IoError> {
        let failed = |operation| move |source| IoError::Epoll { operation, source };
        let wake = WakeDescriptor::new().map_err(failed("eventfd"))?;
        let epoll =
            epoll::create(CreateFlags::CLOEXEC).map_err(|error| failed("epoll_create1")(error.into()))?;
        // Each write to it is an edge, so it is never read.
        epoll::add(&epoll, &wake, Watched::Wake.data(), EventFlags::IN | EventFlags::ET)
            .map_err(|error| failed("epoll_ctl")(error.into()))?;
        let writers = Writers::start(settings.writers.max(1), &wake.waker())
            .map_err(failed("starting a thread that writes"))?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(COMPLETIONS_MAX),
            wake,
            buffers: ReceiveBuffers::new(settings.receive_buffers, settings.receive_buffer_size),
            table: Table::new(settings.connections),
            line: VecDeque::new(),
            listeners: Vec::new(),
            pause: Pause::No,
            files: Files::default(),
            writers,
            ready: Vec::new(),
            failure: None,
            now: monotonic(),
            random: Random::new(),
        })
    }

    fn listen(&mut self, socket: TcpListener) {
        let data = Watched::Listener(self.listeners.len()).data();
        let watched = socket
            .set_nonblocking(true)
            .and_then(|()| Ok(epoll::add(&self.epoll, &socket, data, EventFlags::IN | EventFlags::ET)?));
        if let Err(source) = watched {
            self.failure = Some(IoError::Epoll { operation: "watching a listening socket", source });
        }
        self.listeners.push(Listener { socket, has_clients: false });
    }

    fn connect(&mut self, token: Token, server: SocketAddr, source: Option<IpAddr>) {
        match self.begin_connect(server, source) {
            Ok(id) => {
                let connection = self.table.get(id).expect("opened above");
                connection.connect = Some(token);
                connection.is_room_watched = true;
            }
            Err(error) => self.ready.push(Completion::Connected { token, result: Err(error) }),
        }
    }

    fn begin_connect(&mut self, server: SocketAddr, source: Option<IpAddr>) -> io::Result<ConnectionId> {
        let id = self.table.next().ok_or(Errno::NFILE)?;
        let family = if server.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(source) = source {
            rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
        }
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Watched from now on, it also tells of what has happened before.
        let events = input_events() | EventFlags::OUT;
        epoll::add(&self.epoll, &socket, Watched::Connection(id).data(), events)?;
        Ok(self.table.open(Connection::new(socket)))
    }

    fn receive(&mut self, token: Token, id: ConnectionId, receives_some: bool) {
        let Some(connection) = self.table.get(id) else { return };
        assert!(connection.receive.is_none(), "receiving is under way already");
        connection.receive = Some(token);
        connection.receives_some = receives_some;
        self.line_up(id);
    }

    fn stop_receiving(&mut self, id: ConnectionId) {
        if let Some(connection) = self.table.get(id) {
            connection.is_stopping = connection.receive.is_some();
            self.line_up(id);
        }
    }

    fn send(&mut self, token: Token, id: ConnectionId, memory: Vec<u8>) {
        let Some(connection) = self.table.get(id) else {
            let result = Err(io::ErrorKind::NotConnected.into());
            self.ready.push(Completion::Sent { token, connection: id, memory, result });
            return;
        };
        assert!(connection.send.is_none(), "a send is under way already");
        connection.send = Some(SendUnderWay { token, memory, sent: 0 });
        let sent = self.go_on_sending(id);
        self.ready.extend(sent);
    }

    /// Sends until nothing is left, or the socket has no room.
    fn go_on_sending(&mut self, id: ConnectionId) -> Option<Completion> {
        let connection = self.table.get(id)?;
        let mut send = connection.send.take()?;
        let result = loop {
            match rustix::net::send(&connection.socket, &send.memory[send.sent..], SendFlags::NOSIGNAL) {
                Ok(0) if send.sent < send.memory.len() => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    send.sent += count;
                    if send.sent == send.memory.len() {
                        break Ok(());
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    connection.has_room = false;
                    let data = Watched::Connection(id).data();
                    let events = input_events() | EventFlags::OUT;
                    // An edge comes when there is room, or at once if there is by now.
                    if !connection.is_room_watched
                        && let Err(error) = epoll::modify(&self.epoll, &connection.socket, data, events)
                    {
                        break Err(error.into());
                    }
                    connection.is_room_watched = true;
                    connection.send = Some(send);
                    return None;
                }
                Err(error) => break Err(error.into()),
            }
        };
        let SendUnderWay { token, memory, .. } = send;
        Some(Completion::Sent { token, connection: id, memory, result })
    }

    fn close(&mut self, id: ConnectionId) {
        // The last descriptor of a socket takes it out of the epoll instance when it is closed.
        let Some(Connection { send, .. }) = self.table.close(id) else { return };
        if let Some(SendUnderWay { token, memory, .. }) = send {
            let result = Err(Errno::CANCELED.into());
            self.ready.push(Completion::Sent { token, connection: id, memory, result });
        }
        self.pause = Pause::No;
    }

    /// Hands a write or read to the threads.
    fn hand_over(&mut self, token: Token, id: FileId, offset: u64, memory: Memory) {
        if matches!(memory, Memory::Read(_)) {
            self.files.get_mut(id).kind.check_read();
        }
        let file = Arc::clone(self.files.begin(id));
        self.writers.submit(Task { token, id, file, offset, memory });
    }

    /// Queues a connection if it can continue.
    fn line_up(&mut self, id: ConnectionId) {
        if let Some(connection) = self.table.get(id)
            && !connection.is_queued
            && connection.can_go_on()
        {
            connection.is_queued = true;
            self.line.push_back(id);
        }
    }

    /// Records an event from the kernel.
    fn note(&mut self, watched: &Watched, events: EventFlags, completions: &mut Vec<Completion>) {
        match *watched {
            // What it was woken for is seen after every wait.
            Watched::Wake => {}
            Watched::Listener(index) => {
                if let Some(listener) = self.listeners.get_mut(index) {
                    listener.has_clients = true;
                    if self.table.is_full() {
                        self.pause = Pause::UntilClose;
                        completions.push(Completion::AcceptFailed { error: Errno::NFILE.into() });
                    }
                }
            }
            Watched::Connection(id) => {
                let Some(connection) = self.table.get(id) else { return };
                let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
                if events.intersects(ends | EventFlags::PRI) {
                    connection.input = Input::OctetsAndMore;
                } else if events.contains(EventFlags::IN) && connection.input == Input::Empty {
                    connection.input = Input::Octets;
                }
                connection.has_room |= events.intersects(ends | EventFlags::OUT);
                self.line_up(id);
            }
        }
    }

    /// Whether a client waits that may be accepted.
    fn can_accept(&self) -> bool {
        let may_accept = match self.pause {
            Pause::No => !self.table.is_full(),
            Pause::UntilClose => false,
            Pause::Until(end) => end <= self.now,
        };
        may_accept && self.has_clients()
    }

    fn has_clients(&self) -> bool {
        self.listeners.iter().any(|listener| listener.has_clients)
    }

    fn accept(&mut self, completions: &mut Vec<Completion>) {
        self.pause = Pause::No;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_MAX {
                let (Some(id), Pause::No) = (self.table.next(), self.pause) else { return };
                match self.accept_one(index, id) {
                    Ok(Some((socket, peer))) => {
                        let connection = self.table.open(Connection::new(socket));
                        completions.push(Completion::Accepted { connection, peer });
                    }
                    Ok(None) => {}
                    Err(Errno::AGAIN) => {
                        self.listeners[index].has_clients = false;
                        break;
                    }
                    // Trying again would fail at once, over and over.
                    Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                        // The kernel takes a descriptor before it looks for a client.
                        self.listeners[index].has_clients = is_readable(&self.listeners[index].socket);
                        if self.listeners[index].has_clients {
                            self.pause = Pause::Until(self.now.after(ACCEPT_PAUSE));
                            completions.push(Completion::AcceptFailed { error: error.into() });
                        }
                        break;
                    }
                    // This one client's trouble.
                    Err(error) => {
                        completions.push(Completion::AcceptFailed { error: error.into() });
                        break;
                    }
                }
            }
        }
    }

    /// Accepts the next client of a listener, which will be called `id`; `None` for one that has no address.
    fn accept_one(&self, index: usize, id: ConnectionId) -> Result<Option<(OwnedFd, SocketAddr)>, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, peer) =
            rustix::io::retry_on_intr(|| rustix::net::acceptfrom_with(&self.listeners[index].socket, flags))?;
        let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { return Ok(None) };
        epoll::add(&self.epoll, &socket, Watched::Connection(id).data(), input_events())?;
        Ok(Some((socket, peer)))
    }

    /// Makes progress on a connection whose turn it is.
    fn go_on(&mut self, id: ConnectionId, completions: &mut Vec<Completion>) {
        let Some(connection) = self.table.get(id) else { return };
        connection.is_queued = false;
        if connection.has_room {
            if let Some(token) = connection.connect.take() {
                let outcome = sockopt::socket_error(&connection.socket).and_then(|outcome| outcome);
                let result = outcome.map(|()| id).map_err(io::Error::from);
                if result.is_err() {
                    self.close(id);
                }
                completions.push(Completion::Connected { token, result });
                return;
            }
            let sent = self.go_on_sending(id);
            completions.extend(sent);
        }
        self.go_on_receiving(id, completions);
        self.line_up(id);
    }

    /// One receive, if there is something to receive.
    fn go_on_receiving(&mut self, id: ConnectionId, completions: &mut Vec<Completion>) {
        let Some(connection) = self.table.get(id) else { return };
        let Some(token) = connection.receive else { return };
        let end = if connection.is_stopping {
            ReceiveEnd::Stopped
        } else if connection.input == Input::Empty {
            return;
        } else if let Some(room) = self.buffers.room() {
            let asked = if connection.receives_some { room.len().min(SOME as usize) } else { room.len() };
            let room = &mut room[..asked];
            match rustix::net::recv(&connection.socket, room, RecvFlags::empty()) {
                Ok((0, _)) => ReceiveEnd::Closed,
                Ok((length, _)) => {
                    if length < asked && connection.input == Input::Octets {
                        connection.input = Input::Empty;
                    }
                    let piece = self.buffers.lend(length);
                    completions.push(Completion::Received { token, connection: id, piece });
                    if !connection.receives_some {
                        return;
                    }
                    ReceiveEnd::Stopped
                }
                Err(Errno::AGAIN) => {
                    connection.input = Input::Empty;
                    return;
                }
                Err(Errno::INTR) => return,
                Err(error) => ReceiveEnd::Failed(error.into()),
            }
        } else {
            ReceiveEnd::OutOfBuffers
        };
        connection.receive = None;
        connection.is_stopping = false;
        completions.push(Completion::ReceiveEnded { token, connection: id, end });
    }

    /// Returns how long the kernel may wait for events.
    fn wait_time(&self, deadline: Option<Instant>) -> Option<Timespec> {
        let is_poll = !self.ready.is_empty() || !self.line.is_empty() || self.can_accept();
        let pause = match self.pause {
            Pause::Until(end) if self.has_clients() => Some(end),
            _ => None,
        };
        let wait = match [deadline, pause].into_iter().flatten().min() {
            _ if is_poll => Duration::ZERO,
            Some(end) => end.since(self.now).min(WAIT_MAX),
            None => return None,
        };
        Some(Timespec::try_from(wait).expect("a wait of a day at most"))
    }
}

impl Io for EpollIo {
    type Disk = OsDisk;

    fn attach(&mut self, file: OsFile) -> FileId {
        self.files.attach(Arc::new(file))
    }

    fn detach(&mut self, file: FileId) -> OsFile {
        let file = self.files.detach(file);
        Arc::into_inner(file).expect("a thread drops a file before its task is known to be done")
    }

    fn submit(&mut self, token: Token, operation: Operation) {
        match operation {
            Operation::Accept(socket) => self.listen(socket),
            Operation::StopAccepting => self.listeners.clear(),
            Operation::Connect { server, source } => self.connect(token, server, source),
            Operation::Receive(connection) => self.receive(token, connection, false),
            Operation::ReceiveSome(connection) => self.receive(token, connection, true),
            Operation::StopReceiving(connection) => self.stop_receiving(connection),
            Operation::Send(connection, memory) => self.send(token, connection, memory),
            Operation::Close(connection) => self.close(connection),
            Operation::Write { file, block, offset, is_durable } => {
                self.hand_over(token, file, offset, Memory::Write { block, is_durable })
            }
            Operation::Read { file, buffer, offset } => {
                self.hand_over(token, file, offset, Memory::Read(buffer))
            }
        }
    }

    fn wait(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> Result<(), IoError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let completions_max = completions.len() + COMPLETIONS_MAX;
        let timeout = self.wait_time(deadline);
        let waited = epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref());
        self.now = monotonic();
        match waited {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(IoError::Epoll { operation: "epoll_pwait", source: error.into() }),
        }
        completions.append(&mut self.ready);
        for (file, completion) in self.writers.completions() {
            self.files.end(file);
            completions.push(completion);
        }
        // Handling one needs all of this, so they are taken out first.
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.note(&Watched::parse(event.data), event.flags, completions);
        }
        self.events = events;
        if self.can_accept() {
            self.accept(completions);
        }
        // Those that can continue are queued after the others, for the next wait.
        for _ in 0..self.line.len() {
            if completions.len() >= completions_max {
                break;
            }
            let Some(id) = self.line.pop_front() else { break };
            self.go_on(id, completions);
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

impl std::fmt::Debug for EpollIo {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EpollIo")
            .field("open_connections", &self.table.open_count())
            .finish_non_exhaustive()
    }
}
