//! Owns simulated lookup tables: servers that answer late, fail now and then, forget, and change with each reload.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bumpalo::Bump;
use mailrace::worker::WorkerSettings;
use mailrace_core::Sharer;
use mailrace_core::address::Destinations;
use mailrace_core::lookup::{LookupError, LookupTable, Maps, Ticket};
use mailrace_io::Instant;
use mailrace_io::sim::{Random, World};

use super::message::{TABLE_DOMAIN, alias};
use super::plan::Plan;

/// What a world's tables are like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TableManner {
    /// How long an answer takes at most; none: it is known at once.
    pub(super) delay: Option<Duration>,
    /// How long an answer is remembered.
    pub(super) memory_time: Duration,
    /// Of a hundred questions, how many get no answer.
    pub(super) failures: u64,
}

/// How long it is remembered that there was no answer.
const FAILURE_TIME: Duration = Duration::from_secs(2);

/// The servers of a life.
#[derive(Clone)]
pub(super) struct Tables(Arc<Mutex<Servers>>);

struct Servers {
    world: World,
    manner: TableManner,
    random: Random,
    next_ticket: u64,
    /// By the time of their answers.
    questions: BTreeMap<(Instant, u64), Question>,
    known: BTreeMap<Question, Known>,
}

/// Which table: what it is about, and of which generation of the settings it is.
type Place = (Subject, u64);

/// A key of a table.
type Question = (Place, Arc<[u8]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Domains,
    Aliases,
    /// Has nothing for anything.
    Nothing,
}

enum Known {
    Asked(Ticket),
    Until(Instant, Result<Option<Vec<u8>>, ()>),
}

impl fmt::Debug for Tables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tables")
    }
}

impl Tables {
    pub(super) fn new(world: &World, manner: TableManner, random: Random) -> Self {
        Self(Arc::new(Mutex::new(Servers {
            world: world.clone(),
            manner,
            random,
            next_ticket: 0,
            questions: BTreeMap::new(),
            known: BTreeMap::new(),
        })))
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's settings with the tables of a generation.
    pub(super) fn settings(&self, plan: &Plan, generation: u64) -> WorkerSettings {
        let mut settings = (*plan.worker).clone();
        let maps = |subject| {
            let table = SimTable { tables: self.clone(), place: (subject, generation) };
            Maps::new(vec![Arc::new(table) as Arc<dyn LookupTable>])
        };
        if plan.has_checks {
            let checks = &mut settings.cleanup.checks;
            (checks.header, checks.body) = (maps(Subject::Nothing), maps(Subject::Nothing));
        }
        if plan.tables.is_none() {
            return settings;
        }
        let mut destinations = Destinations::clone(&settings.smtp.destinations);
        destinations.relay_domains.add_tables(maps(Subject::Domains), false);
        let destinations = Arc::new(destinations);
        settings.smtp.destinations = Arc::clone(&destinations);
        settings.cleanup.destinations = destinations;
        settings.cleanup.virtual_alias.maps = maps(Subject::Aliases);
        settings
    }

    /// From now on each question is answered.
    pub(super) fn calm(&self) {
        self.servers().manner.failures = 0;
    }

    /// When the next question is answered.
    pub(super) fn next_event(&self) -> Option<Instant> {
        self.servers().questions.keys().next().map(|(time, _)| *time)
    }

    /// Answers the questions whose time has come.
    pub(super) fn answer(&self, now: Instant) -> Vec<Ticket> {
        let servers = &mut *self.servers();
        let mut answered = Vec::new();
        while let Some(entry) = servers.questions.first_entry()
            && entry.key().0 <= now
        {
            let ((_, ticket), (place, key)) = entry.remove_entry();
            let is_failing = servers.random.percent(servers.manner.failures);
            let (answer, time) = if is_failing {
                (Err(()), FAILURE_TIME)
            } else {
                (Ok(value(place, &key)), servers.manner.memory_time)
            };
            servers.known.insert((place, key), Known::Until(now.after(time), answer));
            answered.push(Ticket(ticket));
        }
        answered
    }
}

/// What a table has for a key.
fn value((subject, generation): Place, key: &[u8]) -> Option<Vec<u8>> {
    match subject {
        Subject::Nothing => None,
        Subject::Domains => (key == TABLE_DOMAIN.as_bytes()).then(|| b"yes".to_vec()),
        Subject::Aliases => alias(std::str::from_utf8(key).ok()?, generation).map(String::into_bytes),
    }
}

/// One table, as a worker asks it.
struct SimTable {
    tables: Tables,
    place: Place,
}

impl fmt::Debug for SimTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SimTable").field(&self.place).finish()
    }
}

impl LookupTable for SimTable {
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        _: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let key = key.to_ascii_lowercase();
        let servers = &mut *self.tables.servers();
        let Some(delay) = servers.manner.delay.filter(|_| self.place.0 != Subject::Nothing) else {
            return Ok(value(self.place, &key).map(|value| &*arena.alloc_slice_copy(&value)));
        };
        let now = servers.world.now();
        let question = (self.place, Arc::from(key));
        match servers.known.get(&question) {
            Some(Known::Until(until, answer)) if *until > now => {
                let value = answer.as_ref().map_err(|()| LookupError::Unavailable)?;
                return Ok(value.as_ref().map(|value| &*arena.alloc_slice_copy(value)));
            }
            Some(Known::Asked(ticket)) => return Err(LookupError::Pending(*ticket)),
            _ => {}
        }
        let ticket = Ticket(servers.next_ticket);
        servers.next_ticket += 1;
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX).max(2);
        let time = now.after(Duration::from_nanos(servers.random.between(1, delay)));
        servers.questions.insert((time, ticket.0), question.clone());
        servers.known.insert(question, Known::Asked(ticket));
        Err(LookupError::Pending(ticket))
    }

    fn may_wait(&self) -> bool {
        self.place.0 != Subject::Nothing && self.tables.servers().manner.delay.is_some()
    }
}
