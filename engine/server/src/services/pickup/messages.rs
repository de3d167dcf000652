//! Takes messages to the workers: begins them, gives their parts, and does what the workers' reports ask for.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use mailrace_core::record::submission::{Header, Submission};
use mailrace_core::smtp::reply;
use mailrace_core::{Envelope, Origin, Protocol, Recipient, Submitter};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::candidates::Name;
use super::finding::IRREGULAR;
use super::lines::{DEFERRED, LogEvent, REFUSED, STUCK};
use super::sweep::PERIOD;
use super::{PATIENCE, PUT_ASIDE_MAX, PutAside, Round, STEPS_MAX, text};
use crate::maildrop::{
    Content, PART_SIZE, ReadError, State, arrival, open, read_envelope, read_header, read_submission,
};
use crate::worker::{Control, Report, SubmissionStart, SubmissionState, Submit};

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
/// The reason why a message does not fit in the queue.
const TOO_MANY_RECIPIENTS: &str = "552 5.3.4 Error: more recipients than a batch holds (block_size)";

/// A message that a worker has.
pub(super) struct Active {
    name: Name,
    owner: u32,
    worker: usize,
    content: Content,
    memory: usize,
    /// Since when it waits for a lookup table.
    pub(super) waits_since: Option<Instant>,
    /// The worker has been asked to abandon it.
    pub(super) is_abandoned: bool,
    /// Why its file cannot be read to the end.
    failure: Option<ReadError>,
}

impl Round {
    /// Begins as many messages as may be in progress. Returns whether it may begin more.
    pub(super) fn begin_all(&mut self, now: Instant) -> bool {
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
    pub(super) fn told(&mut self, number: u64, state: SubmissionState, now: Instant) {
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
                // The next start would take it twice. Only messages in progress get into this state.
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
