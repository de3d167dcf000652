//! What a table is called: its type, its name, and the files and lines that follow from them.

use std::path::{Path, PathBuf};

use super::TableError;
use super::list::bracketed;
use super::version::{Files, Source};
use crate::files;

/// A configured table apart from what it does.
pub(super) struct Spec<'s> {
    /// As configured.
    pub(super) text: &'s str,
    pub(super) kind: &'s str,
    pub(super) name: &'s str,
    /// Where relative paths start.
    pub(super) base: &'s Path,
    /// Largest size of its file in bytes.
    size_max: u64,
}

impl<'s> Spec<'s> {
    /// The table that `text` names; `proxy:` in front of one means the table itself.
    pub(super) fn parse(text: &'s str, base: &'s Path, size_max: u64) -> Self {
        let mut named = text;
        while let Some(rest) = named.strip_prefix("proxy:") {
            named = rest;
        }
        let (kind, name) = named.split_once(':').unwrap_or((named, ""));
        Self { text, kind, name, base, size_max }
    }
}

impl Spec<'_> {
    /// The file that it is read from.
    pub(super) fn path(&self) -> PathBuf {
        let name = match self.kind {
            "lmdb" | "cdb" => format!("{}.{}", self.name, self.kind),
            _ => self.name.to_owned(),
        };
        self.base.join(name)
    }

    /// Whether its lines are in the configuration, as in `pcre:{{/pattern/ value}}`.
    pub(super) fn is_inline(&self) -> bool {
        matches!(self.kind, "regexp" | "pcre" | "cidr") && self.name.trim_start().starts_with('{')
    }

    /// Whether its file has lines.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, "texthash" | "hash" | "btree" | "regexp" | "pcre" | "cidr") && !self.is_inline()
    }

    /// Whether a file of its is read line by line.
    pub(super) fn has_lines(&self) -> bool {
        self.is_text() || matches!(self.kind, "sqlite" | "pgsql" | "ldap")
    }

    /// The files that it depends on, as they are now.
    pub(super) fn files(&self) -> Files {
        let is_of_file = self.has_lines() || matches!(self.kind, "lmdb" | "cdb");
        let source = Source { path: self.path(), is_text: self.is_text() };
        if is_of_file { Files::of(vec![source]) } else { Files::default() }
    }

    /// Its lines, from the file or from the configuration.
    pub(super) fn lines(&self) -> Result<Vec<u8>, TableError> {
        if !self.is_inline() {
            return self.read();
        }
        let mut lines = Vec::new();
        for item in bracketed(self)? {
            let line = item.strip_prefix('{').and_then(|item| item.strip_suffix('}'));
            let Some(line) = line else {
                let remedy = format!("write {}:{{{{ one line }}, {{ another }}}}", self.kind);
                return Err(self.error(format!("{item:?} is not in braces"), &remedy));
            };
            // Each is one line, whatever the configuration's lines are.
            lines.extend(line.trim().bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
            lines.push(b'\n');
        }
        Ok(lines)
    }

    pub(super) fn read(&self) -> Result<Vec<u8>, TableError> {
        self.read_front(usize::MAX)
    }

    /// The same, but only the first `front` bytes.
    pub(super) fn read_front(&self, front: usize) -> Result<Vec<u8>, TableError> {
        let path = self.path();
        files::read_front(&path, self.size_max, front).map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::FileTooLarge => {
                    "name a smaller file, or raise table_size_limit in [engine]"
                }
                std::io::ErrorKind::TimedOut => "check the file system that it is on",
                _ => "name a file that this user may read",
            };
            self.error(format!("cannot read {}: {error}", path.display()), remedy)
        })
    }

    /// Whether its answers are those of other tables.
    pub(super) fn is_made_of_others(&self) -> bool {
        matches!(self.kind, "unionmap" | "pipemap" | "randmap")
    }

    pub(super) fn error(&self, reason: impl Into<String>, remedy: &str) -> TableError {
        TableError {
            table: self.text.to_owned(),
            line: None,
            reason: reason.into(),
            remedy: remedy.to_owned(),
        }
    }

    pub(super) fn error_at(&self, line: usize, reason: impl Into<String>, remedy: &str) -> TableError {
        if self.has_lines() {
            return TableError { line: Some((self.path(), line)), ..self.error(reason, remedy) };
        }
        self.error(format!("rule {line}: {}", reason.into()), remedy)
    }

    /// Something about a line for an operator.
    pub(super) fn said_at(&self, line: usize, said: &str) -> String {
        if self.has_lines() {
            format!("{}:{line}: {}: {said}", self.path().display(), self.text)
        } else {
            format!("{}: rule {line}: {said}", self.text)
        }
    }
}
