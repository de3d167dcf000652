//! Mail that identifies itself, and the ledger that accounts for it.
//!
//! Everything in a message of an [`Identity`] follows from the identity. A [`Ledger`] notes what became of each message
//! while it is sent; an [`Account`] compares the ledger with what is found afterwards. Both go by the [`Standing`] of each
//! message, which says what may be found of it; the simulator's oracle does, too. A [`Template`] is for load, where
//! messages only need to differ: it numbers copies of the same content in place.
#![forbid(unsafe_code)]

mod account;
mod identity;
mod ledger;
mod standing;
mod template;

pub use account::{Account, Fault, Found};
pub use identity::Identity;
pub use ledger::{Chosen, Fate, Ledger, Letter, Snapshot, add_promises};
pub use standing::{Outcome, Presence, Standing, States};
pub use template::Template;
