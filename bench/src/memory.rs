//! Measures user-space memory of the server with idle connections, and with large messages on slow connections.

use std::net::SocketAddr;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mailrace_peers::{Kernel, Mailrace, Peer, Setting};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::error::BenchError;
use crate::load;
use crate::process::anonymous_memory;

/// Settings of the measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Idle connections.
    pub idle: u32,
    /// Slow connections, with one message each.
    pub slow: u32,
    /// Size of each of their messages, in the syntax of mailrace-load.
    pub slow_size: String,
    /// Rate on each of them in bytes per second, in the syntax of mailrace-load.
    pub slow_rate: String,
    /// Setting in which the server is started.
    pub setting: Setting,
    /// The load generator's processor.
    pub load_cpu: Option<usize>,
}

/// Anonymous resident memory in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Before any connection.
    pub base: u64,
    /// With the idle connections open.
    pub idle: u64,
    /// (idle - base) per connection.
    pub per_idle_connection: f64,
    /// Maximum with slow messages in progress.
    pub slow_peak: u64,
}

/// Measures, in this order: base, idle, slow.
///
/// # Errors
/// [`BenchError`].
pub fn measure(plan: &Plan, stop: &AtomicBool) -> Result<Report, BenchError> {
    let server = Mailrace::start(&plan.setting, Kernel::Ring)?;
    // The first clients make the server touch the memory that it uses in any case.
    let first = ["--connections", "64", "--messages", "2000"].map(str::to_owned);
    load::run(server.address(), &first, Duration::from_secs(10), plan.load_cpu)?;
    sleep(SETTLE_TIME);
    let base = memory(server.pid())?;
    let idle = with_idle(&server, plan, stop)?;
    let slow_peak = with_slow(&server, plan, stop)?;
    let per_idle_connection = (idle as f64 - base as f64) / f64::from(plan.idle);
    Ok(Report { base, idle, per_idle_connection, slow_peak })
}

fn with_idle(server: &Mailrace, plan: &Plan, stop: &AtomicBool) -> Result<u64, BenchError> {
    let _load = Load::start(server.address(), &["--idle", &plan.idle.to_string()], plan.load_cpu)?;
    let give_up = Instant::now() + OPEN_TIME_MAX;
    while established(server.address())? < plan.idle as usize {
        if stop.load(Ordering::Relaxed) {
            return Err(BenchError::Stopped);
        }
        if Instant::now() > give_up {
            let message = format!("{} of {} connections came", established(server.address())?, plan.idle);
            return Err(BenchError::failed("mailrace-load", message));
        }
        sleep(STEP);
    }
    // EHLO and its reply are still in progress on the last connections.
    sleep(SETTLE_TIME);
    memory(server.pid())
}

fn with_slow(server: &Mailrace, plan: &Plan, stop: &AtomicBool) -> Result<u64, BenchError> {
    let slow = plan.slow.to_string();
    let arguments = ["--slow", &slow, "--size", &plan.slow_size, "--rate", &plan.slow_rate];
    let mut load = Load::start(server.address(), &arguments, plan.load_cpu)?;
    let mut peak = 0;
    loop {
        peak = peak.max(memory(server.pid())?);
        if let Some(status) = load.0.try_wait().map_err(BenchError::at("waiting for mailrace-load"))? {
            if status.success() {
                return Ok(peak);
            }
            let message = "slow messages were not accepted".to_owned();
            return Err(BenchError::failed("mailrace-load", message));
        }
        if stop.load(Ordering::Relaxed) {
            return Err(BenchError::Stopped);
        }
        sleep(STEP);
    }
}

fn memory(pid: u32) -> Result<u64, BenchError> {
    anonymous_memory(pid)
        .ok_or_else(|| BenchError::failed(format!("process {pid}"), "has no memory: it ended"))
}

/// Returns the number of established connections at the server's end.
fn established(server: SocketAddr) -> Result<usize, BenchError> {
    let path = std::path::Path::new("/proc/net/tcp");
    let table = std::fs::read_to_string(path).map_err(BenchError::on(path))?;
    let port = format!(":{:04X}", server.port());
    let is_established = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next(), fields.nth(1));
        local.is_some_and(|local| local.ends_with(&port)) && state == Some(ESTABLISHED)
    };
    Ok(table.lines().filter(is_established).count())
}

/// A load generator that is stopped on drop.
struct Load(Child);

impl Load {
    fn start(server: SocketAddr, arguments: &[&str], cpu: Option<usize>) -> Result<Self, BenchError> {
        load::start(server, arguments, cpu).map(Self)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
            && matches!(self.0.try_wait(), Ok(None))
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// The state in /proc/net/tcp.
const ESTABLISHED: &str = "01";
const STEP: Duration = Duration::from_millis(100);
const SETTLE_TIME: Duration = Duration::from_secs(2);
const OPEN_TIME_MAX: Duration = Duration::from_secs(120);
