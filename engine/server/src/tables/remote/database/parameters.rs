//! The files that describe tables in databases: `name = value` lines with Postfix's names.

use super::super::super::source::logical_lines;
use super::super::super::{Spec, TableError};

/// The parameters of one table.
pub(super) struct Parameters<'p, 's> {
    spec: &'p Spec<'s>,
    /// Line, name, value.
    given: Vec<(usize, String, String)>,
}

impl<'p, 's> Parameters<'p, 's> {
    /// `known`: the names that there are.
    pub(super) fn parse(spec: &'p Spec<'s>, text: &[u8], known: &[&str]) -> Result<Self, TableError> {
        let mut given: Vec<(usize, String, String)> = Vec::new();
        for (number, line) in logical_lines(text) {
            let remedy = "write name = value";
            let line = String::from_utf8(line).map_err(|_| spec.error_at(number, "is not UTF-8", remedy))?;
            let Some((name, value)) = line.split_once('=') else {
                return Err(spec.error_at(number, "has no =", remedy));
            };
            let (name, value) = (name.trim(), value.trim());
            if !known.contains(&name) {
                let remedy = format!("the parameters are {}", known.join(", "));
                return Err(spec.error_at(number, format!("unknown parameter {name}"), &remedy));
            }
            if given.iter().any(|(_, other, _)| other == name) {
                return Err(spec.error_at(number, format!("{name} is a duplicate"), "remove one"));
            }
            given.push((number, name.to_owned(), value.to_owned()));
        }
        Ok(Self { spec, given })
    }

    /// The value, and the line where it is.
    fn find(&self, name: &str) -> Option<(usize, &str)> {
        self.given.iter().find(|given| given.1 == name).map(|(line, _, value)| (*line, value.as_str()))
    }

    pub(super) fn text<'v>(&'v self, name: &str, default: &'v str) -> &'v str {
        self.find(name).map_or(default, |(_, value)| value)
    }

    /// Returns a required value.
    pub(super) fn needed(&self, name: &str) -> Result<&str, TableError> {
        match self.find(name) {
            Some((_, value)) if !value.is_empty() => Ok(value),
            _ => Err(self.spec.error(
                format!("{} has no {name}", self.spec.path().display()),
                &format!("add {name} = ..."),
            )),
        }
    }

    /// A list separated by commas or blanks.
    pub(super) fn list(&self, name: &str, default: &str) -> Vec<String> {
        let separators = |letter: char| letter == ',' || letter.is_ascii_whitespace();
        let items = self.text(name, default).split(separators);
        items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn number(&self, name: &str, default: u32) -> Result<u32, TableError> {
        let Some((_, value)) = self.find(name) else { return Ok(default) };
        let number = value.parse();
        number.map_err(|_| self.error(name, &format!("{value:?} is not a number"), "write a number"))
    }

    /// What is wrong with a value.
    pub(super) fn error(&self, name: &str, reason: &str, remedy: &str) -> TableError {
        let reason = format!("{name}: {reason}");
        match self.find(name) {
            Some((line, _)) => self.spec.error_at(line, reason, remedy),
            None => self.spec.error(reason, remedy),
        }
    }
}
