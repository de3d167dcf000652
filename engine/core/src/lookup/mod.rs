//! Lookup tables as the passes see them: they map a key to a value.
//!
//! What kinds of tables there are, and where they come from, is the server's concern. A table answers at once from
//! memory; one that has to ask a server says [`LookupError::Pending`], leaves with the transaction where the answer will
//! be ([`Awaited`]), and the call that asked comes again when it is there. The transaction keeps what it has asked
//! ([`Answers`]).

mod address;
mod answers;
mod question;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Debug;

use bumpalo::Bump;

use crate::Sharer;

pub(crate) use address::is_of_mail_system;
pub use address::{AddressLookup, Extension, KeyForm, Value, split_extension};
pub use answers::{Answers, Awaited, Outcome};
pub use question::Asker;

/// A lookup table.
pub trait LookupTable: Debug + Send + Sync {
    /// Returns the value for `key`, from the table or allocated in `arena`, or `None` if the table has none. `sharer`: the
    /// party on whose behalf the table is searched, for tables that schedule lookups fairly.
    ///
    /// # Errors
    /// [`LookupError`].
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        sharer: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError>;

    /// Returns whether the table is also searched for parts of an address. Pattern tables are not, because patterns written
    /// for whole addresses could match a part by accident.
    fn is_asked_for_parts(&self) -> bool {
        true
    }

    /// Returns whether the table may return [`LookupError::Pending`].
    fn may_wait(&self) -> bool {
        false
    }

    /// The same in a transaction. A table that asks a server tells `asker` where the answer will be
    /// ([`Asker::wait_for`]), so that the question is asked once; one that is made of others asks these through
    /// `asker`. Others need no transaction.
    ///
    /// # Errors
    /// [`LookupError`].
    fn ask<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        asker: Asker<'_>,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        self.look_up(arena, key, asker.sharer())
    }
}

/// Reason why a table has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// The lookup failed, or its answer is invalid (451 4.3.0).
    Unavailable,
    /// The table has not answered yet.
    Pending(Ticket),
}

/// Unique identifier of a pending lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Tables of one parameter, in the order in which they are searched.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    tables: Vec<Arc<dyn LookupTable>>,
    /// Cached, because it is needed for each message.
    may_wait: bool,
}

impl Maps {
    /// Creates a list of tables.
    #[must_use]
    pub fn new(tables: Vec<Arc<dyn LookupTable>>) -> Self {
        let may_wait = tables.iter().any(|table| table.may_wait());
        Self { tables, may_wait }
    }

    /// Iterates over lists of one table each, in order.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        self.tables.iter().map(|table| Self::new(alloc::vec![Arc::clone(table)]))
    }

    /// Returns whether there is no table.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Returns whether any table may return [`LookupError::Pending`].
    #[must_use]
    pub const fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Returns the first value that a table has for `key`. An empty key has no value.
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

    /// Does the same for a part of an address.
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
