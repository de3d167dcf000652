//! The answers that one transaction has received.
//!
//! A table that has to ask a server says [`LookupError::Pending`], and the call that asked comes again when the answer
//! is there. What was asked before must not be asked again then: a policy server counts, greylisting remembers. The
//! transaction therefore keeps its questions with their tickets, and the answers, and forgets them when it ends.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{LookupError, LookupTable, Ticket};

/// Questions of one transaction to tables that may have to be waited for.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// By table; a transaction asks few.
    tables: Vec<(Arc<dyn LookupTable>, Known)>,
    memory: usize,
}

/// What one table was asked, and has said.
type Known = BTreeMap<Box<[u8]>, State>;

/// How far a question has come.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It has no answer yet.
    Asked(Ticket),
    /// Its answer: a value, or that there is none.
    Answered(Option<Box<[u8]>>),
}

impl Answers {
    /// Bytes of memory that questions and answers hold.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.memory
    }

    /// What is known of a question.
    pub(super) fn find(&self, table: &Arc<dyn LookupTable>, key: &[u8]) -> Option<&State> {
        let (_, known) = self.tables.iter().find(|(known, _)| Arc::ptr_eq(known, table))?;
        known.get(key)
    }

    /// Keeps what a table has said to a question. That it cannot be asked is no answer. Beyond [`MEMORY_MAX`] nothing more
    /// is kept, and the table is asked again.
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

/// Bytes that a question costs beside its key and value.
const ENTRY_SIZE: usize = 96;
/// Bytes of questions and answers that a transaction keeps.
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
