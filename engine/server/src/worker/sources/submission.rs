//! Local submissions on their way to the spool: content of drop files passes the same cleanup and the
//! same spool as mail from the network.
//!
//! Each has its own state, so that one that waits for a lookup table does not delay others. The pickup sends each in
//! parts, and the next part after the one before is taken, so that little of a message is in memory here. The pickup
//! bounds their number, and their envelopes.

use std::collections::BTreeMap;
use std::fmt;

use mailrace_core::envelope::Speaker;
use mailrace_core::smtp::{Verdict, reply};
use mailrace_core::{Envelope, Origin};
use mailrace_spool::Spool;

use crate::worker::engine::Engine;
use crate::worker::incoming::Incoming;
use crate::worker::intake::{Advance, Sender, Work};
use crate::worker::tag::{NUMBER_END, Source};

/// A step of a message that was submitted on this machine.
#[derive(Debug)]
pub enum Submit {
    /// It starts; its content follows.
    Start(Box<SubmissionStart>),
    /// More of its content, with CRLF line ends.
    Content {
        /// Number of the message.
        number: u64,
        /// The bytes.
        octets: Vec<u8>,
        /// Nothing follows them.
        is_last: bool,
    },
    /// Abandon it, unless it is already being written.
    Abandon {
        /// Number of the message.
        number: u64,
    },
}

/// Everything about a message except its content.
#[derive(Debug)]
pub struct SubmissionStart {
    /// Distinguishes it from all others of this process; below 2^61, so that a tag has room for it.
    pub number: u64,
    /// Its source.
    pub origin: Origin,
    /// Its envelope.
    pub envelope: Envelope,
    /// Addresses in its header section are completed.
    pub is_local_context: bool,
    /// Receives its states.
    pub report: Report,
}

/// State of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmissionState {
    /// The next part may come.
    Taken,
    /// It waits for the answer of a lookup table; another state follows.
    Waiting,
    /// It is durable in the queue.
    Queued,
    /// It was accepted and dropped because of a check.
    Discarded,
    /// It is refused with this reply.
    Refused(Box<[u8]>),
    /// It cannot be taken now; the reply says why.
    Deferred(Box<[u8]>),
    /// It was abandoned, or its worker no longer accepts mail.
    Abandoned,
    /// There is no room for any message.
    NoRoom,
}

impl SubmissionState {
    /// Whether no other state follows.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Taken | Self::Waiting)
    }
}

/// Reports the states of one message to the pickup. The last one is final, even if the worker ends early.
pub struct Report {
    tell: Box<dyn FnMut(SubmissionState) + Send>,
    is_over: bool,
}

impl Report {
    /// A report that calls `tell`, which must not wait.
    pub fn new(tell: impl FnMut(SubmissionState) + Send + 'static) -> Self {
        Self { tell: Box::new(tell), is_over: false }
    }

    fn tell(&mut self, state: SubmissionState) {
        assert!(!self.is_over, "nothing follows a final state");
        self.is_over = state.is_final();
        (self.tell)(state);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.is_over {
            (self.tell)(SubmissionState::Abandoned);
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Report").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

/// Submissions in progress in one worker, by number, which is by age.
#[derive(Debug)]
pub(crate) struct Submissions<D>(BTreeMap<u64, Box<Submission<D>>>);

impl<D> Submissions<D> {
    pub(in crate::worker) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(in crate::worker) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this one is in progress.
    pub(in crate::worker) fn has(&self, number: u64) -> bool {
        self.0.contains_key(&number)
    }
}

/// A submission in progress.
#[derive(Debug)]
struct Submission<D> {
    start: Box<SubmissionStart>,
    message: Incoming<D>,
    /// Bytes of content received.
    received: u64,
    /// All content was received.
    is_whole: bool,
    /// The next part may be sent.
    wants_content: bool,
}

impl<S: Spool> Engine<S> {
    /// Takes a step of a message.
    pub(in crate::worker) fn submit(&mut self, submit: Submit) {
        match submit {
            Submit::Start(start) => self.begin_submission(start),
            Submit::Content { number, octets, is_last } => {
                // It may have been put off in the meantime.
                let Some(mut submission) = self.submissions.0.remove(&number) else { return };
                assert!(submission.wants_content, "the pickup waits for each part");
                submission.received += octets.len() as u64;
                submission.is_whole = is_last;
                let arena = self.intake.lend_arena();
                submission.message.keep(&self.settings.cleanup, &arena, &[&octets]);
                self.intake.take_arena_back(arena);
                self.advance_submission(submission);
            }
            Submit::Abandon { number } => self.abandon_submission(number),
        }
    }

    fn begin_submission(&mut self, mut start: Box<SubmissionStart>) {
        assert!(start.number < NUMBER_END, "a tag has room for the number");
        start.origin.speaker = Speaker::User;
        let message = self.intake.begin(self.wall, start.is_local_context);
        let submission =
            Box::new(Submission { start, message, received: 0, is_whole: false, wants_content: true });
        if self.is_draining() {
            self.put_off(*submission);
        } else if self.budget.is_storage_low {
            self.end_submission(*submission, &Verdict::StorageFull);
        } else {
            let number = submission.start.number;
            let earlier = self.submissions.0.insert(number, submission);
            assert!(earlier.is_none(), "each submission has a number of its own");
        }
    }

    /// Processes the content received.
    fn advance_submission(&mut self, mut submission: Box<Submission<S::Draft>>) {
        let size_max = self.settings.smtp.message_size_limit;
        if size_max > 0 && submission.received > size_max {
            let reply = reply::MESSAGE_TOO_BIG.line();
            return self.end_submission(*submission, &Verdict::Refused { reason: "too_big", reply });
        }
        let Submission { start, message, is_whole, .. } = &mut *submission;
        let source = Source::Submission(start.number);
        let sender = Sender { source, names: USERS, origin: &start.origin, envelope: &start.envelope };
        let mut work = Work {
            settings: &self.settings.cleanup,
            telemetry: &mut self.telemetry,
            now: self.now,
            is_pressed: self.budget.is_pressed,
        };
        let advance = if *is_whole {
            let arena = self.intake.lend_arena();
            let advance = self.intake.commit(&sender, message, &[], &arena, &mut work);
            self.intake.take_arena_back(arena);
            advance
        } else {
            self.intake.append(&sender, message, &mut work)
        };
        submission.wants_content = advance == Advance::Taken && !submission.is_whole;
        match advance {
            Advance::Taken if submission.is_whole => {}
            Advance::Taken => submission.start.report.tell(SubmissionState::Taken),
            Advance::Waits => {}
            Advance::Asks(ticket) => {
                submission.start.report.tell(SubmissionState::Waiting);
                self.ask(source, ticket);
            }
            Advance::Discarded => return submission.start.report.tell(SubmissionState::Discarded),
            Advance::Failed(verdict) => return self.end_submission(*submission, &verdict),
        }
        self.submissions.0.insert(submission.start.number, submission);
    }

    /// Retries what lacked room or an answer.
    pub(in crate::worker) fn retry_submission(&mut self, number: u64) {
        let Some(mut submission) = self.submissions.0.remove(&number) else { return };
        submission.message.waiting.end(self.now);
        self.advance_submission(submission);
    }

    /// Handles the spool's answer about a submission.
    pub(in crate::worker) fn submission_settled(&mut self, number: u64, is_durable: bool) {
        let mut submission = self.submissions.0.remove(&number).expect("a message stays until it is settled");
        assert!(submission.message.waiting.is_settling(), "only what was committed settles");
        if !is_durable {
            return self.end_submission(*submission, &Verdict::QueueWriteFailed);
        }
        self.outgoing.arrived(submission.message.id);
        let latency = submission.message.waiting.latency(self.now);
        let SubmissionStart { origin, envelope, .. } = &*submission.start;
        self.telemetry.queued(origin, envelope, &submission.message, latency);
        submission.start.report.tell(SubmissionState::Queued);
    }

    /// Leaves all to the next start, except those that are already being written.
    pub(in crate::worker) fn put_submissions_off(&mut self) {
        let numbers: Vec<u64> = self.submissions.0.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.abandon_submission(number));
    }

    fn abandon_submission(&mut self, number: u64) {
        // The pickup may send this before it learns of the end.
        let Some(submission) = self.submissions.0.remove(&number) else { return };
        if submission.message.waiting.is_settling() {
            self.submissions.0.insert(number, submission);
        } else {
            self.put_off(*submission);
        }
    }

    fn put_off(&mut self, mut submission: Submission<S::Draft>) {
        self.intake.abandon(&mut submission.message);
        submission.start.report.tell(SubmissionState::Abandoned);
    }

    /// Ends it without accepting it.
    fn end_submission(&mut self, mut submission: Submission<S::Draft>, verdict: &Verdict) {
        self.intake.abandon(&mut submission.message);
        let state = match verdict {
            // As in Postfix, transient errors are retried.
            Verdict::Refused { reply, .. } if reply.starts_with(b"4") => {
                SubmissionState::Deferred((**reply).into())
            }
            Verdict::Refused { reason, reply } => {
                self.telemetry.count_reject(reason);
                SubmissionState::Refused((**reply).into())
            }
            Verdict::StorageFull => SubmissionState::NoRoom,
            Verdict::Queued(_) | Verdict::QueueWriteFailed => {
                SubmissionState::Deferred(reply::QUEUE_WRITE_ERROR.line().into())
            }
        };
        submission.start.report.tell(state);
    }
}

/// All local users together take turns with the clients, as one client of its own network, which no account has.
const USERS: (u32, u32) = (u32::MAX, u32::MAX);
