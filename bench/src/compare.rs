//! Compares servers: the same load on each in turn, round after round.
//!
//! All servers run throughout, on one processor; while one is measured the others are idle. Ratios are computed within a
//! round, because the speed of a shared machine varies.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mailrace_peers::{Canned, Kernel, Mailrace, OTHER, Peer, Postfix, Setting};
use serde::Serialize;

use crate::error::BenchError;
use crate::load;
use crate::probe;
use crate::process::cpu_time;
use crate::summary::Range;
use crate::workload::{Target, Workload};

/// Settings of a comparison.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Loads to send.
    pub workloads: Vec<Workload>,
    /// Number of rounds.
    pub rounds: u32,
    /// Length of one run.
    pub seconds: Duration,
    /// The load generator's processor.
    pub load_cpu: Option<usize>,
    /// Setting in which servers are started.
    pub setting: Setting,
    /// Names of servers to leave out.
    pub without: Vec<String>,
    /// Directory with the programs of another commit, to compare with.
    pub against: Option<PathBuf>,
    /// Whether to print the project's targets.
    pub has_targets: bool,
}

/// Names of all servers that can be compared.
pub const CONTENDERS: [&str; 5] = [CANNED_ONLY, CANNED, Kernel::Ring.name(), Kernel::Epoll.name(), POSTFIX];

/// One run of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    contender: &'static str,
    round: u32,
    messages: u64,
    messages_per_second: f64,
    /// Server processor time per message.
    cpu_us: f64,
    /// Share of one processor that the server used.
    server_load: f64,
    /// Share of one processor that the load generator used.
    client_load: f64,
    end_of_data_p50_us: Option<f64>,
    end_of_data_p99_us: Option<f64>,
}

/// Results of one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    workload: String,
    title: String,
    runs: Vec<Run>,
    /// Median latency of a durable write, one per round.
    probe_p50_us: Vec<f64>,
    ratios: Ratios,
}

/// Ratios of Mailrace to the others, each computed within a round.
#[derive(Clone, Debug, Serialize)]
pub struct Ratios {
    cpu_over_canned: Option<Range>,
    rate_over_canned: Option<Range>,
    rate_over_postfix: Option<Range>,
    cpu_under_postfix: Option<Range>,
    latency_over_probe: Option<Range>,
    /// The durable canned responder's latency over the probe's.
    canned_latency_over_probe: Option<Range>,
    /// Mailrace on epoll over Mailrace on the ring.
    epoll_cpu_over_ring: Option<Range>,
    epoll_rate_over_ring: Option<Range>,
    epoll_latency_over_ring: Option<Range>,
    /// This commit's Mailrace over another's.
    cpu_over_other: Option<Range>,
    rate_over_other: Option<Range>,
    latency_over_other: Option<Range>,
}

/// Runs a plan and prints each workload as it is done.
///
/// # Errors
/// [`BenchError`]; [`BenchError::Stopped`] after `stop` was set.
pub fn compare(plan: &Plan, stop: &AtomicBool) -> Result<Vec<Outcome>, BenchError> {
    let mut contenders = start_all(plan)?;
    for contender in &mut contenders {
        let workload = plan.workloads.first().map(|it| it.load.clone()).unwrap_or_default();
        load::run(contender.address(), &workload, WARM_UP_TIME, plan.load_cpu)?;
    }
    let mut outcomes = Vec::new();
    for workload in &plan.workloads {
        let mut runs = Vec::new();
        let mut probes = Vec::new();
        for round in 0..plan.rounds {
            if workload.probe {
                let directory = plan.setting.directory.join("probe");
                probes.push(probe::durable_writes(directory, plan.seconds / 2, plan.setting.cpu)?.p50_us);
            }
            // Rotate, so that no server is always first.
            let count = contenders.len();
            for at in 0..count {
                if stop.load(Ordering::Relaxed) {
                    return Err(BenchError::Stopped);
                }
                let contender = &mut contenders[(at + round as usize) % count];
                runs.push(measure(contender.as_mut(), workload, round, plan)?);
            }
        }
        let outcome = Outcome::new(workload, runs, probes);
        let target = if plan.has_targets { workload.target } else { Target::default() };
        print(&outcome, &target);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn start_all(plan: &Plan) -> Result<Vec<Box<dyn Peer>>, BenchError> {
    let is_wanted = |name: &str| !plan.without.iter().any(|other| other == name);
    let setting = &plan.setting;
    let mut contenders: Vec<Box<dyn Peer>> = Vec::new();
    if is_wanted(CANNED_ONLY) {
        contenders.push(Box::new(Canned::start(setting, false)?));
    }
    if is_wanted(CANNED) {
        contenders.push(Box::new(Canned::start(setting, true)?));
    }
    for kernel in [Kernel::Ring, Kernel::Epoll] {
        if is_wanted(kernel.name()) {
            contenders.push(Box::new(Mailrace::start(setting, kernel)?));
        }
    }
    if let Some(other) = &plan.against {
        contenders.push(Box::new(Mailrace::start_other(setting, other)?));
    }
    if is_wanted(POSTFIX) {
        match Postfix::obstacle() {
            Some(obstacle) => eprintln!("mailrace-bench: POSTFIX IS LEFT OUT: {obstacle}"),
            None => contenders.push(Box::new(Postfix::start(setting)?)),
        }
    }
    Ok(contenders)
}

fn measure(
    contender: &mut dyn Peer,
    workload: &Workload,
    round: u32,
    plan: &Plan,
) -> Result<Run, BenchError> {
    contender.empty()?;
    settle(contender.pid(), &plan.setting.directory)?;
    let held_before = contender.held()?;
    let cpu_before = cpu_time(contender.pid());
    let load_cpu = if workload.same_cpu { plan.setting.cpu } else { plan.load_cpu };
    let report = load::run(contender.address(), &workload.load, plan.seconds, load_cpu)?;
    let cpu = (cpu_time(contender.pid()) - cpu_before).as_secs_f64();
    // A server that answers 250 without keeping the message must not win.
    if let (Some(before), Some(after)) = (held_before, contender.held()?)
        && after - before != report.messages
    {
        let message = format!("accepted {} messages, holds {}", report.messages, after - before);
        return Err(BenchError::failed(contender.name(), message));
    }
    let latency = report.end_of_data_us();
    Ok(Run {
        contender: contender.name(),
        round,
        messages: report.messages,
        messages_per_second: report.messages_per_second,
        cpu_us: cpu * 1e6 / report.messages as f64,
        server_load: cpu / report.seconds,
        client_load: report.client_cpu_seconds / report.seconds,
        end_of_data_p50_us: latency.map(|(p50, _)| p50),
        end_of_data_p99_us: latency.map(|(_, p99)| p99),
    })
}

/// Waits for background work of the last run: dirty pages, files to zero or remove.
fn settle(pid: u32, directory: &Path) -> Result<(), BenchError> {
    let file = std::fs::File::open(directory).map_err(BenchError::on(directory))?;
    rustix::fs::syncfs(&file).map_err(|error| BenchError::at("syncfs")(error.into()))?;
    let give_up = Instant::now() + SETTLE_TIME_MAX;
    let mut last = cpu_time(pid);
    while Instant::now() < give_up {
        sleep(SETTLE_STEP);
        let now = cpu_time(pid);
        if now - last < SETTLE_STEP / 50 {
            break;
        }
        last = now;
    }
    Ok(())
}

impl Outcome {
    fn new(workload: &Workload, runs: Vec<Run>, probe_p50_us: Vec<f64>) -> Self {
        let pairs = |other: &'static str| {
            let find = |name: &str, round: u32| {
                runs.iter().find(|run| run.contender == name && run.round == round).cloned()
            };
            let rounds = runs.iter().map(|run| run.round).max().map_or(0, |last| last + 1);
            (0..rounds)
                .filter_map(move |round| Some((find(Kernel::Ring.name(), round)?, find(other, round)?)))
                .collect::<Vec<_>>()
        };
        let (canned, postfix, epoll) = (pairs(CANNED), pairs(POSTFIX), pairs(Kernel::Epoll.name()));
        let other = pairs(OTHER);
        let over_probe = |name: &str| {
            let of_name = runs.iter().filter(|run| run.contender == name);
            Range::of(
                of_name
                    .filter_map(|run| Some(run.end_of_data_p50_us? / probe_p50_us.get(run.round as usize)?)),
            )
        };
        let ratios = Ratios {
            cpu_over_canned: Range::of(canned.iter().map(|(own, other)| own.cpu_us / other.cpu_us)),
            rate_over_canned: Range::of(
                canned.iter().map(|(own, other)| own.messages_per_second / other.messages_per_second),
            ),
            rate_over_postfix: Range::of(
                postfix.iter().map(|(own, other)| own.messages_per_second / other.messages_per_second),
            ),
            cpu_under_postfix: Range::of(postfix.iter().map(|(own, other)| other.cpu_us / own.cpu_us)),
            latency_over_probe: over_probe(Kernel::Ring.name()),
            canned_latency_over_probe: over_probe(CANNED),
            epoll_cpu_over_ring: Range::of(epoll.iter().map(|(ring, epoll)| epoll.cpu_us / ring.cpu_us)),
            epoll_rate_over_ring: Range::of(
                epoll.iter().map(|(ring, epoll)| epoll.messages_per_second / ring.messages_per_second),
            ),
            epoll_latency_over_ring: Range::of(
                epoll
                    .iter()
                    .filter_map(|(ring, epoll)| Some(epoll.end_of_data_p50_us? / ring.end_of_data_p50_us?)),
            ),
            cpu_over_other: Range::of(other.iter().map(|(own, other)| own.cpu_us / other.cpu_us)),
            rate_over_other: Range::of(
                other.iter().map(|(own, other)| own.messages_per_second / other.messages_per_second),
            ),
            latency_over_other: Range::of(
                other
                    .iter()
                    .filter_map(|(own, other)| Some(own.end_of_data_p50_us? / other.end_of_data_p50_us?)),
            ),
        };
        Self { workload: workload.name.clone(), title: workload.title.clone(), runs, probe_p50_us, ratios }
    }
}

fn print(outcome: &Outcome, target: &Target) {
    println!("\n{}: {}", outcome.workload, outcome.title);
    println!(
        "  {:16} {:>28} {:>24} {:>20} {:>20} {:>8} {:>8}",
        "median (min-max)",
        "messages/s",
        "server CPU us/message",
        "end of data p50 us",
        "p99 us",
        "server",
        "client"
    );
    let mut names: Vec<&str> = Vec::new();
    for run in &outcome.runs {
        if !names.contains(&run.contender) {
            names.push(run.contender);
        }
    }
    for name in names {
        let of = |figure: fn(&Run) -> Option<f64>| {
            let runs = outcome.runs.iter().filter(|run| run.contender == name);
            Range::of(runs.filter_map(figure)).map(|range| range.to_string()).unwrap_or_default()
        };
        let share = |figure: fn(&Run) -> f64| {
            let runs = outcome.runs.iter().filter(|run| run.contender == name);
            Range::of(runs.map(figure))
                .map(|range| format!("{:.0} %", range.median * 100.0))
                .unwrap_or_default()
        };
        println!(
            "  {name:16} {:>28} {:>24} {:>20} {:>20} {:>8} {:>8}",
            of(|run| Some(run.messages_per_second)),
            of(|run| Some(run.cpu_us)),
            of(|run| run.end_of_data_p50_us),
            of(|run| run.end_of_data_p99_us),
            share(|run| run.server_load),
            share(|run| run.client_load),
        );
    }
    if let Some(range) = Range::of(outcome.probe_p50_us.iter().copied()) {
        println!("  {:16} {:>28} {:>24} {:>20}", "4 KiB write", "", "", range.to_string());
    }
    print_ratios(&outcome.ratios, target);
}

fn print_ratios(ratios: &Ratios, target: &Target) {
    print_ratio(
        "CPU per message over canned-durable",
        ratios.cpu_over_canned,
        target.cpu_over_canned_max,
        true,
    );
    print_ratio("messages/s over canned-durable", ratios.rate_over_canned, None, false);
    print_ratio("messages/s over Postfix", ratios.rate_over_postfix, target.rate_over_postfix_min, false);
    print_ratio(
        "Postfix's CPU per message over ours",
        ratios.cpu_under_postfix,
        target.cpu_under_postfix_min,
        false,
    );
    print_ratio(
        "end of data to 250 over a 4 KiB write",
        ratios.latency_over_probe,
        target.latency_over_probe_max,
        true,
    );
    print_ratio("canned-durable's end of data to 250 over it", ratios.canned_latency_over_probe, None, true);
    print_ratio("epoll's CPU per message over the ring's", ratios.epoll_cpu_over_ring, None, true);
    print_ratio("epoll's messages/s over the ring's", ratios.epoll_rate_over_ring, None, false);
    print_ratio("epoll's end of data to 250 over the ring's", ratios.epoll_latency_over_ring, None, true);
    print_ratio("CPU per message over the other commit's", ratios.cpu_over_other, None, true);
    print_ratio("messages/s over the other commit's", ratios.rate_over_other, None, false);
    print_ratio("end of data to 250 over the other commit's", ratios.latency_over_other, None, true);
}

fn print_ratio(name: &str, ratio: Option<Range>, target: Option<f64>, is_upper: bool) {
    if let Some(ratio) = ratio {
        println!("{}", ratio_line(name, ratio, target, is_upper));
    }
}

fn ratio_line(name: &str, ratio: Range, target: Option<f64>, is_upper: bool) -> String {
    let verdict = target.map(|target| {
        let is_met = if is_upper { ratio.median <= target } else { ratio.median >= target };
        let bound = if is_upper { "at most" } else { "at least" };
        format!("  target {bound} {target}: {}", if is_met { "met" } else { "NOT MET" })
    });
    format!("  {name}: {ratio}{}", verdict.unwrap_or_default())
}

const CANNED_ONLY: &str = "canned";
const CANNED: &str = "canned-durable";
const POSTFIX: &str = "postfix";
const WARM_UP_TIME: Duration = Duration::from_millis(500);
const SETTLE_STEP: Duration = Duration::from_millis(100);
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_shown_when_there_are_any() {
        let ratio = Range { median: 1.5, min: 1.4, max: 1.6 };
        assert_eq!(ratio_line("x", ratio, None, true), "  x: 1.50 (1.40-1.60)");
        assert_eq!(
            ratio_line("x", ratio, Some(1.4), true),
            "  x: 1.50 (1.40-1.60)  target at most 1.4: NOT MET"
        );
        assert_eq!(
            ratio_line("x", ratio, Some(1.4), false),
            "  x: 1.50 (1.40-1.60)  target at least 1.4: met"
        );
    }
}
