//! Parses TOML and arguments into named values, each with the place where it was set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::names_in;
use crate::config::error::{ConfigError, ConfigErrors, Fault, Place};

/// Largest configuration file, in bytes.
const FILE_SIZE_MAX: u64 = 1024 * 1024;

/// Part of the file that holds a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) enum Section {
    /// Postfix's parameters, before any table.
    Top,
    /// `[engine]`
    Engine,
    /// `[queue]`
    Queue,
}

impl Section {
    /// All sections, in the order of a listing.
    pub(in crate::config) const ALL: [Self; 3] = [Self::Top, Self::Engine, Self::Queue];

    fn of(table: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.table() == Some(table))
    }

    /// Returns the name of the TOML table, or `None` at the top of the file.
    pub(in crate::config) const fn table(self) -> Option<&'static str> {
        match self {
            Self::Top => None,
            Self::Engine => Some("engine"),
            Self::Queue => Some("queue"),
        }
    }

    /// Returns whether the parameters of this section are read only at startup, not on reload.
    pub(in crate::config) const fn is_for_start(self) -> bool {
        !matches!(self, Self::Top)
    }

    /// Returns the parameter's name as messages show it.
    pub(in crate::config) fn qualify(self, name: &str) -> String {
        self.table().map_or_else(|| name.to_owned(), |table| format!("{table}.{name}"))
    }
}

/// A value before its type is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum Raw {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<String>),
    /// Name of a type that no parameter takes.
    Other(&'static str),
}

impl Raw {
    /// Returns whether the value contains `$name`.
    pub(in crate::config) fn has_names(&self) -> bool {
        match self {
            Self::Text(text) => text.contains('$'),
            Self::List(items) => items.iter().any(|item| item.contains('$')),
            _ => false,
        }
    }

    /// Iterates over the names that the value contains as `$name`.
    pub(in crate::config) fn names(&self) -> impl Iterator<Item = &str> {
        let texts = match self {
            Self::Text(text) => std::slice::from_ref(text),
            Self::List(items) => items,
            _ => &[],
        };
        texts.iter().flat_map(|text| names_in(text))
    }
}

impl From<&DeValue<'_>> for Raw {
    fn from(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.clone().into_owned()),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_or(Self::Other("an integer beyond 64 bits"), Self::Integer),
            DeValue::Boolean(boolean) => Self::Boolean(*boolean),
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(text.clone().into_owned()),
                    DeValue::Integer(integer) => Some(integer.as_str().to_owned()),
                    _ => None,
                });
                texts
                    .collect::<Option<Vec<_>>>()
                    .map_or(Self::Other("a list of other values than texts"), Self::List)
            }
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }
}

/// A value and the place where it was set.
#[derive(Clone, Debug)]
pub(in crate::config) struct Given {
    pub(in crate::config) raw: Raw,
    pub(in crate::config) place: Place,
    /// Directory at which relative file names start; `None`: the working directory.
    pub(in crate::config) base: Option<Arc<PathBuf>>,
}

/// Values of a file and of arguments. A later value replaces an earlier one.
#[derive(Debug, Default)]
pub(in crate::config) struct Document {
    values: BTreeMap<(Section, String), Given>,
}

impl Document {
    /// Adds the values of the file at `path`.
    pub(in crate::config) fn read_file(&mut self, path: &Path) -> Result<(), ConfigErrors> {
        let shared = Arc::new(path.to_path_buf());
        let unreadable = |error| ConfigError {
            place: Place::File { path: Arc::clone(&shared), line: 1 },
            name: String::new(),
            fault: Fault::Unreadable(error),
        };
        let text = crate::files::read(path, FILE_SIZE_MAX).map_err(unreadable)?;
        let text = String::from_utf8(text)
            .map_err(|error| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?;
        self.read_text(&text, &shared)
    }

    /// Adds the values of `text`, the content of the file at `path`.
    pub(in crate::config) fn read_text(
        &mut self,
        text: &str,
        path: &Arc<PathBuf>,
    ) -> Result<(), ConfigErrors> {
        let place = |offset: usize| Place::File { path: Arc::clone(path), line: line_of(text, offset) };
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let errors = errors.iter().map(|error| ConfigError {
                place: place(error.span().map_or(0, |span| span.start)),
                name: String::new(),
                fault: Fault::Syntax(error.message().to_owned()),
            });
            return Err(ConfigErrors(errors.collect()));
        }
        let base = Some(Arc::new(path.parent().map(Path::to_path_buf).unwrap_or_default()));
        let mut add = |section, key: &Spanned<_>, value: &Spanned<DeValue<'_>>| {
            let given =
                Given { raw: Raw::from(value.get_ref()), place: place(key.span().start), base: base.clone() };
            self.values.insert((section, String::from(AsRef::<str>::as_ref(key.get_ref()))), given);
        };
        for (key, value) in table.get_ref() {
            match (Section::of(key.get_ref()), value.get_ref()) {
                (Some(section), DeValue::Table(table)) => {
                    table.iter().for_each(|(key, value)| add(section, key, value));
                }
                _ => add(Section::Top, key, value),
            }
        }
        Ok(())
    }

    /// Sets `name`, which may be qualified (`engine.workers`), from the command-line argument `option`.
    ///
    /// Reads `value` as TOML, or as plain text if it is not TOML.
    pub(in crate::config) fn set(&mut self, option: &'static str, name: &str, value: &str) {
        let raw = match DeValue::parse(value) {
            Ok(parsed) => Raw::from(parsed.get_ref()),
            Err(_) => Raw::Text(value.to_owned()),
        };
        let (section, name) = match name.split_once('.') {
            Some((table, name)) if Section::of(table).is_some() => {
                (Section::of(table).unwrap_or(Section::Top), name)
            }
            _ => (Section::Top, name),
        };
        self.put(section, name, raw, option);
    }

    /// Sets `name` to `raw`.
    pub(in crate::config) fn put(&mut self, section: Section, name: &str, raw: Raw, option: &'static str) {
        let given = Given { raw, place: Place::Argument(option), base: None };
        self.values.insert((section, name.to_owned()), given);
    }

    pub(in crate::config) fn get(&self, section: Section, name: &str) -> Option<&Given> {
        self.values.get(&(section, name.to_owned()))
    }

    /// Iterates over all values that were set.
    pub(in crate::config) fn iter(&self) -> impl Iterator<Item = (Section, &str, &Given)> {
        self.values.iter().map(|((section, name), given)| (*section, name.as_str(), given))
    }
}

/// Returns the line number of `offset` in `text`, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|octet| *octet == b'\n').count()
}
