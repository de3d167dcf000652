//! Owns one life of an engine: its workers, the keeper of segments and the opener, step by step in the seed's order.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use mailrace::worker::{Answer, Control, Marked, Selection, Submit, Telemetry, Usage, Worker};
use mailrace_core::QueueId;
use mailrace_io::sim::{Fault, Random, World};
use mailrace_io::{Instant, Io, Waker};
use mailrace_spool::{
    Holding, Mark, Opened, Opener, RecoveryReport, SegmentKeeper, SegmentSpool, Store, open,
};

use super::client::Client;
use super::ledger::Ledger;
use super::pickup::Pickup;
use super::plan::Plan;
use super::planted::{PlantedDisk, PlantedIo};
use super::reading::Reading;
use super::tables::Tables;

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

/// A mark that was asked for.
struct Job {
    /// Those that were named, or all to which it makes a difference: number of the message, and of its mark.
    messages: Vec<(usize, usize)>,
    /// The ids of those that were named.
    ids: Option<Arc<[QueueId]>>,
    /// Workers that have not answered.
    unanswered: usize,
    marked: Marked,
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
/// Of the turns of operators who read the queue, how many they do that in.
const READS_SHARE: u64 = 150;
/// Of the turns of operators, in how many a message is read.
const READING_SHARE: u64 = 4;
/// Of the requests for a mark, how many name several messages.
const NAMED_SHARE: u64 = 5;
/// Of a worker's turns while a message is moved, in how many an operator marks it.
const MOVING_SHARE: u64 = 8;
/// Of the turns at a message that stays, how many end it.
const STAY_SHARE: u64 = 500;
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

    /// Asks for marks of some messages, or of all, as a command does that runs alone.
    pub(super) fn command(&mut self, ledger: &mut Ledger) {
        let markable = ledger.markable();
        let mark = *self.random.pick(&[Mark::Done, Mark::Hold, Mark::Release]);
        if self.random.one_in(3) && mark != Mark::Done {
            return self.ask_all(ledger, mark);
        }
        for number in markable {
            if self.random.one_in(3) {
                self.ask(ledger, number, mark);
            }
        }
    }

    /// Asks for a mark of all messages, in a last effort to empty the queue.
    pub(super) fn mark_all(&mut self, ledger: &mut Ledger) {
        for number in ledger.markable() {
            self.ask(ledger, number, Mark::Done);
        }
    }

    /// No operator does anything any more.
    pub(super) fn dismiss_operator(&mut self) {
        self.has_operator = false;
        self.tables.calm();
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
                self.read_some(ledger);
                if self.plan.has_readers && self.random.one_in(READS_SHARE) {
                    self.glance(ledger)?;
                }
                self.operate(ledger);
                Ok(())
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

    /// Switches to other settings: tables of another generation, and another bound of memory.
    fn reload(&mut self, ledger: &mut Ledger) {
        ledger.generation += 1;
        self.world.note("settings are reloaded, generation {}", [ledger.generation, 0, 0]);
        let mut settings = self.tables.settings(self.plan, ledger.generation);
        settings.content_memory =
            usize::try_from(self.random.magnitude(8_000, 1 << 20)).unwrap_or(usize::MAX);
        let settings = Arc::new(settings);
        self.tell_all(|| Control::Reload(Arc::clone(&settings)));
    }

    /// A command reads the queue beside the engine.
    fn glance(&self, ledger: &mut Ledger) -> Result<(), String> {
        let were_off = self.world.set_faults_off(true);
        let corruptions = self.world.take_corruptions();
        let result = ledger.glance(&self.world.disk(), &corruptions, &self.holdings());
        self.world.set_faults_off(were_off);
        result
    }

    /// Has a message read that an operator may mark at the same time.
    fn read_some(&mut self, ledger: &Ledger) {
        if self.reading.is_tired() || !self.random.one_in(READING_SHARE) {
            return;
        }
        let markable = ledger.markable();
        if markable.is_empty() {
            return;
        }
        let number = *self.random.pick(&markable);
        let source = |id| self.workers().find_map(|worker| worker.spool().source(id));
        if let Some(id) = ledger.id_of(number)
            && let Some(source) = source(id)
        {
            self.reading.begin(id, source);
        }
    }

    /// Marks a message: mostly as done, as its delivery would.
    fn operate(&mut self, ledger: &mut Ledger) {
        if self.reloads_left > 0 && self.random.below(1000) < self.plan.reloads {
            self.reloads_left -= 1;
            self.reload(ledger);
        }
        let markable = ledger.markable();
        if markable.is_empty() || self.marks_left == 0 {
            return;
        }
        self.marks_left -= 1;
        // Where segments are to empty, one message in nine stays for long: by then it was moved, mostly.
        let stays = |number: usize| self.plan.is_sparse && number.is_multiple_of(9);
        let repeats = if self.plan.is_sparse { 4 } else { 1 };
        for _ in 0..repeats {
            let number = *self.random.pick(&markable);
            let mark = match self.random.below(8) {
                0 => Mark::Hold,
                1 => Mark::Release,
                _ if stays(number) && !self.random.one_in(STAY_SHARE) => continue,
                _ => Mark::Done,
            };
            // Some are named in one request.
            let mut numbers = vec![number];
            if self.random.one_in(NAMED_SHARE) {
                for _ in 0..self.random.between(1, 6) {
                    let other = *self.random.pick(&markable);
                    if !(numbers.contains(&other) || mark == Mark::Done && stays(other)) {
                        numbers.push(other);
                    }
                }
            }
            numbers.retain(|number| ledger.is_markable(*number));
            self.ask_about(ledger, &numbers, mark);
            // A second one comes while the first is under way.
            if self.random.one_in(3) && ledger.is_markable(number) {
                let marks = [Mark::Hold, Mark::Release, mark];
                let mark = *self.random.pick(&marks);
                self.ask(ledger, number, mark);
            }
        }
    }

    fn ask(&mut self, ledger: &mut Ledger, number: usize, mark: Mark) {
        self.ask_about(ledger, &[number], mark);
    }

    /// Asks for a mark of these messages, in one request.
    fn ask_about(&mut self, ledger: &mut Ledger, numbers: &[usize], mark: Mark) {
        let (mut ids, mut messages) = (Vec::new(), Vec::new());
        for number in numbers {
            let Some((id, place)) = ledger.begin_mark(*number, mark) else { continue };
            self.world.note("message {} is to be marked", [*number as u64, 0, 0]);
            ids.push(id);
            messages.push((*number, place));
        }
        if !ids.is_empty() {
            self.send_mark(mark, &Selection::These(ids.into()), messages);
        }
    }

    /// Marks the message that a worker is moving, now and then.
    fn mark_moving(&mut self, worker: usize, ledger: &mut Ledger) {
        if !(self.plan.marks_moving && self.has_operator) || self.marks_left == 0 {
            return;
        }
        let moving = self.seats[worker].worker.as_ref().and_then(|worker| worker.spool().moving());
        if let Some(number) = moving.and_then(|id| ledger.markable_with(id))
            && self.random.one_in(MOVING_SHARE)
        {
            self.marks_left -= 1;
            let mark = *self.random.pick(&[Mark::Done, Mark::Hold, Mark::Release]);
            self.ask(ledger, number, mark);
        }
    }

    /// While no message is coming in.
    fn ask_all(&mut self, ledger: &mut Ledger, mark: Mark) {
        let numbers = ledger.markable_by(mark);
        self.world.note("{} messages are to be marked", [numbers.len() as u64, 0, 0]);
        let begin = |number| ledger.begin_mark(number, mark).map(|(_, place)| (number, place));
        let messages = numbers.into_iter().filter_map(begin).collect();
        self.send_mark(mark, &Selection::All, messages);
    }

    fn send_mark(&mut self, mark: Mark, selection: &Selection, messages: Vec<(usize, usize)>) {
        let job = self.jobs.len();
        let seats: Vec<&Seat> = self.seats.iter().filter(|seat| seat.worker.is_some()).collect();
        for seat in &seats {
            let answer = self.answer.clone();
            let answer = Answer::new(move |marked| {
                let _ = answer.send((job, marked));
            });
            let selection = selection.clone();
            let _ = seat.controls.send(Control::Mark { mark, selection, answer });
            seat.waker.wake();
        }
        let unanswered = seats.len();
        let ids = match selection {
            Selection::These(ids) => Some(Arc::clone(ids)),
            Selection::All => None,
        };
        self.jobs.push(Job { messages, ids, unanswered, marked: Marked::default() });
    }

    fn take_answers(&mut self, ledger: &mut Ledger) -> Result<(), String> {
        while let Ok((index, marked)) = self.answers.try_recv() {
            let job = &mut self.jobs[index];
            job.unanswered -= 1;
            job.marked.add(marked);
            if job.unanswered == 0 {
                let Marked { messages, failures, ref outcomes } = job.marked;
                let Some(ids) = &job.ids else {
                    self.world.note("messages are marked: {} done, {} failed", [messages, failures, 0]);
                    ledger.end_marks(&job.messages, messages, failures)?;
                    continue;
                };
                if outcomes.len() as u64 != messages + failures {
                    return Err(format!(
                        "{messages} messages were marked, {failures} were not, but the outcomes are {outcomes:?}"
                    ));
                }
                for (message, id) in job.messages.iter().zip(ids.iter()) {
                    let said = |outcome: bool| {
                        outcomes.iter().filter(|(of, is_durable)| of == id && *is_durable == outcome).count()
                            as u64
                    };
                    let (marked, failed) = (said(true), said(false));
                    self.world
                        .note("message {} is marked: {} done, {} failed", [message.0 as u64, marked, failed]);
                    ledger.end_mark(*message, marked, failed)?;
                }
            }
        }
        if self.jobs.iter().all(|job| job.unanswered == 0) {
            self.jobs.clear();
        }
        Ok(())
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
