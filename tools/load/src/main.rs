//! `mailrace-load`: sends mail to an SMTP server and reports the rate.
//!
//! It has one thread and one ring. Messages are built once and then only numbered, so that one core can saturate a server's
//! worker.
#![forbid(unsafe_code)]

mod client;
mod hostile;
mod options;
mod retry;
mod run;
mod statistics;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mailrace_io::uring::{Settings, Uring};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM};

use options::Options;
use run::Load;
use statistics::Cause;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::from_command_line();
    match run(options) {
        Ok(is_success) => ExitCode::from(u8::from(!is_success)),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "mailrace-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a test. Returns whether it succeeded.
fn run(options: Options) -> Result<bool, Box<dyn std::error::Error>> {
    let Some(server) = options.server() else { return Err("which server? (ADDR:PORT)".into()) };
    if let Some(cpu) = options.cpu {
        let mut set = CpuSet::new();
        set.set(cpu.into());
        sched_setaffinity(None, &set).map_err(|error| format!("cannot run on processor {cpu}: {error}"))?;
    }
    raise_open_files();
    let stop = stop_on_signal()?;
    match options.hostile {
        Some(count) => be_hostile(server, count, &options, &stop),
        None => send(server, options, stop),
    }
}

fn send(
    server: SocketAddr,
    options: Options,
    stop: Arc<AtomicBool>,
) -> Result<bool, Box<dyn std::error::Error>> {
    // Replies are short; the buffers are for the greetings of idle connections, which may arrive all at once.
    let io = Uring::new(Settings { connections: options.connections, ..Settings::default() })?;
    let is_json = options.json;
    let is_idle = options.idle.is_some();
    let (statistics, end) = Load::new(io, server, options, stop).run();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = Duration::new(cpu.tv_sec.unsigned_abs(), u32::try_from(cpu.tv_nsec).unwrap_or(0));
    let report = statistics.report(cpu, end);
    let mut out = std::io::stdout().lock();
    if is_json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    let is_complete = match report.end.cause {
        Cause::Done | Cause::Duration => true,
        Cause::Signal => report.end.not_begun == 0,
        Cause::GaveUp | Cause::Failed => false,
    };
    let is_accepted = report.failed == 0 && report.recipients.refused == 0;
    let is_reached = report.messages > 0 || report.connections_failed + report.connections_lost == 0;
    let is_held = !is_idle || report.connections_lost + report.connections_failed == 0;
    Ok(is_complete && is_accepted && is_reached && is_held)
}

fn be_hostile(
    server: SocketAddr,
    count: u32,
    options: &Options,
    stop: &AtomicBool,
) -> Result<bool, Box<dyn std::error::Error>> {
    let Options { ref kinds, duration, patience, .. } = *options;
    let report = hostile::run(server, &hostile::Plan { count, kinds, duration, patience }, stop)?;
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        writeln!(
            out,
            "{} connections made in {:.1} s, {} could not be made: {} ended by the server, {} reset, {} open at the end; \
             {} bytes sent",
            report.connections,
            report.seconds,
            report.connections_failed,
            report.ended_by_server,
            report.resets,
            report.open,
            report.octets
        )?;
        if let Some(reason) = &report.reason {
            writeln!(out, "ended early: {reason}")?;
        }
    }
    let is_complete = matches!(report.end, Cause::Duration | Cause::Signal);
    Ok(is_complete && report.connections > 0)
}

/// Raises the limit of open files to the hard limit, since each connection takes a descriptor.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        let _ = writeln!(std::io::stderr(), "mailrace-load: cannot raise the limit on open files: {error}");
    }
}

/// Set by the first SIGINT or SIGTERM; the second one ends the process.
fn stop_on_signal() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
