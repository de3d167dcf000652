//! What becomes of the recipients of an active message.

use std::sync::Arc;

use mailrace_core::envelope::Recipient;
use mailrace_core::record::delivery::{Action, Cause, Deferral, Due, Progress, RecipientState};
use mailrace_core::{Envelope, QueueId, Timestamp};

use super::retry::{age, later};
use super::settings::Settings;
use crate::bounce::{Audience, Kind};
use crate::outcome::Outcome;

/// A message in the active queue that was read.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) envelope: Arc<Envelope>,
    /// In the order of [`Envelope::numbered`].
    pub(super) states: Vec<RecipientState>,
    /// Jobs that wait or are under way.
    pub(super) jobs: usize,
    /// The states have changed since the last note.
    pub(super) is_changed: bool,
    /// A note or a report is under way, or due.
    pub(super) is_noting: bool,
    /// The sender was told of the delay.
    pub(super) is_warned: bool,
    /// The delay is still to be looked at after this attempt.
    pub(super) wants_warning: bool,
    /// The report that could not be made, so that the message waits.
    pub(super) put_off: Option<Timestamp>,
    pub(super) is_expired: bool,
}

/// The action that stands for a kind of report in the queue.
#[must_use]
pub const fn action_of(kind: Kind) -> Action {
    match kind {
        Kind::Failure => Action::Failed,
        Kind::Delay => Action::Delayed,
        Kind::Success => Action::Relayed,
        Kind::Verify => Action::Deliverable,
    }
}

/// The kind of report that says this of a recipient.
#[must_use]
pub const fn kind_of(action: Action) -> Kind {
    match action {
        Action::Failed => Kind::Failure,
        Action::Delayed => Kind::Delay,
        Action::Delivered | Action::Relayed | Action::Expanded => Kind::Success,
        Action::Deliverable | Action::Undeliverable => Kind::Verify,
    }
}

/// A report that is to be made: a message from the null sender, which is durable before its recipients are noted as reported.
#[derive(Clone, Debug)]
pub struct ReportOrder {
    /// The message that it is about.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// What it is about.
    pub kind: Kind,
    /// Number of each recipient in the envelope that it lists, with what became of it.
    pub recipients: Vec<(u32, Due)>,
    /// What is to be noted before the report is in the queue, but for its id.
    pub before: Progress,
}

impl Message {
    pub(super) fn new(envelope: Arc<Envelope>, states: Vec<RecipientState>, is_warned: bool) -> Self {
        Self {
            envelope,
            states,
            jobs: 0,
            is_changed: false,
            is_noting: false,
            is_warned,
            wants_warning: true,
            put_off: None,
            is_expired: false,
        }
    }

    /// Takes what became of a recipient.
    pub(super) fn take(&mut self, recipient: u32, outcome: Outcome, settings: &Settings, now: Timestamp) {
        let number = recipient as usize;
        let (Some(state), Some(recipient)) = (
            self.states.get_mut(number).filter(|state| state.is_open()),
            self.envelope.recipients.get(number),
        ) else {
            return;
        };
        let attempts = match state {
            RecipientState::Deferred(deferral) => deferral.attempts.saturating_add(1),
            _ => 1,
        };
        let due = |action, cause| RecipientState::Due(Due { action, at: now, cause });
        let wants = |action| wants_report(&self.envelope, recipient, action, settings);
        *state = match outcome {
            Outcome::Sent(cause, Some(action)) if wants(action) => due(action, cause),
            Outcome::Sent(..) => RecipientState::Done,
            Outcome::Deferred(mut cause) => {
                cause.status.class = 4;
                let until = settings.retry.next_attempt(self.envelope.arrival, now);
                RecipientState::Deferred(Deferral { until, attempts, cause })
            }
            Outcome::Failed(cause) if wants(Action::Failed) => due(Action::Failed, cause),
            Outcome::Failed(_) => RecipientState::Reported,
        };
        self.is_changed = true;
    }

    /// Takes the outcome of the recipients that cleanup has expanded, which are not attempted. It needs no note before it is
    /// reported: the next load finds the same.
    pub(super) fn take_expansions(&mut self, settings: &Settings, now: Timestamp) {
        let expanded = self.states.iter_mut().skip(self.envelope.recipients.len());
        for (state, recipient) in expanded.zip(&self.envelope.expanded) {
            if *state != RecipientState::Untried {
                continue;
            }
            *state = if wants_report(&self.envelope, recipient, Action::Expanded, settings) {
                RecipientState::Due(Due { action: Action::Expanded, at: now, cause: expansion() })
            } else {
                RecipientState::Done
            };
        }
    }

    /// Gives up the recipients that are still deferred. Returns whether there were any.
    pub(super) fn expire(&mut self, settings: &Settings, now: Timestamp) -> bool {
        let mut has_expired = false;
        let expired = |state: &RecipientState| match state {
            RecipientState::Deferred(deferral) => Some(deferral.cause.clone()),
            RecipientState::Untried if self.is_expired => Some(administratively_expired()),
            _ => None,
        };
        for (state, recipient) in self.states.iter_mut().zip(&self.envelope.recipients) {
            let Some(cause) = expired(state) else { continue };
            has_expired = true;
            *state = if wants_report(&self.envelope, recipient, Action::Failed, settings) {
                RecipientState::Due(Due { action: Action::Failed, at: now, cause })
            } else {
                RecipientState::Reported
            };
        }
        self.is_changed |= has_expired;
        has_expired
    }

    /// The next report that is due: failures, then successes, then a delay.
    pub(super) fn next_report(
        &mut self,
        id: QueueId,
        settings: &Settings,
        now: Timestamp,
    ) -> Option<ReportOrder> {
        for kind in [Kind::Failure, Kind::Success] {
            let mut recipients: Vec<(u32, Due)> = (0..)
                .zip(&self.states)
                .filter_map(|(number, state)| match state {
                    RecipientState::Due(due) if kind_of(due.action) == kind => Some((number, due.clone())),
                    _ => None,
                })
                .collect();
            // What cleanup has expanded comes first, as in Postfix.
            recipients.sort_by_key(|(number, _)| (*number as usize) < self.envelope.recipients.len());
            if !recipients.is_empty() {
                return Some(self.order(id, kind, recipients));
            }
        }
        let recipients = self.late_recipients(settings, now)?;
        if recipients.is_empty() {
            return None;
        }
        Some(self.order(id, Kind::Delay, recipients))
    }

    /// The recipients of whose delay the sender is to be told now.
    fn late_recipients(&mut self, settings: &Settings, now: Timestamp) -> Option<Vec<(u32, Due)>> {
        let warning = settings.delay_warning_time;
        let is_asked = std::mem::take(&mut self.wants_warning);
        // A second early, as in Postfix.
        let age = age(self.envelope.arrival, now) + std::time::Duration::from_secs(1);
        if !is_asked
            || self.is_warned
            || warning.is_zero()
            || age < warning
            || self.envelope.sender.is_empty()
        {
            return None;
        }
        let states = (0..).zip(self.states.iter().zip(&self.envelope.recipients));
        let late = states.filter_map(|(number, (state, recipient))| match state {
            RecipientState::Deferred(Deferral { cause, .. })
                if wants_report(&self.envelope, recipient, Action::Delayed, settings) =>
            {
                Some((number, Due { action: Action::Delayed, at: now, cause: cause.clone() }))
            }
            _ => None,
        });
        Some(late.collect())
    }

    fn order(&self, id: QueueId, kind: Kind, recipients: Vec<(u32, Due)>) -> ReportOrder {
        ReportOrder { id, envelope: Arc::clone(&self.envelope), kind, recipients, before: self.progress() }
    }

    /// The report of this kind is in the queue.
    pub(super) fn reported(&mut self, kind: Kind) {
        mark_reported(&mut self.states, kind);
        self.is_warned |= kind == Kind::Delay;
        self.is_changed = true;
    }

    /// What is to be noted of it.
    pub(super) fn progress(&self) -> Progress {
        progress_of(&self.states, self.is_warned)
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_done(&self) -> bool {
        self.states.iter().all(|state| matches!(state, RecipientState::Done | RecipientState::Reported))
    }

    /// When it is tried again; `None` if nothing is left to be done.
    pub(super) fn next_attempt(&self) -> Option<Timestamp> {
        let next = not_due_before(&self.states)?;
        Some(self.put_off.map_or(next, |put_off| put_off.max(next)))
    }

    /// Waits with the report.
    pub(super) fn put_report_off(&mut self, settings: &Settings, now: Timestamp) {
        self.put_off = Some(later(now, settings.retry.minimal_backoff_time));
    }
}

/// The recipients that a report of this kind lists have been reported.
pub(crate) fn mark_reported(states: &mut [RecipientState], kind: Kind) {
    for state in states {
        if matches!(state, RecipientState::Due(due) if kind_of(due.action) == kind) {
            *state = RecipientState::Reported;
        }
    }
}

fn progress_of(states: &[RecipientState], is_warned: bool) -> Progress {
    let mut progress = Progress::of(states).expect("an envelope has fewer than 2^32 recipients");
    progress.is_warned = is_warned;
    progress
}

/// Postfix's words for a recipient that other recipients replace.
fn expansion() -> Cause {
    Cause::new(2, 0, 0, "alias expanded")
}

/// Postfix's words for what an operator has expired before it was tried.
fn administratively_expired() -> Cause {
    Cause::new(4, 7, 0, "message is administratively expired")
}

/// Whether the sender or a postmaster is to be told this of a recipient.
fn wants_report(envelope: &Envelope, recipient: &Recipient, action: Action, settings: &Settings) -> bool {
    let kind = kind_of(action);
    // Only senders get these, and few ask: most recipients need no list of addressees.
    if kind == Kind::Success && !kind.lists(recipient, Audience::Sender) {
        return false;
    }
    let addressees = settings.notices.addressees(kind, &envelope.sender);
    addressees.iter().any(|addressee| kind.lists(recipient, addressee.audience))
}

/// The time before which nothing is to be done for any recipient; `None` if nothing is left to be done.
pub(super) fn not_due_before(states: &[RecipientState]) -> Option<Timestamp> {
    let due = |state: &RecipientState| match state {
        RecipientState::Untried | RecipientState::Due(_) => Some(Timestamp::default()),
        RecipientState::Deferred(deferral) => Some(deferral.until),
        RecipientState::Done | RecipientState::Reported => None,
    };
    states.iter().filter_map(due).min()
}
