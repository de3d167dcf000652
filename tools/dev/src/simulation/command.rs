//! The commands `simulate` and `replay`: run seeds and report their outcomes.

use std::cell::RefCell;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mailrace_io::sim::Fault;

use super::shrink::shrink;
use super::{Options, Report, live};

/// A world takes a second at most, and a minute on a machine that does much else.
const WORLD_TIME_MAX: Duration = Duration::from_secs(180);
/// How often threads are looked after.
const PERIOD: Duration = Duration::from_millis(20);
/// How often progress is said.
const PROGRESS_PERIOD: Duration = Duration::from_secs(10);
/// Events that are shown of a trace that was shrunk: the last ones.
pub const EVENTS_SHOWN: usize = 100;

thread_local! {
    /// The seed whose world this thread lives through.
    static SEED: RefCell<Option<(u64, Options)>> = const { RefCell::new(None) };
}

/// A seed in whose world something is wrong.
#[derive(Debug)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub violation: String,
    /// The command that lives through it again.
    pub command: String,
}

/// Lives through `count` seeds from `first` on, on `jobs` threads, until something is wrong. `progress` is called now and
/// then, with how many are done.
pub fn search(
    first: u64,
    count: u64,
    jobs: usize,
    options: &Options,
    mut progress: impl FnMut(u64),
) -> (u64, Report, Option<Found>) {
    silence_panics();
    let (next, done) = (AtomicU64::new(first), AtomicU64::new(0));
    let (report, found) = (Mutex::new(Report::default()), Mutex::new(None));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let work = || {
            let mut sum = Report::default();
            while !is_over.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    break;
                }
                let outcome = live(seed, options, false);
                sum.add(&outcome.report);
                done.fetch_add(1, Ordering::Relaxed);
                if let Some(violation) = outcome.violation {
                    is_over.store(true, Ordering::Relaxed);
                    let command = format!("mailrace-dev {}", replay_command(seed, options).join(" "));
                    lock(&found).get_or_insert(Found { seed, violation, command });
                }
            }
            lock(&report).add(&sum);
        };
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::park_timeout(PERIOD);
            progress(done.load(Ordering::Relaxed));
        }
    });
    let (report, found) = (lock(&report).clone(), lock(&found).take());
    (done.into_inner(), report, found)
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `count` seeds from `first` on, on `jobs` threads, and reports the outcome; `is_brief`: of a violation only its
/// description.
#[must_use]
pub fn simulate(first: u64, count: u64, jobs: usize, options: &Options, is_brief: bool) -> ExitCode {
    let start = Instant::now();
    let rate =
        |done: u64| done * 1000 / u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let mut told = Instant::now();
    let (done, report, found) = search(first, count, jobs, options, |done| {
        if told.elapsed() >= PROGRESS_PERIOD {
            told = Instant::now();
            println!("{done} seeds of {count}, {} per second", rate(done));
        }
    });
    println!(
        "{done} seeds in {:.1} s, {} per second on {jobs} threads",
        start.elapsed().as_secs_f64(),
        rate(done)
    );
    tell(&report);
    match &found {
        Some(found) if is_brief => println!("seed {}: {}", found.seed, found.violation),
        Some(found) => tell_violation(found.seed, options, &found.violation),
        None => {}
    }
    ExitCode::from(u8::from(found.is_some()))
}

/// Lives through one seed's world once more and shows its last `count` events; with none it only says whether something
/// is wrong.
#[must_use]
pub fn replay(seed: u64, options: &Options, count: usize) -> ExitCode {
    silence_panics();
    let is_quiet = count == 0;
    let outcome = live(seed, options, !is_quiet);
    if !is_quiet {
        let events = outcome.trace.events();
        for event in &events[events.len().saturating_sub(count)..] {
            println!("{event}");
        }
        tell(&outcome.report);
        println!("digest {:016x}", outcome.trace.digest());
    }
    match outcome.violation {
        Some(violation) => {
            if !is_quiet {
                println!("violation: {violation}");
            }
            ExitCode::FAILURE
        }
        None => {
            println!("no violation");
            ExitCode::SUCCESS
        }
    }
}

fn tell(report: &Report) {
    println!(
        "lives {}, failed starts {}, kills {}, power cuts {}, operations {}",
        report.lives, report.failed_starts, report.kills, report.power_cuts, report.operations
    );
    println!(
        "messages accepted {}, refused {}, marked as done {}, moved {}; reloads {}; records missed {}",
        report.accepted, report.refused, report.done, report.moved, report.reloads, report.missed
    );
    let faults = Fault::ALL.into_iter().zip(report.faults);
    let faults: Vec<String> = faults.map(|(fault, count)| format!("{} {count}", fault.name())).collect();
    println!("faults: {}", faults.join(", "));
}

/// The command that lives through it again.
fn replay_command(seed: u64, options: &Options) -> Vec<String> {
    let mut words = vec!["replay".to_owned(), seed.to_string()];
    if !options.without.is_empty() {
        let names: Vec<&str> = options.without.iter().map(|fault| fault.name()).collect();
        words.extend(["--without".to_owned(), names.join(",")]);
    }
    let mut number = |name: &str, value: Option<usize>| {
        words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value.to_string()]));
    };
    number("--lives", options.lives);
    number("--clients", options.clients);
    if let Some(bug) = options.bug {
        words.extend(["--plant".to_owned(), bug.name().to_owned()]);
    }
    words
}

/// Says what is wrong, makes it smaller and shows that.
fn tell_violation(seed: u64, options: &Options, violation: &str) {
    println!("seed {seed}: {violation}");
    println!("  mailrace-dev {}", replay_command(seed, options).join(" "));
    let shrunk = shrink(options, |options| fails(seed, options));
    println!("shrunk to\n  mailrace-dev {}", replay_command(seed, &shrunk).join(" "));
    // The trace of one that ends the process is shown by another.
    let shown = run_again(seed, &shrunk, &[]);
    print!("{}", String::from_utf8_lossy(&shown.map(|output| output.stdout).unwrap_or_default()));
}

fn fails(seed: u64, options: &Options) -> bool {
    if cfg!(panic = "unwind") {
        return live(seed, options, false).violation.is_some();
    }
    run_again(seed, options, &["--events", "0"]).is_ok_and(|output| !output.status.success())
}

fn run_again(seed: u64, options: &Options, more: &[&str]) -> std::io::Result<std::process::Output> {
    Command::new(std::env::current_exe()?)
        .args(replay_command(seed, options))
        .args(more)
        .env(QUIET, "1")
        .stderr(Stdio::null())
        .output()
}

/// Set for processes that try what is left out: their failures are not told again.
const QUIET: &str = "MAILRACE_DEV_QUIET";

/// Does something in a seed's world, so that a panic there is known to belong to it, and a loop without end too.
pub(super) fn watched<T>(seed: u64, options: &Options, live: impl FnOnce() -> T) -> T {
    SEED.with_borrow_mut(|current| *current = Some((seed, options.clone())));
    let command = replay_command(seed, options).join(" ");
    let (is_over, end) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if end.recv_timeout(WORLD_TIME_MAX) == Err(RecvTimeoutError::Timeout) {
            println!("seed {seed}: a worker's turn does not end\n  mailrace-dev {command}");
            std::process::exit(1);
        }
    });
    let result = live();
    drop(is_over);
    let _ = watch.join();
    SEED.with_borrow_mut(|current| *current = None);
    result
}

/// A panic in a simulated world is a violation and told as one. Where panics end the process this is the last chance.
fn silence_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let Some((seed, options)) = SEED.with_borrow_mut(Option::take) else { return before(panic) };
            if cfg!(panic = "abort") {
                if std::env::var_os(QUIET).is_some() {
                    println!("violation: {panic}");
                } else {
                    tell_violation(seed, &options, &panic.to_string());
                }
                std::process::exit(1);
            }
        }));
    });
}
