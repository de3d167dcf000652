//! The planted bugs by area: a description as its finder would give it, then the change.

mod core;
mod delivery;
mod io;
mod spool;
mod submission;
mod tables;
mod worker;

use super::Mutation;

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Mutation> {
    let areas =
        [core::BUGS, spool::BUGS, worker::BUGS, submission::BUGS, tables::BUGS, io::BUGS, delivery::BUGS];
    areas.into_iter().flatten()
}
