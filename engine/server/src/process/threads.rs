//! Worker threads: startup and end.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver, Sender};
use mailrace_io::epoll::{EpollIo, Settings as EpollSettings};
use mailrace_io::uring::{Settings as RingSettings, Uring};
use mailrace_io::{Io, IoError, OsDisk, Waker};
use mailrace_spool::{SegmentSpool, Shared, Source};
use rustix::thread::CpuSet;

use crate::config::{IoChoice, own_processors};
use crate::log::{Log, name};
use crate::metrics::WorkerNumbers;
use crate::worker::{Control, Hatch, SPARE_CONNECTIONS, Telemetry, Worker, WorkerSettings, Workers};

use super::error::{StartError, system};

/// Running workers.
pub(super) struct WorkerThreads {
    pub(super) threads: Vec<JoinHandle<()>>,
    /// Handles through which other threads reach the workers.
    pub(super) workers: Workers,
    pub(super) numbers: Vec<Arc<WorkerNumbers>>,
}

impl WorkerThreads {
    /// Starts one worker per spool, each with one of the lists of `listeners` and of `hatches` if there are any, and waits
    /// until all of them run.
    pub(super) fn start(
        common: &Common,
        spools: Vec<SegmentSpool<OsDisk>>,
        listeners: Vec<Vec<TcpListener>>,
        hatches: Vec<Hatch<Source>>,
    ) -> Result<Self, StartError> {
        let count = spools.len();
        let processors = own_processors();
        let numbers: Vec<Arc<WorkerNumbers>> = (0..count).map(|_| Arc::default()).collect();
        let (started, starts) = channel::bounded(count);
        let (mut threads, mut controls) = (Vec::new(), Vec::new());
        let mut hatches = hatches.into_iter();
        for (index, (spool, listeners)) in spools.into_iter().zip(listeners).enumerate() {
            let (sender, receiver) = channel::unbounded();
            controls.push(sender);
            let seat = Seat {
                common: common.clone(),
                processor: processors.get(index % processors.len().max(1)).copied(),
                listeners,
                spool,
                numbers: Arc::clone(&numbers[index]),
                controls: receiver,
                hatch: hatches.next(),
            };
            let started = started.clone();
            threads.push(spawn(&format!("worker-{index}"), move || work(index, seat, &started))?);
        }
        let mut wakers = vec![None; count];
        for _ in 0..count {
            let (index, waker) =
                starts.recv().map_err(|_| system("start a worker")(io::ErrorKind::Other.into()))?;
            wakers[index] = Some(waker.map_err(StartError::Io)?);
        }
        let wakers: Vec<Waker> = wakers.into_iter().flatten().collect();
        wakers.iter().for_each(|waker| common.shared.add_waker(waker.clone()));
        let workers = Workers::new(controls.into_iter().zip(wakers).collect());
        Ok(Self { threads, workers, numbers })
    }
}

/// Starts a thread.
pub(super) fn spawn(name: &str, life: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(life).map_err(system("start a thread"))
}

/// Waits until all workers have ended.
pub(super) fn join(threads: Vec<JoinHandle<()>>, log: &Log) {
    for thread in threads {
        if thread.join().is_err() {
            give_up(log);
        }
    }
}

/// Ends the process because a worker failed. Accepted messages are durable, and the next start recovers them.
fn give_up(log: &Log) -> ! {
    log.stop();
    std::process::exit(EXIT_SOFTWARE);
}

/// EX_SOFTWARE of sysexits.h.
const EXIT_SOFTWARE: i32 = 70;

/// Kernel interface of this process's workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Ring,
    Epoll,
}

impl Kernel {
    /// Chooses the kernel interface that `io` names. With `auto` chooses the ring where it is available, and otherwise
    /// epoll, with a warning.
    ///
    /// Falls back to epoll only if io_uring is forbidden or missing. If a limit prevents the ring, startup fails and names
    /// the limit: an operator can raise it, and a slower engine would hide it.
    pub(super) fn choose(choice: IoChoice, log: &Log) -> Self {
        match choice {
            IoChoice::Ring => Self::Ring,
            IoChoice::Epoll => Self::Epoll,
            IoChoice::Auto => match Uring::new(TRIAL) {
                Err(error) if error.is_ring_missing() => {
                    let message = format_args!(
                        "epoll is used, which takes more processor time: {error}; or set io = \"epoll\" in [engine] to \
                         disable this warning"
                    );
                    log.warning(name::EPOLL, message).text("reason", error.to_string());
                    Self::Epoll
                }
                // The ring of a worker will report any other error.
                _ => Self::Ring,
            },
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Epoll => "epoll",
        }
    }
}

/// Settings of a minimal ring that tests whether rings can be created. It is closed before the workers start.
const TRIAL: RingSettings = RingSettings {
    connections: 2,
    receive_buffers: 1,
    receive_buffer_size: 4096,
    submission_entries: 8,
    completion_entries: 16,
};

/// Data that all workers share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) kernel: Kernel,
    /// Maximum number of writes in progress per spool.
    pub(super) writers: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Arc<WorkerSettings>,
    pub(super) log: Log,
}

/// Arguments of a worker thread.
struct Seat {
    common: Common,
    processor: Option<usize>,
    listeners: Vec<TcpListener>,
    spool: SegmentSpool<OsDisk>,
    numbers: Arc<WorkerNumbers>,
    controls: Receiver<Control>,
    /// Where its messages are delivered.
    hatch: Option<Hatch<Source>>,
}

type Started = Sender<(usize, Result<Waker, IoError>)>;

/// Runs a worker thread. The `Io` belongs to the thread that creates it.
fn work(index: usize, seat: Seat, started: &Started) {
    if let Some(processor) = seat.processor {
        let mut set = CpuSet::new();
        set.set(processor);
        // If pinning is not allowed, the scheduler places the thread.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    let slots = seat.common.settings.max_connections + SPARE_CONNECTIONS;
    let connections = u32::try_from(slots).unwrap_or(u32::MAX);
    match seat.common.kernel {
        Kernel::Ring => {
            let io = Uring::new(RingSettings { connections, ..RingSettings::default() });
            work_on(io, index, seat, slots, started);
        }
        Kernel::Epoll => {
            let writers = seat.common.writers;
            let io = EpollIo::new(EpollSettings { connections, writers, ..EpollSettings::default() });
            work_on(io, index, seat, slots, started);
        }
    }
}

/// Runs a worker on any kind of `Io`; `slots` is the size of its connection table.
fn work_on<I: Io<Disk = OsDisk>>(
    io: Result<I, IoError>,
    index: usize,
    seat: Seat,
    slots: usize,
    started: &Started,
) {
    let mut io = match io {
        Ok(io) => io,
        Err(error) => {
            // The thread that starts the workers ends the process.
            let _ = started.send((index, Err(error)));
            return;
        }
    };
    let _ = started.send((index, Ok(io.waker())));
    for listener in seat.listeners {
        io.submit(mailrace_io::Token::default(), mailrace_io::Operation::Accept(listener));
    }
    let telemetry = Telemetry::new(seat.common.log.writer(), seat.numbers);
    let mut worker = Worker::new(
        io,
        seat.spool,
        seat.common.shared,
        seat.common.settings,
        telemetry,
        seat.controls,
        slots,
    );
    if let Some(hatch) = seat.hatch {
        worker = worker.deliver_through(hatch);
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let message = format_args!("worker {index} ended: {error}");
            seat.common
                .log
                .error(name::WORKER_FAILED, message)
                .number("worker", index as u64)
                .text("reason", error.to_string());
            give_up(&seat.common.log);
        }
        // The panic hook has reported the panic.
        Err(_) => give_up(&seat.common.log),
    }
}
