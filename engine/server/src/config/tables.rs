//! Lookup tables: settings for reading them, and the open tables of all parameters.

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
    /// How table files are read and watched, and how table servers are queried.
    pub struct TableParameters titled "Lookup tables";

    /// Interval between checks of table files for changes. A changed file is read after it has been stable for one interval.
    [engine] table_check_period: Duration = "5s" in 1 ..= 3600;
    /// Action for a table with invalid lines: `refuse` rejects the table; `warn` skips the lines, as Postfix does.
    [engine] table_errors: BadLines = "refuse";
    /// Maximum size of a table file; a larger one is refused.
    [engine] table_size_limit: Octets = "1GiB" in 4096 ..= 68_719_476_736;
    /// Maximum time to wait for a table server's answer.
    [engine] lookup_timeout: Duration = "10s" in 1 ..= 600;
    /// Number of connections to the server of each table. A client network may use all but one, a single client all but two,
    /// and each at least one ([shares](operations.md#shares)).
    [engine] lookup_connections: u16 = 6 in 1 ..= 256;
    /// Time for which a server's answer is cached.
    [engine] lookup_cache_time: Duration = "30s" in 10 ..= 86_400;
    /// Memory for cached answers, per table.
    [engine] lookup_cache_size: Octets = "16MiB" in 65_536 ..= 68_719_476_736;
}

/// All open tables of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    maps: BTreeMap<&'static str, Maps>,
    /// Files that the tables were read from.
    pub files: Files,
    /// Warnings about valid tables.
    pub notes: Vec<String>,
    /// Open tables, reused by the next configuration.
    open: OpenTables,
}

impl Tables {
    /// Returns the open tables of a parameter.
    pub(super) fn of(&self, list: &TableList) -> Maps {
        self.maps.get(list.at.parameter).cloned().unwrap_or_default()
    }
}

impl Configuration {
    /// Opens all tables that parameters name. Reuses tables of `previous` whose files have not changed; `lookups` queries
    /// remote tables.
    ///
    /// # Errors
    /// Returns the tables that cannot be used, each under its parameter.
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
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        tables.notes.extend(self.shared_domain_notes(&tables));
        Ok(tables)
    }

    /// Returns the settings for reading tables.
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

/// Returns each table error once, under the first parameter that names the table.
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
    fn a_table_opened_alone_has_default_settings() {
        assert_eq!(check("").unwrap().table_settings(), TableSettings::default());
    }
}
