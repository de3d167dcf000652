//! The pickup thread: passes submitted messages from the maildrop to the workers, several at a time, each in parts, and
//! removes a message's file when it is durable in the queue.
//!
//! Any local user may create files there: each is opened without following links, must be a regular file with only this
//! name, and is submitted by its owner. Users take turns. A message that waits for a lookup table is put off when others
//! are waiting. A file that cannot be taken now is retried; a refused file moves to the directory of refused files; a file
//! that is not a submission is removed.

mod candidates;
mod directory;
mod finding;
mod lines;
mod messages;
mod sweep;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::log::{LineLimit, Log, name};
use crate::maildrop::{Maildrop, SetAside};
use crate::metrics::SubmissionNumbers;
use crate::worker::{SubmissionState, Workers};
use candidates::{Candidates, Name};
use directory::Directory;
use lines::Lines;
use messages::Active;
use sweep::{PERIOD, Sweep};
use wake::Wake;

/// Names kept in memory, about 32 bytes each.
const CANDIDATES_MAX: usize = 1 << 18;
/// Messages put off that are kept in memory; others are found by the next walk.
const PUT_ASIDE_MAX: usize = 4096;
/// How long a message may wait for a lookup table when others are waiting.
const PATIENCE: Duration = Duration::from_millis(200);
/// Messages that begin, and events that are read, before other work has its turn.
const STEPS_MAX: usize = 256;
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

/// A message that was put off.
#[derive(Clone, Copy)]
struct PutAside {
    owner: u32,
    /// How long it is put off now.
    rest: Duration,
    /// When it is retried; `None`: it is in progress.
    until: Option<Instant>,
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
