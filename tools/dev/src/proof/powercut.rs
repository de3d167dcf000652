//! Owns the proof by power cuts: an engine's disk loses its power under load, again and again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mailrace_io::FileKind;
use mailrace_io::sim::Random;
use mailrace_peers::Program;
use mailrace_postmark::{Account, Fault, Ledger, add_promises};

use super::careless::{self, Careless};
use super::engine::Engine;
use super::kill9::run_number;
use super::life::{Load, examine, rest};
use crate::error::ProofError;
use crate::rig::Rig;
use crate::rig::cache::CacheRig;
use crate::rig::clone::CloneRig;
use crate::rig::shutdown::ShutdownRig;

/// Which machine fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`crate::rig::clone`]
    Clone,
    /// [`crate::rig::cache`]
    Cache,
    /// [`crate::rig::shutdown`]
    Shutdown,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Clone, Self::Cache, Self::Shutdown];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Cache => "cache",
            Self::Shutdown => "shutdown",
        }
    }

    /// Sets it up in `directory`, or where it is best.
    ///
    /// # Errors
    /// [`ProofError`]; nothing is left.
    pub fn set_up(self, directory: Option<&Path>) -> Result<Box<dyn Rig>, ProofError> {
        let temporary = std::env::temp_dir();
        let memory = Path::new("/dev/shm");
        let in_memory = if memory.is_dir() { memory } else { &temporary };
        Ok(match self {
            Self::Clone => Box::new(CloneRig::new(directory.unwrap_or(&temporary))?),
            Self::Cache => Box::new(CacheRig::new(directory.unwrap_or(in_memory))?),
            Self::Shutdown => Box::new(ShutdownRig::new(directory.unwrap_or(&temporary))?),
        })
    }

    /// How the control writes: what only this rig can show to be lost, if there is such a thing.
    const fn careless_kind(self) -> FileKind {
        match self {
            Self::Clone | Self::Shutdown => FileKind::Buffered,
            Self::Cache => FileKind::Direct,
        }
    }
}

/// What is to be done.
#[derive(Debug)]
pub struct Settings {
    /// The rig.
    pub kind: Kind,
    /// How often its power is cut.
    pub cuts: u32,
    /// Where everything follows from, but for the time that things take.
    pub seed: u64,
    /// The program under proof.
    pub program: Program,
    /// Where to put the rig; `None`: where it is best.
    pub directory: Option<PathBuf>,
}

/// Cuts the power under engines, and accounts for their mail; ends at the first fault. `say` receives a line about each
/// state that was examined.
///
/// # Errors
/// [`ProofError`].
pub fn run(
    settings: &Settings,
    is_interrupted: &AtomicBool,
    say: &mut dyn FnMut(&str),
) -> Result<Account, ProofError> {
    let mut rig = settings.kind.set_up(settings.directory.as_deref())?;
    let mut random = Random::new(settings.seed, "proof");
    let mut sum = Account::default();
    for cut in 0..settings.cuts {
        if cut > 0 {
            rig.renew()?;
        }
        let run = run_number(settings.seed).wrapping_add(cut);
        let account = one_cut(settings, rig.as_mut(), run, &mut random, is_interrupted, &mut |text| {
            say(&format!("{} {cut}: {text}", settings.kind.name()));
        });
        let is_right = account.as_ref().is_ok_and(Account::is_right);
        if !is_right && !matches!(account, Err(ProofError::Interrupted)) {
            say(&format!("kept for inspection: {}", rig.keep().display()));
        }
        sum.add(account?);
        if !is_right {
            break;
        }
    }
    Ok(sum)
}

fn one_cut(
    settings: &Settings,
    rig: &mut dyn Rig,
    run: u32,
    random: &mut Random,
    is_interrupted: &AtomicBool,
    say: &mut dyn FnMut(&str),
) -> Result<Account, ProofError> {
    let queue = rig.directory().join(QUEUE);
    let ledger = Arc::new(Ledger::new(run));
    let mut engine = Engine::start(&settings.program, &queue)?;
    let load = Load::start(&settings.program, &engine, &queue, &ledger, random);
    rest(Duration::from_millis(random.below(LIFE_MS_MAX)), is_interrupted)?;
    engine.require_alive()?;
    let mut before = ledger.snapshot();
    rig.cut()?;
    let mut after = ledger.snapshot();
    load.stop();
    let is_alive = engine.require_alive();
    engine.kill();
    drop(load);
    is_alive?;
    if rig.ends_writing() {
        after = ledger.snapshot();
        add_promises(&mut before, &after);
    }
    let mut sum = Account::default();
    rig.remains(random, &mut |state, directory| {
        let account = examine(&settings.program, &directory.join(QUEUE), &before, &after, run)?;
        say(&format!("{state}: {account}"));
        sum.add(account);
        Ok(())
    })?;
    Ok(sum)
}

/// Cuts the power under a writer that makes nothing durable. The account must show what is lost.
///
/// # Errors
/// [`ProofError`].
pub fn control(
    settings: &Settings,
    is_interrupted: &AtomicBool,
    say: &mut dyn FnMut(&str),
) -> Result<bool, ProofError> {
    let mut rig = settings.kind.set_up(settings.directory.as_deref())?;
    let mut random = Random::new(settings.seed, "proof");
    let run = run_number(settings.seed);
    let ledger = Arc::new(Ledger::new(run));
    let queue = rig.directory().join(QUEUE);
    let writer = Careless::start(&queue, settings.kind.careless_kind(), &ledger)?;
    rest(CONTROL_LIFE, is_interrupted)?;
    let before = ledger.snapshot();
    rig.cut()?;
    let after = ledger.snapshot();
    drop(writer);
    let mut lost = 0;
    rig.remains(&mut random, &mut |state, directory| {
        let found = careless::look(&directory.join(QUEUE))?;
        let account = Account::new(&before, &after, run, &found);
        lost += account.count(Fault::Lost);
        say(&format!("{} control: {state}: {account}", settings.kind.name()));
        Ok(())
    })?;
    Ok(lost > 0)
}

/// The queue's directory on the rig.
const QUEUE: &str = "spool";
/// The longest life.
const LIFE_MS_MAX: u64 = 1200;
/// Of the control's writer, which fills its file in less.
const CONTROL_LIFE: Duration = Duration::from_millis(200);
