//! Measures how misbehaving clients affect honest ones: the same load without and with them.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use mailrace_peers::{Kernel, Mailrace, Peer, Setting, sibling, spawn};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::error::BenchError;
use crate::load::{self, LoadReport};
use crate::process::cpu_time;
use crate::summary::Range;

/// Settings of the measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of connections of misbehaving clients.
    pub hostile: u32,
    /// Kinds of misbehaving clients, with the names of mailrace-load; empty: all.
    pub kinds: Vec<String>,
    /// Number of connections of honest clients.
    pub connections: u32,
    /// Number of runs without and with misbehaving clients.
    pub rounds: u32,
    /// Length of each run.
    pub seconds: Duration,
    /// Time that misbehaving clients run before the run with them begins.
    pub settle: Duration,
    /// Setting in which the server is started.
    pub setting: Setting,
    /// The load generators' processor.
    pub load_cpu: Option<usize>,
}

/// One run of the honest clients.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// Accepted messages per second.
    pub messages_per_second: f64,
    /// End of data to 250, 99th percentile.
    pub p99_us: f64,
    /// The server's processor time, as a share of one processor.
    pub server_cpu: f64,
    /// The honest clients' processor time, as a share of one processor.
    pub client_cpu: f64,
}

/// All runs.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Without misbehaving clients.
    pub without: Vec<Run>,
    /// With them.
    pub with: Vec<Run>,
    /// Messages per second with them over those without, one ratio per round.
    pub rate: Range,
    /// 99th percentile with them over that without, one ratio per round.
    pub p99: Range,
    /// The server's processor time for misbehaving clients alone, as a share of one processor.
    pub hostile_cpu: Range,
}

/// Measures alternately without and with misbehaving clients.
///
/// # Errors
/// [`BenchError`].
pub fn measure(plan: &Plan, stop: &AtomicBool) -> Result<Report, BenchError> {
    let mut server = Mailrace::start(&plan.setting, Kernel::Ring)?;
    let (mut without, mut with, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        if stop.load(Ordering::Relaxed) {
            return Err(BenchError::Stopped);
        }
        without.push(run(&mut server, plan)?);
        let mut hostile = Hostile::start(server.address(), plan)?;
        let before = cpu_time(server.pid());
        sleep(plan.settle);
        let used = cpu_time(server.pid()).saturating_sub(before);
        alone.push(used.as_secs_f64() / plan.settle.as_secs_f64().max(f64::EPSILON));
        with.push(run(&mut server, plan)?);
        hostile.are_there()?;
    }
    let ratios = |of: fn(&Run) -> f64| {
        let ratios = with.iter().zip(&without).map(move |(with, without)| of(with) / of(without));
        Range::of(ratios).ok_or(BenchError::Stopped)
    };
    let rate = ratios(|run| run.messages_per_second)?;
    let p99 = ratios(|run| run.p99_us)?;
    let hostile_cpu = Range::of(alone).ok_or(BenchError::Stopped)?;
    Ok(Report { without, with, rate, p99, hostile_cpu })
}

fn run(server: &mut Mailrace, plan: &Plan) -> Result<Run, BenchError> {
    server.empty()?;
    let connections = plan.connections.to_string();
    let arguments =
        ["--connections", &connections, "--size", "4K", "--per-connection", "100", "--source", STRANGERS];
    let before = cpu_time(server.pid());
    let report: LoadReport =
        load::run(server.address(), &arguments.map(str::to_owned), plan.seconds, plan.load_cpu)?;
    let used = cpu_time(server.pid()).saturating_sub(before);
    let (_, p99_us) = report.end_of_data_us().unwrap_or_default();
    Ok(Run {
        messages_per_second: report.messages_per_second,
        p99_us,
        server_cpu: used.as_secs_f64() / report.seconds,
        client_cpu: report.client_cpu_seconds / report.seconds,
    })
}

/// Addresses of honest clients. They are charged like any client, unlike this machine's own address.
const STRANGERS: &str = "127.65.0.0/24";

/// Misbehaving clients, ended on drop. They run with lower priority than the honest ones.
struct Hostile(Child);

impl Hostile {
    fn start(server: SocketAddr, plan: &Plan) -> Result<Self, BenchError> {
        let mut command = Command::new("nice");
        command.arg("-n19").arg(sibling("mailrace-load")?).arg(server.to_string());
        command.args(["--hostile", &plan.hostile.to_string()]);
        if !plan.kinds.is_empty() {
            command.args(["--kinds", &plan.kinds.join(",")]);
        }
        Ok(Self(spawn(command.stdin(Stdio::null()).stdout(Stdio::null()), plan.load_cpu)?))
    }
}

impl Hostile {
    /// Fails if they have ended by themselves, because the measurement then ran without them.
    fn are_there(&mut self) -> Result<(), BenchError> {
        match self.0.try_wait().map_err(BenchError::at("waiting for mailrace-load"))? {
            None => Ok(()),
            Some(status) => {
                let message = format!("ended early: {status}");
                Err(BenchError::failed("mailrace-load --hostile", message))
            }
        }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}
