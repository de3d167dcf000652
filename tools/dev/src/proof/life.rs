//! Owns one life of an engine in a proof: it runs, is given mail and orders, and ends; then what it left is accounted
//! for, and another engine has to continue from it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mailrace_io::sim::Random;
use mailrace_peers::Program;
use mailrace_postmark::{Account, Chosen, Fault, Ledger, Snapshot};

use super::engine::{Engine, look};
use super::sender::{Session, send};
use crate::error::ProofError;

/// Clients and an operator that keep an engine busy. They end when the value is dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts it.
    #[must_use]
    pub fn start(
        program: &Program,
        engine: &Engine,
        queue: &Path,
        ledger: &Arc<Ledger>,
        random: &mut Random,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let address = engine.address;
        let mut threads: Vec<JoinHandle<()>> = (0..CONNECTIONS)
            .map(|_| {
                let (ledger, stop) = (Arc::clone(ledger), Arc::clone(&stop));
                let random = Random::new(random.bits(), "thread");
                std::thread::spawn(move || send(address, &ledger, random, &stop))
            })
            .collect();
        threads.push({
            let (ledger, stop) = (Arc::clone(ledger), Arc::clone(&stop));
            let (program, queue) = (program.clone(), queue.to_owned());
            let random = Random::new(random.bits(), "thread");
            std::thread::spawn(move || operate(&program, &queue, &ledger, random, &stop))
        });
        Self { stop, threads }
    }

    /// Nothing more is begun.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Deletes most messages and holds some, so that segments are used again and messages move.
fn operate(program: &Program, queue: &Path, ledger: &Ledger, mut random: Random, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if random.percent(SWEEP_PERCENT) {
            let chosen = ledger.sweep_begins();
            let is_done = program.queue(queue, ["delete", "ALL"]).is_ok();
            ledger.sweep_ends(if is_done { &chosen } else { NOBODY });
        }
        let (deletes, holds) = ledger.choose(&mut random);
        for (verb, messages) in [("delete", &deletes), ("hold", &holds)] {
            let arguments = [verb].into_iter().chain(messages.iter().map(|(_, id)| id.as_str()));
            // Status 0 says that all of it is durable; otherwise all of it is in doubt.
            if !messages.is_empty() && program.queue(queue, arguments).is_ok() {
                ledger.answered(messages);
            }
        }
        if deletes.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Accounts for what is in a queue that no engine uses, then starts one on it: it must hold the same, take mail, and
/// end.
///
/// # Errors
/// If an engine cannot continue from it.
pub fn examine(
    program: &Program,
    queue: &Path,
    before: &Snapshot,
    after: &Snapshot,
    run: u32,
) -> Result<Account, ProofError> {
    // An engine that was cut off before it made its queue has none.
    if !queue.exists() {
        return Ok(Account::new(before, after, run, &[]));
    }
    let found = look(program, queue)?;
    let mut account = Account::new(before, after, run, &found);
    if !account.is_right() {
        // The files are kept for inspection.
        return Ok(account);
    }
    let engine = Engine::start(program, queue)?;
    for event in engine.said().into_iter().filter(|event| event.event == "damage") {
        account.fault(Fault::Damaged, event.message);
    }
    let again = look(program, queue)?;
    let recovered = Account::new(before, after, run, &again);
    for (fault, messages) in recovered.faults {
        for message in messages {
            account.fault(fault, format!("{message}, after recovery"));
        }
    }
    if again.len() != found.len() {
        account.fault(Fault::Lost, format!("{} of {} messages, in recovery", found.len(), again.len()));
    }
    let others = Ledger::new(!run);
    let is_taken = Session::open(engine.address)
        .and_then(|mut session| session.send(&others, &mut Random::new(u64::from(run), "after")));
    if !matches!(is_taken, Ok(true)) {
        return Err(ProofError::Engine(format!("it does not accept mail after recovery: {is_taken:?}")));
    }
    engine.stop()?;
    Ok(account)
}

/// Rests for a time, or until a signal comes.
///
/// # Errors
/// [`ProofError::Interrupted`].
pub fn rest(time: Duration, is_interrupted: &AtomicBool) -> Result<(), ProofError> {
    let mut left = time;
    while !left.is_zero() {
        if is_interrupted.load(Ordering::Relaxed) {
            return Err(ProofError::Interrupted);
        }
        let step = left.min(PAUSE);
        std::thread::sleep(step);
        left -= step;
    }
    Ok(())
}

/// Connections at once.
const CONNECTIONS: usize = 16;
/// How often the operator deletes everything.
const SWEEP_PERCENT: u64 = 15;
/// No message.
const NOBODY: &Chosen = &Vec::new();
/// How long the operator rests when there is nothing to do.
const PAUSE: Duration = Duration::from_millis(10);
