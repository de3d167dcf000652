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

/// The project's own chores.
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
    /// Run what needs no kernel under Miri, where a nightly toolchain has it
    Miri,
    /// Write docs/licences.md: the third-party crates of the programs and their licences
    Licences,
    /// A journalled ext4 on a loop device, for benchmarks where the machine's own file system has no journal
    JournalFs {
        #[command(subcommand)]
        action: JournalFs,
    },
    /// Lives of the engine in simulated worlds in which everything goes wrong, one for each seed
    Simulate {
        /// How many
        #[arg(long, value_name = "COUNT", default_value_t = 2000)]
        seeds: u64,
        /// The first one
        #[arg(long, value_name = "SEED", default_value_t = 1)]
        first: u64,
        /// Threads
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        jobs: usize,
        /// Of a violation say the seed, and what is wrong; do not make it smaller
        #[arg(long)]
        brief: bool,
        #[command(flatten)]
        world: World,
    },
    /// One seed's world once more, with its last events
    Replay {
        /// Which
        #[arg(value_name = "SEED")]
        seed: u64,
        /// Number of last events to print; 0: print only whether an invariant is violated
        #[arg(long, value_name = "COUNT", default_value_t = simulation::EVENTS_SHOWN)]
        events: usize,
        #[command(flatten)]
        world: World,
    },
    /// Plant bugs in a copy of the source, one after the other, and see that each is found
    Mutate {
        /// Which; without a name all
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Where the copy is made and built
        #[arg(long, value_name = "DIR", default_value = "target/mutations")]
        directory: PathBuf,
        /// Threads of the simulator
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        jobs: usize,
    },
    /// List what a queue directory holds, read by a program that shares no code with the engine, and check all sums
    ReadQueue {
        /// The queue directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Write the content of this message instead
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
    /// Cut the power of the disk under a loaded engine; count what was lost, damaged or made up. As root
    Powercut {
        /// Which machine fails: one that loses its memory, one whose disk loses its cache, one whose file system is
        /// shut down
        #[arg(long, value_enum, default_value_t = Rig::All)]
        rig: Rig,
        /// How often, on each rig
        #[arg(long, value_name = "N", default_value_t = 10)]
        cuts: u32,
        /// Instead of an engine, a writer that makes nothing durable: its loss must be seen
        #[arg(long)]
        control: bool,
        #[command(flatten)]
        proof: Proof,
    },
    /// Kill a loaded engine with SIGKILL, again and again; count what was lost, damaged or made up
    Kill9 {
        /// How often
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
    /// Another one, other moments and messages
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program mailrace; without it the one beside this program
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where to put disks and queues; without it the temporary directory, or memory
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// What worlds are to be like.
#[derive(Debug, Args)]
struct World {
    /// Leave these faults out
    #[arg(long, value_name = "FAULT", value_delimiter = ',', value_parser = fault)]
    without: Vec<Fault>,
    /// Lives of an engine at most, before the last one
    #[arg(long, value_name = "COUNT")]
    lives: Option<usize>,
    /// Clients of a life at most
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
    /// Make DIR.img, make a file system in it, mount it at DIR
    Up {
        /// Where to mount it
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Size in MiB; the image is sparse
        #[arg(long, value_name = "MIB", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(256..=1 << 20))]
        size: u64,
    },
    /// Unmount DIR, remove DIR and DIR.img
    Down {
        /// Where it is mounted
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
            println!("{}: the loss was {}", kind.name(), if is_seen { "seen" } else { "NOT SEEN" });
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
            .map_err(|error| ProofError::Engine(format!("a signal cannot be handled: {error}")))?;
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
