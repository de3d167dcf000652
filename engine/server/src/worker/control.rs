//! Requests of other threads to a worker.

use std::fmt;
use std::sync::Arc;

use mailrace_core::QueueId;
use mailrace_core::lookup::Ticket;
use mailrace_spool::{Mark, MarkError, Place, Refusal, Spool, State};

use super::WorkerSettings;
use super::sources::submission::Submit;
use super::tag::Tag;

/// A request to a worker.
#[derive(Debug)]
pub enum Control {
    /// Use new settings.
    Reload(Arc<WorkerSettings>),
    /// A lookup table has answered this question.
    Answered(Ticket),
    /// Accept no further connections, end sessions between messages, then end.
    Drain,
    /// Take a message that was submitted on this machine, or more of it.
    Submit(Submit),
    /// Tell the place of a message; [`None`] if this worker does not have it.
    Find {
        /// Which.
        id: QueueId,
        /// Receives the answer; it must not wait.
        answer: Found,
    },
    /// Mark messages.
    Mark {
        /// What.
        mark: Mark,
        /// Of which.
        selection: Selection,
        /// Receives the outcome once it is durable.
        answer: Answer,
    },
}

/// Which messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These, as far as they exist.
    These(Arc<[QueueId]>),
    /// All whose state it changes.
    All,
}

/// Outcome of marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// Number of messages whose mark is durable.
    pub messages: u64,
    /// Number of messages whose mark could not be written.
    pub failures: u64,
    /// For [`Selection::These`]: the existing messages, and whether the mark of each is durable.
    pub outcomes: Vec<(QueueId, bool)>,
}

impl Marked {
    /// Adds the outcome of others.
    pub fn add(&mut self, mut other: Self) {
        self.messages += other.messages;
        self.failures += other.failures;
        self.outcomes.append(&mut other.outcomes);
    }
}

/// Receives an answer; it must not wait.
pub struct Answer<T = Marked>(Box<dyn FnOnce(T) + Send>);

/// Where a message is.
pub type Found = Answer<Option<Place>>;

impl<T> Answer<T> {
    /// Returns an answer that calls `tell` once.
    pub fn new(tell: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }

    pub(super) fn tell(self, what: T) {
        (self.0)(what);
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Answer")
    }
}

/// The requests for marks that a worker is processing.
#[derive(Debug, Default)]
pub(crate) struct Markings {
    jobs: Vec<Job>,
    next: u64,
}

#[derive(Debug)]
struct Job {
    /// The number of the first id's mark; those of the others follow.
    first: u64,
    mark: Mark,
    ids: Arc<[QueueId]>,
    /// Number of them that the spool was given.
    given: usize,
    under_way: u64,
    /// Whether the outcome of each id is wanted.
    is_itemised: bool,
    marked: Marked,
    answer: Answer,
}

impl Markings {
    pub(crate) fn begin<S: Spool>(&mut self, spool: &S, mark: Mark, selection: Selection, answer: Answer) {
        let makes_difference = |state: State| match mark {
            Mark::Done => true,
            Mark::Hold => state == State::Incoming,
            Mark::Release => state == State::Hold,
        };
        let (ids, is_itemised): (Arc<[QueueId]>, bool) = match selection {
            Selection::These(ids) => (ids, true),
            Selection::All => {
                let all = spool.ids().filter(|(_, state)| makes_difference(*state));
                (all.map(|(id, _)| id).collect(), false)
            }
        };
        let first = self.next;
        self.next += ids.len() as u64;
        let marked = Marked::default();
        self.jobs.push(Job { first, mark, ids, given: 0, under_way: 0, is_itemised, marked, answer });
    }

    /// Gives the spool as many marks as it takes now, in the order of the requests.
    pub(crate) fn advance<S: Spool>(&mut self, spool: &mut S) {
        'jobs: for job in &mut self.jobs {
            while let Some(id) = job.ids.get(job.given).copied() {
                let tag = Tag::Mark(job.first + job.given as u64).pack();
                match spool.mark(id, job.mark, tag) {
                    Ok(()) => job.under_way += 1,
                    Err(MarkError::NotFound) => {}
                    Err(MarkError::Refused(Refusal::Busy)) => break 'jobs,
                    Err(MarkError::Refused(_)) => job.count(id, false),
                }
                job.given += 1;
            }
        }
        for job in self.jobs.extract_if(.., |job| job.given == job.ids.len() && job.under_way == 0) {
            job.answer.tell(job.marked);
        }
    }

    /// A mark is durable, or could not be written. Returns the message if it was released.
    pub(crate) fn settled(&mut self, number: u64, is_durable: bool) -> Option<QueueId> {
        let found = self.jobs.iter_mut().find_map(|job| {
            let place = usize::try_from(number.checked_sub(job.first)?).ok()?;
            let id = *job.ids.get(place)?;
            Some((job, id))
        });
        let (job, id) = found?;
        job.under_way -= 1;
        job.count(id, is_durable);
        (is_durable && job.mark == Mark::Release).then_some(id)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

impl Job {
    fn count(&mut self, id: QueueId, is_durable: bool) {
        if is_durable {
            self.marked.messages += 1;
        } else {
            self.marked.failures += 1;
        }
        if self.is_itemised {
            self.marked.outcomes.push((id, is_durable));
        }
    }
}
