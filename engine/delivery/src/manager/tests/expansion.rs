//! Recipients that cleanup has expanded.

use super::*;

/// A message to `a@1.example`, who wants to know of success if `is_curious`, and of two recipients that were expanded.
fn envelope(is_curious: bool) -> Envelope {
    let recipient = |address: &str, notify: Notify| Recipient {
        address: address.as_bytes().to_vec(),
        notify,
        ..Recipient::default()
    };
    Envelope {
        sender: b"s@example.org".to_vec(),
        recipients: vec![recipient("a@1.example", if is_curious { Notify::SUCCESS } else { Notify::NEVER })],
        expanded: ["list@x.example", "team@x.example"].map(|it| recipient(it, Notify::SUCCESS)).into(),
        ..Envelope::default()
    }
}

/// The message's next report, which is left open.
fn order(queue: &mut Queue) -> ReportOrder {
    queue.manager.next_report().expect("a report is due")
}

#[test]
fn expansions_come_first_in_the_report_of_the_first_attempt() {
    let mut queue = Queue::new(settings());
    queue.put_envelope(1, envelope(true));
    let jobs = queue.jobs();
    assert_eq!(
        jobs.iter().map(|job| &job.recipients[..]).collect::<Vec<_>>(),
        [[0]],
        "no other is attempted"
    );
    queue.note();
    assert!(queue.reports.is_empty(), "a job is under way");
    queue.finish(&jobs[0], &sent(), Health::Good);
    let order = order(&mut queue);
    let listed: Vec<_> = order.recipients.iter().map(|(number, due)| (*number, due.action)).collect();
    assert_eq!(listed, [(1, Action::Expanded), (2, Action::Expanded), (0, Action::Relayed)]);
    assert_eq!(order.recipients[0].1.cause, Cause::new(2, 0, 0, "alias expanded"));
    queue.manager.reported(id(1), order.kind, Noted::Durable, queue.now);
    queue.note();
    assert!(queue.reports.is_empty() && queue.messages.is_empty() && queue.manager.is_idle());
}

#[test]
fn expansions_are_reported_once_while_a_member_is_deferred() {
    let mut queue = Queue::new(settings());
    queue.put_envelope(1, envelope(false));
    let later = Outcome::Deferred(Cause::new(4, 2, 0, "450 greylisted"));
    for seconds in [0, 400, 1200] {
        queue.now = at(1_000_000 + seconds);
        let job = queue.jobs().remove(0);
        queue.finish(&job, &later, Health::Good);
        queue.note();
        assert_eq!(queue.reports, [(id(1), Kind::Success, vec![1, 2])], "after {seconds} s");
    }
    assert_eq!(queue.messages[&id(1)].states[1..], [RecipientState::Reported, RecipientState::Reported]);
}

/// A crash comes between the report and the note of it: the states before the report say what it listed.
#[test]
fn a_report_of_expansions_says_before_what_it_lists() {
    let mut queue = Queue::new(settings());
    queue.put_envelope(1, envelope(false));
    let job = queue.jobs().remove(0);
    queue.finish(&job, &sent(), Health::Good);
    let order = order(&mut queue);
    let before = order.before.states(3).unwrap();
    let is_due =
        |state: &&RecipientState| matches!(state, RecipientState::Due(due) if due.action == Action::Expanded);
    assert!(*before[0] == RecipientState::Done && before[1..].iter().all(is_due), "{before:?}");
}

#[test]
fn no_expansion_of_mail_without_a_sender_is_reported() {
    let mut queue = Queue::new(settings());
    queue.put_envelope(1, Envelope { sender: Vec::new(), ..envelope(true) });
    let job = queue.jobs().remove(0);
    queue.finish(&job, &sent(), Health::Good);
    queue.note();
    assert!(queue.reports.is_empty() && queue.messages.is_empty() && queue.manager.is_idle());
}

#[test]
fn expansions_of_mail_that_is_given_back_untried_are_reported() {
    let mut queue = Queue::new(settings());
    queue.put_envelope(1, envelope(true));
    queue.manager.expire(&Selection::These([id(1)].into()));
    assert!(queue.jobs().is_empty());
    queue.note();
    assert_eq!(
        queue.reports,
        [(id(1), Kind::Success, vec![1, 2])],
        "the recipient wants no report of failure"
    );
    assert!(queue.messages.is_empty() && queue.manager.is_idle());
}
