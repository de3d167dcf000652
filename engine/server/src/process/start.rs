//! Startup, signals and shutdown of the process.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam::channel::{self, Sender};
use mailrace_delivery::dispatcher;
use mailrace_io::OsDisk;
use mailrace_io::epoll::{EpollIo, Settings as EpollSettings};
use mailrace_io::uring::{Settings as RingSettings, Uring};
use mailrace_spool::{Opened, SegmentKeeper};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{Configuration, Sources, Tables, own_processors};
use crate::delivery::{Delivery, DeliveryThread, Routing};
use crate::file_system;
use crate::log::{self, Log, name, panics};
use crate::maildrop::{self, Maildrop};
use crate::metrics::Metrics;
use crate::registration;
use crate::services::{self, Pickup};
use crate::tables::Lookups;
use crate::worker::{Control, WorkerSettings, Workers};

use super::error::{StartError, system};
use super::limits::raise_open_files;
use super::listen::{addresses_of, listen};
use super::reload::{Current, InForce};
use super::report::{report_no_submission, report_notes, report_ready, report_recovery, report_stopping};
use super::threads::{Common, Kernel, WorkerThreads, join, spawn};

/// Runs the engine until SIGTERM or SIGINT, then drains it. Logs all reports, including a [`StartError`] other than
/// [`StartError::Log`].
///
/// # Errors
/// [`StartError`] if the engine does not start.
pub fn serve(sources: Sources) -> Result<(), StartError> {
    // A single small block keeps a page of 2 MiB resident, which would exceed `memory_limit` several times over.
    mailrace_io::uring::limit_huge_pages();
    let configuration = Configuration::load(&sources);
    let (format, memory) = match &configuration {
        Ok(configuration) => (configuration.log.log_format, log_memory(configuration)),
        Err(_) => (sources.log_format(), LOG_MEMORY_OF_ERRORS),
    };
    let log = log::start(format, memory).map_err(StartError::Log)?;
    panics::report_to(log.clone());
    let result = configuration
        .map_err(StartError::Configuration)
        .and_then(|configuration| run(sources, &configuration, &log));
    match &result {
        Ok(()) => drop(log.info(name::STOPPED, "stopped")),
        Err(StartError::Configuration(errors)) => {
            log.error(name::START_FAILED, "the configuration is invalid:").list("errors", &errors.0);
        }
        Err(error) => drop(log.error(name::START_FAILED, error)),
    }
    log.stop();
    result
}

/// Returns the memory for waiting log lines of all workers together, in bytes.
fn log_memory(configuration: &Configuration) -> usize {
    let of_each = configuration.log.log_memory.in_memory();
    of_each.saturating_mul(usize::from(configuration.workers(own_processors().len())))
}

/// Memory for log lines if the configuration is invalid and only its errors are logged, in bytes.
const LOG_MEMORY_OF_ERRORS: usize = 4 << 20;

/// Runs an engine with a valid configuration.
fn run(sources: Sources, configuration: &Configuration, log: &Log) -> Result<(), StartError> {
    let lookups = Lookups::default();
    lookups.log_to(log.clone());
    let tables =
        configuration.open_tables(&lookups, &Tables::default()).map_err(StartError::Configuration)?;
    report_notes(log, &configuration.notes);
    report_notes(log, &tables.notes);
    // From here on signals are queued until they are handled.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(system("handle signals"))?;
    let count = configuration.workers(own_processors().len());
    configuration.check_memory(count).map_err(StartError::Configuration)?;
    let settings = Arc::new(configuration.worker_settings(count, &tables));
    let kernel = Kernel::choose(configuration.engine.io, log);
    let dispatching = configuration.delivery_settings();
    let deliveries = dispatching.as_ref().map_or(0, connections_of);
    raise_open_files(kernel, count, &settings, configuration.submission.submissions_in_flight, deliveries)?;
    let (disk, opened) = open_queue(configuration, count)?;
    let Opened { spools, mut keeper, opener, report, shared, lock } = opened;
    report_recovery(log, &report);
    // A client that finds the engine listening may submit mail, so the maildrop must exist before.
    let maildrop = Maildrop::of(disk.root());
    let made = make(&maildrop, &disk, &mut keeper);
    register(&sources, &disk, log);
    let queue_parts = file_system::inspect(disk.root(), log);
    let listeners = listen(&configuration.connections, count)?;
    let addresses = listeners.first().map(|sockets| addresses_of(sockets)).unwrap_or_default();
    let mut delivery = dispatching
        .map(|dispatching| start_delivery(kernel, configuration, dispatching, count, &settings, &tables, log))
        .transpose()?;
    let hatches = delivery.as_mut().map(DeliveryThread::take_hatches).unwrap_or_default();
    let writers = configuration.queue.writes_in_flight as usize;
    let common = Common { kernel, writers, shared: Arc::clone(&shared), settings, log: log.clone() };
    let WorkerThreads { threads, workers, numbers } =
        WorkerThreads::start(&common, spools, listeners, hatches)?;
    pass_answers(&lookups, workers.clone());
    let keeper = KeeperThread::start(keeper)?;
    if let Some(thread) = &delivery {
        thread.begin(opener.reader(thread.waker.clone()), &workers);
    }
    spawn("opener", move || opener.run())?;
    let submissions = Arc::default();
    let metrics = Metrics {
        workers: numbers,
        submissions: Arc::clone(&submissions),
        spool: Arc::clone(&shared),
        lines_lost: log.lines_lost(),
        io: kernel.name(),
        queue_parts,
    };
    let current = Current {
        sources,
        in_force: Mutex::new(InForce::new(configuration.clone(), tables)),
        workers: workers.clone(),
        lookups,
        routing: delivery.as_ref().map(DeliveryThread::routing),
        dispatcher: delivery.as_ref().map(DeliveryThread::door),
        log: log.clone(),
        spool: shared,
        trouble: Mutex::default(),
    };
    let reload = start_services(kernel, metrics, current, configuration, &disk)?;
    let pickup = made.and_then(|()| {
        let settings = configuration.pickup_settings();
        services::start_pickup(maildrop.clone(), settings, workers.clone(), submissions, log)
    });
    let pickup = pickup.inspect_err(|error| report_no_submission(log, &maildrop, error)).ok();
    report_ready(log, &addresses, count, &disk, report.messages);
    report_stopping(log, wait_for_end(&mut signals, &reload));
    end_work(pickup, delivery, configuration, &workers, threads, log);
    keeper.end();
    // The socket may be gone already, and the next start replaces it.
    let _ = std::fs::remove_file(disk.root().join(services::CONTROL_SOCKET));
    drop(lock);
    Ok(())
}

/// Ends the threads that take and deliver mail.
fn end_work(
    pickup: Option<Pickup>,
    delivery: Option<DeliveryThread>,
    configuration: &Configuration,
    workers: &Workers,
    threads: Vec<JoinHandle<()>>,
    log: &Log,
) {
    // The pickup thread leaves its current messages for the next start, or finishes them with the workers.
    pickup.iter().for_each(Pickup::stop);
    // What was handed over must be noted, which workers do.
    if let Some(thread) = delivery {
        thread.stop(configuration.connections.drain_timeout);
    }
    workers.tell(|| Control::Drain);
    join(threads, log);
    pickup.into_iter().for_each(Pickup::join);
}

/// Starts the thread that delivers.
fn start_delivery(
    kernel: Kernel,
    configuration: &Configuration,
    dispatching: dispatcher::Settings,
    workers: u16,
    settings: &WorkerSettings,
    tables: &Tables,
    log: &Log,
) -> Result<DeliveryThread, StartError> {
    let connections = connections_of(&dispatching);
    let routing = Routing::new(configuration, &settings.smtp, tables);
    let dns = configuration.dns_settings();
    let delivery = Delivery { settings: dispatching, dns, routing, log: log.writer() };
    let started = match kernel {
        Kernel::Ring => DeliveryThread::start(delivery, workers, move || {
            Uring::new(RingSettings { connections, ..RingSettings::default() })
        }),
        Kernel::Epoll => DeliveryThread::start(delivery, workers, move || {
            EpollIo::new(EpollSettings { connections, writers: 1, ..EpollSettings::default() })
        }),
    };
    started.map_err(|error| match error {
        Some(error) => StartError::Io(error),
        None => system("start a thread")(std::io::ErrorKind::Other.into()),
    })
}

/// Connections to next hops: those of deliveries, those that wait for another message, and those that are being closed.
fn connections_of(dispatching: &dispatcher::Settings) -> u32 {
    let processes = dispatching.manager.transports.iter().map(|transport| transport.process_limit);
    let processes = processes.fold(0, u32::saturating_add);
    processes.saturating_mul(2).saturating_add(SPARE_CONNECTIONS_OF_DELIVERY)
}

/// Connections that are being closed while others are made already.
const SPARE_CONNECTIONS_OF_DELIVERY: u32 = 64;

/// Has the workers told of answers of tables on servers.
fn pass_answers(lookups: &Lookups, workers: Workers) {
    lookups.tell(move |ticket| workers.tell(|| Control::Answered(ticket)));
}

/// Makes the maildrop of a queue, and has the keeper watch it.
fn make(maildrop: &Maildrop, disk: &OsDisk, keeper: &mut SegmentKeeper<OsDisk>) -> std::io::Result<()> {
    maildrop.make().and_then(|()| disk.note_place(maildrop::DIRECTORY))?;
    keeper.watch_place(maildrop::DIRECTORY);
    Ok(())
}

/// The thread of the keeper of segments.
struct KeeperThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl KeeperThread {
    fn start(keeper: SegmentKeeper<OsDisk>) -> Result<Self, StartError> {
        let stop = keeper.stop_flag();
        Ok(Self { stop, thread: spawn("keeper", move || keeper.run())? })
    }

    /// Ends the thread when it has done what is under way.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

fn open_queue(configuration: &Configuration, workers: u16) -> Result<(OsDisk, Opened<OsDisk>), StartError> {
    let path = &configuration.queue.directory;
    let disk = OsDisk::new(path).map_err(|source| StartError::Directory { path: path.clone(), source })?;
    let opened = mailrace_spool::open(&disk, &configuration.spool_settings(workers), workers)
        .map_err(|source| StartError::Queue { path: path.clone(), source })?;
    Ok((disk, opened))
}

/// Registers the engine, so that `sendmail -C FILE` finds its queue.
fn register(sources: &Sources, queue: &OsDisk, log: &Log) {
    if let Some(config) = &sources.file
        && let Err(error) = registration::publish(config, queue.root())
    {
        let message = format_args!("sendmail -C {} may not find this queue: {error}", config.display());
        log.warning(name::REGISTRATION_FAILED, message)
            .text("file", config.as_os_str().as_bytes())
            .text("reason", error.to_string());
    }
}

/// Starts the threads that answer external requests and refresh settings. The channel requests a reload.
fn start_services(
    kernel: Kernel,
    metrics: Metrics,
    current: Current,
    configuration: &Configuration,
    queue: &OsDisk,
) -> Result<Sender<()>, StartError> {
    let period = configuration.tables.table_check_period;
    let current = Arc::new(current);
    services::start(services::Services {
        has_ring: matches!(kernel, Kernel::Ring),
        metrics_listen: configuration.log.metrics_listen,
        registry: metrics.into_registry(),
        queue: queue.clone(),
        workers: current.workers.clone(),
        dispatcher: current.dispatcher.clone(),
        log: current.log.clone(),
        refresh: {
            let current = Arc::clone(&current);
            Box::new(move || current.say_trouble())
        },
        refresh_period: period,
    })
    .map_err(system("start a thread"))?;
    let (reload, reloads) = channel::bounded(1);
    spawn("tables", move || current.keep_fresh(&reloads, period))?;
    Ok(reload)
}

/// Waits for SIGTERM or SIGINT and returns its name. Until then forwards SIGHUP.
fn wait_for_end(signals: &mut Signals, reload: &Sender<()>) -> &'static str {
    for signal in signals.forever() {
        match signal {
            // A reload that is already waiting will read the newest settings.
            SIGHUP => drop(reload.try_send(())),
            SIGINT => return "SIGINT",
            _ => break,
        }
    }
    "SIGTERM"
}
