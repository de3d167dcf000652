//! `mailrace-dev`: the project's own chores.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mailrace_dev::error::ProofError;
use mailrace_dev::proof::powercut::Kind;
use mailrace_dev::proof::{kill9, powercut};
use mailrace_dev::sanitize::{MIRI, Outcome, Run, SANITIZE};
use mailrace_dev::simulation::{self, Bug, Options};
use mailrace_dev::{journal_fs, licences, mutation, queue_reader};
use mailrace_io::sim::Fault;
use mailrace_peers::Program;
use mailrace_postmark::Account;

/// Development tasks: checks, simulation, fault injection.
#[derive(Debug, Parser)]
#[command(name = "mailrace-dev", version)]
struct CommandLine {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Check format, lints and tests before a commit; `.ci/run` checks more
    Ci,
    /// Run the tests of the ring, the queue and the protocol under AddressSanitizer and Valgrind
    Sanitize,
    /// Run the tests that need no kernel under Miri, if a nightly toolchain has it
    Miri,
    /// Write docs/licences.md, the list of third-party crates and their licences
    Licences,
    /// Create or remove a journalled ext4 on a loop device, for benchmarks on a machine whose file system has no journal
    JournalFs {
        #[command(subcommand)]
        action: JournalFs,
    },
    /// Run the engine in simulated worlds with faults, one world per seed
    Simulate {
        /// Number of seeds
        #[arg(long, value_name = "COUNT", default_value_t = 2000)]
        seeds: u64,
        /// First seed
        #[arg(long, value_name = "SEED", default_value_t = 1)]
        first: u64,
        /// Number of threads
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        jobs: usize,
        /// Print only the seed and the violation, without reducing the world to what causes it
        #[arg(long)]
        brief: bool,
        #[command(flatten)]
        world: World,
    },
    /// Repeat the world of one seed, and print its last events
    Replay {
        /// Seed of the world
        #[arg(value_name = "SEED")]
        seed: u64,
        /// Number of last events to print; 0: print only whether an invariant is violated
        #[arg(long, value_name = "COUNT", default_value_t = simulation::EVENTS_SHOWN)]
        events: usize,
        #[command(flatten)]
        world: World,
    },
    /// Plant bugs in a copy of the source, one after the other, and check that each is found
    Mutate {
        /// Bugs to plant [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Directory of the copy
        #[arg(long, value_name = "DIR", default_value = "target/mutations")]
        directory: PathBuf,
        /// Number of threads of the simulator
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        jobs: usize,
    },
    /// List the messages in a queue directory and verify all checksums, with a reader that shares no code with the engine
    ReadQueue {
        /// The queue directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Print the content of this message instead
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
    /// Cut the power of a loaded engine's disk, and count lost, damaged and unknown messages; requires root
    Powercut {
        /// What is lost: the machine's memory, the disk's cache, or what the file system had not written
        #[arg(long, value_enum, default_value_t = Rig::All)]
        rig: Rig,
        /// Number of cuts on each rig
        #[arg(long, value_name = "N", default_value_t = 10)]
        cuts: u32,
        /// Run a writer that makes nothing durable instead of the engine: the rigs must detect the loss
        #[arg(long)]
        control: bool,
        #[command(flatten)]
        proof: Proof,
    },
    /// Kill a loaded engine with SIGKILL repeatedly, and count lost, damaged and unknown messages
    Kill9 {
        /// Number of kills
        #[arg(long, value_name = "N", default_value_t = 10)]
        rounds: u32,
        #[command(flatten)]
        proof: Proof,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rig {
    Clone,
    Cache,
    Shutdown,
    All,
}

#[derive(Debug, Args)]
struct Proof {
    /// Seed for the messages and the times of the cuts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Path of the program mailrace [default: in the directory of this program]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Directory for disks and queues [default: the temporary directory, or memory]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Options of simulated worlds.
#[derive(Debug, Args)]
struct World {
    /// Exclude these faults
    #[arg(long, value_name = "FAULT", value_delimiter = ',', value_parser = fault)]
    without: Vec<Fault>,
    /// Maximum number of lives of the engine, not counting the last one
    #[arg(long, value_name = "COUNT")]
    lives: Option<usize>,
    /// Maximum number of clients per life
    #[arg(long, value_name = "COUNT")]
    clients: Option<usize>,
    /// Plant a bug
    #[arg(long, value_name = "BUG", value_parser = bug)]
    plant: Option<Bug>,
}

impl From<World> for Options {
    fn from(world: World) -> Self {
        Self { without: world.without, lives: world.lives, clients: world.clients, bug: world.plant }
    }
}

fn fault(name: &str) -> Result<Fault, String> {
    let names = Fault::ALL.map(Fault::name).join(", ");
    Fault::parse(name).ok_or_else(|| format!("faults are {names}"))
}

fn bug(name: &str) -> Result<Bug, String> {
    let names = Bug::ALL.map(Bug::name).join(", ");
    Bug::parse(name).ok_or_else(|| format!("bugs are {names}"))
}

#[derive(Debug, Subcommand)]
enum JournalFs {
    /// Create DIR.img with a file system, and mount it at DIR
    Up {
        /// Mount point
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Size in MiB; the image is sparse
        #[arg(long, value_name = "MIB", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(256..=1 << 20))]
        size: u64,
    },
    /// Unmount DIR, remove DIR and DIR.img
    Down {
        /// Mount point
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().chore {
        Chore::Ci => return ci(),
        Chore::Sanitize => return watched(SANITIZE),
        Chore::Miri => return watched(MIRI),
        Chore::Licences => return write_licences(),
        Chore::Simulate { seeds, first, jobs, brief, world } => {
            return simulation::simulate(first, seeds, jobs, &world.into(), brief);
        }
        Chore::Mutate { names, directory, jobs } => return planted(&names, &directory, jobs),
        Chore::ReadQueue { directory, id } => return queue_reader::command(&directory, id.as_deref()),
        Chore::Replay { seed, events, world } => return simulation::replay(seed, &world.into(), events),
        Chore::JournalFs { action: JournalFs::Up { directory, size } } => {
            journal_fs::up(&directory, size << 20)
        }
        Chore::JournalFs { action: JournalFs::Down { directory } } => journal_fs::down(&directory),
        Chore::Powercut { rig, cuts, control, proof } => return told(powercut(rig, cuts, control, proof)),
        Chore::Kill9 { rounds, proof } => return told(kill9(rounds, proof)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mailrace-dev: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all bugs are found.
fn planted(names: &[String], directory: &std::path::Path, jobs: usize) -> ExitCode {
    // The copy is built from within.
    let result = std::path::absolute(directory)
        .map_err(|error| mutation::MutationError::File(directory.to_owned(), error))
        .and_then(|directory| mutation::mutate(names, &directory, jobs, &mut say));
    match result {
        Ok(are_found) => ExitCode::from(u8::from(!are_found)),
        Err(error) => {
            eprintln!("mailrace-dev: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a proof holds.
fn told(result: Result<bool, ProofError>) -> ExitCode {
    match result {
        Ok(is_right) => ExitCode::from(u8::from(!is_right)),
        Err(error) => {
            eprintln!("mailrace-dev: {error}");
            ExitCode::FAILURE
        }
    }
}

fn powercut(rig: Rig, cuts: u32, is_control: bool, proof: Proof) -> Result<bool, ProofError> {
    let kinds: &[Kind] = match rig {
        Rig::Clone => &[Kind::Clone],
        Rig::Cache => &[Kind::Cache],
        Rig::Shutdown => &[Kind::Shutdown],
        Rig::All => &Kind::ALL,
    };
    let is_interrupted = interrupted()?;
    let program = Program::find(proof.program)?;
    let mut is_right = true;
    for kind in kinds {
        let (program, directory) = (program.clone(), proof.directory.clone());
        let settings = powercut::Settings { kind: *kind, cuts, seed: proof.seed, program, directory };
        if is_control {
            let is_seen = powercut::control(&settings, &is_interrupted, &mut say)?;
            println!("{}: the loss was {}", kind.name(), if is_seen { "detected" } else { "NOT DETECTED" });
            is_right &= is_seen;
        } else {
            is_right &= summed_up(kind.name(), cuts, &powercut::run(&settings, &is_interrupted, &mut say)?);
        }
    }
    Ok(is_right)
}

fn kill9(rounds: u32, proof: Proof) -> Result<bool, ProofError> {
    let is_interrupted = interrupted()?;
    let directory = proof.directory.unwrap_or_else(std::env::temp_dir);
    let settings =
        kill9::Settings { rounds, seed: proof.seed, program: Program::find(proof.program)?, directory };
    Ok(summed_up("kill9", rounds, &kill9::run(&settings, &is_interrupted, &mut say)?))
}

fn summed_up(name: &str, times: u32, account: &Account) -> bool {
    let verdict = if account.is_right() { "ok" } else { "FAILED" };
    println!("{name}: {verdict}, {times} times: {account}");
    account.is_right()
}

fn say(text: &str) {
    println!("{text}");
}

/// Set when a signal asks to end: devices and mounts must be removed.
fn interrupted() -> Result<Arc<AtomicBool>, ProofError> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|error| ProofError::Engine(format!("cannot handle signals: {error}")))?;
    }
    Ok(flag)
}

/// Runs every check, also after one failed, so that one run tells all.
fn ci() -> ExitCode {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut failed = Vec::new();
    for arguments in CHECKS {
        println!("== cargo {}", arguments.join(" "));
        let is_success = Command::new(&cargo).args(*arguments).status().is_ok_and(|status| status.success());
        if !is_success {
            failed.push(arguments.join(" "));
        }
    }
    for check in &failed {
        eprintln!("mailrace-dev: failed: cargo {check}");
    }
    ExitCode::from(u8::from(!failed.is_empty()))
}

/// Runs tests under tools, each also after one found something, and reports the result.
fn watched(runs: &[Run]) -> ExitCode {
    let mut outcomes = Vec::new();
    for run in runs {
        println!("== {}: {}", run.tool, run.tests.join(" "));
        match run.run() {
            Ok(outcome) => outcomes.push((run, outcome)),
            Err(error) => {
                eprintln!("mailrace-dev: cannot run {}: {error}", run.tool);
                return ExitCode::FAILURE;
            }
        }
    }
    println!();
    for (run, outcome) in &outcomes {
        println!("{outcome}: {}: {}", run.tool, run.tests.join(" "));
    }
    ExitCode::from(u8::from(outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Found)))
}

fn write_licences() -> ExitCode {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/licences.md");
    let written = match licences::list() {
        Ok(text) => std::fs::write(path, text).map_err(|error| format!("cannot write {path}: {error}")),
        Err(error) => Err(error.to_string()),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("mailrace-dev: {message}");
            ExitCode::FAILURE
        }
    }
}

const CHECKS: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    &["test", "--workspace", "--locked"],
];
