//! Owns tables in SQLite databases (Postfix's sqlite_table(5)).

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::super::{Spec, TableError};
use super::super::Answer;
use super::super::client::Client;
use super::expansion::{COMMON_NAMES, Common};
use super::parameters::Parameters;

pub(in super::super) struct Sqlite {
    path: Arc<PathBuf>,
    common: Arc<Common>,
    timeout: Duration,
    connection: Option<Connection>,
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
        let path = Arc::new(spec.base.join(parameters.needed("dbpath")?));
        Ok(Self { path, common: Arc::new(common), timeout, connection: None })
    }

    async fn query(&mut self, key: &[u8]) -> Answer {
        let Some(query) = self.common.query(key, |text| text.replace('\'', "''")) else { return Ok(None) };
        let (path, timeout) = (Arc::clone(&self.path), self.timeout);
        let connection = self.connection.take();
        // A database on a disk is waited for, so not here.
        let asked = tokio::task::spawn_blocking(move || {
            let connection = match connection {
                Some(connection) => connection,
                None => open(&path, timeout)?,
            };
            let rows = rows(&connection, &query)?;
            Ok::<_, rusqlite::Error>((connection, rows))
        });
        let asked = asked.await.map_err(|error| error.to_string())?;
        let (connection, rows) = asked.map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.connection = Some(connection);
        self.common.value(key, rows.iter().map(String::as_str))
    }
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

impl Client for Sqlite {
    fn ask<'c>(&'c mut self, key: &'c [u8]) -> Pin<Box<dyn Future<Output = Answer> + Send + 'c>> {
        Box::pin(self.query(key))
    }

    fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    fn disconnect(&mut self) {
        self.connection = None;
    }

    fn another(&self) -> Box<dyn Client> {
        let (path, common) = (Arc::clone(&self.path), Arc::clone(&self.common));
        Box::new(Self { path, common, timeout: self.timeout, connection: None })
    }
}
