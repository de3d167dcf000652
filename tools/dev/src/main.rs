//! `mailrace-dev`: the project's own chores.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use mailrace_dev::sanitize::{MIRI, Outcome, Run, SANITIZE};
use mailrace_dev::simulation::{self, Bug, Options};
use mailrace_dev::{journal_fs, licences};
use mailrace_io::sim::Fault;

/// The project's own chores.
#[derive(Debug, Parser)]
#[command(name = "mailrace-dev", version)]
struct CommandLine {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Check format, lints and tests, as for every commit
    Ci,
    /// Run the tests of the ring, the queue and the protocol under AddressSanitizer and Valgrind
    Sanitize,
    /// Run what needs no kernel under Miri, where a nightly toolchain has it
    Miri,
    /// Write docs/licences.md: whose crates the programs are made of, and under which licences
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
        #[command(flatten)]
        world: World,
    },
    /// One seed's world once more, with its last events
    Replay {
        /// Which
        #[arg(value_name = "SEED")]
        seed: u64,
        /// So many events; 0: say only whether something is wrong
        #[arg(long, value_name = "COUNT", default_value_t = simulation::EVENTS_SHOWN)]
        events: usize,
        #[command(flatten)]
        world: World,
    },
}

/// What worlds are to be like.
#[derive(Debug, clap::Args)]
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
        Chore::Simulate { seeds, first, jobs, world } => {
            return simulation::simulate(first, seeds, jobs, &world.into());
        }
        Chore::Replay { seed, events, world } => return simulation::replay(seed, &world.into(), events),
        Chore::JournalFs { action: JournalFs::Up { directory, size } } => {
            journal_fs::up(&directory, size << 20)
        }
        Chore::JournalFs { action: JournalFs::Down { directory } } => journal_fs::down(&directory),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mailrace-dev: {error}");
            ExitCode::FAILURE
        }
    }
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

/// Runs tests under tools, each also after one found something, and says what came of it.
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
