//! One transaction: what is handed over, and what becomes of each recipient.

use std::collections::VecDeque;

use mailrace_core::envelope::Recipient;

use super::wire::Content;
use crate::manager::Job;
use crate::outcome::{Health, Outcome};

/// A message that is handed over to some of its recipients.
#[derive(Clone, Debug)]
pub struct Handed {
    /// The message, and all recipients that go the same way.
    pub job: Job,
    /// Those that are handed over in this transaction: numbers in the envelope.
    pub recipients: Vec<u32>,
    /// Bytes of content.
    pub size: u64,
}

/// What a transaction has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of each recipient, in their order.
    pub outcomes: Vec<Outcome>,
    /// What it says about the destination.
    pub health: Health,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) handed: Handed,
    /// Number of replies to RCPT so far.
    answered: usize,
    /// Places of the recipients that were accepted and have no outcome yet.
    accepted: VecDeque<usize>,
    /// Outcome of each recipient, as soon as it is certain.
    outcomes: Vec<Option<Outcome>>,
    pub(super) health: Health,
    pub(super) content: Content,
    /// The server has answered anything.
    pub(super) has_answer: bool,
    /// The end of content was answered.
    pub(super) has_ended: bool,
}

impl Handed {
    /// Addresses of the recipients.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &[u8]> {
        let recipients = &self.job.envelope.recipients;
        let recipient = |number: &u32| recipients.get(*number as usize);
        self.recipients.iter().filter_map(recipient).map(|recipient| recipient.address.as_slice())
    }

    /// The recipient with this place.
    ///
    /// # Panics
    /// If the envelope does not have it.
    pub(super) fn recipient(&self, place: usize) -> Option<&Recipient> {
        let number = self.recipients.get(place)?;
        let recipient = self.job.envelope.recipients.get(*number as usize);
        Some(recipient.expect("a job names recipients of its envelope"))
    }
}

impl Transaction {
    pub(super) fn new(handed: Handed, line_length_limit: usize) -> Self {
        Self {
            outcomes: vec![None; handed.recipients.len()],
            handed,
            answered: 0,
            accepted: VecDeque::new(),
            health: Health::Good,
            content: Content::new(line_length_limit),
            has_answer: false,
            has_ended: false,
        }
    }

    /// The next recipient was accepted, or refused so.
    pub(super) fn recipient_answered(&mut self, refused: Option<Outcome>) {
        let place = self.answered;
        self.answered += 1;
        match (refused, self.outcomes.get_mut(place)) {
            (None, _) => self.accepted.push_back(place),
            (Some(outcome), Some(undecided @ None)) => *undecided = Some(outcome),
            (Some(_), _) => {}
        }
    }

    /// Gives all recipients this outcome that have none.
    pub(super) fn decide(&mut self, outcome: &Outcome) {
        for undecided in self.outcomes.iter_mut().filter(|found| found.is_none()) {
            *undecided = Some(outcome.clone());
        }
    }

    /// Gives this outcome to the next recipient that was accepted (RFC 2033 §4.2).
    pub(super) fn decide_next_accepted(&mut self, outcome: Outcome) {
        let place = self.accepted.pop_front();
        if let Some(undecided @ None) = place.and_then(|place| self.outcomes.get_mut(place)) {
            *undecided = Some(outcome);
        }
    }

    /// Whether each recipient has an outcome.
    pub(super) fn is_decided(&self) -> bool {
        self.outcomes.iter().all(Option::is_some)
    }

    pub(super) fn report(&self) -> Option<Report> {
        let outcomes: Option<Vec<Outcome>> = self.outcomes.iter().cloned().collect();
        outcomes.map(|outcomes| Report { outcomes, health: self.health.clone() })
    }
}
