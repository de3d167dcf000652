//! Mail that identifies itself, and the ledger that accounts for it.
//!
//! Everything in a message of an [`Identity`] follows from the identity. A [`Ledger`] notes what became of each message
//! while it is sent; an [`Account`] compares the ledger with what is found afterwards. A [`Template`] is for load, where
//! messages only need to differ: it numbers copies of the same content in place.
#![forbid(unsafe_code)]

mod account;
mod identity;
mod ledger;
mod template;

pub use account::{Account, Fault, Found};
pub use identity::Identity;
pub use ledger::{Chosen, Fate, Ledger, Letter, Order, Snapshot, add_promises};
pub use template::Template;
