//! The life of the process: start, signals, shutdown.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crossbeam::channel;
use mailrace_io::{OsDisk, Waker};
use mailrace_spool::Opened;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{Configuration, Sources, Tables, own_processors, zone_now};
use crate::file_system;
use crate::log::{self, Log, panics};
use crate::maildrop::{self, Maildrop};
use crate::metrics::{Metrics, WorkerNumbers};
use crate::registration;
use crate::services::{self, Pickup};
use crate::tables::Lookups;
use crate::worker::{Control, Workers};

use super::error::{StartError, system};
use super::limits::raise_open_files;
use super::listen::{addresses_of, listen};
use super::reload::{Current, InForce};
use super::report::{report_notes, report_recovery};
use super::threads::{Kernel, Seat, drain, work};

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
