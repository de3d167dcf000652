//! Lookup tables as the passes see them: a key in, a value out.
//!
//! What kinds of tables there are, and where they come from, is the server's concern. A table answers at once from
//! memory; one that has to ask a server says [`LookupError::Pending`], and the call that asked comes again when it
//! knows. The transaction keeps what it has asked ([`Answers`]).

mod address;
mod answers;
mod question;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Debug;

use bumpalo::Bump;

use crate::Sharer;

pub use address::{AddressLookup, Extension, KeyForm, Value};
pub use answers::Answers;
pub use question::Asker;

/// A lookup table.
pub trait LookupTable: Debug + Send + Sync {
    /// The value for `key`, from the table or made in `arena`; `None` if it has none. `sharer`: on whose behalf it is
    /// asked, for tables that let those who ask take turns.
    ///
    /// # Errors
    /// [`LookupError`].
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        sharer: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError>;

    /// Whether the table is asked for parts of an address too. Tables of patterns are not: a pattern for `user@`
    /// would match where it was not meant to.
    fn is_asked_for_parts(&self) -> bool {
        true
    }

    /// Whether it may say [`LookupError::Pending`].
    fn may_wait(&self) -> bool {
        false
    }

    /// The value for `key`, which this table was asked before under `ticket`. A table whose questions have effects answers
    /// that question; by default it is asked again.
    ///
    /// # Errors
    /// [`LookupError`]: with the same ticket if the question is still under way.
    fn resume<'a>(
        &'a self,
        _ticket: Ticket,
        arena: &'a Bump,
        key: &[u8],
        sharer: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        self.look_up(arena, key, sharer)
    }
}

/// Why a table has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// It cannot be asked, or its answer makes no sense (451 4.3.0).
    Unavailable,
    /// It was asked and has not answered yet.
    Pending(Ticket),
}

/// Names a question that a table was asked and has not answered; no two have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// The tables of one parameter, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    tables: Vec<Arc<dyn LookupTable>>,
    /// Asked of them once, for it is asked about each message.
    may_wait: bool,
}

impl Maps {
    /// These tables.
    #[must_use]
    pub fn new(tables: Vec<Arc<dyn LookupTable>>) -> Self {
        let may_wait = tables.iter().any(|table| table.may_wait());
        Self { tables, may_wait }
    }

    /// Each of these tables alone, in their order.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        self.tables.iter().map(|table| Self::new(alloc::vec![Arc::clone(table)]))
    }

    /// Whether there is no table.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether any of them may say [`LookupError::Pending`].
    #[must_use]
    pub const fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// The first value that a table has for `key`. An empty key has none.
    ///
    /// # Errors
    /// [`LookupError`] of the first table that cannot answer.
    pub fn find<'a, 'q>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        asker: impl Into<Asker<'q>>,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        self.find_among(arena, key, asker.into(), |_| true)
    }

    /// The same for a part of an address.
    ///
    /// # Errors
    /// [`LookupError`] of the first table that cannot answer.
    pub fn find_part<'a, 'q>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        asker: impl Into<Asker<'q>>,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        self.find_among(arena, key, asker.into(), |table| table.is_asked_for_parts())
    }

    fn find_among<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        asker: Asker<'_>,
        is_asked: impl Fn(&dyn LookupTable) -> bool,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        if key.is_empty() {
            return Ok(None);
        }
        for table in self.tables.iter().filter(|table| is_asked(table.as_ref())) {
            if let Some(value) = asker.ask(arena, table, key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}
