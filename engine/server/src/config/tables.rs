//! Lookup tables: how they are read, and the open tables of all parameters.

use std::collections::BTreeMap;
use std::time::Duration;

use mailrace_core::lookup::Maps;

use super::Configuration;
use super::error::{ConfigError, ConfigErrors, Fault};
use super::reader::parameters;
use super::value::{Octets, TableList};
use crate::tables::{
    BadLines, Files, Lookups, OpenTables, Opener, RemoteSettings, TableErrors, TableSettings,
};

parameters! {
    /// How lookup tables are read, watched and asked.
    pub struct TableParameters titled "Lookup tables";

    /// Period in which the files of tables are examined. A file that has changed is read when it stays as it is for one period.
    [engine] table_check_period: Duration = "5s" in 1 ..= 3600;
    /// What to do with a table that has invalid lines: `refuse` does not read it; `warn` skips them, as Postfix does.
    [engine] table_errors: BadLines = "refuse";
    /// Largest file of a table; a larger one is not read.
    [engine] table_size_limit: Octets = "1GiB" in 4096 ..= 68_719_476_736;
    /// Time that the server of a table may take to answer.
    [engine] lookup_timeout: Duration = "10s" in 1 ..= 600;
    /// Connections to the server of each table. A network of clients uses all but one, a client all but two, and at least one
    /// ([shares](operations.md#shares)).
    [engine] lookup_connections: u16 = 6 in 1 ..= 256;
    /// Time for which the answer of a server is remembered.
    [engine] lookup_cache_time: Duration = "30s" in 10 ..= 86_400;
    /// Memory for such answers, for each table.
    [engine] lookup_cache_size: Octets = "16MiB" in 65_536 ..= 68_719_476_736;
}

/// All tables of a configuration, open.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    maps: BTreeMap<&'static str, Maps>,
    /// The files that they came from.
    pub files: Files,
    /// What an operator should know though all tables are valid.
    pub notes: Vec<String>,
    /// For the next ones.
    open: OpenTables,
}

impl Tables {
    /// The open tables of a parameter.
    pub(super) fn of(&self, list: &TableList) -> Maps {
        self.maps.get(list.at.parameter).cloned().unwrap_or_default()
    }
}

impl Configuration {
    /// Opens all tables that are named. Tables of `previous` whose files have not changed are used again; `lookups` asks
    /// remote tables.
    ///
    /// # Errors
    /// Those that cannot be used, each under its parameter.
    pub fn open_tables(&self, lookups: &Lookups, previous: &Tables) -> Result<Tables, ConfigErrors> {
        let mut opener = Opener::new(lookups, self.table_settings(), &previous.open);
        let mut tables = Tables::default();
        let mut failed = Vec::new();
        for list in &self.named_tables {
            let base = &list.at.base;
            let maps = if list.has_actions {
                opener.action_maps(&list.names, base)
            } else {
                opener.maps(&list.names, base)
            };
            match maps {
                Ok(maps) => drop(tables.maps.insert(list.at.parameter, maps)),
                Err(errors) => failed.push((list, errors)),
            }
        }
        (tables.open, tables.files, tables.notes) = opener.into_parts();
        let errors = table_errors(failed);
        if errors.is_empty() { Ok(tables) } else { Err(ConfigErrors(errors)) }
    }

    /// How tables are read.
    pub(crate) fn table_settings(&self) -> TableSettings {
        TableSettings {
            bad_lines: self.tables.table_errors,
            size_max: self.tables.table_size_limit.0,
            remote: RemoteSettings {
                timeout: self.tables.lookup_timeout,
                connections: usize::from(self.tables.lookup_connections),
                memory_time: self.tables.lookup_cache_time,
                memory: self.tables.lookup_cache_size.in_memory(),
            },
        }
    }
}

/// The errors of tables, each once however many parameters name the table: under the one that was given first.
fn table_errors(mut failed: Vec<(&TableList, TableErrors)>) -> Vec<ConfigError> {
    failed.sort_by_key(|(list, _)| list.at.place.rank());
    let mut errors: Vec<ConfigError> = Vec::new();
    let mut known = Vec::new();
    for (list, TableErrors(these)) in failed {
        for error in these.into_iter().filter(|error| !known.contains(error)).collect::<Vec<_>>() {
            known.push(error.clone());
            let (place, name) = (list.at.place.clone(), list.at.parameter.to_owned());
            errors.push(ConfigError { place, name, fault: Fault::Table(error) });
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::check;

    #[test]
    fn a_table_that_is_opened_alone_is_read_as_by_default() {
        assert_eq!(check("").unwrap().table_settings(), TableSettings::default());
    }
}
