//! Owns the running engine as a process: its threads, sockets and signals.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use mailrace_core::message::date::Zone;
use mailrace_io::epoll::{EpollIo, Settings as EpollSettings};
use mailrace_io::uring::{Settings as RingSettings, Uring};
use mailrace_io::{Io, IoError, OsDisk, Waker};
use mailrace_spool::{Damage, OpenError, Opened, RecoveryReport, SegmentSpool, Shared, Stranger};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{
    ConfigErrors, Configuration, ConnectionParameters, IoChoice, Sources, Tables, own_processors, zone_now,
};
use crate::file_system;
use crate::log::{self, Log, panics};
use crate::maildrop::{self, Maildrop};
use crate::metrics::{Metrics, WorkerNumbers};
use crate::registration;
use crate::services::{self, Pickup};
use crate::tables::{Files, Lookups};
use crate::worker::{Control, SPARE_CONNECTIONS, Telemetry, Worker, WorkerSettings};

/// Why the engine does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is wrong.
    Configuration(ConfigErrors),
    /// The queue's directory cannot be used.
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The queue cannot be opened.
    Queue {
        /// Which.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// An address cannot be listened on.
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel does not give a worker what it needs.
    Io(IoError),
    /// Something else of the system's failed.
    System {
        /// What was being done.
        operation: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(errors) => write!(formatter, "{errors}"),
            Self::Directory { path, source } => write!(
                formatter,
                "cannot use the queue directory {}: {source}; set directory in [queue], or --queue, to one that this user may write",
                path.display()
            ),
            Self::Queue { path, source } => {
                write!(formatter, "cannot open the queue in {}: {source}", path.display())
            }
            Self::Listen { address, source } => {
                let remedy = match source.kind() {
                    io::ErrorKind::AddrInUse => {
                        "stop what listens there, or set another address with listen in [engine] or --listen"
                    }
                    io::ErrorKind::PermissionDenied => {
                        "ports below 1024 need the capability CAP_NET_BIND_SERVICE"
                    }
                    io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
                    _ => "check listen and congestion_control in [engine]",
                };
                write!(formatter, "cannot listen on {address}: {source}; {remedy}")
            }
            // Locked memory: only a ring needs it.
            Self::Io(error @ IoError::Limit { source, .. })
                if source.kind() == io::ErrorKind::OutOfMemory =>
            {
                write!(formatter, "{error}, or set io = \"epoll\" in [engine], which needs none")
            }
            Self::Io(error) => write!(formatter, "{error}"),
            Self::System { operation, source } => write!(formatter, "cannot {operation}: {source}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Configuration(errors) => Some(errors),
            Self::Queue { source, .. } => Some(source),
            Self::Io(error) => Some(error),
            Self::Directory { source, .. } | Self::Listen { source, .. } | Self::System { source, .. } => {
                Some(source)
            }
        }
    }
}

fn system(operation: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { operation, source }
}

/// The workers as other threads see them.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Vec<(Sender<Control>, Waker)>);

impl Workers {
    /// Each by its channel, and what wakes it.
    pub(crate) const fn new(workers: Vec<(Sender<Control>, Waker)>) -> Self {
        Self(workers)
    }

    /// Tells each worker something.
    pub(crate) fn tell(&self, mut control: impl FnMut() -> Control) {
        for (sender, waker) in &self.0 {
            // A worker that is gone has ended with the process.
            let _ = sender.send(control());
            waker.wake();
        }
    }

    /// Tells one of them something; `index` may be any number.
    pub(crate) fn tell_one(&self, index: usize, control: Control) {
        if let Some((sender, waker)) = self.0.get(index % self.0.len().max(1)) {
            // As above.
            let _ = sender.send(control);
            waker.wake();
        }
    }

    pub(crate) const fn count(&self) -> usize {
        self.0.len()
    }
}

/// What is needed to put settings into force again.
struct Current {
    sources: Sources,
    in_force: Mutex<InForce>,
    workers: Workers,
    lookups: Lookups,
    log: Log,
    spool: Arc<Shared>,
    /// What was last said of it.
    trouble: Mutex<Option<String>>,
}

/// The settings that workers have.
struct InForce {
    configuration: Configuration,
    tables: Tables,
    /// The files of tables as they were when they were last read, whatever came of it.
    seen: Files,
    /// The same files when they were last found changed, and how often they were found so: somebody may still be writing.
    changing: Option<(Files, u32)>,
    zone: Zone,
}

impl Current {
    /// Reads the configuration and its tables again (SIGHUP). A text that is just being written is waited for.
    fn reload(&self) {
        let patience_ends = Instant::now() + WRITING_PATIENCE;
        let next = loop {
            let next = self.load();
            let is_being_written = match &next {
                // What changed while it was read may have been read in part.
                Ok((_, tables)) => {
                    let now = tables.files.now();
                    now != tables.files || now.are_being_written(WRITING_PAUSE)
                }
                Err(_) => self.in_force().seen.now().are_being_written(WRITING_PAUSE),
            };
            if !is_being_written || Instant::now() >= patience_ends {
                break next;
            }
            std::thread::sleep(WRITING_CHECK_PERIOD);
        };
        let (mut next, tables) = match next {
            Ok(next) => next,
            Err(errors) => {
                self.log
                    .error("reload_failed", "not reloaded, the configuration is invalid:")
                    .list("errors", errors.0);
                return;
            }
        };
        let mut in_force = self.in_force();
        if next.keep_started(&in_force.configuration) {
            self.log.warning("restart_needed", "[engine] and [queue] stay as they are until the next start");
        }
        in_force.configuration = next;
        in_force.put_tables(tables, &self.log);
        self.apply(&in_force);
        self.log.info("reloaded", "reloaded");
    }

    fn load(&self) -> Result<(Configuration, Tables), ConfigErrors> {
        let next = Configuration::load(&self.sources)?;
        let previous = self.in_force().tables.clone();
        let tables = next.open_tables(&self.lookups, &previous)?;
        Ok((next, tables))
    }

    /// Reads things again when that is asked for, and looks every now and then whether they have changed. A file system
    /// that does not answer holds up nothing else.
    fn keep_fresh(&self, reloads: &Receiver<()>, period: Duration) {
        loop {
            match reloads.recv_timeout(period) {
                Ok(()) => self.reload(),
                Err(RecvTimeoutError::Timeout) => self.refresh(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks whether files of tables or the time zone have changed, and puts what is new into force. A table that is
    /// wrong now leaves all as they are; that is said once for each change.
    fn refresh(&self) {
        let mut in_force = self.in_force();
        if in_force.have_settled() {
            match in_force.configuration.open_tables(&self.lookups, &in_force.tables) {
                Ok(tables) => {
                    in_force.put_tables(tables, &self.log);
                    self.apply(&in_force);
                    self.log.info("tables_reloaded", "lookup tables reloaded");
                }
                Err(errors) => {
                    in_force.seen = in_force.seen.now();
                    let message = "lookup tables not reloaded, the old ones stay:";
                    self.log.error("tables_not_reloaded", message).list("errors", errors.0);
                }
            }
        }
        let zone = zone_now();
        if in_force.zone != zone {
            in_force.zone = zone;
            self.apply(&in_force);
        }
    }

    /// Says it once, and once when it is over.
    fn say_trouble(&self) {
        let now = self.spool.trouble();
        let mut said = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &now {
            _ if *said == now => {}
            Some(trouble) => {
                let message = format_args!("the queue takes no mail: {trouble}");
                self.log.error("queue_unavailable", message).text("reason", trouble);
            }
            None => drop(self.log.info("queue_available", "the queue takes mail again")),
        }
        *said = now;
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, in_force: &InForce) {
        let workers = u16::try_from(self.workers.count()).unwrap_or(u16::MAX);
        let settings = Arc::new(in_force.configuration.worker_settings(workers, &in_force.tables));
        self.workers.tell(|| Control::Reload(Arc::clone(&settings)));
    }
}

impl InForce {
    /// Whether files of tables have changed since they were read, and not any more since the last time; a text whose last
    /// line has no end is waited for some times more.
    fn have_settled(&mut self) -> bool {
        let now = self.seen.now();
        if now == self.seen {
            self.changing = None;
            return false;
        }
        let found = match self.changing.take() {
            Some((before, found)) if before == now => found + 1,
            _ => 1,
        };
        let needed = if now.unfinished(&self.seen).is_empty() { 2 } else { UNFINISHED_PERIODS };
        self.changing = Some((now, found));
        found >= needed
    }

    fn put_tables(&mut self, tables: Tables, log: &Log) {
        report_notes(log, &tables.notes);
        self.seen = tables.files.clone();
        self.tables = tables;
    }
}

/// Periods for which a text without a line end at its end has to stay as it is until it is read.
const UNFINISHED_PERIODS: u32 = 6;
/// A text without a line end at its end to which nothing was written for so long is whole for a reload.
const WRITING_PAUSE: Duration = Duration::from_secs(2);
/// How long a reload waits for texts that are written again and again.
const WRITING_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const WRITING_CHECK_PERIOD: Duration = Duration::from_millis(100);

/// Runs the engine until SIGTERM or SIGINT, and drains it. Everything that it reports goes to the log, [`StartError`] too.
///
/// # Errors
/// [`StartError`] when it does not start.
pub fn serve(sources: Sources) -> Result<(), StartError> {
    // A page of 2 MiB stays resident for one small block in it: `memory_limit` would be passed several times over. A kernel
    // that cannot be told has no such pages.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let configuration = Configuration::load(&sources);
    let (format, memory) = match &configuration {
        Ok(configuration) => (configuration.log.log_format, log_memory(configuration)),
        Err(_) => (sources.log_format(), LOG_MEMORY_OF_ERRORS),
    };
    let log = log::start(format, memory).map_err(system("start a thread"))?;
    panics::report_to(log.clone());
    let result = configuration
        .map_err(StartError::Configuration)
        .and_then(|configuration| run(sources, &configuration, &log));
    match &result {
        Ok(()) => drop(log.info("stopped", "stopped")),
        Err(StartError::Configuration(errors)) => {
            log.error("start_failed", "the configuration is invalid:").list("errors", &errors.0);
        }
        Err(error) => drop(log.error("start_failed", error)),
    }
    log.stop();
    result
}

/// Bytes of lines that may wait, of all workers together.
fn log_memory(configuration: &Configuration) -> usize {
    let of_each = configuration.log.log_memory.in_memory();
    of_each.saturating_mul(usize::from(configuration.workers(own_processors().len())))
}

/// The same where the configuration has errors: these are all that is logged.
const LOG_MEMORY_OF_ERRORS: usize = 4 << 20;

fn report_notes(log: &Log, notes: &[String]) {
    notes.iter().for_each(|note| drop(log.warning("configuration_note", note)));
}

/// The life of an engine whose configuration is right.
fn run(sources: Sources, configuration: &Configuration, log: &Log) -> Result<(), StartError> {
    let lookups = Lookups::default();
    lookups.log_to(log.clone());
    let tables =
        configuration.open_tables(&lookups, &Tables::default()).map_err(StartError::Configuration)?;
    report_notes(log, &configuration.notes);
    report_notes(log, &tables.notes);
    // From here on a signal waits for its handling.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(system("handle signals"))?;
    let processors = own_processors();
    let count = configuration.workers(processors.len());
    configuration.check_memory(count).map_err(StartError::Configuration)?;
    let settings = Arc::new(configuration.worker_settings(count, &tables));
    let kernel = Kernel::choose(configuration.engine.io, log);
    raise_open_files(kernel, count, &settings, configuration.submission.submissions_in_flight)?;
    let directory = &configuration.queue.directory;
    let disk =
        OsDisk::new(directory).map_err(|source| StartError::Directory { path: directory.clone(), source })?;
    let spool_settings = configuration.spool_settings(count);
    let Opened { spools, mut keeper, mover, report, shared, lock } =
        mailrace_spool::open(&disk, &spool_settings, count)
            .map_err(|source| StartError::Queue { path: directory.clone(), source })?;
    report_recovery(log, &report);
    // Whoever finds the engine listening may submit.
    let maildrop = Maildrop::of(disk.root());
    let is_made = maildrop.make().and_then(|()| disk.note_place(maildrop::DIRECTORY));
    if is_made.is_ok() {
        keeper.watch_place(maildrop::DIRECTORY);
    }
    if let Some(config) = &sources.file
        && let Err(error) = registration::publish(config, disk.root())
    {
        let message = format_args!("sendmail -C {} may not find this queue: {error}", config.display());
        log.warning("registration_failed", message)
            .text("file", config.as_os_str().as_bytes())
            .text("reason", error.to_string());
    }
    let queue_parts = file_system::inspect(disk.root(), log);
    let mut listeners = listen(&configuration.connections, count)?;
    let addresses = listeners.first().map(|sockets| addresses_of(sockets)).unwrap_or_default();

    let numbers: Vec<Arc<WorkerNumbers>> = (0..count).map(|_| Arc::default()).collect();
    let (started, starts) = channel::bounded(usize::from(count));
    let mut threads = Vec::new();
    let mut controls = Vec::new();
    for (index, spool) in spools.into_iter().enumerate() {
        let (sender, receiver) = channel::unbounded();
        controls.push(sender);
        let seat = Seat {
            kernel,
            writers: spool_settings.writes_in_flight,
            processor: processors.get(index % processors.len().max(1)).copied(),
            listeners: std::mem::take(&mut listeners[index]),
            spool,
            shared: Arc::clone(&shared),
            settings: Arc::clone(&settings),
            log: log.clone(),
            numbers: Arc::clone(&numbers[index]),
            controls: receiver,
        };
        let started = started.clone();
        let name = format!("worker-{index}");
        let thread = std::thread::Builder::new().name(name).spawn(move || work(index, seat, &started));
        threads.push(thread.map_err(system("start a thread"))?);
    }
    let mut wakers = vec![None; usize::from(count)];
    for _ in 0..count {
        let (index, waker) =
            starts.recv().map_err(|_| system("start a worker")(io::ErrorKind::Other.into()))?;
        wakers[index] = Some(waker.map_err(StartError::Io)?);
    }
    let wakers: Vec<Waker> = wakers.into_iter().flatten().collect();
    wakers.iter().for_each(|waker| shared.add_waker(waker.clone()));
    let workers = Workers::new(controls.into_iter().zip(wakers).collect());

    lookups.tell({
        let workers = workers.clone();
        move |ticket| workers.tell(|| Control::Answered(ticket))
    });

    let keeper_stop = keeper.stop_flag();
    let keeper_thread = std::thread::Builder::new()
        .name("keeper".to_owned())
        .spawn(move || keeper.run())
        .map_err(system("start a thread"))?;
    std::thread::Builder::new()
        .name("mover".to_owned())
        .spawn(move || mover.run())
        .map_err(system("start a thread"))?;
    let submissions = Arc::default();
    let metrics = Metrics {
        workers: numbers,
        submissions: Arc::clone(&submissions),
        spool: Arc::clone(&shared),
        lines_lost: log.lines_lost(),
        io: kernel.name(),
        queue_parts,
    };
    let current = Arc::new(Current {
        sources,
        in_force: Mutex::new(InForce {
            configuration: configuration.clone(),
            seen: tables.files.clone(),
            changing: None,
            tables,
            zone: zone_now(),
        }),
        workers: workers.clone(),
        lookups,
        log: log.clone(),
        spool: Arc::clone(&shared),
        trouble: Mutex::default(),
    });
    services::start(services::Services {
        has_ring: matches!(kernel, Kernel::Ring),
        metrics_listen: configuration.log.metrics_listen,
        registry: metrics.into_registry(),
        queue: disk.clone(),
        workers: workers.clone(),
        log: log.clone(),
        refresh: {
            let current = Arc::clone(&current);
            Box::new(move || current.say_trouble())
        },
        refresh_period: configuration.tables.table_check_period,
    })
    .map_err(system("start a thread"))?;
    let (reload, reloads) = channel::bounded(1);
    let period = configuration.tables.table_check_period;
    std::thread::Builder::new()
        .name("tables".to_owned())
        .spawn(move || current.keep_fresh(&reloads, period))
        .map_err(system("start a thread"))?;
    let pickup = is_made
        .and_then(|()| {
            let settings = configuration.pickup_settings();
            services::start_pickup(maildrop.clone(), settings, workers.clone(), submissions, log)
        })
        .inspect_err(|error| {
            let path = maildrop.path();
            let message = format_args!("no local submission: cannot use {}: {error}", path.display());
            log.error("submission_unavailable", message)
                .text("path", path.as_os_str().as_bytes())
                .text("reason", error.to_string());
        })
        .ok();

    log.info(
        "ready",
        format_args!(
            "mailrace ready: listening on {}, {count} worker{}, queue in {} with {} message{}",
            addresses.join(" "),
            if count == 1 { "" } else { "s" },
            disk.root().display(),
            report.messages,
            if report.messages == 1 { "" } else { "s" },
        ),
    )
    .array("listen", &addresses)
    .number("workers", u64::from(count))
    .text("queue", disk.root().as_os_str().as_bytes())
    .number("messages", report.messages);
    for signal in signals.forever() {
        if signal == SIGHUP {
            // One that waits already reads what is newest.
            let _ = reload.try_send(());
        } else {
            break;
        }
    }
    // What it has in hand it leaves for the next start, or sees through with the workers.
    pickup.iter().for_each(Pickup::stop);
    workers.tell(|| Control::Drain);
    drain(threads, log);
    pickup.into_iter().for_each(Pickup::join);
    keeper_stop.store(true, Ordering::Relaxed);
    keeper_thread.thread().unpark();
    let _ = keeper_thread.join();
    // It may be gone already, and the next start replaces it.
    let _ = std::fs::remove_file(disk.root().join(services::CONTROL_SOCKET));
    drop(lock);
    Ok(())
}

fn drain(threads: Vec<JoinHandle<()>>, log: &Log) {
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
enum Kernel {
    Ring,
    Epoll,
}

impl Kernel {
    /// Does what was asked for; by itself it takes the ring if one can be had, and says so once if not.
    ///
    /// Only a ring that is forbidden or not there is a reason for epoll. What a limit stands in the way of has a remedy in
    /// the hands of whoever set the limit, which a slower start would hide: then the start fails, and names it.
    fn choose(choice: IoChoice, log: &Log) -> Self {
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

    const fn name(self) -> &'static str {
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
struct Seat {
    kernel: Kernel,
    /// Writes that the spool has under way at once.
    writers: usize,
    processor: Option<usize>,
    listeners: Vec<TcpListener>,
    spool: SegmentSpool<OsDisk>,
    shared: Arc<Shared>,
    settings: Arc<WorkerSettings>,
    log: Log,
    numbers: Arc<WorkerNumbers>,
    controls: Receiver<Control>,
}

type Started = Sender<(usize, Result<Waker, IoError>)>;

/// A worker's thread: its `Io` belongs to the thread that makes it.
fn work(index: usize, seat: Seat, started: &Started) {
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

/// Sees to it that there may be as many connections as there have to be. A ring's are no descriptors, but its table may not
/// be larger than the limit for these; on epoll those of all workers are.
fn raise_open_files(
    kernel: Kernel,
    workers: u16,
    settings: &WorkerSettings,
    submissions: u32,
) -> Result<(), StartError> {
    let connections = (settings.max_connections + SPARE_CONNECTIONS) as u64;
    let needed = OTHER_FILES
        + u64::from(submissions)
        + match kernel {
            Kernel::Ring => connections,
            Kernel::Epoll => connections * u64::from(workers),
        };
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum
        && maximum < needed
    {
        let text = format!(
            "the limit of open files is {maximum}, and {needed} are needed: raise it (ulimit -Hn, or LimitNOFILE= of the \
             service), or lower max_connections in [engine]"
        );
        return Err(system("start")(io::Error::other(text)));
    }
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit })
        .map_err(|error| system("raise the limit of open files")(error.into()))
}

/// Files that are not connections: segments, listeners, rings, what wakes workers.
const OTHER_FILES: u64 = 1024;

fn report_recovery(log: &Log, report: &RecoveryReport) {
    if report.segments > 0 {
        let message = format_args!(
            "recovered {} messages, {} octets, from {} segments",
            report.messages, report.octets, report.segments
        );
        log.info("recovered", message)
            .number("messages", report.messages)
            .number("octets", report.octets)
            .number("segments", report.segments as u64);
    }
    for damage in &report.damage {
        log.error("damage", damage_text(damage))
            .text("path", &damage.path)
            .number("offset", damage.offset)
            .text("what", damage.what.to_string());
    }
    for stranger in &report.strangers {
        log.warning("stranger", stranger_text(stranger))
            .text("path", &stranger.path)
            .text("what", stranger.what);
    }
    if !report.is_direct {
        let message = "the queue's file system has no direct writes: they go through the page cache";
        log.warning("no_direct_writes", message);
    }
}

/// What an operator reads of damage.
pub(crate) fn damage_text(damage: &Damage) -> String {
    let known = if damage.is_known {
        " (an earlier start has said so; mailrace queue acknowledge ends this)"
    } else {
        ""
    };
    format!("{damage}; what is whole there is in the queue{known}")
}

/// What an operator reads of a file among the segments that is none of the queue's.
pub(crate) fn stranger_text(stranger: &Stranger) -> String {
    format!("{}: {}: it is left alone", stranger.path, stranger.what)
}

/// For each worker a socket for each address.
fn listen(parameters: &ConnectionParameters, workers: u16) -> Result<Vec<Vec<TcpListener>>, StartError> {
    let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for address in &parameters.listen {
        let failed = |source| StartError::Listen { address: *address, source };
        let mut address = *address;
        refuse_in_use(address).map_err(failed)?;
        for sockets in &mut sockets {
            let socket = socket(parameters, address).map_err(failed)?;
            // Port 0 is one port for all.
            address = socket.local_addr().map_err(failed)?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// The workers' sockets share their port; another program's would share it too, and take some of the connections.
fn refuse_in_use(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn socket(parameters: &ConnectionParameters, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Connections inherit both.
    socket.set_tcp_nodelay(true)?;
    if !parameters.congestion_control.is_empty() {
        rustix::net::sockopt::set_tcp_congestion(socket.as_fd(), &parameters.congestion_control)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(parameters.listen_backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn addresses_of(sockets: &[TcpListener]) -> Vec<String> {
    sockets.iter().filter_map(|socket| socket.local_addr().ok()).map(|address| address.to_string()).collect()
}
