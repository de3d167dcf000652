//! Owns what other threads ask of a worker.

use std::fmt;
use std::sync::Arc;

use mailrace_core::QueueId;
use mailrace_core::lookup::Ticket;
use mailrace_io::Disk;
use mailrace_spool::{Mark, MarkError, Refusal, SegmentSpool, State};

use super::WorkerSettings;
use super::submission::Submit;

/// A request to a worker.
#[derive(Debug)]
pub enum Control {
    /// Go on with other settings.
    Reload(Arc<WorkerSettings>),
    /// A lookup table has answered this question.
    Answered(Ticket),
    /// Take no more connections, end sessions between messages, then end.
    Drain,
    /// Take a message that was submitted on this machine, or more of it.
    Submit(Submit),
    /// Note something of messages.
    Mark {
        /// What.
        mark: Mark,
        /// Of which.
        selection: Selection,
        /// Told when it is durable.
        answer: Answer,
    },
}

/// Which messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One.
    One(QueueId),
    /// All to which it makes a difference.
    All,
}

/// What became of marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// Messages of which it is durable.
    pub messages: u64,
    /// Messages of which it could not be written.
    pub failures: u64,
}

/// Tells who asked; must not wait.
pub struct Answer(Box<dyn FnOnce(Marked) + Send>);

impl Answer {
    /// An answer that calls `tell` once.
    pub fn new(tell: impl FnOnce(Marked) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Answer")
    }
}

/// Set in the tags of marks and, beside another bit, of submissions; other tags name connections.
pub(super) const MARK_TAG: u64 = 1 << 63;

/// The requests for marks that are under way in a worker.
#[derive(Debug, Default)]
pub(crate) struct Markings {
    jobs: Vec<Job>,
    next: u64,
}

#[derive(Debug)]
struct Job {
    tag: u64,
    mark: Mark,
    /// Not marked yet.
    ids: Vec<QueueId>,
    under_way: u64,
    marked: Marked,
    answer: Answer,
}

impl Markings {
    pub(crate) fn begin<D: Disk>(
        &mut self,
        spool: &SegmentSpool<D>,
        mark: Mark,
        selection: Selection,
        answer: Answer,
    ) {
        let makes_difference = |state: State| match mark {
            Mark::Done => true,
            Mark::Hold => state == State::Incoming,
            Mark::Release => state == State::Hold,
        };
        let ids = match selection {
            Selection::One(id) => vec![id],
            Selection::All => {
                spool.ids().filter(|(_, state)| makes_difference(*state)).map(|(id, _)| id).collect()
            }
        };
        self.next += 1;
        let tag = MARK_TAG | self.next;
        self.jobs.push(Job { tag, mark, ids, under_way: 0, marked: Marked::default(), answer });
    }

    /// Gives the spool as many marks as it takes now.
    pub(crate) fn advance<D: Disk>(&mut self, spool: &mut SegmentSpool<D>) {
        for job in &mut self.jobs {
            while let Some(id) = job.ids.pop() {
                match spool.mark(id, job.mark, job.tag) {
                    Ok(()) => job.under_way += 1,
                    Err(MarkError::NotFound) => {}
                    Err(MarkError::Refused(Refusal::Busy)) => {
                        job.ids.push(id);
                        break;
                    }
                    Err(MarkError::Refused(_)) => job.marked.failures += 1,
                }
            }
        }
        for job in self.jobs.extract_if(.., |job| job.ids.is_empty() && job.under_way == 0) {
            (job.answer.0)(job.marked);
        }
    }

    pub(crate) fn settled(&mut self, tag: u64, is_durable: bool) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.tag == tag) else { return };
        job.under_way -= 1;
        if is_durable {
            job.marked.messages += 1;
        } else {
            job.marked.failures += 1;
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}
