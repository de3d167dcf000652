//! Whole lives of an engine in a simulated world, derived from a seed, and the invariants that must hold after each.
//!
//! A seed is a world ([`mailrace_io::sim`]) with a mix of faults of its own, and one to four lives of the unchanged engine on
//! its disk, one after the other: workers with their sessions, cleanup, spool and timers, the keeper of segments, the opener.
//! Clients send messages over its network, operators mark messages. A life ends by a drain, by a kill or a loss of power
//! at any operation, also at those of the start. Then the queue is recovered and compared with the replies that clients got:
//!
//! - A message whose 250 the server's kernel has taken is in the queue once, under the id of its reply, byte for byte
//!   after our trace field, with its envelope, until its mark `done` is requested.
//! - A message whose end was sent and that was not answered is there once or not at all.
//! - A message whose content did not end, or that was refused, is not there. Only one that was answered `451 4.3.0`, in a life
//!   in which two or more operations of the disk had failed by then, may be: its write failed, its bytes may be on the disk
//!   nevertheless, and the mark that takes it out could not be written either.
//! - A message whose mark was answered has it: done ones never come back, held ones are held. One whose mark was not
//!   answered, or failed, has it or not.
//! - Messages that a start has found are there at the next start; others never are.
//! - Nothing else is in the queue, nothing twice, nothing incomplete.
//! - The report of the start counts those messages, and names no damage.
//! - A mark finds its message; no correct client is refused permanently or gets a reply to a command it did not send;
//!   workers that are asked to end do so, and then hold nothing of their kernel.
//! - At the end, without faults, an honest client of each worker is served; after all messages are marked as done, few
//!   segments are left, and no message.
//!
//! Where the disk lies (lost and misdirected writes, bit rot), nothing is guaranteed about the messages of which a record
//! was hit; the world remembers the affected bytes, so those messages are known. They may be gone or come back, but not be
//! damaged; damage may be reported. The invariants above still hold for all other messages.
//!
//! Each subject of a world draws from its own generator ([`mailrace_io::sim::Random`]), so that a failing seed can be
//! [shrunk](shrink): without a fault, a life or a client the rest stays much the same.

mod client;
mod command;
mod evidence;
mod ledger;
mod life;
mod message;
mod onlooker;
mod pickup;
mod plan;
mod planted;
mod reading;
mod shrink;
mod tables;

use std::rc::Rc;

use mailrace_io::Disk;
use mailrace_io::sim::{Crash, Fault, Random, Trace, World};
use mailrace_spool::RecoveryReport;

use crate::queue_reader::Damage;
use ledger::Ledger;
use life::{End, Life};
use plan::{Clock, Plan};
use planted::PlantedDisk;

pub use command::{EVENTS_SHOWN, Found, replay, search, simulate};
pub use plan::Options;
pub use planted::Bug;

/// What happened in a world, or in several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Starts of an engine that came to work.
    pub lives: u64,
    /// Starts that failed.
    pub failed_starts: u64,
    /// Messages that were accepted.
    pub accepted: u64,
    /// Messages that were refused at their end.
    pub refused: u64,
    /// Messages whose mark `done` was answered.
    pub done: u64,
    /// Messages that had been moved when the queue was looked at.
    pub moved: u64,
    /// Reloads of settings.
    pub reloads: u64,
    /// Records that the disk lost and the start reported.
    pub missed: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Number of power cuts.
    pub power_cuts: u64,
    /// Operations of disk and kernel.
    pub operations: u64,
    /// How often each fault struck.
    pub faults: [u64; Fault::ALL.len()],
}

impl Report {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.failed_starts += other.failed_starts;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.done += other.done;
        self.moved += other.moved;
        self.reloads += other.reloads;
        self.missed += other.missed;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.operations += other.operations;
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
    }
}

/// Outcome of a world.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub report: Report,
    /// All that happened, in order.
    pub trace: Trace,
    /// What is wrong, if something is.
    pub violation: Option<String>,
}

/// Lives through a seed's world. `is_traced`: its events are kept.
#[must_use]
pub fn live(seed: u64, options: &Options, is_traced: bool) -> Outcome {
    let plan = Plan::new(seed, options);
    let world = World::new(seed, plan.conditions, plan.faults.clone(), is_traced);
    let mut run = Run {
        disk: PlantedDisk::new(world.disk(), options.bug),
        world,
        plan: Rc::new(plan),
        ledger: Ledger::default(),
        random: Random::new(seed, "lives"),
        report: Report::default(),
        bug: options.bug,
        is_calm: false,
    };
    // A breach of the seam's contract, or an assertion of the engine's.
    let violation = command::watched(seed, options, || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.live()))
    });
    let violation = violation.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("no message")))
    });
    let Run { world, ledger, mut report, .. } = run;
    report.accepted = ledger.accepted;
    report.refused = ledger.refused;
    report.done = ledger.done;
    (report.moved, report.reloads) = (ledger.moved, ledger.generation);
    report.operations = world.operations();
    report.faults = world.fault_counts();
    Outcome { report, trace: world.trace(), violation: violation.err() }
}

/// A world and what is known of it.
struct Run {
    world: World,
    disk: PlantedDisk,
    plan: Rc<Plan>,
    ledger: Ledger,
    random: Random,
    report: Report,
    bug: Option<Bug>,
    /// Nothing goes wrong any more.
    is_calm: bool,
}

/// Where a clock without a battery begins: 2024-01-01.
const BATTERY_LESS: u64 = 1_704_067_200_000_000;
/// Starts that may fail one after the other before all has to go well.
const STARTS_MAX: usize = 4;
/// Bytes of the disk when nothing may fail: files left by lives on a failing disk must not exhaust it.
const CAPACITY_AT_LAST: u64 = 1 << 36;
/// Segments of an empty queue beyond those that are kept and ready: each worker writes one, and a few more may be held by
/// marks.
const SEGMENTS_HELD_MAX: usize = 5;

impl Run {
    fn live(&mut self) -> Result<(), String> {
        for (workers, clients) in self.plan.lives.clone() {
            if let Some(clock) = self.plan.clock {
                self.world.set_wall_clock(BATTERY_LESS, clock == Clock::Still);
            }
            let crash = self.draw_crash();
            self.live_once(workers, clients, crash)?;
            if self.random.one_in(4) {
                self.command()?;
            }
        }
        self.end_well()
    }

    /// How a life is to end, and after how many operations at the latest.
    fn draw_crash(&mut self) -> Option<(Crash, u64)> {
        let is_cut = self.world.strikes(Fault::PowerCut, &mut self.random);
        let is_killed = self.world.strikes(Fault::Kill, &mut self.random);
        let operations = self.random.magnitude(1, 6000);
        match (is_cut, is_killed) {
            (true, _) => Some((Crash::PowerCut, operations)),
            (_, true) => Some((Crash::Kill, operations)),
            _ => None,
        }
    }

    fn live_once(
        &mut self,
        workers: usize,
        clients: usize,
        crash: Option<(Crash, u64)>,
    ) -> Result<(), String> {
        self.world.set_fuse(crash.map(|(_, operations)| operations));
        let (world, plan) = (self.world.clone(), Rc::clone(&self.plan));
        let mut life = self.start(&world, &plan, workers, crash.map(|(crash, _)| crash))?;
        self.work(&mut life, clients, crash)
    }

    /// Starts an engine, again and again if it has to be, and compares what it found with what it must find.
    fn start<'a>(
        &mut self,
        world: &'a World,
        plan: &'a Plan,
        workers: usize,
        crash: Option<Crash>,
    ) -> Result<Life<'a>, String> {
        let first = if self.is_calm { STARTS_MAX } else { 0 };
        for attempt in first.. {
            if attempt == STARTS_MAX {
                world.set_faults_off(true);
                world.set_fuse(None);
            }
            let random = Random::new(self.random.bits(), "life");
            self.ledger.failures_before = world.disk_failures();
            let generation = self.ledger.generation;
            match Life::begin(world, plan, &self.disk, workers, random, self.bug, generation) {
                // It has started with what it could read. Here the operator starts it again once the disk is readable, so that
                // all replies are compared with the whole queue.
                Ok(life) if life.report.damage.iter().any(|damage| damage.what.is_error()) => {
                    drop(life);
                    self.report.failed_starts += 1;
                    self.crash(crash.unwrap_or(Crash::Kill));
                }
                Ok(life) => {
                    self.report.lives += 1;
                    self.check_start(world, &life.report)?;
                    return Ok(life);
                }
                Err(error) if attempt >= STARTS_MAX => {
                    return Err(format!("the engine does not start, although there is no fault: {error}"));
                }
                Err(_) => {
                    self.report.failed_starts += 1;
                    if world.is_over() {
                        self.crash(crash.unwrap_or(Crash::Kill));
                    }
                }
            }
        }
        unreachable!("the attempts have no end of their own")
    }

    /// Compares what a start found with what it must find.
    fn check_start(&mut self, world: &World, report: &RecoveryReport) -> Result<(), String> {
        self.ledger.note_damage(&world.take_corruptions());
        world.set_faults_off(true);
        let account = self.ledger.check(&world.disk())?;
        let found = account.messages;
        world.set_faults_off(self.is_calm);
        if report.messages != found as u64 {
            return Err(format!("the start found {} messages, there are {found}", report.messages));
        }
        let damaged = report.damage.iter().map(|told| (&told.path, told.offset));
        let strangers = report.strangers.iter().map(|told| (&told.path, 0));
        let told: Vec<(&String, u64)> = damaged.chain(strangers).collect();
        // Where something begins that is not whole.
        let is_told = |name: &str, place: u64| {
            told.iter().any(|(path, offset)| path.ends_with(name) && *offset <= place)
        };
        // Without a place it is somewhere in the file.
        let place_of = |seen: &Damage| if seen.offset == 0 { u64::MAX } else { seen.offset };
        let is_untold = |seen: &&Damage| !is_told(&seen.name, place_of(seen));
        if let Some(untold) = account.damage.iter().find(is_untold) {
            return Err(format!("the start does not report damage: {untold}"));
        }
        if let Some(gone) = account.gone.iter().find(|gone| !is_told(&gone.name, gone.offset)) {
            return Err(format!("the start does not report the loss of {gone}"));
        }
        self.report.missed += account.gone.len() as u64;
        let RecoveryReport { damage, strangers, .. } = report;
        if !(self.ledger.is_damaged || damage.is_empty() && strangers.is_empty()) {
            return Err(format!("damage is reported that does not exist: {damage:?}, {strangers:?}"));
        }
        Ok(())
    }

    /// A command on the queue while no engine runs: it marks some messages, or all, and ends.
    fn command(&mut self) -> Result<(), String> {
        let crash = self.draw_crash();
        self.world.set_fuse(crash.map(|(_, operations)| operations));
        let (world, plan) = (self.world.clone(), Rc::clone(&self.plan));
        let mut life = self.start(&world, &plan, 1, crash.map(|(crash, _)| crash))?;
        life.dismiss_operator();
        life.command(&mut self.ledger);
        self.work(&mut life, 0, crash)
    }

    fn work(
        &mut self,
        life: &mut Life<'_>,
        clients: usize,
        crash: Option<(Crash, u64)>,
    ) -> Result<(), String> {
        life.invite(clients, &mut self.ledger);
        if clients > 0 {
            life.drop_messages(&mut self.ledger);
        }
        if crash.is_none() && self.random.one_in(3) {
            life.end_early();
        }
        let mut end = life.run(&mut self.ledger)?;
        if end == End::Quiet {
            end = life.rest(&mut self.ledger)?;
        }
        if end == End::Quiet && crash.is_none() {
            end = life.drain(&mut self.ledger)?;
        }
        life.finish(&mut self.ledger)?;
        let holdings = life.holdings();
        match (end, crash) {
            (End::Drained, _) => {
                self.world.finish();
                self.note_counted()?;
                // The machine may go down too.
                if self.world.has(Fault::PowerCut) && self.random.one_in(2) {
                    self.crash(Crash::PowerCut);
                }
            }
            (_, crash) => self.crash(crash.map_or(Crash::Kill, |(crash, _)| crash)),
        }
        self.world.set_faults_off(true);
        let corruptions = self.world.take_corruptions();
        let result = self.ledger.check_marks(&self.world.disk(), &corruptions, &holdings);
        self.world.set_faults_off(self.is_calm);
        result
    }

    /// What the manifest counts now must be reported if it is gone.
    fn note_counted(&mut self) -> Result<(), String> {
        self.world.set_faults_off(true);
        let result = self.ledger.note_counted(&self.world.disk(), &self.world.take_corruptions());
        self.world.set_faults_off(self.is_calm);
        result
    }

    fn crash(&mut self, crash: Crash) {
        match crash {
            Crash::Kill => self.report.kills += 1,
            Crash::PowerCut => self.report.power_cuts += 1,
        }
        self.world.crash(crash);
    }

    /// A last life in which all goes well: it serves, it empties, it ends.
    fn end_well(&mut self) -> Result<(), String> {
        self.is_calm = true;
        self.world.set_capacity(CAPACITY_AT_LAST);
        let (world, plan) = (self.world.clone(), Rc::clone(&self.plan));
        let mut life = self.start(&world, &plan, 2, None)?;
        life.dismiss_operator();
        life.invite_honest(&mut self.ledger);
        life.run(&mut self.ledger)?;
        if life.clients.iter().any(|client| client.accepted != 1) {
            return Err("an honest client is not served, although there is no fault".to_owned());
        }
        life.mark_all(&mut self.ledger);
        life.run(&mut self.ledger)?;
        life.rest(&mut self.ledger)?;
        if life.drain(&mut self.ledger)? != End::Drained {
            return Err("workers do not end, although there is no fault".to_owned());
        }
        life.finish(&mut self.ledger)?;
        life.tidy();
        drop(life);
        world.finish();
        let found = self.ledger.check(&world.disk())?.messages;
        if found > 0 && !self.ledger.is_damaged {
            return Err(format!("{found} messages are in the queue after all were marked as done"));
        }
        let segments = world.disk().list("segments").map_err(|error| error.to_string())?.len();
        let most = plan.spool.kept_segments + plan.spool.spare_segments + SEGMENTS_HELD_MAX;
        if segments > most && !self.ledger.is_damaged {
            return Err(format!("an empty queue has {segments} segments instead of at most {most}"));
        }
        Ok(())
    }
}
