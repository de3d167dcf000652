//! Tables in SQLite databases (Postfix's sqlite_table(5)).

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::super::{Spec, TableError};
use super::super::client::Protocol;
use super::expansion::{COMMON_NAMES, Common};
use super::parameters::Parameters;

pub(in super::super) struct Sqlite {
    path: PathBuf,
    common: Common,
    timeout: Duration,
}

impl Sqlite {
    pub(in super::super) fn parse(
        spec: &Spec<'_>,
        text: &[u8],
        timeout: Duration,
    ) -> Result<Self, TableError> {
        let known = [&COMMON_NAMES[..], &["dbpath", "query"]].concat();
        let parameters = Parameters::parse(spec, text, &known)?;
        let common = Common::new(&parameters, "query", parameters.needed("query")?)?;
        let path = spec.base.join(parameters.needed("dbpath")?);
        Ok(Self { path, common, timeout })
    }

    fn said(&self, error: &str) -> String {
        format!("{}: {error}", self.path.display())
    }
}

impl Protocol for Sqlite {
    type Connection = Connection;
    type Question = String;

    fn question(&self, key: &[u8]) -> Option<String> {
        self.common.query(key, |text| text.replace('\'', "''"))
    }

    async fn connect(&self) -> Result<Connection, String> {
        let (path, timeout) = (self.path.clone(), self.timeout);
        blocking(move || open(&path, timeout)).await.map_err(|error| self.said(&error))
    }

    async fn ask(
        &self,
        connection: Connection,
        query: String,
        key: &[u8],
    ) -> Result<(Connection, Option<Vec<u8>>), String> {
        let asked = blocking(move || rows(&connection, &query).map(|rows| (connection, rows))).await;
        let (connection, rows) = asked.map_err(|error| self.said(&error))?;
        Ok((connection, self.common.value(key, rows.iter().map(String::as_str))?))
    }
}

/// A database on a disk is waited for, so not on the thread of all servers.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}

fn open(path: &std::path::Path, timeout: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(timeout)?;
    Ok(connection)
}

/// The first column of all rows.
fn rows(connection: &Connection, query: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        use rusqlite::types::ValueRef;
        values.push(match row.get_ref(0)? {
            ValueRef::Null => String::new(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
        });
    }
    Ok(values)
}
