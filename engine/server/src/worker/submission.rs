//! Owns the message of this machine that is under way to the spool: what came out of a drop file passes the same
//! cleanup, and the same spool, as mail from the network.
//!
//! The pickup gives one message at a time, in parts, and gives the next part when the one before is taken: so little of
//! it is ever in memory, and a message waits without holding up anybody here.

use crossbeam::channel::Sender;
use mailrace_core::lookup::Ticket;
use mailrace_core::smtp::Verdict;
use mailrace_core::{Envelope, Origin};
use mailrace_io::{Disk, Instant};

use super::control::MARK_TAG;
use super::engine::Engine;
use super::incoming::{Incoming, Progress};

/// The tag of the message's commit: one that no connection and no mark has.
pub(super) const SUBMISSION_TAG: u64 = MARK_TAG | 1 << 62;

/// A step of a message that was submitted on this machine.
#[derive(Debug)]
pub enum Submit {
    /// It begins; its content follows.
    Start(Box<SubmissionStart>),
    /// More of its content, with CRLF line ends.
    Content {
        /// The octets.
        octets: Vec<u8>,
        /// Nothing follows them.
        is_last: bool,
    },
    /// Its content cannot be read to the end: forget it.
    Abandon,
}

/// What is known of a message before its content.
#[derive(Debug)]
pub struct SubmissionStart {
    /// The drop file's name, for the log.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What it says of itself.
    pub envelope: Envelope,
    /// Addresses in its header section are completed.
    pub is_local_context: bool,
    /// Told once for each part of the content.
    pub states: Sender<SubmissionState>,
}

/// What became of a part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionState {
    /// The next part may come.
    Taken,
    /// All of it is durable in the queue.
    Queued,
    /// It was taken and dropped, by order of a check.
    Discarded,
    /// It may not enter.
    Refused,
    /// It cannot be taken now.
    Deferred,
}

/// The message under way.
#[derive(Debug)]
pub(crate) struct Submission {
    start: Box<SubmissionStart>,
    message: Incoming,
    /// Octets of content that came.
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
            Submit::Start(start) => {
                assert!(self.submission.is_none(), "the pickup has one message under way");
                self.begin_submission(start);
            }
            Submit::Content { octets, is_last } => {
                // It may have been put off before this came.
                let Some(submission) = self.submission.as_mut() else { return };
                assert!(submission.waits_for == WaitsFor::Content, "the pickup waits for each part");
                submission.received += octets.len() as u64;
                submission.is_whole = is_last;
                submission.message.keep(&self.settings.cleanup, &self.arena, &[&octets]);
                self.advance_submission();
            }
            Submit::Abandon => {
                if let Some(mut submission) = self.submission.take() {
                    submission.message.abandon(&mut self.spool);
                }
            }
        }
    }

    fn begin_submission(&mut self, start: Box<SubmissionStart>) {
        let id = self.spool.next_id(self.wall);
        let draft = self.spool.begin(id);
        let message = Incoming::new(id, draft, start.is_local_context);
        let waits_for = WaitsFor::Content;
        let submission = Box::new(Submission { start, message, received: 0, is_whole: false, waits_for });
        if self.is_draining() || self.is_storage_low {
            self.end_submission(submission, &Verdict::StorageFull);
        } else if !self.spool.fits(&[], envelope_size(&submission.start.envelope)) {
            let reply = b"552 5.3.4 Error: more recipients than a batch holds (block_size)"[..].into();
            self.end_submission(submission, &Verdict::Refused { reason: "too_many_recipients", reply });
        } else {
            self.submission = Some(submission);
        }
    }

    /// Does what can be done with what came.
    fn advance_submission(&mut self) {
        let Some(mut submission) = self.submission.take() else { return };
        let size_max = self.settings.smtp.message_size_limit;
        if size_max > 0 && submission.received > size_max {
            let reply = b"552 5.3.4 Error: message file too big"[..].into();
            return self.end_submission(submission, &Verdict::Refused { reason: "too_big", reply });
        }
        let Submission { start, message, is_whole, .. } = &mut *submission;
        let arena = std::mem::take(&mut self.arena);
        let progress = self.clean(message.id, &arena, |surroundings| {
            if *is_whole {
                message.commit(surroundings, &start.origin, &start.envelope, &[], SUBMISSION_TAG)
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
                tell(&submission, SubmissionState::Taken);
                WaitsFor::Content
            }
            Progress::Wait => WaitsFor::Spool,
            Progress::Ask(ticket) => {
                if !submission.message.may_ask(self.now) {
                    return self.end_submission(submission, &Verdict::QueueWriteFailed);
                }
                WaitsFor::Answer(ticket)
            }
            Progress::Discarded => {
                tell(&submission, SubmissionState::Discarded);
                return;
            }
            Progress::Failed(verdict) => return self.end_submission(submission, &verdict),
        };
        self.submission = Some(submission);
    }

    /// Tries again if it was room that was missing.
    pub(super) fn submission_may_have_room(&mut self) {
        if self.submission.as_ref().is_some_and(|it| it.waits_for == WaitsFor::Spool) && self.spool.has_room()
        {
            self.advance_submission();
        }
    }

    /// Tries again if this was the answer that was missing.
    pub(super) fn submission_answered(&mut self, ticket: Ticket) {
        if let Some(submission) = self.submission.as_mut()
            && submission.waits_for == WaitsFor::Answer(ticket)
        {
            submission.message.answered(self.now);
            self.advance_submission();
        }
    }

    /// The spool says what became of it.
    pub(super) fn submission_settled(&mut self, is_durable: bool) {
        let submission = self.submission.take().expect("a message stays until it is settled");
        assert!(submission.waits_for == WaitsFor::Verdict, "only what was committed settles");
        if !is_durable {
            return self.end_submission(submission, &Verdict::QueueWriteFailed);
        }
        let latency = submission.message.committed_at.map(|start: Instant| self.now.since(start));
        let SubmissionStart { origin, envelope, .. } = &*submission.start;
        self.telemetry.queued(origin, envelope, &submission.message, latency.unwrap_or_default());
        tell(&submission, SubmissionState::Queued);
    }

    /// Leaves it for the next start, unless it is on its way to the disk already.
    pub(super) fn put_submission_off(&mut self) {
        if let Some(submission) = self.submission.take_if(|it| it.waits_for != WaitsFor::Verdict) {
            self.end_submission(submission, &Verdict::StorageFull);
        }
    }

    /// Ends it without having taken it.
    fn end_submission(&mut self, mut submission: Box<Submission>, verdict: &Verdict) {
        submission.message.abandon(&mut self.spool);
        let (state, reply): (_, &[u8]) = match verdict {
            // As in Postfix, what is wrong for now is tried again.
            Verdict::Refused { reply, .. } if reply.starts_with(b"4") => (SubmissionState::Deferred, reply),
            Verdict::Refused { reason, reply } => {
                self.telemetry.count_reject(reason);
                (SubmissionState::Refused, reply)
            }
            Verdict::StorageFull => (SubmissionState::Deferred, b"452 4.3.1 Insufficient system storage"),
            Verdict::Queued(_) | Verdict::QueueWriteFailed => {
                (SubmissionState::Deferred, b"451 4.3.0 Error: queue file write error")
            }
        };
        // At the end of the process nothing is wrong with it.
        if !(self.is_draining() && state == SubmissionState::Deferred) {
            let event = if state == SubmissionState::Refused { "reject" } else { "deferred" };
            self.telemetry.submission_kept(event, &submission.start, reply);
        }
        tell(&submission, state);
    }
}

/// Tells the pickup, which may have ended with the process.
fn tell(submission: &Submission, state: SubmissionState) {
    let _ = submission.start.states.send(state);
}

/// Octets that the envelope takes in the queue, more or less: each recipient may be there as rewritten and as given.
fn envelope_size(envelope: &Envelope) -> usize {
    envelope.recipients.iter().map(|recipient| 2 * recipient.address.len() + RECIPIENT_OVERHEAD).sum()
}

/// Octets of a recipient's fields besides the addresses, and of a domain that is added.
const RECIPIENT_OVERHEAD: usize = 64;
