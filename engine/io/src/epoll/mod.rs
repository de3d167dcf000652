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

mod accepting;
mod buffers;
mod connections;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod writers;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::files::Files;
use crate::system::{Random, WakeDescriptor, monotonic, wall_clock};
use crate::{
    Completion, ConnectionId, FileId, Instant, Io, IoError, Operation, OsDisk, OsFile, Piece, Token, Waker,
};
use accepting::{Listener, Pause};
use buffers::ReceiveBuffers;
use table::{Input, Table};
use writers::{Memory, Task, Writers};

pub use settings::Settings;

/// Approximate number of completions that one wait returns; the next one returns the rest.
const COMPLETIONS_MAX: usize = 1024;
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

    /// Hands a write or read to the threads.
    fn hand_over(&mut self, token: Token, id: FileId, offset: u64, memory: Memory) {
        if matches!(memory, Memory::Read(_)) {
            self.files.get_mut(id).kind.check_read();
        }
        let file = Arc::clone(self.files.begin(id));
        self.writers.submit(Task { token, id, file, offset, memory });
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
            Operation::Connect { server, source } => self.connect(token, &server, source),
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
