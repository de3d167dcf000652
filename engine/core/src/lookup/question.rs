//! Party on whose behalf a table is searched, and the answers that it already has.

use alloc::sync::Arc;
use core::cell::RefCell;

use bumpalo::Bump;

use super::answers::State;
use super::{Answers, LookupError, LookupTable};
use crate::Sharer;

/// Party on whose behalf a table is searched, and its transaction.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'q> {
    sharer: Sharer,
    answers: Option<&'q RefCell<Answers>>,
}

impl<'q> Asker<'q> {
    /// Creates an asker within a transaction, which keeps the answers.
    #[must_use]
    pub const fn new(sharer: Sharer, answers: &'q RefCell<Answers>) -> Self {
        Self { sharer, answers: Some(answers) }
    }

    /// Searches a table, unless the transaction already has the answer.
    pub(super) fn ask<'a>(
        self,
        arena: &'a Bump,
        table: &'a Arc<dyn LookupTable>,
        key: &[u8],
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let Some(answers) = self.answers.filter(|_| table.may_wait()) else {
            return table.look_up(arena, key, self.sharer);
        };
        let said = match answers.borrow().find(table, key) {
            Some(State::Answered(value)) => {
                return Ok(value.as_deref().map(|value| &*arena.alloc_slice_copy(value)));
            }
            Some(State::Asked(ticket)) => table.resume(*ticket, arena, key, self.sharer),
            None => table.look_up(arena, key, self.sharer),
        };
        answers.borrow_mut().keep(table, key, said);
        said
    }
}

impl From<Sharer> for Asker<'_> {
    /// Creates an asker without a transaction.
    fn from(sharer: Sharer) -> Self {
        Self { sharer, answers: None }
    }
}
