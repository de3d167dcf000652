//! Answers of tables that a transaction has received.
//!
//! A table that has to ask a server says [`LookupError::Pending`], and the call that asked comes again when the answer
//! is there. What was asked before must not be asked again then: a policy server counts, greylisting remembers. The
//! transaction therefore keeps its questions, each with the place where its answer arrives, and the answers, and forgets
//! them when it ends.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Debug;

use bumpalo::Bump;

use super::{LookupError, LookupTable, Ticket};

/// Place where the answer of a lookup arrives. All transactions that wait for the same lookup share it.
pub trait Awaited: Debug + Send + Sync {
    /// Returns the outcome of the lookup; `None` while it is pending.
    fn outcome(&self) -> Option<Outcome<'_>>;
}

/// Outcome of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The table has this value, or none.
    Answered(Option<&'a [u8]>),
    /// The lookup failed, or its answer is invalid.
    Unavailable,
    /// The lookup was dropped to make room for others, and may be repeated.
    GivenUp,
}

/// Place of an answer, if the table provides one.
pub(super) type Place = Option<Arc<dyn Awaited>>;

/// Questions of one transaction to tables that may have to be waited for.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// By table; a transaction uses few tables.
    tables: Vec<(Arc<dyn LookupTable>, Known)>,
    memory: usize,
}

/// Lookups in one table and their answers.
type Known = BTreeMap<Box<[u8]>, State>;

/// State of a lookup.
#[derive(Clone, Debug)]
enum State {
    /// Pending when it was last checked.
    Asked(Ticket, Arc<dyn Awaited>),
    /// Its answer: a value, or that there is none.
    Answered(Option<Box<[u8]>>),
}

impl Answers {
    /// Returns the memory that lookups and answers take, in bytes.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.memory
    }

    /// Returns the state of a lookup; `None` if the table must be queried.
    pub(super) fn recall<'a>(
        &mut self,
        arena: &'a Bump,
        table: &Arc<dyn LookupTable>,
        key: &[u8],
    ) -> Option<Result<Option<&'a [u8]>, LookupError>> {
        let (_, known) = self.tables.iter_mut().find(|(known, _)| Arc::ptr_eq(known, table))?;
        let place = match known.get(key)? {
            State::Answered(value) => return Some(Ok(copied(arena, value.as_deref()))),
            State::Asked(ticket, place) => match place.outcome() {
                None => return Some(Err(LookupError::Pending(*ticket))),
                Some(_) => Arc::clone(place),
            },
        };
        known.remove(key);
        self.memory -= ENTRY_SIZE + key.len();
        match place.outcome()? {
            Outcome::Answered(value) => {
                let is_kept = self.keep(table, key, Ok(value), None);
                Some(if is_kept { Ok(copied(arena, value)) } else { Err(LookupError::Unavailable) })
            }
            Outcome::Unavailable => Some(Err(LookupError::Unavailable)),
            Outcome::GivenUp => None,
        }
    }

    /// Keeps what a table has said to a question. Not kept are that it cannot be asked, which is no answer, and a question
    /// without a place for its answer: its table is asked again, and is made of others that are not. Returns whether
    /// there was room.
    pub(super) fn keep(
        &mut self,
        table: &Arc<dyn LookupTable>,
        key: &[u8],
        said: Result<Option<&[u8]>, LookupError>,
        place: Place,
    ) -> bool {
        let state = match (said, place) {
            (Ok(value), _) => State::Answered(value.map(Into::into)),
            (Err(LookupError::Pending(ticket)), Some(place)) => State::Asked(ticket, place),
            (Err(LookupError::Pending(_)), None) | (Err(LookupError::Unavailable), _) => return true,
        };
        let size = ENTRY_SIZE + key.len() + state.size();
        if self.memory + size > MEMORY_MAX {
            return false;
        }
        let index = self.tables.iter().position(|(known, _)| Arc::ptr_eq(known, table));
        let index = index.unwrap_or_else(|| {
            self.tables.push((Arc::clone(table), Known::new()));
            self.tables.len() - 1
        });
        let Some((_, known)) = self.tables.get_mut(index) else { return false };
        self.memory += size;
        if let Some(before) = known.insert(key.into(), state) {
            self.memory -= ENTRY_SIZE + key.len() + before.size();
        }
        true
    }
}

fn copied<'a>(arena: &'a Bump, value: Option<&[u8]>) -> Option<&'a [u8]> {
    value.map(|value| &*arena.alloc_slice_copy(value))
}

impl State {
    fn size(&self) -> usize {
        match self {
            Self::Answered(Some(value)) => value.len(),
            Self::Answered(None) | Self::Asked(..) => 0,
        }
    }
}

/// Memory per lookup in addition to its key and value, in bytes.
const ENTRY_SIZE: usize = 96;
/// Most bytes of lookups and answers that a transaction keeps. A lookup that does not fit fails (451 4.3.0).
const MEMORY_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sharer;
    use bumpalo::Bump;

    #[derive(Debug)]
    struct Empty;

    impl LookupTable for Empty {
        fn look_up<'a>(&'a self, _: &'a Bump, _: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
            Ok(None)
        }
    }

    /// An outcome that is set at once, or never.
    #[derive(Debug)]
    struct Fixed(Option<Outcome<'static>>);

    impl Awaited for Fixed {
        fn outcome(&self) -> Option<Outcome<'_>> {
            self.0
        }
    }

    const ASKED: Result<Option<&[u8]>, LookupError> = Err(LookupError::Pending(Ticket(1)));

    fn place(outcome: Option<Outcome<'static>>) -> Place {
        Some(Arc::new(Fixed(outcome)))
    }

    #[test]
    fn answers_are_found_where_they_arrive() {
        let table: Arc<dyn LookupTable> = Arc::new(Empty);
        let arena = Bump::new();
        for (outcome, recalled) in [
            (None, Some(ASKED)),
            (Some(Outcome::Answered(Some(b"value"))), Some(Ok(Some(&b"value"[..])))),
            (Some(Outcome::Answered(None)), Some(Ok(None))),
            (Some(Outcome::Unavailable), Some(Err(LookupError::Unavailable))),
            (Some(Outcome::GivenUp), None),
        ] {
            let mut answers = Answers::default();
            assert!(answers.keep(&table, b"key", ASKED, place(outcome)));
            let asked = answers.memory();
            assert_eq!(answers.recall(&arena, &table, b"key"), recalled);
            // Answers stay. That there is none does not: the next command may ask again.
            let is_over = matches!(outcome, Some(Outcome::Unavailable | Outcome::GivenUp));
            assert_eq!(answers.recall(&arena, &table, b"key"), recalled.filter(|_| !is_over));
            let value_size = recalled.and_then(Result::ok).flatten().map_or(0, <[u8]>::len);
            assert_eq!(answers.memory(), if is_over { 0 } else { asked + value_size });
        }
    }

    #[test]
    fn memory_is_counted_and_bounded() {
        let table: Arc<dyn LookupTable> = Arc::new(Empty);
        let mut answers = Answers::default();
        let large = [b'x'; 100_000];
        let kept = (0..200_u32)
            .take_while(|number| answers.keep(&table, &number.to_le_bytes(), Ok(Some(&large)), None))
            .count();
        assert!(kept < 200 && answers.memory() <= MEMORY_MAX && answers.memory() > MEMORY_MAX / 2);
        assert!(answers.recall(&Bump::new(), &table, &199_u32.to_le_bytes()).is_none());
        let before = answers.memory();
        assert!(answers.keep(&table, b"key", Err(LookupError::Unavailable), None));
        assert!(answers.keep(&table, b"key", ASKED, None));
        assert_eq!(answers.memory(), before);
    }
}
