//! Owns which protocols there are to ask a server.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::super::{Spec, TableError};
use super::Answer;
use super::socketmap::Socketmap;
use super::tcp::Tcp;

/// One connection to a server, made when it is first needed.
pub(super) trait Client: Send {
    /// Asks for a key's value, and connects first where there is no connection.
    fn ask<'c>(&'c mut self, key: &'c [u8]) -> Pin<Box<dyn Future<Output = Answer> + Send + 'c>>;

    /// Whether there is a connection.
    fn is_connected(&self) -> bool;

    /// Closes the connection.
    fn disconnect(&mut self);

    /// A client for another connection to the same server.
    fn another(&self) -> Box<dyn Client>;
}

/// The client for a table. `text`: of the file that describes the table, where there is one; `timeout`: for clients
/// that have a limit of their own.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "pgsql", feature = "ldap")),
    expect(unused_variables, reason = "only databases have files and limits of their own")
)]
pub(super) fn client(spec: &Spec<'_>, text: &[u8], timeout: Duration) -> Result<Box<dyn Client>, TableError> {
    let unknown = "its server is not named so that it can be found";
    Ok(match spec.kind {
        "socketmap" => Box::new(Socketmap::parse(spec.name, spec.base).ok_or_else(|| {
            spec.error(unknown, "write socketmap:inet:host:port:name or socketmap:unix:path:name")
        })?),
        "tcp" => Box::new(Tcp::parse(spec.name).ok_or_else(|| spec.error(unknown, "write tcp:host:port"))?),
        #[cfg(feature = "sqlite")]
        "sqlite" => Box::new(super::database::sqlite::Sqlite::parse(spec, text, timeout)?),
        #[cfg(feature = "pgsql")]
        "pgsql" => Box::new(super::database::pgsql::Pgsql::parse(spec, text, timeout)?),
        #[cfg(feature = "ldap")]
        "ldap" => Box::new(super::database::ldap::Ldap::parse(spec, text, timeout)?),
        kind => {
            let remedy = format!("build it with --features {kind}");
            return Err(spec.error(format!("this program was built without {kind} tables"), &remedy));
        }
    })
}
