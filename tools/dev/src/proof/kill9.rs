//! Owns the proof by SIGKILL: an engine is killed under load, round after round, on one queue.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mailrace_io::sim::Random;
use mailrace_peers::Program;
use mailrace_postmark::{Account, Ledger};

use super::engine::Engine;
use super::life::{Load, examine, rest};
use crate::error::ProofError;
use crate::rig::device::Place;

/// What is to be done.
#[derive(Debug)]
pub struct Settings {
    /// How often it is killed.
    pub rounds: u32,
    /// Where everything follows from, but for the time that things take.
    pub seed: u64,
    /// The program under proof.
    pub program: Program,
    /// Where to put the queue.
    pub directory: PathBuf,
}

/// Kills engines, and accounts for their mail; ends at the first fault. `say` receives a line about each round.
///
/// # Errors
/// [`ProofError`].
pub fn run(
    settings: &Settings,
    is_interrupted: &AtomicBool,
    say: &mut dyn FnMut(&str),
) -> Result<Account, ProofError> {
    let place = Place::new(&settings.directory)?;
    let queue = place.join("queue");
    let mut random = Random::new(settings.seed, "proof");
    let mut run = run_number(settings.seed);
    let mut ledger = Arc::new(Ledger::new(run));
    let mut sum = Account::default();
    for round in 0..settings.rounds {
        let mut engine = Engine::start(&settings.program, &queue)?;
        let load = Load::start(&settings.program, &engine, &queue, &ledger, &mut random);
        rest(Duration::from_millis(random.below(LIFE_MS_MAX)), is_interrupted)?;
        engine.require_alive()?;
        engine.kill();
        drop(load);
        if random.percent(EARLY_KILL_PERCENT) {
            // Another one, while it still reads what the first left.
            Engine::kill_at_start(
                &settings.program,
                &queue,
                Duration::from_millis(random.below(EARLY_MS_MAX)),
            )?;
        }
        // All that was ever acknowledged was so before the kill.
        let known = ledger.snapshot();
        let account = examine(&settings.program, &queue, &known, &known, run).inspect_err(|_| {
            say(&format!("kept for inspection: {}", place.keep().display()));
        })?;
        say(&format!("round {round}: {account}"));
        let is_right = account.is_right();
        sum.add(account);
        if !is_right {
            say(&format!("kept for inspection: {}", place.keep().display()));
            break;
        }
        settings.program.queue(&queue, ["delete", "ALL"])?;
        if random.percent(NEW_QUEUE_PERCENT) {
            std::fs::remove_dir_all(&queue).map_err(ProofError::on(&queue))?;
            run = run.wrapping_add(1);
            ledger = Arc::new(Ledger::new(run));
        } else {
            ledger.all_deleted();
        }
    }
    Ok(sum)
}

/// Runs of other seeds have other messages.
#[must_use]
pub fn run_number(seed: u64) -> u32 {
    u32::try_from(Random::new(seed, "run").bits() >> 33).unwrap_or(0)
}

/// The longest life.
const LIFE_MS_MAX: u64 = 700;
/// How often an engine is killed while it starts.
const EARLY_KILL_PERCENT: u64 = 25;
/// When, at the latest.
const EARLY_MS_MAX: u64 = 60;
/// How often it begins with a queue that is not there yet.
const NEW_QUEUE_PERCENT: u64 = 5;
