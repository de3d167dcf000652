//! Messages of this machine that are under way to the spool: what came out of drop files passes the same cleanup, and the
//! same spool, as mail from the network.
//!
//! Each has a state of its own, so that one that waits for a lookup table holds up no other. The pickup gives each in
//! parts, and gives the next part when the one before is taken: little of a message is ever in memory here. The pickup
//! bounds how many are under way, and their envelopes.

use std::collections::BTreeMap;
use std::fmt;

use mailrace_core::envelope::Speaker;
use mailrace_core::lookup::Ticket;
use mailrace_core::smtp::Verdict;
use mailrace_core::{Envelope, Origin, Sharer};
use mailrace_io::{Disk, Instant};

use super::control::MARK_TAG;
use super::engine::Engine;
use super::incoming::{Incoming, Progress};

/// Set in the tags of the commits of submissions, beside their numbers: no connection and no mark has both bits.
const SUBMISSION_TAG: u64 = MARK_TAG | 1 << 62;

/// A step of a message that was submitted on this machine.
#[derive(Debug)]
pub enum Submit {
    /// It begins; its content follows.
    Start(Box<SubmissionStart>),
    /// More of its content, with CRLF line ends.
    Content {
        /// Of which message.
        number: u64,
        /// The bytes.
        octets: Vec<u8>,
        /// Nothing follows them.
        is_last: bool,
    },
    /// Forget it, unless it is on its way to the disk already.
    Abandon {
        /// Which message.
        number: u64,
    },
}

/// What is known of a message before its content.
#[derive(Debug)]
pub struct SubmissionStart {
    /// Distinguishes it from all others of this process; below 2^62.
    pub number: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// What it says of itself.
    pub envelope: Envelope,
    /// Addresses in its header section are completed.
    pub is_local_context: bool,
    /// Told what becomes of it.
    pub report: Report,
}

/// What became of a message, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmissionState {
    /// The next part may come.
    Taken,
    /// It waits for the answer of a lookup table; another state follows.
    Waiting,
    /// All of it is durable in the queue.
    Queued,
    /// It was taken and dropped, by order of a check.
    Discarded,
    /// It may not enter, for this reply.
    Refused(Box<[u8]>),
    /// It cannot be taken now, for this reply.
    Deferred(Box<[u8]>),
    /// It was abandoned, or its worker takes no mail any more.
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

/// Tells the pickup the states of one message: the last is a final one, even if the worker ends without a word.
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

/// The messages under way in one worker, by number: the older first.
#[derive(Debug, Default)]
pub(crate) struct Submissions(BTreeMap<u64, Box<Submission>>);

impl Submissions {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The numbers of those that wait for this.
    fn waiting_for(&self, what: WaitsFor) -> Vec<u64> {
        let waiting = self.0.iter().filter(|(_, submission)| submission.waits_for == what);
        waiting.map(|(number, _)| *number).collect()
    }
}

/// The number of the submission whose commit has this tag.
pub(super) const fn submission_of(tag: u64) -> Option<u64> {
    if tag & SUBMISSION_TAG == SUBMISSION_TAG { Some(tag & !SUBMISSION_TAG) } else { None }
}

/// A message under way.
#[derive(Debug)]
struct Submission {
    start: Box<SubmissionStart>,
    message: Incoming,
    /// Bytes of content that came.
    received: u64,
    /// All of the content came.
    is_whole: bool,
    waits_for: WaitsFor,
}

/// What has to happen before anything more can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitsFor {
    /// The next part has to come.
    Content,
    /// The spool has to have room.
    Spool,
    /// A lookup table has to answer.
    Answer(Ticket),
    /// The spool has to say what became of it.
    Verdict,
}

impl<D: Disk> Engine<D> {
    /// Takes a step of a message.
    pub(super) fn submit(&mut self, submit: Submit) {
        match submit {
            Submit::Start(start) => self.begin_submission(start),
            Submit::Content { number, octets, is_last } => {
                // It may have been put off before this came.
                let Some(mut submission) = self.submissions.0.remove(&number) else { return };
                assert!(submission.waits_for == WaitsFor::Content, "the pickup waits for each part");
                submission.received += octets.len() as u64;
                submission.is_whole = is_last;
                submission.message.keep(&self.settings.cleanup, &self.arena, &[&octets]);
                self.advance_submission(submission);
            }
            Submit::Abandon { number } => self.abandon_submission(number),
        }
    }

    fn begin_submission(&mut self, mut start: Box<SubmissionStart>) {
        assert!(start.number < 1 << 62, "a number fits beside the bits of its tag");
        start.origin.speaker = Speaker::User;
        let id = self.spool.next_id(self.wall);
        let draft = self.spool.begin(id);
        let message = Incoming::new(id, draft, start.is_local_context);
        let waits_for = WaitsFor::Content;
        let submission = Box::new(Submission { start, message, received: 0, is_whole: false, waits_for });
        if self.is_draining() {
            self.put_off(submission);
        } else if self.is_storage_low {
            self.end_submission(submission, &Verdict::StorageFull);
        } else {
            let number = submission.start.number;
            let earlier = self.submissions.0.insert(number, submission);
            assert!(earlier.is_none(), "each submission has a number of its own");
        }
    }

    /// Does what can be done with what came.
    fn advance_submission(&mut self, mut submission: Box<Submission>) {
        let size_max = self.settings.smtp.message_size_limit;
        if size_max > 0 && submission.received > size_max {
            let reply = b"552 5.3.4 Error: message file too big"[..].into();
            return self.end_submission(submission, &Verdict::Refused { reason: "too_big", reply });
        }
        let Submission { start, message, is_whole, .. } = &mut *submission;
        let tag = SUBMISSION_TAG | start.number;
        let arena = std::mem::take(&mut self.arena);
        let progress = self.clean(message.id, Sharer::OF_USERS, &arena, |surroundings| {
            if *is_whole {
                message.commit(surroundings, &start.origin, &start.envelope, &[], tag)
            } else {
                message.flush(surroundings, &start.origin, &start.envelope)
            }
        });
        self.put_arena_back(arena);
        submission.waits_for = match progress {
            Progress::Done if submission.is_whole => {
                submission.message.committed_at = Some(self.now);
                WaitsFor::Verdict
            }
            Progress::Done => {
                submission.start.report.tell(SubmissionState::Taken);
                WaitsFor::Content
            }
            Progress::Wait => WaitsFor::Spool,
            Progress::Ask(ticket) => {
                if !submission.message.may_ask(self.now) {
                    return self.end_submission(submission, &Verdict::QueueWriteFailed);
                }
                submission.start.report.tell(SubmissionState::Waiting);
                WaitsFor::Answer(ticket)
            }
            Progress::Discarded => return submission.start.report.tell(SubmissionState::Discarded),
            Progress::Failed(verdict) => return self.end_submission(submission, &verdict),
        };
        self.submissions.0.insert(submission.start.number, submission);
    }

    /// Tries those again that room was missing for, the oldest first.
    pub(super) fn submissions_may_have_room(&mut self) {
        if self.submissions.0.is_empty() {
            return;
        }
        for number in self.submissions.waiting_for(WaitsFor::Spool) {
            if !self.spool.has_room() {
                return;
            }
            if let Some(submission) = self.submissions.0.remove(&number) {
                self.advance_submission(submission);
            }
        }
    }

    /// Tries those again that this answer was missing for.
    pub(super) fn submissions_answered(&mut self, ticket: Ticket) {
        for number in self.submissions.waiting_for(WaitsFor::Answer(ticket)) {
            if let Some(mut submission) = self.submissions.0.remove(&number) {
                submission.message.answered(self.now);
                self.advance_submission(submission);
            }
        }
    }

    /// The spool says what became of one.
    pub(super) fn submission_settled(&mut self, number: u64, is_durable: bool) {
        let mut submission = self.submissions.0.remove(&number).expect("a message stays until it is settled");
        assert!(submission.waits_for == WaitsFor::Verdict, "only what was committed settles");
        if !is_durable {
            return self.end_submission(submission, &Verdict::QueueWriteFailed);
        }
        let latency = submission.message.committed_at.map(|start: Instant| self.now.since(start));
        let SubmissionStart { origin, envelope, .. } = &*submission.start;
        self.telemetry.queued(origin, envelope, &submission.message, latency.unwrap_or_default());
        submission.start.report.tell(SubmissionState::Queued);
    }

    /// Leaves all for the next start but those that are on their way to the disk already.
    pub(super) fn put_submissions_off(&mut self) {
        let numbers: Vec<u64> = self.submissions.0.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.abandon_submission(number));
    }

    fn abandon_submission(&mut self, number: u64) {
        // The pickup may ask before it has heard that it is over.
        let Some(submission) = self.submissions.0.remove(&number) else { return };
        if submission.waits_for == WaitsFor::Verdict {
            self.submissions.0.insert(number, submission);
        } else {
            self.put_off(submission);
        }
    }

    fn put_off(&mut self, mut submission: Box<Submission>) {
        submission.message.abandon(&mut self.spool);
        submission.start.report.tell(SubmissionState::Abandoned);
    }

    /// Ends it without having taken it.
    fn end_submission(&mut self, mut submission: Box<Submission>, verdict: &Verdict) {
        submission.message.abandon(&mut self.spool);
        let state = match verdict {
            // As in Postfix, what is wrong for now is tried again.
            Verdict::Refused { reply, .. } if reply.starts_with(b"4") => {
                SubmissionState::Deferred((**reply).into())
            }
            Verdict::Refused { reason, reply } => {
                self.telemetry.count_reject(reason);
                SubmissionState::Refused((**reply).into())
            }
            Verdict::StorageFull => SubmissionState::NoRoom,
            Verdict::Queued(_) | Verdict::QueueWriteFailed => {
                SubmissionState::Deferred(b"451 4.3.0 Error: queue file write error"[..].into())
            }
        };
        submission.start.report.tell(state);
    }
}
