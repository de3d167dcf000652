//! Why tables cannot be used.

use std::fmt;
use std::path::PathBuf;

/// A table that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    /// Its name as configured.
    pub table: String,
    /// The line of its source, if one is at fault.
    pub line: Option<(PathBuf, usize)>,
    /// The error.
    pub reason: String,
    /// The remedy.
    pub remedy: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((path, line)) = &self.line {
            write!(formatter, "{}:{line}: ", path.display())?;
        }
        write!(formatter, "{}: {}; {}", self.table, self.reason, self.remedy)
    }
}

impl std::error::Error for TableError {}

/// All errors of a table, in the order of its lines; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableErrors(pub Vec<TableError>);

impl fmt::Display for TableErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(formatter, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for TableErrors {}

impl From<TableError> for TableErrors {
    fn from(error: TableError) -> Self {
        Self(vec![error])
    }
}
