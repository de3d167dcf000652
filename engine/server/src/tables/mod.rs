//! Lookup tables: their types, their sources, and when to read them again.
//!
//! A table is named `type:name` as in Postfix. All but the remote ones live in memory and answer without waiting.

mod cdb;
mod cidr;
mod composite;
mod error;
mod list;
mod lmdb;
mod pattern;
mod remote;
mod report;
mod source;
mod spec;
mod string_table;
mod version;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailrace_core::lookup::{LookupTable, Maps};

pub use error::{TableError, TableErrors};
pub(crate) use list::split_items;
pub use remote::{Lookups, RemoteSettings};
pub use report::BadLines;
pub use version::Files;

use composite::{FailTable, PipeTable, RandomTable, StaticTable, UnionTable};
use list::items;
use remote::RemoteTable;
use report::{Findings, Report};
use spec::Spec;
use string_table::StringTable;

/// Settings for reading tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSettings {
    /// What to do with a table that has invalid lines.
    pub bad_lines: BadLines,
    /// Largest size of a table's file in bytes.
    pub size_max: u64,
    /// Limits of remote tables.
    pub remote: RemoteSettings,
}

impl Default for TableSettings {
    fn default() -> Self {
        Self { bad_lines: BadLines::default(), size_max: 1 << 30, remote: RemoteSettings::default() }
    }
}

/// Opens tables, each only once.
#[derive(Debug)]
pub struct Opener<'o> {
    lookups: &'o Lookups,
    settings: TableSettings,
    previous: &'o OpenTables,
    open: OpenTables,
    /// Tables that cannot be used, and are not tried again.
    failed: HashMap<(PathBuf, String), (TableErrors, Vec<TableError>)>,
    notes: Vec<String>,
}

/// Tables that are open, by where relative paths start and by name.
#[derive(Clone, Debug, Default)]
pub struct OpenTables(HashMap<(PathBuf, String), OpenTable>);

/// A table, with the files that it came from.
#[derive(Clone, Debug)]
struct OpenTable {
    table: Arc<dyn LookupTable>,
    files: Files,
    /// Errors of its values, if they are actions.
    no_actions: Vec<TableError>,
}

/// The kinds of tables, for messages.
const KINDS: &str = "inline, texthash, hash, btree, lmdb, cdb, regexp, pcre, cidr, static, fail, unionmap, pipemap, \
                     randmap, socketmap, tcp, sqlite, pgsql, ldap";

/// Postfix's table types that are not supported, with alternatives.
const INSTEAD: [(&str, &str); 5] = [
    (
        "mysql",
        "use pgsql, sqlite or ldap, a socketmap server in front of the database, or a file that a query writes",
    ),
    ("memcache", "leave it out: answers of remote tables are cached (lookup_cache_time in [engine])"),
    ("dbm", "use texthash with the text file, or lmdb or cdb"),
    ("environ", "use inline, or $name in the configuration"),
    ("nis", "use ldap, or texthash with a file that ypcat writes"),
];

impl<'o> Opener<'o> {
    /// Reuses tables of `previous` whose files have not changed.
    #[must_use]
    pub fn new(lookups: &'o Lookups, settings: TableSettings, previous: &'o OpenTables) -> Self {
        let open = OpenTables::default();
        Self { lookups, settings, previous, open, failed: HashMap::new(), notes: Vec::new() }
    }

    /// The tables of one parameter. Relative paths start at `base`.
    ///
    /// # Errors
    /// [`TableErrors`] of all that cannot be used.
    pub fn maps(&mut self, tables: &[String], base: &Path) -> Result<Maps, TableErrors> {
        let mut open = Vec::with_capacity(tables.len());
        let mut errors = Vec::new();
        for table in tables {
            match self.table(table, base) {
                Ok(table) => open.push(table),
                Err(TableErrors(these)) => errors.extend(these),
            }
        }
        if errors.is_empty() { Ok(Maps::new(open)) } else { Err(TableErrors(errors)) }
    }

    /// The same for tables whose values are actions of header_checks(5).
    ///
    /// # Errors
    /// [`TableErrors`], also of values that are no action.
    pub fn action_maps(&mut self, tables: &[String], base: &Path) -> Result<Maps, TableErrors> {
        let maps = self.maps(tables, base);
        let mut no_actions: Vec<TableError> = Vec::new();
        for table in tables {
            let key = (base.to_owned(), table.clone());
            let open = self.open.0.get(&key).map(|open| &open.no_actions);
            let failed = self.failed.get(&key).map(|(_, no_actions)| no_actions);
            no_actions.extend(open.or(failed).into_iter().flatten().cloned());
        }
        match (self.settings.bad_lines, maps) {
            (_, maps) if no_actions.is_empty() => maps,
            (BadLines::Refuse, maps) => {
                let mut errors = maps.err().map(|errors| errors.0).unwrap_or_default();
                errors.extend(no_actions);
                // Stable: tables stay in their order, and what has no line comes first.
                errors.sort_by(|one, other| (&one.table, &one.line).cmp(&(&other.table, &other.line)));
                Err(TableErrors(errors))
            }
            (BadLines::Warn, maps) => {
                for mut error in no_actions {
                    error.remedy = "the value has no effect".to_owned();
                    self.notes.push(format!("warning: {error}"));
                }
                maps
            }
        }
    }

    /// Returns all tables, their files, and notes for the operator.
    #[must_use]
    pub fn into_parts(self) -> (OpenTables, Files, Vec<String>) {
        let files = Files::all(self.open.0.values().map(|open| &open.files));
        let mut notes = self.notes;
        let mut once = std::collections::HashSet::new();
        notes.retain(|note| once.insert(note.clone()));
        (self.open, files, notes)
    }

    fn table(&mut self, text: &str, base: &Path) -> Result<Arc<dyn LookupTable>, TableErrors> {
        let key = (base.to_owned(), text.to_owned());
        if let Some(open) = self.open.0.get(&key) {
            return Ok(Arc::clone(&open.table));
        }
        if let Some((errors, _)) = self.failed.get(&key) {
            return Err(errors.clone());
        }
        let spec = Spec::parse(text, base, self.settings.size_max);
        // Before they are read: a change while they are read is seen as one.
        let files = spec.files();
        let open = match self.previous.0.get(&key) {
            // What is made of others may have another one inside.
            Some(open) if open.files == files && !spec.is_made_of_others() => open.clone(),
            _ => {
                let mut report = Report::new(&spec, self.settings.bad_lines);
                let opened = self.open_new(&spec, &mut report);
                let Findings { errors, notes, no_actions } = report.finish();
                // Errors of its lines come first, because all are known.
                let opened = if errors.is_empty() { opened } else { Err(TableErrors(errors)) };
                let table = match opened {
                    Ok(table) => table,
                    Err(errors) => {
                        self.failed.insert(key, (errors.clone(), no_actions));
                        return Err(errors);
                    }
                };
                self.notes.extend(notes);
                OpenTable { table, files, no_actions }
            }
        };
        let table = Arc::clone(&open.table);
        self.open.0.insert(key, open);
        Ok(table)
    }

    fn open_new(
        &mut self,
        spec: &Spec<'_>,
        report: &mut Report<'_>,
    ) -> Result<Arc<dyn LookupTable>, TableErrors> {
        Ok(match spec.kind {
            "texthash" | "hash" | "btree" => Arc::new(source::table(&spec.read()?, report)),
            "inline" => Arc::new(inline(spec, report)?),
            "lmdb" => Arc::new(lmdb::table(spec)?),
            "cdb" => Arc::new(cdb::table(spec, &spec.read()?)?),
            "regexp" | "pcre" => {
                Arc::new(pattern::PatternTable::parse(spec, &spec.lines()?, report, self.lookups))
            }
            "cidr" => Arc::new(cidr::CidrTable::parse(&spec.lines()?, report)),
            "socketmap" | "tcp" | "sqlite" | "pgsql" | "ldap" => {
                let has_file = !matches!(spec.kind, "socketmap" | "tcp");
                let text = if has_file { spec.read()? } else { Vec::new() };
                Arc::new(RemoteTable::open(spec, &text, self.lookups, self.settings.remote)?)
            }
            "static" => {
                let value = spec.name.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
                let value = value.map_or(spec.name, str::trim).as_bytes();
                if spec.name.is_empty() {
                    return Err(spec.error("has no value", "write static:value").into());
                }
                report.see_value(1, value, false);
                Arc::new(StaticTable(value.into()))
            }
            "fail" => Arc::new(FailTable),
            "unionmap" => Arc::new(UnionTable(self.members(spec)?)),
            "pipemap" => Arc::new(PipeTable(self.members(spec)?)),
            "randmap" => {
                let values = items(spec)?.iter().map(|value| value.as_bytes().into()).collect();
                Arc::new(RandomTable::new(values))
            }
            other => {
                return Err(match INSTEAD.iter().find(|(kind, _)| *kind == other) {
                    Some((kind, instead)) => spec
                        .error(format!("tables of type {kind} are not supported in this release"), instead),
                    None => {
                        let remedy = format!("the types are {KINDS}");
                        spec.error(format!("unknown table type {other:?}"), &remedy)
                    }
                }
                .into());
            }
        })
    }

    fn members(&mut self, spec: &Spec<'_>) -> Result<Vec<Arc<dyn LookupTable>>, TableErrors> {
        items(spec)?.iter().map(|member| self.table(member, spec.base)).collect()
    }
}

/// One table by itself. A relative path starts at `base`.
///
/// # Errors
/// [`TableErrors`].
pub fn open(table: &str, base: &Path) -> Result<Maps, TableErrors> {
    let (lookups, nothing) = (Lookups::default(), OpenTables::default());
    Opener::new(&lookups, TableSettings::default(), &nothing).maps(&[table.to_owned()], base)
}

/// `inline:{ key=value, { key = text with blanks } }`.
fn inline(spec: &Spec<'_>, report: &mut Report<'_>) -> Result<StringTable, TableError> {
    let items = items(spec)?;
    let mut entries = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Some((key, value)) = item.split_once('=') else {
            let remedy = "write inline:{ key=value, { key = long value } }";
            report.refuse(index + 1, format!("{item:?} has no ="), remedy, "it is skipped");
            continue;
        };
        let (number, key, value) = (index + 1, key.trim(), value.trim());
        if key.is_empty() {
            report.refuse(number, "has no key", "write key=value", "it is skipped");
            continue;
        }
        report.see_value(number, value.as_bytes(), false);
        entries.push((number, key, value));
    }
    // As in Postfix the last entry of a key counts, unlike in files.
    let mut table = StringTable::default();
    let mut replaced: Vec<(usize, &str)> = entries
        .into_iter()
        .rev()
        .filter(|(_, key, value)| !table.insert(key.as_bytes(), value.as_bytes()))
        .map(|(number, key, _)| (number, key))
        .collect();
    replaced.reverse();
    for (number, key) in replaced {
        report.note(number, &format!("duplicate key {key}; the last entry counts"));
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
