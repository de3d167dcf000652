//! Tables in databases: what they have in common, and each kind.

mod expansion;
#[cfg(feature = "ldap")]
pub(super) mod ldap;
mod parameters;
#[cfg(feature = "pgsql")]
pub(super) mod pgsql;
#[cfg(feature = "sqlite")]
pub(super) mod sqlite;
#[cfg(all(test, any(feature = "pgsql", feature = "ldap")))]
mod tests;
