//! Tables with the entries of a case, which answer at once or defer each answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bumpalo::Bump;
use mailrace_core::Sharer;
use mailrace_core::lookup::{Asker, Awaited, LookupError, LookupTable, Outcome, Ticket};

/// Names of the tables.
pub(crate) const TABLES: [&str; 10] = [
    "canonical_maps",
    "sender_canonical_maps",
    "recipient_canonical_maps",
    "virtual_alias_maps",
    "sender_bcc_maps",
    "recipient_bcc_maps",
    "header_checks",
    "mime_header_checks",
    "nested_header_checks",
    "body_checks",
];

/// An entry; the value `!` means that the table cannot answer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

type Answer = Result<Option<Vec<u8>>, LookupError>;

fn answer(entries: &[Entry], key: &[u8]) -> Answer {
    let found = entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key));
    match found {
        Some(entry) if entry.value == b"!" => Err(LookupError::Unavailable),
        found => Ok(found.map(|entry| entry.value.clone())),
    }
}

/// A table in memory.
#[derive(Debug)]
pub(crate) struct Prompt(pub(crate) Vec<Entry>);

impl LookupTable for Prompt {
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        _: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        Ok(answer(&self.0, key)?.map(|value| &*arena.alloc_slice_copy(&value)))
    }
}

/// A table that is asked over a network.
#[derive(Debug)]
pub(crate) struct Deferring {
    pub(crate) entries: Vec<Entry>,
    pub(crate) arrivals: Arc<Arrivals>,
}

/// The answers of all deferring tables of a message.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<Vec<Arc<Arrival>>>);

#[derive(Debug)]
struct Arrival {
    answer: Answer,
    is_here: AtomicBool,
}

impl Arrivals {
    /// Lets the answer to this question arrive.
    pub(crate) fn let_in(&self, ticket: Ticket) {
        let arrivals = self.0.lock().expect("no test panics while it holds the lock");
        let arrival = &arrivals[usize::try_from(ticket.0).expect("tickets are few")];
        assert!(!arrival.is_here.swap(true, Ordering::Relaxed), "an answered question is not waited for");
    }
}

impl Awaited for Arrival {
    fn outcome(&self) -> Option<Outcome<'_>> {
        let outcome = match &self.answer {
            Ok(value) => Outcome::Answered(value.as_deref()),
            Err(_) => Outcome::Unavailable,
        };
        self.is_here.load(Ordering::Relaxed).then_some(outcome)
    }
}

impl LookupTable for Deferring {
    fn look_up<'a>(&'a self, _: &'a Bump, _: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        unreachable!("it is asked in a transaction")
    }

    fn ask<'a>(&'a self, _: &'a Bump, key: &[u8], asker: Asker<'_>) -> Result<Option<&'a [u8]>, LookupError> {
        let mut arrivals = self.arrivals.0.lock().expect("no test panics while it holds the lock");
        let ticket = Ticket(arrivals.len() as u64);
        let arrival =
            Arc::new(Arrival { answer: answer(&self.entries, key), is_here: AtomicBool::new(false) });
        arrivals.push(Arc::clone(&arrival));
        Err(asker.wait_for(ticket, arrival))
    }

    fn may_wait(&self) -> bool {
        true
    }
}
