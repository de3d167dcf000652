//! The queue manager with a queue and next hops that the tests play.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SETTINGS: Settings = Settings {
    message_active_limit: 20,
    message_recipient_limit: 60,
    destination_recipient_limit: 3,
    process_limit: 12,
    window: WindowSettings { initial: 5, limit: 20, failed_cohort_limit: 1 },
    retry: RetrySettings {
        minimal_backoff_time: Duration::from_secs(300),
        maximal_backoff_time: Duration::from_secs(4000),
    },
};

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_microseconds(seconds * 1_000_000)
}

const fn id(number: u64) -> QueueId {
    QueueId::from_number(number)
}

/// The next hop of `user@N.example`; there is none for `user@none.example`.
fn route(recipient: &Recipient) -> Result<NextHop, Reason> {
    let address = std::str::from_utf8(&recipient.address).unwrap();
    let name = address.split('@').nth(1).unwrap().strip_suffix(".example").unwrap();
    let unavailable = |_| Reason::new(4, 3, 0, "mail transport unavailable");
    let number: u16 = name.parse().map_err(unavailable)?;
    Ok(NextHop { address: ([127, 0, 0, 1], number).into() })
}

fn sent() -> Outcome {
    Outcome::Sent(Reason::new(2, 0, 0, "250 2.0.0 Ok"))
}

fn refused() -> Health {
    Health::Failed(Reason::new(4, 4, 1, "connect to x: Connection refused"))
}

/// The messages of a queue, as their marks say.
struct Queue {
    manager: Manager,
    messages: BTreeMap<QueueId, (Arc<Envelope>, Vec<RecipientState>)>,
    now: Timestamp,
}

impl Queue {
    fn new(settings: Settings) -> Self {
        Self { manager: Manager::new(settings), messages: BTreeMap::new(), now: at(1_000_000) }
    }

    fn put(&mut self, number: u64, recipients: &[&str]) {
        let recipient =
            |address: &&str| Recipient { address: address.as_bytes().to_vec(), ..Recipient::default() };
        let envelope = Envelope {
            arrival: self.now,
            recipients: recipients.iter().map(recipient).collect(),
            ..Envelope::default()
        };
        let states = vec![RecipientState::Untried; recipients.len()];
        self.messages.insert(id(number), (Arc::new(envelope), states));
        self.manager.found(id(number));
    }

    /// Reads what is to be read.
    fn load(&mut self) {
        while let Some(id) = self.manager.next_load(self.now) {
            match self.messages.get(&id) {
                Some((envelope, states)) => {
                    self.manager.loaded(id, Arc::clone(envelope), states.clone(), route, self.now);
                }
                None => self.manager.forget(id),
            }
        }
    }

    /// Writes the notes that are due, and makes them durable.
    fn note(&mut self) {
        while let Some((id, note)) = self.manager.next_note(self.now) {
            let noted = self.write(id, &note);
            self.manager.noted(id, noted, self.now);
        }
    }

    fn write(&mut self, id: QueueId, note: &Note) -> Noted {
        let Some((_, states)) = self.messages.get_mut(&id) else { return Noted::Gone };
        match note {
            Note::Done => drop(self.messages.remove(&id)),
            Note::Progress(progress) => {
                *states = progress.states(states.len()).unwrap().into_iter().cloned().collect();
            }
        }
        Noted::Durable
    }

    /// Reads and takes all jobs that may be done now.
    fn jobs(&mut self) -> Vec<Job> {
        self.load();
        std::iter::from_fn(|| self.manager.next_job()).collect()
    }

    fn finish(&mut self, job: &Job, outcome: &Outcome, health: Health) {
        self.manager.finished(job, vec![outcome.clone(); job.recipients.len()], health, self.now);
    }

    fn addresses(job: &Job) -> Vec<&str> {
        let address = |number: &u32| std::str::from_utf8(&job.envelope.recipients[*number as usize].address);
        job.recipients.iter().map(|number| address(number).unwrap()).collect()
    }
}

#[test]
fn recipients_of_a_next_hop_go_together_in_the_order_of_their_addresses() {
    let mut queue = Queue::new(SETTINGS);
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
    let mut queue = Queue::new(SETTINGS);
    queue.put(1, &["a@1.example", "a@2.example"]);
    let jobs = queue.jobs();
    queue.finish(&jobs[0], &sent(), Health::Good);
    queue.note();
    assert_eq!(queue.messages[&id(1)].1, [RecipientState::Done, RecipientState::Untried]);
}

#[test]
fn only_what_is_left_is_tried_again_and_when_it_is_due() {
    let mut queue = Queue::new(SETTINGS);
    queue.put(1, &["a@1.example", "b@1.example"]);
    let job = queue.jobs().remove(0);
    let later = Outcome::Deferred(Reason::new(4, 2, 0, "450 4.2.0 greylisted"));
    queue.manager.finished(&job, vec![sent(), later], Health::Good, queue.now);
    queue.note();
    assert_eq!(queue.manager.deadline(), Some(at(1_000_300)));
    assert!(queue.jobs().is_empty(), "it is not due");
    queue.now = at(1_000_300);
    let job = queue.jobs().remove(0);
    assert_eq!(Queue::addresses(&job), ["b@1.example"]);
    let failed = Outcome::Failed(Reason::new(5, 1, 1, "550 5.1.1 gone"));
    queue.finish(&job, &failed, Health::Good);
    queue.note();
    let RecipientState::Deferred(deferral) = &queue.messages[&id(1)].1[1] else { panic!("it is deferred") };
    assert_eq!((deferral.attempts, deferral.status.to_string()), (2, "4.1.1".to_owned()));
    assert_eq!((&*deferral.text, deferral.until), (&b"550 5.1.1 gone"[..], at(1_000_600)));
}

#[test]
fn what_has_no_way_is_deferred_without_an_attempt() {
    let mut queue = Queue::new(SETTINGS);
    queue.put(1, &["a@none.example"]);
    assert!(queue.jobs().is_empty());
    let told = queue.manager.next_unattempted().unwrap();
    assert_eq!((told.id, told.recipient, told.outcome.word()), (id(1), 0, "deferred"));
    assert!(queue.manager.next_unattempted().is_none());
    queue.note();
    assert!(queue.messages[&id(1)].1[0].is_open() && queue.manager.is_idle());
}

#[test]
fn a_dead_destination_is_left_alone_for_a_while_and_others_are_served() {
    let mut queue = Queue::new(SETTINGS);
    for number in 0..10 {
        queue.put(number, &["a@1.example"]);
    }
    let mut jobs = queue.jobs();
    assert_eq!(jobs.len(), 5, "the initial window");
    let deferred = Outcome::Deferred(Reason::new(4, 4, 1, "connect to x: Connection refused"));
    for job in jobs.drain(..3) {
        queue.finish(&job, &deferred, refused());
    }
    let told = std::iter::from_fn(|| queue.manager.next_unattempted()).count();
    assert_eq!(told, 5, "those that waited");
    queue.note();
    queue.put(20, &["b@1.example", "b@2.example"]);
    let others = queue.jobs();
    assert_eq!(others.len(), 1, "none for the dead one");
    let told = queue.manager.next_unattempted().unwrap();
    let text = "delivery temporarily suspended: connect to x: Connection refused";
    assert_eq!(told.outcome, Outcome::Deferred(Reason::new(4, 4, 1, text)));
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
    let mut queue = Queue::new(Settings { message_active_limit: 1, ..SETTINGS });
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
    let mut queue = Queue::new(SETTINGS);
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
    let mut queue = Queue::new(SETTINGS);
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
    let mut queue = Queue::new(SETTINGS);
    queue.put(1, &["a@1.example"]);
    queue.messages.get_mut(&id(1)).unwrap().1[0] = RecipientState::Done;
    assert!(queue.jobs().is_empty());
    queue.note();
    assert!(queue.messages.is_empty() && queue.manager.is_idle());
}

/// One destination with any number of messages delays no other one.
#[test]
fn a_busy_destination_leaves_room_for_others() {
    let mut queue = Queue::new(SETTINGS);
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
                1 => Outcome::Deferred(Reason::default()),
                _ => Outcome::Failed(Reason::default()),
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
                message.is_none_or(|(_, states)| states[*number as usize] == RecipientState::Done)
            };
            *repeats += u32::try_from(delivered.keys().filter(|key| !is_noted(key)).count()).unwrap();
            queue.manager = Manager::new(SETTINGS);
            queue.messages.keys().for_each(|id| queue.manager.found(*id));
        }
        Deed::Finish(..) => {}
    }
}

proptest! {
    #[test]
    fn each_recipient_is_handed_over_once_or_stays(deeds in proptest::collection::vec(deed(), 0..150)) {
        let mut queue = Queue::new(SETTINGS);
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
            while queue.manager.next_unattempted().is_some() {}
            queue.now = later(queue.now, Duration::from_secs(4000));
            jobs.append(&mut queue.jobs());
        }
        let has_way = |(envelope, states): &(Arc<Envelope>, Vec<RecipientState>)| {
            let mut open = envelope.recipients.iter().zip(states).filter(|(_, state)| state.is_open());
            open.any(|(recipient, _)| route(recipient).is_ok())
        };
        prop_assert!(!queue.messages.values().any(has_way), "mail stays that could be delivered");
        prop_assert!(queue.manager.known.len() == queue.messages.len());
    }
}
