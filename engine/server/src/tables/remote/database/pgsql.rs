//! Tables in PostgreSQL databases (Postfix's pgsql_table(5)).

use std::time::Duration;

use tokio_postgres::{Client as Connection, Config, NoTls, SimpleQueryMessage};

use super::super::super::{Spec, TableError};
use super::super::client::Protocol;
use super::expansion::{COMMON_NAMES, Common};
use super::parameters::Parameters;

pub(in super::super) struct Pgsql {
    config: Config,
    common: Common,
}

const PORT: u16 = 5432;

impl Pgsql {
    pub(in super::super) fn parse(
        spec: &Spec<'_>,
        text: &[u8],
        timeout: Duration,
    ) -> Result<Self, TableError> {
        let known = [&COMMON_NAMES[..], &["hosts", "user", "password", "dbname", "query"]].concat();
        let parameters = Parameters::parse(spec, text, &known)?;
        let common = Common::new(&parameters, "query", parameters.needed("query")?)?;
        let mut config = Config::new();
        config.user(parameters.needed("user")?).dbname(parameters.needed("dbname")?);
        config
            .password(parameters.text("password", ""))
            .connect_timeout(timeout)
            .application_name("mailrace");
        for host in parameters.list("hosts", "localhost") {
            let text = host.strip_prefix("inet:").unwrap_or(&host);
            let (name, port) = match text.rsplit_once(':') {
                _ if text.starts_with("unix:") => (text.trim_start_matches("unix:"), Some(PORT)),
                Some((name, port)) => (name, port.parse().ok()),
                None => (text, Some(PORT)),
            };
            let Some(port) = port else {
                let remedy = "write host, host:port or unix:/directory";
                return Err(parameters.error("hosts", &format!("{host:?} has no port"), remedy));
            };
            // A directory begins with a slash and has the server's socket in it.
            config.host(name.trim_matches(['[', ']'])).port(port);
        }
        Ok(Self { config, common })
    }
}

impl Protocol for Pgsql {
    type Connection = Connection;
    type Question = String;

    fn question(&self, key: &[u8]) -> Option<String> {
        self.common.query(key, |text| text.replace('\'', "''"))
    }

    async fn connect(&self) -> Result<Connection, String> {
        connect(&self.config).await.map_err(said)
    }

    async fn ask(
        &self,
        connection: Connection,
        query: String,
        key: &[u8],
    ) -> Result<(Connection, Option<Vec<u8>>), String> {
        let messages = connection.simple_query(&query).await.map_err(said)?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let columns = rows.flat_map(|row| (0..row.len()).filter_map(|column| row.get(column)));
        Ok((connection, self.common.value(key, columns)?))
    }
}

async fn connect(config: &Config) -> Result<Connection, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // Ends with the client.
    tokio::spawn(connection);
    // Quotes are doubled in keys, and that is all there is to escape as long as this holds.
    client.batch_execute("SET standard_conforming_strings = on").await?;
    Ok(client)
}

/// An error with its cause.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn said(error: tokio_postgres::Error) -> String {
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
