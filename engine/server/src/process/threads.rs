//! The threads of the workers: what each is given, and how they end.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender};
use mailrace_io::epoll::{EpollIo, Settings as EpollSettings};
use mailrace_io::uring::{Settings as RingSettings, Uring};
use mailrace_io::{Io, IoError, OsDisk, Waker};
use mailrace_spool::{SegmentSpool, Shared};
use rustix::thread::CpuSet;

use crate::config::IoChoice;
use crate::log::Log;
use crate::metrics::WorkerNumbers;
use crate::worker::{Control, SPARE_CONNECTIONS, Telemetry, Worker, WorkerSettings};

pub(super) fn drain(threads: Vec<JoinHandle<()>>, log: &Log) {
    for thread in threads {
        if thread.join().is_err() {
            give_up(log);
        }
    }
}

/// Ends the process because a worker failed. What it had accepted is durable; the next start recovers it.
fn give_up(log: &Log) -> ! {
    log.stop();
    std::process::exit(EXIT_SOFTWARE);
}

/// EX_SOFTWARE of sysexits.h.
const EXIT_SOFTWARE: i32 = 70;

/// How this process's workers reach the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Ring,
    Epoll,
}

impl Kernel {
    /// Does what was asked for; by itself it takes the ring if one can be had, and says so once if not.
    ///
    /// Only a ring that is forbidden or not there is a reason for epoll. What a limit stands in the way of has a remedy in
    /// the hands of whoever set the limit, which a slower start would hide: then the start fails, and names it.
    pub(super) fn choose(choice: IoChoice, log: &Log) -> Self {
        match choice {
            IoChoice::Ring => Self::Ring,
            IoChoice::Epoll => Self::Epoll,
            IoChoice::Auto => match Uring::new(TRIAL) {
                Err(error) if error.is_ring_missing() => {
                    let message = format_args!(
                        "epoll is used, which takes more processor time: {error}; or set io = \"epoll\" in [engine] to be \
                         content with it"
                    );
                    log.warning("epoll", message).text("reason", error.to_string());
                    Self::Epoll
                }
                // What else is wrong a worker's own will meet, too.
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

/// The ring that shows whether there can be one: as small as can be, used as all are, and gone before the workers start.
const TRIAL: RingSettings = RingSettings {
    connections: 2,
    receive_buffers: 1,
    receive_buffer_size: 4096,
    submission_entries: 8,
    completion_entries: 16,
};

/// What a worker's thread is given.
pub(super) struct Seat {
    pub(super) kernel: Kernel,
    /// Writes that the spool has under way at once.
    pub(super) writers: usize,
    pub(super) processor: Option<usize>,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) spool: SegmentSpool<OsDisk>,
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Arc<WorkerSettings>,
    pub(super) log: Log,
    pub(super) numbers: Arc<WorkerNumbers>,
    pub(super) controls: Receiver<Control>,
}

pub(super) type Started = Sender<(usize, Result<Waker, IoError>)>;

/// A worker's thread: its `Io` belongs to the thread that makes it.
pub(super) fn work(index: usize, seat: Seat, started: &Started) {
    if let Some(processor) = seat.processor {
        let mut set = CpuSet::new();
        set.set(processor);
        // Where it may not be pinned it runs where it is put.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    let slots = seat.settings.max_connections + SPARE_CONNECTIONS;
    let connections = u32::try_from(slots).unwrap_or(u32::MAX);
    match seat.kernel {
        Kernel::Ring => {
            let io = Uring::new(RingSettings { connections, ..RingSettings::default() });
            work_on(io, index, seat, slots, started);
        }
        Kernel::Epoll => {
            let writers = seat.writers;
            let io = EpollIo::new(EpollSettings { connections, writers, ..EpollSettings::default() });
            work_on(io, index, seat, slots, started);
        }
    }
}

/// The same on an `Io` of any kind; `slots`: places of its connection table.
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
            // Whoever waits for it ends the process.
            let _ = started.send((index, Err(error)));
            return;
        }
    };
    let _ = started.send((index, Ok(io.waker())));
    for listener in seat.listeners {
        io.submit(mailrace_io::Token::default(), mailrace_io::Operation::Accept(listener));
    }
    let telemetry = Telemetry::new(seat.log.writer(), seat.numbers);
    let worker = Worker::new(io, seat.spool, seat.shared, seat.settings, telemetry, seat.controls, slots);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let message = format_args!("worker {index} ended: {error}");
            seat.log
                .error("worker_failed", message)
                .number("worker", index as u64)
                .text("reason", error.to_string());
            give_up(&seat.log);
        }
        // The hook has reported it.
        Err(_) => give_up(&seat.log),
    }
}
