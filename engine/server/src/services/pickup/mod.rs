//! The pickup thread: passes submitted messages from the maildrop to the workers, several at a time, each in parts, and
//! removes a message's file when it is durable in the queue.
//!
//! Any local user may create files there: each is opened without following links, must be a regular file with only this
//! name, and is submitted by its owner. Users take turns. A message that waits for a lookup table is put off when others
//! are waiting. A file that cannot be taken now is retried; a refused file moves to the directory of refused files; a file
//! that is not a submission is removed.

mod candidates;
mod sweep;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};
use mailrace_core::record::submission::{Header, Submission};
use mailrace_core::smtp::reply;
use mailrace_core::{Envelope, Origin, Protocol, Recipient, Submitter};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::log::{EventName, Level, Line, LineLimit, Log, LogWriter, name, now as wall_clock};
use crate::maildrop::{
    Content, Maildrop, PART_SIZE, ReadError, SetAside, State, UNFINISHED, arrival, is_message, open,
    read_envelope, read_header, read_submission,
};
use crate::metrics::SubmissionNumbers;
use crate::worker::{Control, Report, SubmissionStart, SubmissionState, Submit, Workers};
use candidates::{Candidates, Name};
use sweep::{PERIOD, Sweep};
use wake::Wake;

/// Names kept in memory, about 32 bytes each.
const CANDIDATES_MAX: usize = 1 << 18;
/// Messages put off that are kept in memory; others are found by the next walk.
const PUT_ASIDE_MAX: usize = 4096;
/// How long a message may wait for a lookup table when others are waiting.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a message is put off, at first and at most. By then a table has answered or failed, and its answer
/// is cached for longer (`lookup_cache_time`).
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(8);
/// How long no message is begun when the queue has no space.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of memory per message in progress.
const MEMORY_EACH: usize = 256 * 1024;
/// Approximate bytes that a message takes besides its content and envelope.
const MEMORY_OVERHEAD: usize = 4096;
/// Messages that begin, and events that are read, before other work has its turn.
const STEPS_MAX: usize = 256;
/// After this time an unfinished file is no longer being written.
const UNFINISHED_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// After this time an empty file is no longer being written.
const EMPTY_TIME_MAX: Duration = Duration::from_secs(60);
/// The suffix that an earlier release gave to refused files.
const REFUSED_EARLIER: &str = ".refused";
/// Lines of a kind per user in [`PERIOD`].
const LINES_MAX: u32 = 50;
/// Kinds of lines of all users.
const KINDS_MAX: usize = 1000;

/// The bounds of the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PickupSettings {
    /// Messages in progress at once.
    pub(crate) in_flight: usize,
    /// Largest envelope in bytes: what fits in a batch.
    pub(crate) envelope_size_max: u32,
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Pickup {
    wake: Wake,
    thread: JoinHandle<()>,
    log: Log,
}

/// Starts the thread.
///
/// # Errors
/// The directory cannot be used, or no thread can be started.
pub(crate) fn start(
    maildrop: Maildrop,
    settings: PickupSettings,
    workers: Workers,
    numbers: Arc<SubmissionNumbers>,
    log: &Log,
) -> io::Result<Pickup> {
    let wake = Wake::new()?;
    let directory = Directory::open(&maildrop)?;
    let (reports, states) = channel::unbounded();
    let round = Round {
        aside: SetAside::of(maildrop.queue()),
        maildrop,
        directory,
        settings,
        workers,
        numbers,
        lines: Lines { log: log.writer(), limit: LineLimit::new(LINES_MAX, PERIOD, KINDS_MAX) },
        wake: wake.clone(),
        reports,
        states,
        fresh: Candidates::new(CANDIDATES_MAX),
        again: Candidates::new(PUT_ASIDE_MAX),
        is_turn_of_again: false,
        put_aside: BTreeMap::new(),
        active: BTreeMap::new(),
        names: BTreeSet::new(),
        owners: BTreeMap::new(),
        memory: 0,
        last: 0,
        not_before: Instant::now(),
        stuck: Vec::new(),
        sweep: Sweep::new(),
    };
    let thread = std::thread::Builder::new().name("pickup".to_owned()).spawn(move || round.run())?;
    Ok(Pickup { wake, thread, log: log.clone() })
}

impl Pickup {
    /// Takes no further message.
    pub(crate) fn stop(&self) {
        self.wake.stop();
    }

    /// Waits until the messages in progress are settled and their files removed. The workers must be draining.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            self.log.error(name::SUBMISSION_UNAVAILABLE, "the thread for local submission panicked");
        }
    }
}

/// The maildrop as it is watched.
struct Directory {
    file: OwnedFd,
    device: u64,
    inode: u64,
    watch: OwnedFd,
}

impl Directory {
    fn open(maildrop: &Maildrop) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(maildrop.path(), flags, Mode::empty())?;
        let of_file = File::from(file.try_clone()?).metadata()?;
        let user = rustix::process::geteuid();
        if !user.is_root() && of_file.uid() != user.as_raw() {
            let text = "it belongs to another user than the engine's, who could not take files out of it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let events =
            WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        inotify::add_watch(&watch, maildrop.path(), events)?;
        Ok(Self { file, device: of_file.dev(), inode: of_file.ino(), watch })
    }

    /// Whether its path leads to it.
    fn is_in_place(&self, maildrop: &Maildrop) -> bool {
        maildrop.path().metadata().is_ok_and(|it| (it.dev(), it.ino()) == (self.device, self.inode))
    }
}

/// A message that a worker has.
struct Active {
    name: Name,
    owner: u32,
    worker: usize,
    content: Content,
    memory: usize,
    /// Since when it waits for a lookup table.
    waits_since: Option<Instant>,
    /// The worker has been asked to abandon it.
    is_abandoned: bool,
    /// Why its file cannot be read to the end.
    failure: Option<ReadError>,
}

/// A message that was put off.
#[derive(Clone, Copy)]
struct PutAside {
    owner: u32,
    /// How long it is put off now.
    rest: Duration,
    /// When it is retried; `None`: it is in progress.
    until: Option<Instant>,
}

/// What is logged, a bounded number of lines of each kind and user.
struct Lines {
    log: LogWriter,
    limit: LineLimit<(EventName, u32)>,
}

struct Round {
    maildrop: Maildrop,
    aside: SetAside,
    directory: Directory,
    settings: PickupSettings,
    workers: Workers,
    numbers: Arc<SubmissionNumbers>,
    lines: Lines,
    wake: Wake,
    reports: Sender<(u64, SubmissionState)>,
    states: Receiver<(u64, SubmissionState)>,
    fresh: Candidates,
    /// Messages put off whose time has come.
    again: Candidates,
    is_turn_of_again: bool,
    put_aside: BTreeMap<Name, PutAside>,
    /// Messages in progress, by number.
    active: BTreeMap<u64, Active>,
    /// Their names.
    names: BTreeSet<Name>,
    /// Number of messages in progress per owner.
    owners: BTreeMap<u32, usize>,
    /// Bytes that they take.
    memory: usize,
    /// The number of the message that began last.
    last: u64,
    /// No message begins before this time.
    not_before: Instant,
    /// Messages that are in the queue though their files could not be removed: none begins while there is one.
    stuck: Vec<Name>,
    sweep: Sweep,
}

impl Round {
    fn run(mut self) {
        loop {
            let now = Instant::now();
            let is_stopping = self.wake.is_stopping();
            while let Ok((number, state)) = self.states.try_recv() {
                self.told(number, state, now);
            }
            if is_stopping && self.active.is_empty() {
                break;
            }
            if !is_stopping {
                let has_more = self.read_events() | self.look(now) | self.begin_all(now);
                if has_more {
                    continue;
                }
            }
            self.lines.end_periods(now);
            self.wait(now, is_stopping);
        }
        // No period goes on beyond the end.
        self.lines.end_periods(Instant::now() + PERIOD);
        self.lines.log.flush();
    }

    /// Waits until a file came, a message changed its state, or the next deadline.
    fn wait(&self, now: Instant, is_stopping: bool) {
        self.wake.falls_asleep();
        // Events before that wake no thread.
        if self.states.is_empty() && self.wake.is_stopping() == is_stopping {
            let left = self.deadline(now).saturating_duration_since(now);
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(60),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut files = [
                PollFd::from_borrowed_fd(self.wake.event(), PollFlags::IN),
                PollFd::new(&self.directory.watch, PollFlags::IN),
            ];
            // At its end only states are waited for.
            let files = if is_stopping { &mut files[..1] } else { &mut files[..] };
            // Interrupted or not, what there is to do is looked for.
            let _ = poll(files, Some(&left));
        }
        self.wake.is_awake();
    }

    fn deadline(&self, now: Instant) -> Instant {
        let has_candidates = !(self.fresh.is_empty() && self.again.is_empty());
        let rested = self.put_aside.values().filter_map(|it| it.until).min();
        let paused = (has_candidates || !self.stuck.is_empty()) && self.not_before > now;
        // One that is leaving says so.
        let makes_room = has_candidates && !paused && !self.active.values().any(|it| it.is_abandoned);
        let impatient = self.active.values().filter_map(|it| it.waits_since).min();
        let times = [
            Some(now + PERIOD),
            (!self.wake.is_stopping()).then(|| self.sweep.due(now)),
            rested,
            impatient.filter(|_| makes_room).map(|since| since + PATIENCE),
            paused.then_some(self.not_before),
            self.lines.limit.next_end(),
        ];
        times.into_iter().flatten().min().unwrap_or(now)
    }

    /// Records new files. Returns whether there may be more.
    fn read_events(&mut self) -> bool {
        let mut names = Vec::new();
        let mut octets = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(&self.directory.watch, &mut octets);
        // What was read from the kernel must be looked at.
        while names.len() < STEPS_MAX || !reader.is_buffer_empty() {
            let Ok(event) = reader.next() else { break };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                self.sweep.want();
            }
            names.push(event.file_name().map(|name| name.to_bytes().to_vec()).unwrap_or_default());
        }
        for name in &names {
            if let Some(name) = text_of(name).filter(|name| is_message(name)) {
                self.see(name, false);
            }
        }
        names.len() >= STEPS_MAX
    }

    /// Scans the next part of the directory, if it is time. Returns whether there may be more.
    fn look(&mut self, now: Instant) -> bool {
        // Names that found no room are looked for again when there is some.
        if self.sweep.is_between() && self.fresh.len() <= CANDIDATES_MAX / 2 && self.fresh.take_overflow() {
            self.sweep.want();
        }
        if self.sweep.due(now) > now {
            return false;
        }
        if self.sweep.is_between() && !self.directory.is_in_place(&self.maildrop) {
            self.open_again();
        }
        let names = match self.sweep.slice(&self.directory.file, now) {
            Ok(names) => names,
            Err(error) => {
                self.lines
                    .say(UNREADABLE, None, |line| _ = line.text("reason", error.to_string().as_bytes()));
                return false;
            }
        };
        for name in &names {
            let Some(name) = text_of(name) else { continue };
            if is_message(name) {
                self.see(name, true);
            } else if name.strip_suffix(UNFINISHED).is_some_and(is_message) {
                self.remove_if_forgotten(name);
            } else if name.strip_suffix(REFUSED_EARLIER).is_some_and(is_message) {
                self.set_aside_earlier(name);
            }
        }
        !names.is_empty()
    }

    /// Another directory is in the maildrop's place, or none: that is where mail comes now.
    fn open_again(&mut self) {
        let opened = self.maildrop.make().and_then(|()| Directory::open(&self.maildrop));
        match &opened {
            Ok(_) => self.lines.say(REPLACED, None, |_| {}),
            Err(error) => {
                self.lines
                    .say(UNREADABLE, None, |line| _ = line.text("reason", error.to_string().as_bytes()));
            }
        }
        if let Ok(directory) = opened {
            self.directory = directory;
            (self.fresh, self.again) = (Candidates::new(CANDIDATES_MAX), Candidates::new(PUT_ASIDE_MAX));
            self.put_aside.clear();
        }
    }

    /// Records a file that may be a message. `is_walking`: it may have been there for long.
    fn see(&mut self, text: &str, is_walking: bool) {
        let Some(name) = name_of(text) else { return };
        if self.names.contains(&name) || self.put_aside.contains_key(&name) || self.stuck.contains(&name) {
            return;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let Ok(of_file) = rustix::fs::statat(&self.directory.file, text, flags) else { return };
        let owner = of_file.st_uid;
        match FileType::from_raw_mode(of_file.st_mode) {
            FileType::RegularFile if of_file.st_size > 0 => self.fresh.add(owner, name),
            // Its writer may be about to write to it.
            FileType::RegularFile if is_walking && age(of_file.st_ctime) > EMPTY_TIME_MAX => {
                self.remove_empty(text, owner, "it is empty");
            }
            FileType::RegularFile => {}
            // It may hold a user's data.
            FileType::Directory => {}
            _ => self.remove_empty(text, owner, IRREGULAR),
        }
    }

    /// Its writer was killed.
    fn remove_if_forgotten(&mut self, name: &str) {
        let Ok(of_file) = rustix::fs::statat(&self.directory.file, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return;
        };
        if age(of_file.st_mtime) > UNFINISHED_TIME_MAX
            && rustix::fs::unlinkat(&self.directory.file, name, AtFlags::empty()).is_ok()
        {
            self.lines.say(REMOVED, Some(of_file.st_uid), |line| {
                line.text("file", name.as_bytes()).text("reason", b"unfinished for 24 h");
            });
        }
    }

    fn remove_empty(&mut self, name: &str, owner: u32, reason: &'static str) {
        let removed = rustix::fs::unlinkat(&self.directory.file, name, AtFlags::empty());
        match removed {
            Ok(()) => {
                self.numbers.refused.add(1);
                self.lines.say(REMOVED, Some(owner), |line| {
                    line.text("file", name.as_bytes()).text("reason", reason.as_bytes());
                });
            }
            Err(Errno::NOENT) => {}
            Err(error) => self.lines.failed("remove", name, Some(owner), &error.into()),
        }
    }

    fn set_aside_earlier(&mut self, name: &str) {
        let text = name.trim_end_matches(REFUSED_EARLIER);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let is_file = rustix::fs::statat(&self.directory.file, name, flags)
            .is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::RegularFile);
        // Its name without the end may be another file's by now.
        let renamed = || {
            let no = rustix::fs::RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(&self.directory.file, name, &self.directory.file, text, no)
        };
        if is_file && renamed().is_ok() {
            let reason = b"refused by an earlier release";
            // Should it fail, the file is a message again, and is refused again.
            let _ = self.aside.put(&self.directory.file, text, State::Refused, reason);
        }
    }

    /// Begins as many messages as may be in progress. Returns whether it may begin more.
    fn begin_all(&mut self, now: Instant) -> bool {
        if self.not_before > now || !self.remove_stuck(now) {
            return false;
        }
        self.end_rests(now);
        for _ in 0..STEPS_MAX {
            let next = if self.active.len() < self.settings.in_flight { self.next() } else { None };
            let has_begun = next.is_some_and(|(owner, name)| {
                let has_begun = self.begin(owner, name);
                if !has_begun {
                    self.fresh.add(owner, name);
                }
                has_begun
            });
            if !has_begun {
                // All places are taken, or those of the owners that are left, or the memory.
                self.make_room(now);
                return false;
            }
        }
        true
    }

    /// The message that is next: new ones and retried ones take turns, and so do owners. An owner with most of
    /// the places leaves some to the others.
    fn next(&mut self) -> Option<(u32, Name)> {
        let places = self.settings.in_flight;
        let share = (places - places / 4).max(1);
        self.is_turn_of_again = !self.is_turn_of_again;
        let Self { fresh, again, owners, .. } = self;
        let may_take = |owner| owners.get(&owner).is_none_or(|count| *count < share);
        if self.is_turn_of_again {
            again.next(may_take).or_else(|| fresh.next(may_take))
        } else {
            fresh.next(may_take).or_else(|| again.next(may_take))
        }
    }

    /// Begins a message, unless it has to wait for memory: then returns false.
    fn begin(&mut self, owner: u32, name: Name) -> bool {
        if self.names.contains(&name) {
            return true;
        }
        match self.open(name) {
            Ok(opened) => self.begin_opened(opened),
            Err(error) => {
                self.forget(name);
                self.cannot_read(name, owner, error);
                true
            }
        }
    }

    fn open(&self, name: Name) -> Result<Opened, ReadError> {
        let (file, of_file) = open(&self.directory.file, &text(name), self.directory.device)?;
        let header = read_header(&file, &of_file)?;
        if header.envelope_size > self.settings.envelope_size_max {
            return Err(ReadError::Unusable(TOO_MANY_RECIPIENTS));
        }
        let envelope = read_envelope(&file, &header)?;
        let parts = usize::try_from(header.content_size).unwrap_or(usize::MAX).min(PART_SIZE) * 4;
        let recipients = Submission::count_recipients(&envelope) * (size_of::<Recipient>() + 32);
        let memory = MEMORY_OVERHEAD + parts + 2 * envelope.len() + recipients;
        Ok(Opened { name, owner: of_file.uid(), arrival: arrival(&of_file), file, header, envelope, memory })
    }

    fn begin_opened(&mut self, opened: Opened) -> bool {
        let Opened { name, owner, arrival, file, header, envelope, memory } = opened;
        // The largest message has room, if alone.
        let memory_max = self.settings.in_flight.saturating_mul(MEMORY_EACH);
        if !self.active.is_empty() && self.memory + memory > memory_max {
            return false;
        }
        let submission = Submission::decode(&header, &envelope);
        let submission = match submission {
            Ok(submission) => submission,
            Err(error) => {
                self.forget(name);
                self.cannot_read(name, owner, error.into());
                return true;
            }
        };
        self.last += 1;
        let number = self.last;
        let (reports, wake) = (self.reports.clone(), self.wake.clone());
        let start = SubmissionStart {
            number,
            origin: Origin { protocol: Protocol::Local, ..Origin::default() },
            is_local_context: !submission.is_gateway,
            envelope: Envelope {
                submitter: Some(Box::new(Submitter {
                    user_id: owner,
                    full_name: submission.full_name.clone(),
                })),
                ..submission.into_envelope(arrival)
            },
            report: Report::new(move |state| {
                // The pickup may have ended with the process.
                let _ = reports.send((number, state));
                wake.wake();
            }),
        };
        // One worker for each user keeps their order; this thread has more to do for a message than a worker.
        let worker = owner as usize;
        self.workers.tell_one(worker, Control::Submit(Submit::Start(Box::new(start))));
        self.memory += memory;
        *self.owners.entry(owner).or_default() += 1;
        self.names.insert(name);
        self.active.insert(
            number,
            Active {
                name,
                owner,
                worker,
                content: Content::new(file, header),
                memory,
                waits_since: None,
                is_abandoned: false,
                failure: None,
            },
        );
        self.give_part(number);
        true
    }

    /// Gives a worker the next part of a message.
    fn give_part(&mut self, number: u64) {
        let Some(active) = self.active.get_mut(&number) else { return };
        if active.is_abandoned {
            return;
        }
        let submit = match active.content.next() {
            Ok((octets, is_last)) => Submit::Content { number, octets, is_last },
            Err(error) => {
                active.failure = Some(error);
                active.is_abandoned = true;
                Submit::Abandon { number }
            }
        };
        self.workers.tell_one(active.worker, Control::Submit(submit));
    }

    /// Handles a worker's report on a message.
    fn told(&mut self, number: u64, state: SubmissionState, now: Instant) {
        match state {
            SubmissionState::Taken => {
                if let Some(active) = self.active.get_mut(&number) {
                    active.waits_since = None;
                }
                self.give_part(number);
            }
            SubmissionState::Waiting => {
                if let Some(active) = self.active.get_mut(&number) {
                    active.waits_since.get_or_insert(now);
                }
            }
            state => {
                let Some(active) = self.active.remove(&number) else { return };
                self.memory -= active.memory;
                self.names.remove(&active.name);
                if let Some(count) = self.owners.get_mut(&active.owner) {
                    *count -= 1;
                    if *count == 0 {
                        self.owners.remove(&active.owner);
                    }
                }
                self.over(active, state, now);
            }
        }
    }

    /// A worker has finished with a message.
    fn over(&mut self, active: Active, state: SubmissionState, now: Instant) {
        let name = active.name;
        if let Some(failure) = active.failure {
            self.forget(name);
            return self.cannot_read(name, active.owner, failure);
        }
        if state != SubmissionState::Abandoned {
            self.forget(name);
        }
        match state {
            SubmissionState::Queued => {
                self.numbers.queued.add(1);
                self.remove(name, now);
            }
            SubmissionState::Discarded => {
                self.numbers.discarded.add(1);
                self.remove(name, now);
            }
            SubmissionState::Refused(reply) => {
                self.say_of(REFUSED, &active, &reply);
                self.set_aside(name, active.owner, State::Refused, &reply);
            }
            SubmissionState::Deferred(reply) => {
                self.numbers.deferred.add(1);
                self.say_of(DEFERRED, &active, &reply);
            }
            SubmissionState::NoRoom => {
                self.numbers.deferred.add(1);
                self.say_of(DEFERRED, &active, &reply::INSUFFICIENT_STORAGE.line());
                self.not_before = now + NO_ROOM_PAUSE;
                self.fresh.add(active.owner, name);
            }
            SubmissionState::Abandoned | SubmissionState::Taken | SubmissionState::Waiting => {
                self.put_aside(name, active.owner, now);
            }
        }
    }

    /// Puts a message off, to be retried soon.
    fn put_aside(&mut self, name: Name, owner: u32, now: Instant) {
        if self.put_aside.len() >= PUT_ASIDE_MAX && !self.put_aside.contains_key(&name) {
            return self.sweep.want();
        }
        let rest = self.put_aside.get(&name).map_or(REST_MIN, |it| (it.rest * 2).min(REST_MAX));
        self.put_aside.insert(name, PutAside { owner, rest, until: Some(now + rest) });
    }

    fn forget(&mut self, name: Name) {
        self.put_aside.remove(&name);
    }

    fn end_rests(&mut self, now: Instant) {
        for (name, it) in &mut self.put_aside {
            if it.until.is_some_and(|until| until <= now) {
                it.until = None;
                self.again.add(it.owner, *name);
            }
        }
    }

    /// Frees places for others: messages that wait for a table give theirs up, those of owners with most first.
    fn make_room(&mut self, now: Instant) {
        let leaving = self.active.values().filter(|it| it.is_abandoned).count();
        let wanted = (self.fresh.len() + self.again.len()).saturating_sub(leaving);
        let is_impatient = |it: &&mut Active| {
            !it.is_abandoned && it.waits_since.is_some_and(|since| since + PATIENCE <= now)
        };
        let owners = &self.owners;
        let mut waiting: Vec<(usize, Instant, u64)> = self
            .active
            .iter_mut()
            .filter(|(_, active)| is_impatient(active))
            .map(|(number, active)| {
                let places = owners.get(&active.owner).copied().unwrap_or(0);
                (usize::MAX - places, active.waits_since.unwrap_or(now), *number)
            })
            .collect();
        waiting.sort_unstable();
        for (_, _, number) in waiting.into_iter().take(wanted) {
            if let Some(active) = self.active.get_mut(&number) {
                active.is_abandoned = true;
                self.workers.tell_one(active.worker, Control::Submit(Submit::Abandon { number }));
            }
        }
    }

    /// Removes the file of a message that is in the queue, or was dropped by order.
    fn remove(&mut self, name: Name, now: Instant) {
        match rustix::fs::unlinkat(&self.directory.file, text(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => {
                // A start would take it twice; no more than those that are under way get into that state.
                self.stuck.push(name);
                self.not_before = now + PERIOD;
                self.lines.say(STUCK, None, |line| {
                    line.text("file", text(name).as_bytes()).text("reason", error.to_string().as_bytes());
                });
            }
        }
    }

    /// Whether no file is left of a message that is in the queue.
    fn remove_stuck(&mut self, now: Instant) -> bool {
        std::mem::take(&mut self.stuck).into_iter().for_each(|name| self.remove(name, now));
        self.stuck.is_empty()
    }

    fn cannot_read(&mut self, name: Name, owner: u32, error: ReadError) {
        let reason = match error {
            ReadError::Gone => return,
            ReadError::Irregular => return self.remove_empty(&text(name), owner, IRREGULAR),
            ReadError::System(error) => {
                // It is tried again with the next walk.
                return self.lines.failed("read", &text(name), Some(owner), &error);
            }
            ReadError::Unusable(TOO_MANY_RECIPIENTS) => {
                self.lines.say(REFUSED, Some(owner), |line| {
                    line.text("file", text(name).as_bytes()).text("reply", TOO_MANY_RECIPIENTS.as_bytes());
                });
                return self.set_aside(name, owner, State::Refused, TOO_MANY_RECIPIENTS.as_bytes());
            }
            ReadError::Unusable(reason) => reason.to_owned(),
            ReadError::Submission(error) => error.to_string(),
        };
        self.lines.say(REFUSED, Some(owner), |line| {
            line.text("file", text(name).as_bytes()).text("reason", reason.as_bytes());
        });
        self.set_aside(name, owner, State::Corrupt, reason.as_bytes());
    }

    fn set_aside(&mut self, name: Name, owner: u32, state: State, reason: &[u8]) {
        self.numbers.refused.add(1);
        match self.aside.put(&self.directory.file, &text(name), state, reason) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.lines.failed("set aside", &text(name), Some(owner), &error),
        }
    }

    /// Logs that a message was not accepted.
    fn say_of(&mut self, event: LogEvent, active: &Active, reply: &[u8]) {
        let envelope_size_max = self.settings.envelope_size_max;
        self.lines.say(event, Some(active.owner), |line| {
            line.text("file", text(active.name).as_bytes()).text("reply", reply);
            // It was whole when it was begun; its owner may have changed it since.
            let file = active.content.file();
            let of_file = file.metadata().map_err(ReadError::System);
            let read = of_file.and_then(|of_file| read_submission(file, &of_file, envelope_size_max));
            if let Ok((_, submission)) = read {
                line.address("from", &submission.sender);
                // The file has the others.
                line.addresses("to", submission.recipients.iter().map(|it| it.address.as_slice()));
                line.number("nrcpt", submission.recipients.len() as u64);
            }
        });
    }
}

/// A file that was opened, with what is known of it before it is read.
struct Opened {
    name: Name,
    owner: u32,
    arrival: mailrace_core::Timestamp,
    file: File,
    header: Header,
    envelope: Vec<u8>,
    /// Bytes that the message takes under way.
    memory: usize,
}

/// How long ago a file's time is; nothing for one in the future.
fn age(seconds: i64) -> Duration {
    let then = u64::try_from(seconds).unwrap_or(0);
    Duration::from_secs(wall_clock().unix_seconds().saturating_sub(then))
}

/// The reason why a file is not a message.
const IRREGULAR: &str = "it is no regular file";
/// The reason why a message does not fit in the queue.
const TOO_MANY_RECIPIENTS: &str = "552 5.3.4 Error: more recipients than a batch holds (block_size)";

/// A kind of line: how much it matters, its name in JSON, and the same for people.
type LogEvent = (Level, EventName, &'static str);

const REFUSED: LogEvent = (Level::Error, name::SUBMISSION_REFUSED, "submission refused");
const DEFERRED: LogEvent = (Level::Info, name::DEFERRED, "deferred");
const REMOVED: LogEvent = (Level::Warning, name::MAILDROP_REMOVED, "removed from the maildrop");
const FAILED: LogEvent = (Level::Warning, name::MAILDROP_RETRY, "a file of the maildrop is tried again");
const STUCK: LogEvent = (
    Level::Error,
    name::MAILDROP_STUCK,
    "no local mail is taken: the file of a queued message cannot be removed",
);
const UNREADABLE: LogEvent = (Level::Error, name::MAILDROP_UNREADABLE, "cannot read the maildrop");
const REPLACED: LogEvent = (
    Level::Warning,
    name::MAILDROP_REPLACED,
    "another directory is in the maildrop's place, and is used now",
);
const LEFT_OUT: LogEvent = (Level::Warning, name::LINES_LEFT_OUT, "log lines were left out");

impl Lines {
    /// Writes a line about files of a user, unless there were many of this kind.
    fn say(&mut self, event: LogEvent, owner: Option<u32>, fill: impl FnOnce(&mut Line<'_>)) {
        if !self.limit.admits(&(event.1, owner.unwrap_or(u32::MAX)), Instant::now()) {
            return;
        }
        let mut line = begin(&mut self.log, event);
        fill(&mut line);
        if let Some(owner) = owner {
            line.number("uid", u64::from(owner));
        }
        drop(line);
        self.log.flush();
    }

    /// Something could not be done with a file.
    fn failed(&mut self, operation: &str, name: &str, owner: Option<u32>, error: &io::Error) {
        self.say(FAILED, owner, |line| {
            line.text("file", name.as_bytes()).text("operation", operation.as_bytes());
            line.text("reason", error.to_string().as_bytes());
        });
    }

    /// Logs the number of lines that were left out.
    fn end_periods(&mut self, now: Instant) {
        for ((event, owner), count) in self.limit.ended(now) {
            let mut line = begin(&mut self.log, LEFT_OUT);
            line.text("kind", event.text().as_bytes()).number("lines", count);
            if owner != u32::MAX {
                line.number("uid", u64::from(owner));
            }
        }
        self.log.flush();
    }
}

fn begin(log: &mut LogWriter, (level, event, message): LogEvent) -> Line<'_> {
    if level == Level::Info {
        log.line(wall_clock(), None, event)
    } else {
        log.trouble(level, wall_clock(), event, message)
    }
}

/// The digits of a name.
fn text(name: Name) -> String {
    format!("{name:032x}")
}

/// The name that a message's file has; `None` for any other.
fn name_of(text: &str) -> Option<Name> {
    Name::from_str_radix(text, 16).ok()
}

fn text_of(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok()
}
