//! Questions to one table that wait for a connection to its server. Those who ask take turns, and share the room: when
//! it is used up, the greediest makes room for others.
//!
//! Networks take turns, in each its clients, in each its questions, so that a client's question waits for one of each
//! other client at most, however many those have. Answers may be long in coming, so the last free connection is for a network
//! that has no question under way, and of those that a network may take the last is for a client that has none.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use mailrace_core::Sharer;
use mailrace_core::lookup::Ticket;

use super::slot::Slot;

/// Places of waiting questions; one takes a place for each KiB of its key that it has begun.
pub(super) const PLACES_MAX: usize = 4096;
/// Bytes of a key for each place.
const PLACE_SIZE: usize = 1024;

/// What a server is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) key: Box<[u8]>,
    pub(super) ticket: Ticket,
}

/// The questions of one table that have no answer yet.
#[derive(Debug)]
pub(super) struct Questions {
    /// All of them by their keys, those under way too.
    asked: HashMap<Box<[u8]>, Asked>,
    /// Those that wait.
    networks: Turns<Turns<VecDeque<Question>>>,
    places_max: usize,
    /// Number of connections to the server.
    connections: usize,
    /// Number of questions under way, of those who have any.
    under_way: HashMap<Sharer, usize>,
    /// Questions that made room, and get no answer.
    given_up: Vec<Ticket>,
}

#[derive(Clone, Debug)]
struct Asked {
    ticket: Ticket,
    /// Place of the answer.
    slot: Arc<Slot>,
    /// The least greedy of those who asked it.
    sharer: Sharer,
    is_waiting: bool,
}

impl Questions {
    /// None yet, for a table with this number of connections.
    pub(super) fn new(places_max: usize, connections: usize) -> Self {
        Self {
            asked: HashMap::new(),
            networks: Turns::default(),
            places_max,
            connections,
            under_way: HashMap::new(),
            given_up: Vec::new(),
        }
    }

    /// Asks, unless that is under way already; returns the ticket of the question, and where its answer will be. `None`:
    /// there is no room, and no other takes more of it than `sharer`.
    pub(super) fn ask(
        &mut self,
        key: &[u8],
        sharer: Sharer,
        new_ticket: impl FnOnce() -> Ticket,
    ) -> Option<(Ticket, Arc<Slot>)> {
        let places = places_of(key);
        if let Some(asked) = self.asked.get(key).cloned() {
            // A remote client must not make others wait by asking before them.
            if asked.is_waiting && self.is_greedier(asked.sharer, sharer, places) {
                let question = self.take(asked.sharer, |questions| {
                    let index = questions.iter().position(|question| question.ticket == asked.ticket)?;
                    questions.remove(index)
                });
                self.put(sharer, question, Arc::clone(&asked.slot));
            }
            return Some((asked.ticket, asked.slot));
        }
        while self.networks.held + places > self.places_max {
            let greedier = self.greedier_than(sharer, places)?;
            let question = self.take(greedier, VecDeque::pop_back);
            if let Some(asked) = self.asked.remove(&question.key) {
                asked.slot.give_up();
            }
            self.given_up.push(question.ticket);
        }
        let (ticket, slot) = (new_ticket(), Arc::default());
        self.put(sharer, Question { key: key.into(), ticket }, Arc::clone(&slot));
        Some((ticket, slot))
    }

    /// Takes the question whose turn it is for a free connection.
    pub(super) fn next(&mut self) -> Option<Question> {
        let under_way: usize = self.under_way.values().sum();
        let free = self.connections - under_way;
        if free == 0 {
            return None;
        }
        let mut networks = self.networks.order.iter();
        let sharer = networks.find_map(|network| {
            let is_busy = self.under_way.keys().any(|sharer| sharer.network == *network);
            let left = free.checked_sub(usize::from(is_busy)).filter(|left| *left > 0)?;
            let clients = self.networks.members.get(network)?.value.order.iter();
            let mut sharers = clients.map(|client| Sharer { network: *network, client: *client });
            sharers.find(|sharer| left > 1 || !self.under_way.contains_key(sharer))
        })?;
        let question = self.take(sharer, VecDeque::pop_front);
        let Sharer { network, client } = sharer;
        if let Some(clients) = self.networks.members.get_mut(&network) {
            clients.value.end_turn(client);
        }
        self.networks.end_turn(network);
        *self.under_way.entry(sharer).or_default() += 1;
        self.asked.get_mut(&question.key).expect("a question that waits was asked").is_waiting = false;
        Some(question)
    }

    /// Ends a question that was answered, or that its connection has given up. Returns the place of its answer.
    pub(super) fn answered(&mut self, key: &[u8]) -> Arc<Slot> {
        let asked = self.asked.remove(key).expect("a question is under way until it is answered");
        let count = self.under_way.get_mut(&asked.sharer).expect("who asked has questions under way");
        *count -= 1;
        if *count == 0 {
            self.under_way.remove(&asked.sharer);
        }
        asked.slot
    }

    /// Takes the tickets of questions that made room.
    pub(super) fn take_given_up(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.given_up)
    }

    /// Whether any made room since they were taken.
    pub(super) const fn has_given_up(&self) -> bool {
        !self.given_up.is_empty()
    }

    /// Whether none waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.networks.held == 0
    }

    fn put(&mut self, sharer: Sharer, question: Question, slot: Arc<Slot>) {
        let asked = Asked { ticket: question.ticket, slot, sharer, is_waiting: true };
        self.asked.insert(question.key.clone(), asked);
        let places = places_of(&question.key);
        let clients = self.networks.take_more(sharer.network, places);
        clients.take_more(sharer.client, places).push_back(question);
    }

    /// Takes one of the questions that are counted for `sharer`, who has any.
    fn take(
        &mut self,
        sharer: Sharer,
        take: impl FnOnce(&mut VecDeque<Question>) -> Option<Question>,
    ) -> Question {
        const HAS: &str = "who holds places has questions";
        let clients = &mut self.networks.members.get_mut(&sharer.network).expect(HAS).value;
        let questions = &mut clients.members.get_mut(&sharer.client).expect(HAS).value;
        let question = take(questions).expect(HAS);
        let places = places_of(&question.key);
        clients.give_back(sharer.client, places);
        self.networks.give_back(sharer.network, places);
        question
    }

    /// Whether `greedy` would hold more than `other` even if that had `places` more: as a network, and in one network as a
    /// client.
    fn is_greedier(&self, greedy: Sharer, other: Sharer, places: usize) -> bool {
        if greedy.network != other.network {
            let held = |sharer: Sharer| self.networks.held_by(sharer.network);
            return held(greedy) > held(other) + places;
        }
        let Some(clients) = self.networks.members.get(&other.network) else { return false };
        let held = |sharer: Sharer| clients.value.held_by(sharer.client);
        greedy.client != other.client && held(greedy) > held(other) + places
    }

    /// The greediest client of the greediest network, or of `sharer`'s own, that has to make room for it.
    fn greedier_than(&self, sharer: Sharer, places: usize) -> Option<Sharer> {
        let networks = [self.networks.greediest(), Some(sharer.network)];
        networks.into_iter().flatten().find_map(|network| {
            let client = self.networks.members.get(&network)?.value.greediest()?;
            let greediest = Sharer { network, client };
            self.is_greedier(greediest, sharer, places).then_some(greediest)
        })
    }
}

const fn places_of(key: &[u8]) -> usize {
    1 + key.len() / PLACE_SIZE
}

/// Those that hold places, in turns and by greed. One that holds none is no member.
#[derive(Debug)]
struct Turns<V> {
    members: HashMap<u128, Member<V>>,
    /// The members, the one whose turn is next first.
    order: VecDeque<u128>,
    /// The members by what they hold.
    greed: BTreeSet<(usize, u128)>,
    /// What all hold.
    held: usize,
}

#[derive(Debug)]
struct Member<V> {
    held: usize,
    value: V,
}

impl<V> Default for Turns<V> {
    fn default() -> Self {
        Self { members: HashMap::new(), order: VecDeque::new(), greed: BTreeSet::new(), held: 0 }
    }
}

impl<V: Default> Turns<V> {
    fn held_by(&self, key: u128) -> usize {
        self.members.get(&key).map_or(0, |member| member.held)
    }

    fn greediest(&self) -> Option<u128> {
        self.greed.last().map(|(_, key)| *key)
    }

    /// Lets a member, or one that becomes one, hold more, by this amount.
    fn take_more(&mut self, key: u128, places: usize) -> &mut V {
        let member = self.members.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            Member { held: 0, value: V::default() }
        });
        self.greed.remove(&(member.held, key));
        member.held += places;
        self.greed.insert((member.held, key));
        self.held += places;
        &mut member.value
    }

    /// Lets a member hold less, by this amount; one that holds nothing any more leaves.
    fn give_back(&mut self, key: u128, places: usize) {
        let Some(member) = self.members.get_mut(&key) else { return };
        self.greed.remove(&(member.held, key));
        member.held -= places;
        self.held -= places;
        if member.held > 0 {
            self.greed.insert((member.held, key));
            return;
        }
        self.members.remove(&key);
        // It is near the front when it had its turn.
        if let Some(index) = self.order.iter().position(|member| *member == key) {
            self.order.remove(index);
        }
    }

    /// A member had its turn, and has its next one after all others.
    fn end_turn(&mut self, key: u128) {
        if let Some(index) = self.order.iter().position(|member| *member == key) {
            self.order.remove(index);
            self.order.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn sharer(network: u128, client: u128) -> Sharer {
        Sharer { network, client }
    }

    /// Asks one question after the other, each with the next number as its ticket.
    struct Asking {
        questions: Questions,
        next: u64,
    }

    impl Asking {
        fn new(places_max: usize, connections: usize) -> Self {
            Self { questions: Questions::new(places_max, connections), next: 0 }
        }

        fn ask(&mut self, key: &str, sharer: Sharer) -> Option<u64> {
            let next = &mut self.next;
            let ticket = self.questions.ask(key.as_bytes(), sharer, || {
                *next += 1;
                Ticket(*next)
            });
            ticket.map(|(ticket, _)| ticket.0)
        }

        /// Asks something that was not asked before.
        fn ask_anew(&mut self, sharer: Sharer) -> Option<u64> {
            self.ask(&format!("key {}", self.next + 1), sharer)
        }

        /// Answers the question whose turn it is.
        fn answer_next(&mut self) -> Option<u64> {
            let question = self.questions.next()?;
            self.questions.answered(&question.key);
            Some(question.ticket.0)
        }

        fn given_up(&mut self) -> Vec<u64> {
            self.questions.take_given_up().into_iter().map(|ticket| ticket.0).collect()
        }

        fn assert_nothing_is_left(&self) {
            let Questions { asked, networks, under_way, .. } = &self.questions;
            assert!(asked.is_empty() && under_way.is_empty());
            assert!(networks.members.is_empty() && networks.order.is_empty() && networks.greed.is_empty());
            assert!(networks.held == 0 && self.questions.is_empty());
        }
    }

    #[test]
    fn networks_take_turns_and_so_do_their_clients() {
        let mut asking = Asking::new(100, 1);
        (0..4).for_each(|_| _ = asking.ask_anew(sharer(1, 10)));
        asking.ask_anew(sharer(1, 11));
        (0..2).for_each(|_| _ = asking.ask_anew(sharer(2, 20)));
        let order: Vec<u64> = std::iter::from_fn(|| asking.answer_next()).collect();
        assert_eq!(order, [1, 6, 5, 7, 2, 3, 4]);
        asking.assert_nothing_is_left();
    }

    #[test]
    fn the_greediest_client_loses_its_newest_question() {
        let mut asking = Asking::new(10, 1);
        (0..7).for_each(|_| _ = asking.ask_anew(sharer(1, 10)));
        (0..3).for_each(|_| _ = asking.ask_anew(sharer(1, 11)));
        assert_eq!(asking.ask_anew(sharer(1, 10)), None, "nobody is greedier");
        assert!(asking.given_up().is_empty());
        assert_eq!(asking.ask_anew(sharer(2, 20)), Some(11));
        assert_eq!(asking.given_up(), [7]);
        assert_eq!(asking.ask_anew(sharer(1, 11)), Some(12), "in one network clients are compared");
        assert_eq!(asking.given_up(), [6]);
        // Up to their share of a half others get room.
        (0..4).for_each(|_| assert!(asking.ask_anew(sharer(2, 20)).is_some()));
        assert_eq!(asking.ask_anew(sharer(2, 20)), None);
        assert_eq!(asking.ask_anew(sharer(1, 10)), None);
        assert_eq!(asking.given_up().len(), 4);
        assert_eq!(std::iter::from_fn(|| asking.answer_next()).count(), 10);
        asking.assert_nothing_is_left();
    }

    #[test]
    fn a_shared_question_counts_for_the_least_greedy_client() {
        let mut asking = Asking::new(100, 1);
        (0..10).for_each(|_| _ = asking.ask_anew(sharer(1, 10)));
        let last = asking.ask("the same", sharer(1, 10));
        assert_eq!(asking.ask("the same", sharer(2, 20)), last);
        assert_eq!(asking.ask("the same", sharer(1, 10)), last);
        assert_eq!(asking.answer_next(), Some(1));
        assert_eq!(asking.answer_next(), last);
        // What is under way stays where it is.
        let under_way = asking.questions.next().unwrap();
        assert_eq!(asking.ask("key 2", sharer(2, 20)), Some(2));
        asking.questions.answered(&under_way.key);
        while asking.answer_next().is_some() {}
        asking.assert_nothing_is_left();
    }

    #[test]
    fn the_last_connections_are_reserved_for_clients_without_one() {
        let mut asking = Asking::new(100, 4);
        (0..5).for_each(|_| _ = asking.ask_anew(sharer(1, 10)));
        let first = asking.questions.next().unwrap();
        assert!(asking.questions.next().is_some());
        assert_eq!(asking.questions.next(), None, "two are kept free");
        (0..2).for_each(|_| _ = asking.ask_anew(sharer(1, 11)));
        assert_eq!(asking.questions.next().unwrap().ticket, Ticket(6), "another client of the network");
        assert_eq!(asking.questions.next(), None, "one is kept free");
        (0..2).for_each(|_| _ = asking.ask_anew(sharer(2, 20)));
        let other = asking.questions.next().unwrap();
        assert_eq!(other.ticket, Ticket(8));
        assert_eq!(asking.questions.next(), None, "all are taken");
        asking.questions.answered(&first.key);
        assert_eq!(asking.questions.next(), None, "it is the last one again");
        asking.questions.answered(&other.key);
        assert_eq!(asking.questions.next().unwrap().ticket, Ticket(9));
    }

    #[test]
    fn a_single_connection_is_not_reserved() {
        let mut asking = Asking::new(100, 1);
        (0..3).for_each(|_| _ = asking.ask_anew(sharer(1, 10)));
        assert!((1..=3).all(|number| asking.answer_next() == Some(number)));
    }

    #[test]
    fn long_keys_count_as_several_questions() {
        let mut asking = Asking::new(10, 1);
        let long = "x".repeat(5 * PLACE_SIZE);
        assert!(asking.ask(&long, sharer(1, 10)).is_some());
        assert_eq!(asking.ask(&format!("{long}y"), sharer(1, 10)), None);
        assert!(asking.ask(&format!("{long}y"), sharer(2, 20)).is_none(), "it would be the greedier one");
        (0..4).for_each(|_| assert!(asking.ask_anew(sharer(2, 20)).is_some()));
    }

    proptest! {
        /// Each question is answered or given up once, and the room is never exceeded. A network that takes no more than
        /// an equal part of the room loses nothing.
        #[test]
        fn no_question_is_lost_and_small_shares_are_kept(
            steps in prop::collection::vec((0u128..4, 0u128..3, 0u32..60, 0u32..4), 1..400),
            connections in 1usize..4,
        ) {
            const ROOM: usize = 20;
            let mut asking = Asking::new(ROOM, connections);
            let (mut accepted, mut ended) = (BTreeSet::new(), Vec::new());
            let mut under_way: Vec<Question> = Vec::new();
            for (network, client, key, kind) in steps {
                match kind {
                    0 => under_way.extend(asking.questions.next()),
                    1 => {
                        if let Some(question) = under_way.pop() {
                            asking.questions.answered(&question.key);
                            ended.push(question.ticket.0);
                        }
                    }
                    _ => {
                        let before = asking.questions.networks.held_by(network);
                        let ticket = asking.ask(&key.to_string(), sharer(network, client));
                        prop_assert!(ticket.is_some() || before >= ROOM / 4);
                        accepted.extend(ticket);
                    }
                }
                ended.extend(asking.given_up());
                prop_assert!(asking.questions.networks.held <= ROOM);
                prop_assert!(under_way.len() <= connections);
            }
            for question in under_way {
                asking.questions.answered(&question.key);
                ended.push(question.ticket.0);
            }
            ended.extend(std::iter::from_fn(|| asking.answer_next()));
            ended.sort_unstable();
            prop_assert_eq!(ended, accepted.into_iter().collect::<Vec<_>>());
            asking.assert_nothing_is_left();
        }
    }
}
