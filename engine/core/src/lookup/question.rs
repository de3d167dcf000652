//! Party on whose behalf a table is searched, and the answers that it already has.

use alloc::sync::Arc;
use core::cell::RefCell;

use bumpalo::Bump;

use super::answers::Place;
use super::{Answers, Awaited, LookupError, LookupTable, Ticket};
use crate::Sharer;

/// Party on whose behalf a table is searched, and its transaction.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'q> {
    sharer: Sharer,
    answers: Option<&'q RefCell<Answers>>,
    /// Receives the place of the answer from the table that is queried.
    place: Option<&'q RefCell<Place>>,
}

impl<'q> Asker<'q> {
    /// Creates an asker within a transaction, which keeps the answers.
    #[must_use]
    pub const fn new(sharer: Sharer, answers: &'q RefCell<Answers>) -> Self {
        Self { sharer, answers: Some(answers), place: None }
    }

    /// Returns the party on whose behalf it asks.
    #[must_use]
    pub const fn sharer(self) -> Sharer {
        self.sharer
    }

    /// Asks a table, unless the transaction has asked it before.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn ask<'a>(
        self,
        arena: &'a Bump,
        table: &'a Arc<dyn LookupTable>,
        key: &[u8],
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let Some(answers) = self.answers.filter(|_| table.may_wait()) else {
            return table.ask(arena, key, self);
        };
        if let Some(known) = answers.borrow_mut().recall(arena, table, key) {
            return known;
        }
        let place = RefCell::new(None);
        let said = table.ask(arena, key, Asker { place: Some(&place), ..self });
        // A lookup that the transaction cannot keep would be repeated endlessly.
        if answers.borrow_mut().keep(table, key, said, place.take()) {
            said
        } else {
            Err(LookupError::Unavailable)
        }
    }

    /// Registers the place where the answer to the lookup with this ticket will arrive, and returns the pending state.
    #[must_use]
    pub fn wait_for(self, ticket: Ticket, answer: Arc<dyn Awaited>) -> LookupError {
        if let Some(place) = self.place {
            place.replace(Some(answer));
        }
        LookupError::Pending(ticket)
    }
}

impl From<Sharer> for Asker<'_> {
    /// Creates an asker without a transaction.
    fn from(sharer: Sharer) -> Self {
        Self { sharer, answers: None, place: None }
    }
}
