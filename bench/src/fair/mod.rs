//! Measures how attackers that exhaust a shared resource affect honest clients: the same honest load without and with
//! attackers, on a separate network.

pub mod honest;
pub mod kinds;
pub mod network;
pub mod stranger;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use mailrace_peers::{Foreground, Setting, sibling};
use serde::Serialize;

use crate::error::BenchError;
use crate::summary::Range;
use honest::{Told, Until};
use kinds::Kind;
use network::{Network, SERVER, STRANGER, Side, strangers};
use stranger::Seen;

/// Settings of the measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kinds of attacks.
    pub kinds: Vec<Kind>,
    /// Numbers of attackers. Several attackers are in one network.
    pub strangers: Vec<u8>,
    /// Number of connections per attacker.
    pub connections: usize,
    /// Honest clients.
    pub clients: usize,
    /// Messages per second that each of them sends.
    pub rate: u32,
    /// Number of runs without and with attackers.
    pub rounds: u32,
    /// Length of each run.
    pub seconds: Duration,
    /// Time that attackers run before the run with them begins.
    pub settle: Duration,
    /// Parameters of the server, as `--set` takes them.
    pub set: Vec<String>,
    /// Setting in which the server's queue is created.
    pub setting: Setting,
}

/// Results of one kind of attack.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Kind of attack.
    pub kind: &'static str,
    /// Number of attackers.
    pub strangers: u8,
    /// Messages of honest clients per second, without attackers.
    pub without: Range,
    /// Messages of honest clients per second, with attackers.
    pub with: Range,
    /// With over without, a ratio for each round.
    pub ratio: Range,
    /// Messages that were refused or lost their connection.
    pub refused: u64,
    /// Longest time that a message took with attackers, in milliseconds.
    pub slowest_ms: f64,
    /// Connections that the attackers made.
    pub connections: u64,
    /// Those of them that the server ended.
    pub ended: u64,
    /// Bytes that they sent.
    pub bytes: u64,
}

/// Measures each kind in turn, and reports each outcome to `tell`.
///
/// # Errors
/// [`BenchError`].
pub fn measure(plan: &Plan, stop: &AtomicBool, mut tell: impl FnMut(&Outcome)) -> Result<(), BenchError> {
    let network = Network::make()?;
    for count in &plan.strangers {
        let sources = if *count == 1 { vec![STRANGER] } else { strangers(*count) };
        for kind in &plan.kinds {
            tell(&measure_one(plan, &network, kind, &sources, stop)?);
        }
    }
    Ok(())
}

fn measure_one(
    plan: &Plan,
    network: &Network,
    kind: &Kind,
    sources: &[Ipv4Addr],
    stop: &AtomicBool,
) -> Result<Outcome, BenchError> {
    let until = Until::Time { time: plan.seconds, every: Duration::from_secs(1) / plan.rate };
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut seen = Seen::default();
    for _ in 0..plan.rounds {
        if stop.load(Ordering::Relaxed) {
            return Err(BenchError::Stopped);
        }
        // Start a new server per round, so that queued messages and client accounts do not carry over.
        let server = Server::start(network, plan)?;
        let run = || network.within(Side::Honest, || honest::send(server.address, plan.clients, until));
        without.push(run()?);
        let (told, more) = beside(network, server.address, kind, sources, plan.connections, || {
            sleep(plan.settle);
            run()
        })?;
        with.push(told?);
        seen.connections += more.connections;
        seen.ended += more.ended;
        seen.bytes += more.bytes;
    }
    let rate = |told: &Told| told.accepted as f64 / plan.seconds.as_secs_f64();
    let range = |told: &[Told]| Range::of(told.iter().map(rate)).ok_or(BenchError::Stopped);
    let ratios = with.iter().zip(&without).map(|(with, without)| rate(with) / rate(without).max(1.0));
    Ok(Outcome {
        kind: kind.name,
        strangers: u8::try_from(sources.len()).unwrap_or(u8::MAX),
        without: range(&without)?,
        with: range(&with)?,
        ratio: Range::of(ratios).ok_or(BenchError::Stopped)?,
        refused: with.iter().map(|told| told.refused.len() as u64).sum(),
        slowest_ms: with.iter().map(|told| told.slowest.as_secs_f64() * 1e3).fold(0.0, f64::max),
        connections: seen.connections,
        ended: seen.ended,
        bytes: seen.bytes,
    })
}

/// Runs `work` while attackers at `sources` attack, on `connections` connections each. Also returns what the attackers saw.
///
/// # Errors
/// [`BenchError`] if the attackers cannot start.
///
/// # Panics
/// When `work` or the strangers' thread does.
pub fn beside<T>(
    network: &Network,
    server: SocketAddr,
    kind: &Kind,
    sources: &[Ipv4Addr],
    connections: usize,
    work: impl FnOnce() -> T,
) -> Result<(T, Seen), BenchError> {
    let is_over = AtomicBool::new(false);
    let connections = connections * sources.len();
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| {
            network.within(Side::Strangers, || {
                stranger::attack(server, &(kind.steps)(), sources, connections, &is_over)
            })?
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        let seen = attack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), seen?))
    })
}

/// `mailrace serve` in the server's namespace; killed when dropped.
struct Server {
    address: SocketAddr,
    process: Foreground,
}

impl Server {
    fn start(network: &Network, plan: &Plan) -> Result<Self, BenchError> {
        let address = SocketAddr::from((SERVER, 2525));
        let queue = plan.setting.directory.join("fair-queue");
        let _ = std::fs::remove_dir_all(&queue);
        let mut command = Command::new(sibling("mailrace")?);
        command.args(["serve", "--listen", &address.to_string(), "--queue"]).arg(&queue);
        for set in ["engine.metrics_listen=", "mynetworks=", "relay_domains=example.com"] {
            command.args(["--set", set]);
        }
        plan.set.iter().for_each(|set| _ = command.args(["--set", set]));
        let output = plan.setting.directory.join("fair-output");
        let process = Foreground::start(&mut command, output, |command| {
            let spawned = network.within(Side::Server, || command.spawn())?;
            spawned.map_err(BenchError::at("starting mailrace serve"))
        })?;
        let mut server = Self { address, process };
        server.process.wait_until(|output| {
            std::fs::read_to_string(output).is_ok_and(|said| said.contains("mailrace ready: "))
        })?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
    }
}
