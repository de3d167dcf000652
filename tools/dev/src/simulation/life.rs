//! Owns one life of an engine: its workers, the keeper of segments and the opener, step by step in the seed's order.

mod operator;

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use mailrace::worker::{Control, Marked, Submit, Telemetry, Usage, Worker};
use mailrace_io::sim::{Fault, Random, World};
use mailrace_io::{Instant, Io, Waker};
use mailrace_spool::{Holding, Opened, Opener, RecoveryReport, SegmentKeeper, SegmentSpool, Store, open};

use super::client::Client;
use super::ledger::Ledger;
use super::pickup::Pickup;
use super::plan::Plan;
use super::planted::{PlantedDisk, PlantedIo};
use super::reading::Reading;
use super::tables::Tables;
use operator::Job;

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The world ended it.
    Over,
    /// Its workers ended when they were asked to.
    Drained,
    /// It continues, and no other part of the world needs it.
    Quiet,
}

/// An engine at work.
pub(super) struct Life<'a> {
    world: &'a World,
    plan: &'a Plan,
    seats: Vec<Seat>,
    keeper: SegmentKeeper<PlantedDisk>,
    opener: Opener<PlantedDisk>,
    pub(super) report: RecoveryReport,
    /// When the keeper and the opener look for work again.
    keeper_wakes: Instant,
    opener_wakes: Instant,
    operator_wakes: Instant,
    has_operator: bool,
    /// When its workers are asked to end, whatever their clients are at.
    drain_at: Option<Instant>,
    reading: Reading,
    pub(super) clients: Vec<Client>,
    tables: Tables,
    pickup: Pickup,
    reloads_left: u32,
    /// Turns of the operator that mark: on a disk that fails, marks without end fill it.
    marks_left: u32,
    pickup_wakes: Instant,
    jobs: Vec<Job>,
    /// Segments of workers that have ended.
    left: Vec<Holding>,
    answers: Receiver<(usize, Marked)>,
    answer: Sender<(usize, Marked)>,
    random: Random,
    _lock: mailrace_io::sim::SimFile,
}

/// A worker on the simulated kernel, whose bugs are planted between the two.
type LifeWorker = Worker<PlantedIo, SegmentSpool<PlantedDisk>>;

/// A worker's place.
struct Seat {
    /// Gone when it has ended.
    worker: Option<LifeWorker>,
    controls: Sender<Control>,
    waker: Waker,
}

/// What a life goes on for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// All clients are gone, and no mark is open.
    Quiet,
    /// The workers hold nothing any more.
    Rest,
    /// The workers have ended.
    Drained,
}

/// Who does something next.
#[derive(Clone, Copy, Debug)]
enum Actor {
    Worker(usize),
    Keeper,
    Opener,
    Reading,
    Operator,
    Tables,
    Pickup,
    Client(usize),
}

/// Steps of a life at most.
const STEPS_MAX: usize = 400_000;
/// How long a life goes on.
const TIME_MAX: Duration = Duration::from_secs(3000);
/// How long workers may take to end beyond their drain timeout: a commit that is under way waits for its disk.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(600);
/// How long the keeper rests when nothing happens.
const REST: Duration = Duration::from_secs(40);

impl<'a> Life<'a> {
    /// Starts an engine. An error is what it said.
    pub(super) fn begin(
        world: &'a World,
        plan: &'a Plan,
        disk: &PlantedDisk,
        workers: usize,
        mut random: Random,
        bug: Option<super::Bug>,
        generation: u64,
    ) -> Result<Self, String> {
        let count = u16::try_from(workers).map_err(|error| error.to_string())?;
        let Opened { spools, keeper, opener, report, shared, lock } =
            open(disk, &plan.spool, count).map_err(|error| error.to_string())?;
        let mut seats = Vec::new();
        let manner = plan.tables.unwrap_or_default();
        let tables = Tables::new(world, manner, Random::new(random.bits(), "tables"));
        let settings = Arc::new(tables.settings(plan, generation));
        // The last one is that of the thread that reads.
        let mut kernels = world.boot(workers + 1);
        let reading_io = kernels.pop().ok_or("no kernel was booted")?;
        let reading = Reading::new(reading_io, &opener);
        for (io, spool) in kernels.into_iter().zip(spools) {
            let io = PlantedIo::new(io, bug);
            let waker = io.waker();
            shared.add_waker(waker.clone());
            let (controls, receiver) = channel::unbounded();
            let (settings, slots) = (Arc::clone(&settings), plan.conditions.slots);
            let worker =
                Worker::new(io, spool, Arc::clone(&shared), settings, Telemetry::unread(), receiver, slots);
            seats.push(Seat { worker: Some(worker), controls, waker });
        }
        let (answer, answers) = channel::unbounded();
        let now = world.now();
        Ok(Self {
            world,
            plan,
            seats,
            keeper,
            opener,
            report,
            keeper_wakes: now,
            opener_wakes: now.after(REST),
            operator_wakes: now.after(REST),
            has_operator: true,
            reading,
            drain_at: None,
            clients: Vec::new(),
            tables,
            pickup: Pickup::new(Random::new(random.bits(), "pickup")),
            pickup_wakes: now,
            reloads_left: 20,
            marks_left: 1500,
            jobs: Vec::new(),
            left: Vec::new(),
            answers,
            answer,
            random,
            _lock: lock,
        })
    }

    /// Lets clients come.
    pub(super) fn invite(&mut self, clients: usize, ledger: &mut Ledger) {
        for index in 0..clients {
            let random = Random::new(self.random.bits() ^ index as u64, "client");
            self.clients.push(Client::new(self.world, ledger, random, self.seats.len(), &self.plan.manner));
        }
    }

    /// Users of the machine drop messages.
    pub(super) fn drop_messages(&mut self, ledger: &mut Ledger) {
        self.pickup.invite(self.plan.submissions, &self.plan.manner, ledger);
    }

    /// An honest client comes to each worker.
    pub(super) fn invite_honest(&mut self, ledger: &mut Ledger) {
        for worker in 0..self.seats.len() {
            let random = Random::new(self.random.bits(), "client");
            self.clients.push(Client::honest(self.world, ledger, random, worker, &self.plan.manner));
        }
    }

    /// Goes on until all clients are gone.
    pub(super) fn run(&mut self, ledger: &mut Ledger) -> Result<End, String> {
        self.go_on(ledger, Goal::Quiet)
    }

    /// Goes on until its workers have noticed that all are gone, and holds it against them if they keep anything.
    pub(super) fn rest(&mut self, ledger: &mut Ledger) -> Result<End, String> {
        self.has_operator = false;
        // What they sent last would be read at the pace that they may be read at.
        self.clients.iter().for_each(Client::vanish);
        let end = self.go_on(ledger, Goal::Rest)?;
        if end == End::Quiet {
            let messages: Vec<_> = self.workers().flat_map(Worker::messages).collect();
            ledger.compare_memory(&messages)?;
        }
        Ok(end)
    }

    /// Lets the workers be asked to end while clients are at work.
    pub(super) fn end_early(&mut self) {
        let time = Duration::from_micros(self.random.magnitude(1000, 60_000_000));
        self.drain_at = Some(self.world.now().after(time));
    }

    /// Asks the workers to end, and goes on until they have.
    pub(super) fn drain(&mut self, ledger: &mut Ledger) -> Result<End, String> {
        self.ask_to_end();
        let end = self.go_on(ledger, Goal::Drained)?;
        if end == End::Drained {
            self.keeper.finish();
        }
        Ok(end)
    }

    fn tell_all(&self, control: impl Fn() -> Control) {
        for seat in &self.seats {
            let _ = seat.controls.send(control());
            seat.waker.wake();
        }
    }

    fn ask_to_end(&mut self) {
        self.tell_all(|| Control::Drain);
        (self.has_operator, self.drain_at) = (false, None);
    }

    fn go_on(&mut self, ledger: &mut Ledger, mut goal: Goal) -> Result<End, String> {
        let mut start = self.world.now();
        let mut ready = Vec::new();
        for _ in 0..STEPS_MAX {
            if self.world.is_over() {
                return Ok(End::Over);
            }
            let now = self.world.now();
            if self.drain_at.is_some_and(|time| time <= now) {
                self.ask_to_end();
                (goal, start) = (Goal::Drained, now);
            }
            let spent = now.since(start);
            match goal {
                Goal::Quiet => {
                    let is_quiet = self.jobs.is_empty()
                        && self.pickup.is_over()
                        && self.clients.iter().all(Client::is_over);
                    if is_quiet || spent > TIME_MAX {
                        return Ok(End::Quiet);
                    }
                }
                Goal::Rest if self.is_at_rest() => return Ok(End::Quiet),
                Goal::Rest if spent > self.plan.manner.silence_max => {
                    let kept: Vec<Usage> = self.workers().map(Worker::usage).collect();
                    return Err(format!("there is no work, but workers still hold {kept:?}"));
                }
                Goal::Drained if self.workers().next().is_none() => return Ok(End::Drained),
                Goal::Drained if spent > self.plan.worker.drain_timeout + DRAIN_TIME_MAX => {
                    return Err("workers that were told to stop do not end".to_owned());
                }
                Goal::Rest | Goal::Drained => {}
            }
            if self.world.strikes(Fault::ClockJump, &mut self.random) {
                self.jump(now);
            }
            ready.clear();
            let next = self.find_ready(now, &mut ready);
            if ready.is_empty() {
                self.world.advance(next);
            } else {
                let actor = *self.random.pick(&ready);
                self.step(actor, ledger)?;
            }
        }
        Err(format!("a life does not end; threads that can run: {ready:?}"))
    }

    fn workers(&self) -> impl Iterator<Item = &LifeWorker> {
        self.seats.iter().filter_map(|seat| seat.worker.as_ref())
    }

    /// The segments that its workers have not given back.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        self.workers().flat_map(|worker| worker.spool().holdings()).chain(self.left.iter().cloned()).collect()
    }

    fn is_at_rest(&self) -> bool {
        self.workers().all(|worker| worker.usage().is_none())
    }

    fn jump(&mut self, now: Instant) {
        let seconds = self.random.magnitude(1, 100_000);
        if self.random.one_in(4) {
            // As when the machine was suspended.
            self.world.advance(now.after(Duration::from_secs(seconds.min(100))));
        } else {
            let microseconds = i64::try_from(seconds * 1_000_000).unwrap_or(0);
            self.world.jump(if self.random.one_in(2) { microseconds } else { -microseconds });
        }
    }

    /// Who has something to do now; and when the first of the others has.
    fn find_ready(&self, now: Instant, ready: &mut Vec<Actor>) -> Instant {
        let mut next = now.after(REST);
        let mut consider = |time: Option<Instant>, actor| match time {
            Some(time) if time <= now => ready.push(actor),
            Some(time) => next = next.min(time),
            None => {}
        };
        for (index, seat) in self.seats.iter().enumerate() {
            if let Some(worker) = &seat.worker {
                let event = self.world.next_event(index);
                consider([event, worker.deadline()].into_iter().flatten().min(), Actor::Worker(index));
            }
        }
        consider(Some(self.keeper_wakes), Actor::Keeper);
        consider(Some(self.opener_wakes), Actor::Opener);
        let reading = [self.world.next_event(self.seats.len()), self.reading.deadline()];
        let due = self.reading.is_due().then_some(now);
        consider(reading.into_iter().chain([due]).flatten().min(), Actor::Reading);
        consider(self.tables.next_event(), Actor::Tables);
        consider(self.pickup.can_begin().then_some(self.pickup_wakes), Actor::Pickup);
        consider(self.has_operator.then_some(self.operator_wakes), Actor::Operator);
        for (index, client) in self.clients.iter().enumerate() {
            consider(client.next_event(), Actor::Client(index));
        }
        next
    }

    fn step(&mut self, actor: Actor, ledger: &mut Ledger) -> Result<(), String> {
        let now = self.world.now();
        match actor {
            Actor::Worker(index) => {
                let seat = &mut self.seats[index];
                let Some(worker) = seat.worker.as_mut() else { return Ok(()) };
                let is_working = worker.turn().map_err(|error| error.to_string())?;
                if !is_working {
                    self.world.check_ended(index);
                    self.left.extend(seat.worker.take().iter().flat_map(|worker| worker.spool().holdings()));
                }
                // What it did may be work for them.
                self.keeper_wakes = self.keeper_wakes.min(self.soon(now));
                self.opener_wakes = self.opener_wakes.min(self.soon(now));
                let period = self.random.between(1, self.plan.operator_period);
                self.operator_wakes = self.operator_wakes.min(now.after(Duration::from_micros(period)));
                self.take_answers(ledger)?;
                self.mark_moving(index, ledger);
                self.advance_pickup(ledger)
            }
            Actor::Keeper => {
                self.keeper.step();
                self.keeper_wakes = now.after(REST);
                Ok(())
            }
            Actor::Opener => {
                self.opener.step();
                self.opener_wakes = now.after(REST);
                Ok(())
            }
            Actor::Reading => {
                let workers = self.seats.iter().filter_map(|seat| seat.worker.as_ref());
                let spools: Vec<_> = workers.map(Worker::spool).collect();
                let source_now = |id| spools.iter().find_map(|spool| spool.source(id));
                self.reading.step(self.world, ledger, source_now)?;
                // An opened file or a closed one is work for the other.
                self.opener_wakes = self.opener_wakes.min(now);
                Ok(())
            }
            Actor::Operator => {
                self.operator_wakes = now.after(REST);
                self.operate(ledger)
            }
            Actor::Tables => {
                for ticket in self.tables.answer(now) {
                    self.tell_all(|| Control::Answered(ticket));
                }
                Ok(())
            }
            Actor::Pickup => {
                self.pickup_wakes = now.after(Duration::from_micros(self.random.magnitude(1, 2_000_000)));
                let worker = self.random.index(self.seats.len());
                if self.seats[worker].worker.is_some() {
                    let steps = self.pickup.begin(self.world, worker, ledger);
                    steps.into_iter().flatten().for_each(|(worker, submit)| self.submit(worker, submit));
                }
                Ok(())
            }
            Actor::Client(index) => self.clients[index].step(self.world, ledger),
        }
    }

    fn submit(&self, worker: usize, submit: Submit) {
        let _ = self.seats[worker].controls.send(Control::Submit(submit));
        self.seats[worker].waker.wake();
    }

    /// The pickup hears what became of its messages, unless the process has ended.
    fn advance_pickup(&mut self, ledger: &mut Ledger) -> Result<(), String> {
        if self.world.is_over() {
            return Ok(());
        }
        for (worker, submit) in self.pickup.advance(self.world, ledger)? {
            self.submit(worker, submit);
        }
        Ok(())
    }

    fn soon(&mut self, now: Instant) -> Instant {
        let most = u64::try_from(self.plan.service_time.as_nanos()).unwrap_or(u64::MAX);
        now.after(Duration::from_nanos(self.random.between(1, most)))
    }

    /// The keeper takes back what the workers gave back last.
    pub(super) fn tidy(&mut self) {
        self.keeper.step();
    }

    /// The engine is gone: clients read the last that its kernel had taken.
    pub(super) fn finish(&mut self, ledger: &mut Ledger) -> Result<(), String> {
        self.take_answers(ledger)?;
        self.clients.iter_mut().try_for_each(|client| client.finish(self.world, ledger))
    }
}
