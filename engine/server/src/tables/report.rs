//! What is wrong with the lines of one table, gathered so that all of it can be said at once.

use super::{Spec, TableError};

/// What becomes of a table with lines that cannot be used (`table_errors`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadLines {
    /// It is refused.
    #[default]
    Refuse,
    /// As in Postfix: each is warned of and skipped.
    Warn,
}

/// Lines that are named; further ones are counted.
const NAMED_MAX: usize = 100;

/// Gathers what is to be said of one table.
pub(super) struct Report<'s> {
    spec: &'s Spec<'s>,
    bad_lines: BadLines,
    errors: Vec<TableError>,
    /// Lines that cannot be used, beyond those in `errors`.
    further_errors: usize,
    notes: Vec<String>,
    /// Lines with something to note, beyond those in `notes`.
    further_notes: usize,
    /// Values that are no action of header_checks(5), with what is wrong with each; a table of such actions is refused
    /// for them.
    no_actions: Vec<TableError>,
}

impl<'s> Report<'s> {
    pub(super) const fn new(spec: &'s Spec<'s>, bad_lines: BadLines) -> Self {
        Self {
            spec,
            bad_lines,
            errors: Vec::new(),
            further_errors: 0,
            notes: Vec::new(),
            further_notes: 0,
            no_actions: Vec::new(),
        }
    }

    /// A line that cannot be used as it is. `done`: what becomes of it where that is a warning only.
    pub(super) fn refuse(&mut self, line: usize, reason: impl Into<String>, remedy: &str, done: &str) {
        // Notes count apart from errors: a table with many notes is refused for a single bad line.
        match self.bad_lines {
            BadLines::Refuse if self.errors.len() >= NAMED_MAX => self.further_errors += 1,
            BadLines::Refuse => self.errors.push(self.spec.error_at(line, reason, remedy)),
            BadLines::Warn if self.notes.len() >= NAMED_MAX => self.further_notes += 1,
            BadLines::Warn => {
                let error = self.spec.error_at(line, reason, done);
                self.notes.push(format!("warning: {error}"));
            }
        }
    }

    /// What an operator should know of a line that can be used.
    pub(super) fn note(&mut self, line: usize, text: &str) {
        if self.notes.len() >= NAMED_MAX {
            self.further_notes += 1;
            return;
        }
        self.notes.push(self.spec.said_at(line, text));
    }

    /// Looks at the end of a text: if the last line has no line end, the file may still be being written.
    pub(super) fn see_end(&mut self, text: &[u8]) {
        if text.last().is_some_and(|last| *last != b'\n') {
            let line = memchr::memchr_iter(b'\n', text).count() + 1;
            self.note(
                line,
                "the last line has no line end: if the file was still being written, more is missing",
            );
        }
    }

    /// Looks at a value that may be an action; `is_pattern`: a dollar stands for a part of the text.
    pub(super) fn see_value(&mut self, line: usize, value: &[u8], is_pattern: bool) {
        if self.no_actions.len() >= NAMED_MAX || is_pattern && value.contains(&b'$') {
            return;
        }
        if let Err(reason) = mailrace_core::cleanup::check_action(value) {
            let remedy = "write an action of header_checks(5), such as REJECT, WARN or IGNORE";
            self.no_actions.push(self.spec.error_at(line, reason, remedy));
        }
    }

    /// Ends the table: what was found out about it.
    pub(super) fn finish(self) -> Findings {
        let Self { spec, mut errors, further_errors, mut notes, further_notes, no_actions, .. } = self;
        if further_errors > 0 {
            errors.push(
                spec.error(format!("{further_errors} further lines cannot be used"), "correct these first"),
            );
        }
        if further_notes > 0 {
            notes.push(format!("{}: {further_notes} further lines of that kind", spec.text));
        }
        Findings { errors, notes, no_actions }
    }
}

/// What was found out about the lines of a table.
#[derive(Debug)]
pub(super) struct Findings {
    /// Why it cannot be used; empty if it can.
    pub(super) errors: Vec<TableError>,
    pub(super) notes: Vec<String>,
    /// What is wrong with its values where they are actions.
    pub(super) no_actions: Vec<TableError>,
}

#[cfg(test)]
mod tests;
