//! `mailrace-bench`: the figures of `docs/benchmarks.md`.
#![forbid(unsafe_code)]

mod options;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use mailrace_bench::canned::{Canned, Log};
use mailrace_bench::compare::CONTENDERS;
use mailrace_bench::error::BenchError;
use mailrace_bench::fair::kinds::{KINDS, Kind};
use mailrace_bench::noise::Ticks;
use mailrace_bench::place::Place;
use mailrace_bench::{compare, fair, hostile, memory, noise, probe, workload};
use mailrace_io::OsDisk;
use mailrace_io::uring::{Settings, Uring};
use mailrace_peers::{PeerError, Setting};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use signal_hook::consts::{SIGINT, SIGTERM};
use socket2::{Domain, Protocol, Socket, Type};

use options::{
    Action, CannedOptions, CommandLine, CompareOptions, FairOptions, HostileOptions, MemoryOptions,
    PlaceOptions, ProbeOptions,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match CommandLine::parse().action {
        Action::Canned(options) => canned(&options),
        Action::Compare(options) => compare(options),
        Action::Memory(options) => memory(options),
        Action::Hostile(options) => hostile(options),
        Action::Fair(options) => fair(options),
        Action::Probe(options) => probe(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mailrace-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn canned(options: &CannedOptions) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(cpu) = options.cpu {
        let mut set = CpuSet::new();
        set.set(cpu.into());
        sched_setaffinity(None, &set)?;
    }
    raise_open_files();
    let socket = Socket::new(Domain::for_address(options.listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(name) = &options.congestion_control {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    socket.bind(&options.listen.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    let mut io = Uring::new(Settings { connections: options.connections, ..Settings::default() })?;
    let log = match &options.durable {
        Some(directory) => Some(Log::create(&OsDisk::new(directory)?, &mut io)?),
        None => None,
    };
    eprintln!("canned responder ready: {}", options.listen);
    match Canned::new(io, socket.into(), log, options.connections).run() {
        Ok(never) => match never {},
        Err(error) => Err(error.into()),
    }
}

fn compare(options: CompareOptions) -> Result<(), Box<dyn std::error::Error>> {
    let mut workloads = workload::all();
    if !options.workload.is_empty() {
        for name in &options.workload {
            if !workloads.iter().any(|workload| workload.name == *name) {
                let names: Vec<&str> = workloads.iter().map(|workload| workload.name.as_str()).collect();
                return Err(format!("unknown workload {name}; the workloads are {}", names.join(", ")).into());
            }
        }
        workloads.retain(|workload| options.workload.contains(&workload.name));
    }
    if CONTENDERS.iter().all(|name| options.without.iter().any(|other| other == name)) {
        return Err("no server is left to measure".into());
    }
    build_programs()?;
    noise::warn_if_busy();
    let stop = stop_on_signal()?;
    let place = make_place(&options.place)?;
    let ticks = Ticks::now();
    let plan = compare::Plan {
        workloads,
        rounds: options.rounds,
        seconds: options.seconds,
        load_cpu: options.place.load_cpu(),
        setting: setting(&options.place, place.directory()),
        without: options.without,
        against: options.against,
        has_targets: options.targets,
    };
    let outcomes = compare::compare(&plan, &stop)?;
    noise::warn_if_stolen(&ticks);
    write_json(options.json.as_deref(), &outcomes)
}

fn memory(options: MemoryOptions) -> Result<(), Box<dyn std::error::Error>> {
    build_programs()?;
    raise_open_files();
    let stop = stop_on_signal()?;
    let place = make_place(&options.place)?;
    let plan = memory::Plan {
        idle: options.idle,
        slow: options.slow,
        slow_size: options.slow_size,
        slow_rate: options.slow_rate,
        setting: setting(&options.place, place.directory()),
        load_cpu: options.place.load_cpu(),
    };
    let report = memory::measure(&plan, &stop)?;
    let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
    println!("anonymous resident memory of mailrace, one worker:");
    println!("  {:8.1} MiB without connections", mib(report.base));
    println!(
        "  {:8.1} MiB with {} idle connections: {:.0} bytes each",
        mib(report.idle),
        plan.idle,
        report.per_idle_connection
    );
    println!(
        "  {:8.1} MiB at most with {} messages of {} bytes in progress at {} bytes/s each",
        mib(report.slow_peak),
        plan.slow,
        plan.slow_size,
        plan.slow_rate
    );
    write_json(options.json.as_deref(), &report)
}

fn hostile(options: HostileOptions) -> Result<(), Box<dyn std::error::Error>> {
    build_programs()?;
    noise::warn_if_busy();
    raise_open_files();
    let stop = stop_on_signal()?;
    let place = make_place(&options.place)?;
    let ticks = Ticks::now();
    let plan = hostile::Plan {
        hostile: options.hostile,
        kinds: options.kinds,
        connections: options.connections,
        rounds: options.rounds,
        seconds: options.seconds,
        settle: options.settle,
        setting: setting(&options.place, place.directory()),
        load_cpu: options.place.load_cpu(),
    };
    let report = hostile::measure(&plan, &stop)?;
    noise::warn_if_stolen(&ticks);
    for (name, runs) in [("without", &report.without), ("with", &report.with)] {
        for run in runs {
            println!(
                "{name:8} {:8.0} messages/s, p99 {:8.0} us, server {:3.0} %, honest clients {:3.0} %",
                run.messages_per_second,
                run.p99_us,
                run.server_cpu * 100.0,
                run.client_cpu * 100.0
            );
        }
    }
    println!("{} misbehaving clients alone: {} of the server's processor", plan.hostile, report.hostile_cpu);
    println!("with them over without: rate {}, p99 {}", report.rate, report.p99);
    write_json(options.json.as_deref(), &report)
}

fn fair(options: FairOptions) -> Result<(), Box<dyn std::error::Error>> {
    let mut kinds: Vec<Kind> = KINDS.to_vec();
    for name in &options.kinds {
        if !kinds.iter().any(|kind| kind.name == name) {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
            return Err(format!("unknown kind {name}; the kinds are {}", names.join(", ")).into());
        }
    }
    kinds.retain(|kind| options.kinds.is_empty() || options.kinds.iter().any(|name| name == kind.name));
    build_programs()?;
    noise::warn_if_busy();
    raise_open_files();
    let stop = stop_on_signal()?;
    let place = make_place(&options.place)?;
    let plan = fair::Plan {
        kinds,
        strangers: options.attackers,
        connections: options.connections,
        clients: options.clients,
        rate: options.rate,
        rounds: options.rounds,
        seconds: options.seconds,
        settle: options.settle,
        set: options.set,
        setting: setting(&options.place, place.directory()),
    };
    let mut outcomes = Vec::new();
    println!(
        "attackers kind                           messages/s  with attack  ratio               refused slowest"
    );
    fair::measure(&plan, &stop, |outcome| {
        println!(
            "{:9} {:30} {:10.0} {:12.0}  {:18} {:8} {:4.0} ms  ({} connections, {} ended, {:.1} MB sent)",
            outcome.strangers,
            outcome.kind,
            outcome.without.median,
            outcome.with.median,
            outcome.ratio.to_string(),
            outcome.refused,
            outcome.slowest_ms,
            outcome.connections,
            outcome.ended,
            outcome.bytes as f64 / 1e6
        );
        outcomes.push(outcome.clone());
    })?;
    write_json(options.json.as_deref(), &outcomes)
}

fn probe(options: &ProbeOptions) -> Result<(), Box<dyn std::error::Error>> {
    noise::warn_if_busy();
    let place = make_place(&options.place)?;
    let report =
        probe::durable_writes(place.directory().join("probe"), options.seconds, options.place.server_cpu())?;
    println!("one durable 4 KiB overwrite: p50 {:.0} us, p99 {:.0} us", report.p50_us, report.p99_us);
    Ok(())
}

fn make_place(options: &PlaceOptions) -> Result<Place, BenchError> {
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    Place::make(&parent, options.may_make_file_system())
}

fn setting(options: &PlaceOptions, directory: &Path) -> Setting {
    Setting {
        directory: directory.to_owned(),
        cpu: options.server_cpu(),
        congestion_control: options.congestion_control(),
    }
}

/// Under `cargo run`, builds the programs to measure, so that they are never stale.
fn build_programs() -> Result<(), BenchError> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(&cargo);
    command.args(["build", "--quiet", "-p", "mailrace", "-p", "mailrace-load"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let program = PathBuf::from(cargo);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(BenchError::failed(program.display().to_string(), status.to_string())),
        Err(source) => Err(PeerError::Start { program, source }.into()),
    }
}

fn write_json(path: Option<&Path>, value: &impl serde::Serialize) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(path) = path {
        let text = serde_json::to_string_pretty(value)?;
        std::fs::write(path, text).map_err(BenchError::on(path))?;
    }
    Ok(())
}

/// Raises the limit of open files, since each connection takes a descriptor. If this fails, the ring reports the missing
/// resource.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Returns a flag that a signal sets, so that servers are stopped and file systems unmounted. A second signal ends the
/// process immediately.
fn stop_on_signal() -> Result<Arc<AtomicBool>, BenchError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(BenchError::at("registering for signals"))?;
    }
    Ok(stop)
}

const LISTEN_BACKLOG: i32 = 4096;
