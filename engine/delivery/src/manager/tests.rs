//! The queue manager with a queue and next hops that the tests play.

use std::collections::BTreeMap;

use mailrace_core::envelope::{Notify, Recipient};
use mailrace_core::record::delivery::{Action, Deferral};
use proptest::prelude::*;

use super::*;
use crate::bounce::NoticeSettings;

mod expansion;

const TRANSPORT: TransportSettings = TransportSettings {
    recipient_limit: 3,
    process_limit: 12,
    window: WindowSettings { initial: 5, limit: 20, failed_cohort_limit: 1 },
    rate_delay: Duration::ZERO,
    is_deferred: false,
};

fn settings() -> Settings {
    Settings {
        message_active_limit: 20,
        message_recipient_limit: 60,
        transports: vec![TRANSPORT],
        retry: RetrySettings {
            minimal_backoff_time: Duration::from_secs(300),
            maximal_backoff_time: Duration::from_secs(4000),
            maximal_queue_lifetime: Duration::from_secs(432_000),
            bounce_queue_lifetime: Duration::from_secs(432_000),
        },
        soft_bounce: false,
        delay_warning_time: Duration::ZERO,
        notices: NoticeSettings {
            double_bounce_sender: b"double-bounce@example.com".as_slice().into(),
            ..NoticeSettings::default()
        },
    }
}

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_microseconds(seconds * 1_000_000)
}

const fn id(number: u64) -> QueueId {
    QueueId::from_number(number)
}

/// The next hop of `user@N.example` is N; there is none for `user@none.example`.
fn way(recipient: &Recipient) -> Result<Route, Outcome> {
    let address = std::str::from_utf8(&recipient.address).unwrap();
    let name = address.split('@').nth(1).unwrap().strip_suffix(".example").unwrap();
    match name {
        "none" => Err(Outcome::Deferred(Cause::new(4, 3, 0, "mail transport unavailable"))),
        "never" => Err(Outcome::Failed(Cause::new(5, 1, 1, "User unknown"))),
        name => Ok(Route { transport: 0, next_hop: name.into(), mailbox: None }),
    }
}

fn sent() -> Outcome {
    Outcome::Sent(Cause::new(2, 0, 0, "250 2.0.0 Ok"), Some(Action::Relayed))
}

fn failed() -> Outcome {
    Outcome::Failed(Cause::new(5, 1, 1, "550 5.1.1 gone"))
}

fn refused() -> Health {
    Health::Failed(Cause::new(4, 4, 1, "connect to x: Connection refused"))
}

/// A message, as its marks say.
#[derive(Clone, Debug)]
struct Marked {
    envelope: Arc<Envelope>,
    states: Vec<RecipientState>,
    is_warned: bool,
}

/// The messages of a queue, as their marks say.
struct Queue {
    manager: Manager,
    messages: BTreeMap<QueueId, Marked>,
    /// Reports in the queue: what each is about, its kind, and the recipients that it lists.
    reports: Vec<(QueueId, Kind, Vec<u32>)>,
    now: Timestamp,
}

impl Queue {
    fn new(settings: Settings) -> Self {
        let (messages, reports) = (BTreeMap::new(), Vec::new());
        Self { manager: Manager::new(settings), messages, reports, now: at(1_000_000) }
    }

    fn put(&mut self, number: u64, recipients: &[&str]) {
        let recipient =
            |address: &&str| Recipient { address: address.as_bytes().to_vec(), ..Recipient::default() };
        let recipients = recipients.iter().map(recipient).collect();
        self.put_envelope(
            number,
            Envelope { sender: b"s@example.org".to_vec(), recipients, ..Envelope::default() },
        );
    }

    fn put_envelope(&mut self, number: u64, envelope: Envelope) {
        let envelope = Arc::new(Envelope { arrival: self.now, ..envelope });
        let states = vec![RecipientState::Untried; envelope.numbered().count()];
        self.messages.insert(id(number), Marked { envelope, states, is_warned: false });
        self.manager.found(id(number));
    }

    /// Reads what is to be read.
    fn load(&mut self) {
        while let Some(id) = self.manager.next_load(self.now) {
            match self.messages.get(&id) {
                Some(Marked { envelope, states, is_warned }) => {
                    let open = (0..).zip(envelope.recipients.iter().zip(states));
                    let ways = open.filter(|(_, (_, state))| state.is_open());
                    let ways = ways.map(|(number, (recipient, _))| (number, way(recipient))).collect();
                    let (envelope, states, is_warned) = (Arc::clone(envelope), states.clone(), *is_warned);
                    let loaded = Loaded { id, envelope, states, is_warned, is_changed: false };
                    self.manager.loaded(loaded, ways, self.now);
                }
                None => self.manager.forget(id),
            }
        }
    }

    /// Makes the reports and writes the notes that are due.
    fn note(&mut self) {
        loop {
            if let Some((id, note)) = self.manager.next_note(self.now) {
                let noted = self.write(id, &note);
                self.manager.noted(id, noted, self.now);
            } else if let Some(order) = self.manager.next_report() {
                let noted = self.report(&order);
                self.manager.reported(order.id, order.kind, noted, self.now);
            } else {
                return;
            }
        }
    }

    /// Puts a report in the queue, as a worker does.
    fn report(&mut self, order: &ReportOrder) -> Noted {
        if self.write(order.id, &Note::Progress(order.before.clone())) == Noted::Gone {
            return Noted::Gone;
        }
        let listed = order.recipients.iter().map(|(number, _)| *number).collect();
        self.reports.push((order.id, order.kind, listed));
        Noted::Durable
    }

    fn write(&mut self, id: QueueId, note: &Note) -> Noted {
        let Some(marked) = self.messages.get_mut(&id) else { return Noted::Gone };
        match note {
            Note::Done => drop(self.messages.remove(&id)),
            Note::Progress(progress) => {
                let states = progress.states(marked.states.len()).unwrap();
                marked.states = states.into_iter().cloned().collect();
                marked.is_warned = progress.is_warned;
            }
        }
        Noted::Durable
    }

    /// Reads and takes all jobs that may be done now.
    fn jobs(&mut self) -> Vec<Job> {
        self.load();
        std::iter::from_fn(|| self.manager.next_job(self.now)).collect()
    }

    fn finish(&mut self, job: &Job, outcome: &Outcome, health: Health) {
        self.manager.finished(job, vec![outcome.clone(); job.recipients.len()], health, self.now);
    }

    /// What the log was told of recipients that were not attempted.
    fn unattempted(&mut self) -> Vec<Unattempted> {
        let events = std::iter::from_fn(|| self.manager.next_event());
        events
            .filter_map(|event| match event {
                Event::Unattempted(told) => Some(told),
                Event::Expired(_) => None,
            })
            .collect()
    }

    fn addresses(job: &Job) -> Vec<&str> {
        let address = |number: &u32| std::str::from_utf8(&job.envelope.recipients[*number as usize].address);
        job.recipients.iter().map(|number| address(number).unwrap()).collect()
    }
}

#[test]
fn recipients_of_a_next_hop_go_together_in_the_order_of_their_addresses() {
    let mut queue = Queue::new(settings());
    queue.put(1, &["d@1.example", "a@2.example", "c@1.example", "b@1.example", "a@1.example"]);
    let jobs = queue.jobs();
    let seen: Vec<Vec<&str>> = jobs.iter().map(Queue::addresses).collect();
    let expected =
        [vec!["a@1.example", "b@1.example", "c@1.example"], vec!["a@2.example"], vec!["d@1.example"]];
    assert_eq!(seen, expected, "three at most, and next hops in turns");
    for job in &jobs {
        assert!(!queue.messages.is_empty());
        queue.finish(job, &sent(), Health::Good);
        queue.note();
    }
    assert!(queue.messages.is_empty() && queue.manager.is_idle() && !queue.manager.knows(id(1)));
    assert_eq!(queue.manager.deadline(), None);
}

#[test]
fn what_was_handed_over_is_noted_before_the_other_jobs_are_over() {
    let mut queue = Queue::new(settings());
    queue.put(1, &["a@1.example", "a@2.example"]);
    let jobs = queue.jobs();
    queue.finish(&jobs[0], &sent(), Health::Good);
    queue.note();
    assert_eq!(queue.messages[&id(1)].states, [RecipientState::Done, RecipientState::Untried]);
}

#[test]
fn only_what_is_left_is_tried_again_and_when_it_is_due() {
    let mut queue = Queue::new(settings());
    queue.put(1, &["a@1.example", "b@1.example"]);
    let job = queue.jobs().remove(0);
    let later = Outcome::Deferred(Cause::new(4, 2, 0, "450 4.2.0 greylisted"));
    queue.manager.finished(&job, vec![sent(), later], Health::Good, queue.now);
    queue.note();
    assert_eq!(queue.manager.deadline(), Some(at(1_000_300)));
    assert!(queue.jobs().is_empty(), "it is not due");
    queue.now = at(1_000_300);
    let job = queue.jobs().remove(0);
    assert_eq!(Queue::addresses(&job), ["b@1.example"]);
    let later = Outcome::Deferred(Cause::new(4, 1, 1, "450 4.1.1 not yet"));
    queue.finish(&job, &later, Health::Good);
    queue.note();
    let Marked { states, .. } = &queue.messages[&id(1)];
    let RecipientState::Deferred(Deferral { until, attempts, cause }) = &states[1] else {
        panic!("deferred")
    };
    assert_eq!((*attempts, cause.status.to_string()), (2, "4.1.1".to_owned()));
    assert_eq!((&*cause.text, *until), (&b"450 4.1.1 not yet"[..], at(1_000_600)));
}

#[test]
fn what_has_no_way_is_deferred_without_an_attempt() {
    let mut queue = Queue::new(settings());
    queue.put(1, &["a@none.example"]);
    assert!(queue.jobs().is_empty());
    let told = queue.unattempted();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].id, told[0].recipient, told[0].outcome.word()), (id(1), 0, "deferred"));
    queue.note();
    assert!(queue.messages[&id(1)].states[0].is_open() && queue.manager.is_idle());
}

#[test]
fn a_dead_destination_is_left_alone_for_a_while_and_others_are_served() {
    let mut queue = Queue::new(settings());
    for number in 0..10 {
        queue.put(number, &["a@1.example"]);
    }
    let mut jobs = queue.jobs();
    assert_eq!(jobs.len(), 5, "the initial window");
    let deferred = Outcome::Deferred(Cause::new(4, 4, 1, "connect to x: Connection refused"));
    for job in jobs.drain(..3) {
        queue.finish(&job, &deferred, refused());
    }
    assert_eq!(queue.unattempted().len(), 5, "those that waited");
    queue.note();
    queue.put(20, &["b@1.example", "b@2.example"]);
    let others = queue.jobs();
    assert_eq!(others.len(), 1, "none for the dead one");
    let told = queue.unattempted();
    let text = "delivery temporarily suspended: connect to x: Connection refused";
    assert_eq!(told[0].outcome, Outcome::Deferred(Cause::new(4, 4, 1, text)));
    // The two that were under way end, and the next attempt begins anew.
    for job in jobs.iter().chain(&others) {
        queue.finish(job, &sent(), Health::Good);
    }
    queue.note();
    queue.now = at(1_000_300);
    assert_eq!(queue.jobs().len(), 5);
}

#[test]
fn new_and_deferred_mail_take_turns() {
    let mut queue = Queue::new(Settings { message_active_limit: 1, ..settings() });
    queue.put(1, &["a@none.example"]);
    queue.put(2, &["a@none.example"]);
    for _ in 0..2 {
        queue.load();
        queue.note();
    }
    queue.put(3, &["a@none.example"]);
    queue.put(4, &["a@none.example"]);
    queue.now = at(1_000_300);
    let mut order = Vec::new();
    for _ in 0..4 {
        let id = queue.manager.next_load(queue.now).unwrap();
        assert_eq!(queue.manager.next_load(queue.now), None, "one is active");
        order.push(id.number());
        queue.manager.forget(id);
    }
    assert_eq!(order, [1, 3, 2, 4]);
}

#[test]
fn a_note_that_fails_is_written_again_and_nothing_is_delivered_twice() {
    let mut queue = Queue::new(settings());
    queue.put(1, &["a@1.example"]);
    let job = queue.jobs().remove(0);
    queue.finish(&job, &sent(), Health::Good);
    let (note_id, _) = queue.manager.next_note(queue.now).unwrap();
    queue.manager.noted(note_id, Noted::Failed, queue.now);
    queue.manager.found(id(1));
    assert!(queue.jobs().is_empty() && queue.manager.next_note(queue.now).is_none());
    assert_eq!(queue.manager.deadline(), Some(at(1_000_001)));
    queue.now = at(1_000_001);
    queue.note();
    assert!(queue.messages.is_empty() && queue.manager.is_idle());
}

#[test]
fn a_message_that_was_deleted_is_not_tried_further() {
    let mut queue = Queue::new(settings());
    let many: Vec<String> = (0..30).map(|number| format!("{number}@1.example")).collect();
    queue.put(1, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let jobs = queue.jobs();
    assert_eq!(jobs.len(), 5);
    queue.messages.clear();
    queue.finish(&jobs[0], &sent(), Health::Good);
    queue.note();
    for job in &jobs[1..] {
        queue.finish(job, &sent(), Health::Good);
    }
    assert!(queue.jobs().is_empty() && queue.manager.is_idle() && !queue.manager.knows(id(1)));
}

#[test]
fn a_message_that_is_done_but_not_noted_leaves_the_queue() {
    let mut queue = Queue::new(settings());
    queue.put(1, &["a@1.example"]);
    queue.messages.get_mut(&id(1)).unwrap().states[0] = RecipientState::Done;
    assert!(queue.jobs().is_empty());
    queue.note();
    assert!(queue.messages.is_empty() && queue.manager.is_idle());
}

/// One destination with any number of messages delays no other one.
#[test]
fn a_busy_destination_leaves_room_for_others() {
    let mut queue = Queue::new(settings());
    for number in 0..15 {
        queue.put(number, &["a@1.example"]);
    }
    queue.put(15, &["a@2.example"]);
    let jobs = queue.jobs();
    assert!(jobs.iter().any(|job| job.id == id(15)), "{jobs:?}");
}

/// What happens to a job, or to the queue.
#[derive(Clone, Debug)]
enum Deed {
    Put(Vec<(u8, u8)>),
    Finish(u8, Vec<u8>, bool),
    Note(bool),
    Pass(u16),
    Delete(u8),
    Restart,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => proptest::collection::vec((0..9u8, 0..4u8), 1..9).prop_map(Deed::Put),
        6 => (any::<u8>(), proptest::collection::vec(0..3u8, 9), any::<bool>())
            .prop_map(|(job, outcomes, is_good)| Deed::Finish(job, outcomes, is_good)),
        4 => any::<bool>().prop_map(Deed::Note),
        2 => (0..2000u16).prop_map(Deed::Pass),
        1 => any::<u8>().prop_map(Deed::Delete),
        1 => Just(Deed::Restart),
    ]
}

/// Each recipient that was handed over, with the number of times; a restart may repeat what was not noted.
type Delivered = BTreeMap<(QueueId, u32), u32>;

fn carry_out(
    queue: &mut Queue,
    jobs: &mut Vec<Job>,
    delivered: &mut Delivered,
    repeats: &mut u32,
    deed: Deed,
    next: &mut u64,
) {
    match deed {
        Deed::Put(recipients) => {
            *next += 1;
            let address = |(user, hop): (u8, u8)| match hop {
                0 => format!("{user}@none.example"),
                _ => format!("{user}@{hop}.example"),
            };
            let addresses: Vec<String> = recipients.into_iter().map(address).collect();
            queue.put(*next, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Deed::Finish(number, outcomes, is_good) if !jobs.is_empty() => {
            let job = jobs.swap_remove(usize::from(number) % jobs.len());
            let outcome = |(number, kind): (&u32, &u8)| match kind {
                0 => {
                    *delivered.entry((job.id, *number)).or_default() += 1;
                    sent()
                }
                1 => Outcome::Deferred(Cause::default()),
                _ => Outcome::Failed(Cause::default()),
            };
            let outcomes = job.recipients.iter().zip(&outcomes).map(outcome).collect();
            let health = if is_good { Health::Good } else { refused() };
            queue.manager.finished(&job, outcomes, health, queue.now);
        }
        Deed::Note(is_durable) => {
            if let Some((id, note)) = queue.manager.next_note(queue.now) {
                let noted = if is_durable { queue.write(id, &note) } else { Noted::Failed };
                queue.manager.noted(id, noted, queue.now);
            }
        }
        Deed::Pass(seconds) => queue.now = later(queue.now, Duration::from_secs(seconds.into())),
        Deed::Delete(number) => drop(queue.messages.remove(&id(u64::from(number) % (*next + 1)))),
        Deed::Restart => {
            jobs.clear();
            let is_noted = |(id, number): &(QueueId, u32)| {
                let message = queue.messages.get(id);
                message.is_none_or(|marked| marked.states[*number as usize] == RecipientState::Done)
            };
            *repeats += u32::try_from(delivered.keys().filter(|key| !is_noted(key)).count()).unwrap();
            queue.manager = Manager::new(settings());
            queue.messages.keys().for_each(|id| queue.manager.found(*id));
        }
        Deed::Finish(..) => {}
    }
}

proptest! {
    #[test]
    fn each_recipient_is_handed_over_once_or_stays(deeds in proptest::collection::vec(deed(), 0..150)) {
        let mut queue = Queue::new(settings());
        let (mut jobs, mut delivered, mut repeats, mut next) = (Vec::new(), Delivered::new(), 0, 0);
        for deed in deeds {
            carry_out(&mut queue, &mut jobs, &mut delivered, &mut repeats, deed, &mut next);
            jobs.append(&mut queue.jobs());
            prop_assert!(jobs.len() <= 12);
            let all: Vec<(QueueId, u32)> =
                jobs.iter().flat_map(|job| job.recipients.iter().map(|number| (job.id, *number))).collect();
            let distinct: BTreeSet<(QueueId, u32)> = all.iter().copied().collect();
            prop_assert_eq!(distinct.len(), all.len(), "a recipient is in two jobs");
        }
        let twice: u32 = delivered.values().map(|count| count - 1).sum();
        prop_assert!(twice <= repeats, "{twice} hand-overs were repeated, {repeats} were not noted");
        // In the end everything is delivered, and the manager knows of nothing.
        for _ in 0..200 {
            for job in std::mem::take(&mut jobs) {
                queue.finish(&job, &sent(), Health::Good);
            }
            queue.note();
            queue.unattempted();
            queue.now = later(queue.now, Duration::from_secs(4000));
            jobs.append(&mut queue.jobs());
        }
        let has_way = |marked: &Marked| {
            let mut open =
                marked.envelope.recipients.iter().zip(&marked.states).filter(|(_, state)| state.is_open());
            open.any(|(recipient, _)| way(recipient).is_ok())
        };
        prop_assert!(!queue.messages.values().any(has_way), "mail stays that could be delivered");
        let reported: Vec<(QueueId, u32)> = queue
            .reports
            .iter()
            .flat_map(|(id, _, listed)| listed.iter().map(|number| (*id, *number)))
            .collect();
        let distinct: BTreeSet<&(QueueId, u32)> = reported.iter().collect();
        prop_assert_eq!(distinct.len(), reported.len(), "a failure was reported twice");
    }
}

#[test]
fn failures_are_reported_once_when_all_is_tried() {
    let mut queue = Queue::new(settings());
    queue.put(1, &["a@1.example", "b@2.example", "c@never.example"]);
    let jobs = queue.jobs();
    queue.finish(&jobs[0], &failed(), Health::Good);
    queue.note();
    assert!(queue.reports.is_empty(), "one job is under way");
    assert!(matches!(queue.messages[&id(1)].states[0], RecipientState::Due(_)), "what is known is noted");
    queue.finish(&jobs[1], &sent(), Health::Good);
    queue.note();
    assert_eq!(queue.reports, [(id(1), Kind::Failure, vec![0, 2])]);
    assert!(queue.messages.is_empty() && queue.manager.is_idle());
}

/// RFC 3461: NOTIFY decides, and mail without a sender is not reported.
#[test]
fn only_those_are_told_who_want_it() {
    let recipient = |address: &str, notify: Notify| Recipient {
        address: address.as_bytes().to_vec(),
        notify,
        ..Recipient::default()
    };
    let recipients = vec![
        recipient("a@1.example", Notify::SUCCESS),
        recipient("b@1.example", Notify::NEVER),
        recipient("c@1.example", Notify::FAILURE),
    ];
    let envelope = Envelope { sender: b"s@example.org".to_vec(), recipients, ..Envelope::default() };
    let mut queue = Queue::new(settings());
    queue.put_envelope(1, envelope.clone());
    let job = queue.jobs().remove(0);
    queue.finish(&job, &failed(), Health::Good);
    queue.note();
    assert_eq!(queue.reports, [(id(1), Kind::Failure, vec![2])]);
    queue.put_envelope(2, envelope.clone());
    let job = queue.jobs().remove(0);
    queue.finish(&job, &sent(), Health::Good);
    queue.note();
    assert_eq!(queue.reports[1], (id(2), Kind::Success, vec![0]));
    queue.put_envelope(3, Envelope { sender: Vec::new(), ..envelope });
    let job = queue.jobs().remove(0);
    queue.finish(&job, &failed(), Health::Good);
    queue.note();
    assert!(queue.reports.len() == 2 && queue.messages.is_empty());
}

#[test]
fn what_is_too_old_is_given_back_with_its_last_cause() {
    let mut queue = Queue::new(settings());
    queue.put(1, &["a@1.example"]);
    let later = Outcome::Deferred(Cause::new(4, 2, 0, "450 greylisted"));
    for seconds in [0, 400_000, 432_000] {
        queue.now = at(1_000_000 + seconds);
        let job = queue.jobs().remove(0);
        assert!(queue.reports.is_empty());
        queue.finish(&job, &later, Health::Good);
        queue.note();
    }
    assert_eq!(queue.reports, [(id(1), Kind::Failure, vec![0])]);
    let events: Vec<Event> = std::iter::from_fn(|| queue.manager.next_event()).collect();
    assert!(matches!(&events[..], [Event::Expired(Expired { is_forced: false, .. })]), "{events:?}");
    assert!(queue.messages.is_empty());
}

#[test]
fn a_delay_is_reported_once() {
    let delay_warning_time = Duration::from_secs(600);
    let mut queue = Queue::new(Settings { delay_warning_time, ..settings() });
    queue.put(1, &["a@1.example"]);
    let later = Outcome::Deferred(Cause::new(4, 2, 0, "450 greylisted"));
    for seconds in [0, 300, 600, 1200, 2400] {
        queue.now = at(1_000_000 + seconds);
        let job = queue.jobs().remove(0);
        queue.finish(&job, &later, Health::Good);
        queue.note();
        assert_eq!(queue.reports.len(), usize::from(seconds >= 600), "after {seconds} s");
    }
    assert_eq!(queue.reports, [(id(1), Kind::Delay, vec![0])]);
    assert!(queue.messages[&id(1)].is_warned);
}

#[test]
fn a_report_that_cannot_be_made_is_made_later() {
    let mut queue = Queue::new(settings());
    queue.put(1, &["a@1.example"]);
    let job = queue.jobs().remove(0);
    queue.finish(&job, &failed(), Health::Good);
    let order = queue.manager.next_report().unwrap();
    queue.manager.reported(order.id, order.kind, Noted::Failed, queue.now);
    queue.note();
    assert!(matches!(queue.messages[&id(1)].states[0], RecipientState::Due(_)) && queue.reports.is_empty());
    assert!(queue.manager.is_idle() && queue.jobs().is_empty());
    queue.now = at(1_000_300);
    assert!(queue.jobs().is_empty());
    queue.note();
    assert!(queue.reports.len() == 1 && queue.messages.is_empty() && queue.manager.is_idle());
}

#[test]
fn an_operator_has_mail_tried_or_given_back() {
    let mut queue = Queue::new(settings());
    for number in 1..=3 {
        queue.put(number, &["a@1.example"]);
    }
    let later = Outcome::Deferred(Cause::new(4, 4, 1, "connect to x: Connection refused"));
    for job in queue.jobs() {
        queue.finish(&job, &later, refused());
    }
    queue.note();
    queue.unattempted();
    assert!(queue.jobs().is_empty());
    assert_eq!(queue.manager.flush(&Selection::These([id(2), id(9)].into())), 1);
    let jobs = queue.jobs();
    assert_eq!(
        jobs.iter().map(|job| job.id).collect::<Vec<_>>(),
        [id(2)],
        "although its destination is dead"
    );
    queue.finish(&jobs[0], &later, refused());
    queue.note();
    assert_eq!(queue.manager.flush(&Selection::All), 3);
    assert_eq!(queue.jobs().len(), 3);
    queue.manager.expire(&Selection::These([id(2)].into()));
    queue.finish(&jobs[0], &later, Health::Good);
    queue.note();
    queue.load();
    queue.note();
    assert_eq!(queue.reports, [(id(2), Kind::Failure, vec![0])]);
}

#[test]
fn a_deferred_transport_waits_for_a_flush() {
    let transports = vec![TransportSettings { is_deferred: true, ..TRANSPORT }];
    let mut queue = Queue::new(Settings { transports, ..settings() });
    queue.put(1, &["a@1.example"]);
    assert!(queue.jobs().is_empty());
    let told = queue.unattempted();
    assert_eq!(told[0].outcome, Outcome::Deferred(Cause::new(4, 3, 2, "deferred transport")));
    queue.note();
    queue.manager.flush(&Selection::All);
    assert_eq!(queue.jobs().len(), 1);
}

#[test]
fn soft_bounce_defers_what_fails_without_an_attempt() {
    let mut queue = Queue::new(Settings { soft_bounce: true, ..settings() });
    queue.put(1, &["a@never.example"]);
    assert!(queue.jobs().is_empty());
    queue.note();
    let told = queue.unattempted();
    assert_eq!(told[0].outcome, Outcome::Deferred(Cause::new(4, 1, 1, "User unknown")));
    assert!(queue.reports.is_empty() && queue.messages[&id(1)].states[0].is_open());
}

#[test]
fn a_destination_with_a_rate_rests_after_each_delivery() {
    let transports = vec![TransportSettings { rate_delay: Duration::from_secs(7), ..TRANSPORT }];
    let mut queue = Queue::new(Settings { transports, ..settings() });
    queue.put(1, &["a@1.example"]);
    queue.put(2, &["a@1.example"]);
    let jobs = queue.jobs();
    assert_eq!(jobs.len(), 1);
    queue.finish(&jobs[0], &sent(), Health::Good);
    queue.note();
    assert!(queue.jobs().is_empty() && queue.manager.deadline() == Some(at(1_000_007)));
    queue.now = at(1_000_007);
    assert_eq!(queue.jobs().len(), 1);
}

#[test]
fn a_free_connection_takes_what_waits_unless_others_have_to_wait_for_it() {
    let window = WindowSettings { initial: 1, ..TRANSPORT.window };
    let transports = vec![TransportSettings { process_limit: 1, window, ..TRANSPORT }];
    let mut queue = Queue::new(Settings { transports, ..settings() });
    for number in 1..=3 {
        queue.put(number, &["a@1.example"]);
    }
    let job = queue.jobs().remove(0);
    queue.finish(&job, &sent(), Health::Good);
    let next = queue.manager.next_job_for(&job.route, queue.now).expect("nothing else waits");
    queue.put(4, &["a@2.example"]);
    queue.load();
    queue.finish(&next, &sent(), Health::Good);
    assert!(queue.manager.next_job_for(&job.route, queue.now).is_none(), "the other destination's turn");
    assert!(queue.manager.has_waiting(&job.route));
}
