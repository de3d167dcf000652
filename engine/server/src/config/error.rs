//! Configuration errors and their messages.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mailrace_delivery::bounce::TemplateError;

use crate::tables::TableError;

/// Place where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a file, counted from 1.
    File {
        /// Path of the file as the user wrote it.
        path: Arc<PathBuf>,
        /// The line.
        line: usize,
    },
    /// A command-line argument, such as `--set`.
    Argument(&'static str),
    /// The parameter has its default.
    Default,
}

impl Place {
    /// Returns the sort order of places: lines of the file, arguments, defaults.
    pub(super) const fn rank(&self) -> usize {
        match self {
            Self::File { line, .. } => *line,
            Self::Argument(_) => usize::MAX - 1,
            Self::Default => usize::MAX,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Argument(option) => formatter.write_str(option),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// A configuration error.
#[derive(Debug)]
pub struct ConfigError {
    /// Place where the value was set.
    pub place: Place,
    /// Parameter with its table (`engine.listen`); empty if the error concerns no parameter.
    pub name: String,
    /// What is invalid.
    pub fault: Fault,
}

/// What is invalid.
#[derive(Debug)]
pub enum Fault {
    /// The file could not be read.
    Unreadable(io::Error),
    /// The text is not TOML.
    Syntax(String),
    /// No parameter has this name.
    UnknownName {
        /// Most similar known name.
        nearest: Option<String>,
    },
    /// A Postfix parameter that Mailrace does not have.
    Unsupported {
        /// Setting that replaces it.
        instead: Option<&'static str>,
    },
    /// The value is invalid for the parameter.
    Value {
        /// What is invalid.
        reason: String,
        /// Valid values.
        remedy: String,
    },
    /// A lookup table that the value names cannot be used.
    Table(TableError),
    /// A file of templates has an invalid line.
    Template(TemplateError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.place)?;
        if !self.name.is_empty() {
            write!(formatter, "{}: ", self.name)?;
        }
        match &self.fault {
            Fault::Unreadable(error) => {
                write!(formatter, "cannot be read ({error}); check the path and its permissions")
            }
            Fault::Syntax(message) => {
                write!(formatter, "not TOML: {message}; write NAME = VALUE, with text in double quotes")
            }
            Fault::Unsupported { instead: Some(instead) } => {
                write!(formatter, "a Postfix parameter that another setting replaces; {instead}")
            }
            Fault::Unsupported { instead: None } => {
                formatter.write_str("a Postfix parameter that Mailrace does not support yet; remove it")
            }
            Fault::UnknownName { nearest: Some(nearest) } => {
                write!(formatter, "unknown parameter; did you mean {nearest}?")
            }
            Fault::UnknownName { nearest: None } => {
                formatter.write_str("unknown parameter; see docs/configuration.md for those that exist")
            }
            Fault::Value { reason, remedy } => write!(formatter, "{reason}; {remedy}"),
            Fault::Table(error) => write!(formatter, "{error}"),
            Fault::Template(error) => write!(formatter, "{error}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Unreadable(error) => Some(error),
            Fault::Table(error) => Some(error),
            Fault::Template(error) => Some(error),
            Fault::Syntax(_)
            | Fault::UnknownName { .. }
            | Fault::Unsupported { .. }
            | Fault::Value { .. } => None,
        }
    }
}

/// All errors of a configuration, at least one, in the order of its lines.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}
