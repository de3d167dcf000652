//! Which protocols there are to ask a server.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Spec, TableError};
use super::Answer;
use super::socketmap::Socketmap;
use super::tcp::Tcp;

/// One connection to a server, made when it is first needed.
pub(super) trait Client: Send {
    /// Asks for a key's value, and connects first where there is no connection. Without an answer there is none
    /// afterwards, even if the caller gave up.
    fn ask<'c>(&'c mut self, key: &'c [u8]) -> Pin<Box<dyn Future<Output = Answer> + Send + 'c>>;

    /// Whether there is a connection.
    fn is_connected(&self) -> bool;

    /// A client for another connection to the same server.
    fn another(&self) -> Box<dyn Client>;
}

/// How a kind of servers is asked.
pub(super) trait Protocol: Send + Sync + 'static {
    /// A connection to one.
    type Connection: Send;
    /// What is asked for a key.
    type Question: Send;

    /// The question for a key; `None`: it has no value, and no server has to be asked.
    fn question(&self, key: &[u8]) -> Option<Self::Question>;

    /// Connects.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, String>> + Send;

    /// Asks, and gives the connection back with the answer.
    fn ask(
        &self,
        connection: Self::Connection,
        question: Self::Question,
        key: &[u8],
    ) -> impl Future<Output = Result<(Self::Connection, Option<Vec<u8>>), String>> + Send;
}

struct Connected<P: Protocol> {
    protocol: Arc<P>,
    connection: Option<P::Connection>,
}

fn connected_by<P: Protocol>(protocol: P) -> Box<dyn Client> {
    Box::new(Connected { protocol: Arc::new(protocol), connection: None })
}

impl<P: Protocol> Client for Connected<P> {
    fn ask<'c>(&'c mut self, key: &'c [u8]) -> Pin<Box<dyn Future<Output = Answer> + Send + 'c>> {
        Box::pin(async move {
            let Some(question) = self.protocol.question(key) else { return Ok(None) };
            let connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.protocol.connect().await?,
            };
            let (connection, value) = self.protocol.ask(connection, question, key).await?;
            self.connection = Some(connection);
            Ok(value)
        })
    }

    fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    fn another(&self) -> Box<dyn Client> {
        Box::new(Self { protocol: Arc::clone(&self.protocol), connection: None })
    }
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
        "socketmap" => connected_by(Socketmap::parse(spec.name, spec.base).ok_or_else(|| {
            spec.error(unknown, "write socketmap:inet:host:port:name or socketmap:unix:path:name")
        })?),
        "tcp" => {
            connected_by(Tcp::parse(spec.name).ok_or_else(|| spec.error(unknown, "write tcp:host:port"))?)
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => connected_by(super::database::sqlite::Sqlite::parse(spec, text, timeout)?),
        #[cfg(feature = "pgsql")]
        "pgsql" => connected_by(super::database::pgsql::Pgsql::parse(spec, text, timeout)?),
        #[cfg(feature = "ldap")]
        "ldap" => connected_by(super::database::ldap::Ldap::parse(spec, text, timeout)?),
        kind => {
            let remedy = format!("build it with --features {kind}");
            return Err(spec.error(format!("this program was built without {kind} tables"), &remedy));
        }
    })
}
