//! Answers of tables that a transaction has received.
//!
//! A table on a server returns [`LookupError::Pending`], and the caller repeats its call when the answer is available. The
//! repeated call must not query the server again, because queries may have effects: policy servers count them, greylisting
//! records them. The transaction therefore keeps its lookups with their tickets, and the answers, until it ends.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{LookupError, LookupTable, Ticket};

/// Lookups of one transaction in tables that may defer their answers.
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
pub(super) enum State {
    /// Not answered yet.
    Asked(Ticket),
    /// Answered: a value, or none.
    Answered(Option<Box<[u8]>>),
}

impl Answers {
    /// Returns the memory that lookups and answers take, in bytes.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.memory
    }

    /// Returns the state of a lookup, if known.
    pub(super) fn find(&self, table: &Arc<dyn LookupTable>, key: &[u8]) -> Option<&State> {
        let (_, known) = self.tables.iter().find(|(known, _)| Arc::ptr_eq(known, table))?;
        known.get(key)
    }

    /// Keeps the result of a lookup, unless the table was unavailable. Beyond [`MEMORY_MAX`] it keeps nothing more, and the
    /// table is queried again.
    pub(super) fn keep(
        &mut self,
        table: &Arc<dyn LookupTable>,
        key: &[u8],
        said: Result<Option<&[u8]>, LookupError>,
    ) {
        let state = match said {
            Ok(value) => State::Answered(value.map(Into::into)),
            Err(LookupError::Pending(ticket)) => State::Asked(ticket),
            Err(LookupError::Unavailable) => return,
        };
        let size = ENTRY_SIZE + key.len() + state.size();
        if self.memory + size > MEMORY_MAX {
            return;
        }
        let index = self.tables.iter().position(|(known, _)| Arc::ptr_eq(known, table));
        let index = index.unwrap_or_else(|| {
            self.tables.push((Arc::clone(table), Known::new()));
            self.tables.len() - 1
        });
        let Some((_, known)) = self.tables.get_mut(index) else { return };
        self.memory += size;
        if let Some(before) = known.insert(key.into(), state) {
            self.memory -= ENTRY_SIZE + key.len() + before.size();
        }
    }
}

impl State {
    fn size(&self) -> usize {
        match self {
            Self::Answered(Some(value)) => value.len(),
            Self::Answered(None) | Self::Asked(_) => 0,
        }
    }
}

/// Memory per lookup in addition to its key and value, in bytes.
const ENTRY_SIZE: usize = 96;
/// Maximum memory for lookups and answers per transaction, in bytes.
const MEMORY_MAX: usize = 1 << 20;

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

    #[test]
    fn memory_is_counted_and_bounded() {
        let table: Arc<dyn LookupTable> = Arc::new(Empty);
        let mut answers = Answers::default();
        answers.keep(&table, b"key", Err(LookupError::Pending(Ticket(1))));
        let asked = answers.memory();
        answers.keep(&table, b"key", Ok(Some(b"value")));
        assert_eq!(answers.memory(), asked + 5);
        answers.keep(&table, b"key", Err(LookupError::Unavailable));
        assert!(matches!(answers.find(&table, b"key"), Some(State::Answered(Some(_)))));
        for number in 0..200_u32 {
            answers.keep(&table, &number.to_le_bytes(), Ok(Some(&[b'x'; 10_000])));
        }
        assert!(answers.memory() <= MEMORY_MAX && answers.memory() > MEMORY_MAX / 2);
        assert!(answers.find(&table, &199_u32.to_le_bytes()).is_none());
    }
}
