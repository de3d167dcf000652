//! Tables of regular expressions (Postfix's regexp_table(5) and pcre_table(5)): the first that matches counts.
//!
//! A pattern means what it means in Postfix: `pcre` is PCRE2, `regexp` is what glibc makes of a POSIX expression. Both
//! look at bytes. A search is bounded: a pattern that PCRE2 gives up on counts as one that does not match, which is said
//! once, and a text that several patterns give up on has no answer (451 4.3.0).

mod backtrack;
mod filter;
mod matcher;
mod outline;
mod pcre;
mod posix;
mod prefix;
mod rules;
mod set;
mod tree;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::Sharer;
use mailrace_core::lookup::{LookupError, LookupTable};

use crate::log::name;

use super::Spec;
use super::remote::Lookups;
use super::report::Report;
use super::source::logical_lines;
use filter::Filter;
use matcher::{Matcher, Span};
use pcre::Pcre;
use rules::{Complaint, Line, Piece};
use tree::Node;

/// A table of patterns.
#[derive(Debug)]
pub(super) struct PatternTable {
    /// As configured, and the file if there is one, for messages.
    name: String,
    path: Option<PathBuf>,
    rules: Vec<Rule>,
    filter: Filter,
    /// Some rule is an `if`.
    has_conditions: bool,
    /// Where a search that was given up is reported.
    lookups: Lookups,
}

#[derive(Debug)]
struct Rule {
    line: usize,
    pattern: Pattern,
    /// `!`: counts where the pattern does not match.
    is_negated: bool,
    /// regexp's `/one/!/other/`: the other does not match.
    except: Option<Pattern>,
    outcome: Outcome,
    /// That a search was given up was said.
    is_limit_said: AtomicBool,
}

#[derive(Debug)]
enum Outcome {
    Value(Box<[Piece]>),
    /// `if`: the rules up to this index count only where it matches.
    Until(usize),
}

#[derive(Debug)]
enum Pattern {
    Pcre(Box<Pcre>),
    Posix(Box<Matcher>),
}

/// A pattern with what else is known of it.
struct Compiled {
    pattern: Pattern,
    outline: Option<Node>,
    groups: usize,
    notes: Vec<String>,
}

/// Searches for one text that are given up until there is no answer.
const GIVEN_UP_MAX: usize = 3;

impl Pattern {
    fn is_match(&self, text: &[u8]) -> Result<bool, String> {
        match self {
            Self::Pcre(pcre) => pcre.is_match(text).map_err(|failure| failure.0),
            Self::Posix(matcher) => matcher.is_match(text).map_err(|_| STEPS.to_owned()),
        }
    }

    fn groups(&self, text: &[u8]) -> Result<Option<Vec<Option<Span>>>, String> {
        match self {
            Self::Pcre(pcre) => pcre.groups(text).map_err(|failure| failure.0),
            Self::Posix(matcher) => matcher.groups(text).map_err(|_| STEPS.to_owned()),
        }
    }
}

impl Rule {
    /// Whether it counts for a text.
    fn is_match(&self, text: &[u8]) -> Result<bool, String> {
        if self.pattern.is_match(text)? == self.is_negated {
            return Ok(false);
        }
        self.except.as_ref().map_or(Ok(true), |except| except.is_match(text).map(|is_match| !is_match))
    }
}

const STEPS: &str = "its back references take too many steps";

fn compile(kind: &str, text: &[u8], flags: &[u8]) -> Result<Compiled, Complaint> {
    const REMEDY: &str = "correct the pattern";
    if text.contains(&0) {
        return Err(("the pattern has a NUL byte".to_owned(), "write \\x00 in a pcre table"));
    }
    let wrong = |reason: String| (format!("invalid pattern: {reason}"), REMEDY);
    if kind == "pcre" {
        let (options, is_obsolete) = rules::pcre_flags(flags)?;
        let pcre = Pcre::new(text, options).map_err(wrong)?;
        // White space and comments are not told from the rest.
        let outline = if options.is_extended { None } else { outline::outline(text, options.knows_lines) };
        let notes = is_obsolete.then(|| "the flag X is obsolete and has no effect".to_owned());
        let groups = pcre.groups;
        return Ok(Compiled {
            pattern: Pattern::Pcre(Box::new(pcre)),
            outline,
            groups,
            notes: notes.into_iter().collect(),
        });
    }
    let syntax = rules::regexp_flags(flags)?;
    let mut expression = posix::parse(text, syntax).map_err(wrong)?;
    let (outline, groups) = (expression.node.outline(), expression.groups);
    let notes = std::mem::take(&mut expression.notes);
    let matcher = Matcher::new(expression, syntax.ignores_case).map_err(wrong)?;
    Ok(Compiled { pattern: Pattern::Posix(Box::new(matcher)), outline: Some(outline), groups, notes })
}

impl PatternTable {
    /// The table in `text`; what is wrong with its lines goes into `report`.
    pub(super) fn parse(spec: &Spec<'_>, text: &[u8], report: &mut Report<'_>, lookups: &Lookups) -> Self {
        let mut builder =
            Builder { kind: spec.kind, rules: Vec::new(), outlines: Vec::new(), open: Vec::new() };
        for (number, line) in logical_lines(text) {
            builder.add(number, &line, report);
        }
        for start in builder.open {
            let line = builder.rules.get(start).map_or(1, |rule: &Rule| rule.line);
            report.refuse(line, "if without endif", "add endif", "it ends with the table");
        }
        report.see_end(text);
        let rules = builder.rules;
        let is_negated = rules.iter().any(|rule| rule.is_negated);
        let has_conditions = rules.iter().any(|rule| matches!(rule.outcome, Outcome::Until(_)));
        let filter = Filter::new(&builder.outlines, is_negated);
        let path = (!spec.is_inline()).then(|| spec.path());
        let (name, lookups) = (spec.text.to_owned(), lookups.clone());
        Self { name, path, rules, filter, has_conditions, lookups }
    }

    /// Says once that a search was given up; `true` where that is so for too many rules.
    fn give_up(&self, rule: &Rule, reason: &str, given_up: &mut usize) -> bool {
        if !rule.is_limit_said.swap(true, Ordering::Relaxed) {
            let place = self.path.as_ref().map(|path| format!("{}:", path.display())).unwrap_or_default();
            let message = format!(
                "{place}{}: {}: {reason}; the rule counts as one that does not match, which is said once until the table \
                 is read again",
                rule.line, self.name
            );
            self.lookups.warn(name::PATTERN_GIVEN_UP, &message);
        }
        *given_up += 1;
        *given_up > GIVEN_UP_MAX
    }
}

/// A table that is being read.
struct Builder<'b> {
    kind: &'b str,
    rules: Vec<Rule>,
    outlines: Vec<Option<Node>>,
    /// The ifs around.
    open: Vec<usize>,
}

impl Builder<'_> {
    fn add(&mut self, number: usize, line: &[u8], report: &mut Report<'_>) {
        const SKIPPED: &str = "the rule is skipped";
        const IGNORED: &str = "the text is ignored";
        if line.first().is_some_and(u8::is_ascii_whitespace) {
            return report.refuse(number, "begins with a space", "remove the space, or the line", SKIPPED);
        }
        let parsed = match rules::parse(line, self.kind == "regexp") {
            Ok(parsed) => parsed,
            Err((reason, remedy)) => return report.refuse(number, reason, remedy, SKIPPED),
        };
        let (pattern, value) = match parsed {
            Line::EndIf { rest } => {
                if !rest.is_empty() {
                    report.refuse(number, "text after endif", "remove it", IGNORED);
                }
                let Some(start) = self.open.pop() else {
                    return report.refuse(number, "endif without if", "remove it", "the line is skipped");
                };
                let end = self.rules.len();
                if let Some(Rule { outcome: Outcome::Until(until), .. }) = self.rules.get_mut(start) {
                    *until = end;
                }
                return;
            }
            Line::If { pattern, rest } => {
                if !rest.is_empty() {
                    let remedy = "remove it; the lines after an if begin without a space";
                    report.refuse(number, "text after the pattern of an if", remedy, IGNORED);
                }
                (pattern, None)
            }
            Line::Rule { pattern, value } => (pattern, Some(value)),
        };
        let compiled = compile(self.kind, pattern.text, pattern.flags).and_then(|compiled| {
            let except = pattern.except.map(|(text, flags)| compile(self.kind, text, flags)).transpose()?;
            let groups = (!pattern.is_negated).then_some(compiled.groups);
            let pieces = value.map(|value| rules::pieces(value, groups)).transpose()?;
            Ok((compiled, except, pieces))
        });
        let (compiled, except, pieces) = match compiled {
            Ok(compiled) => compiled,
            Err((reason, remedy)) => return report.refuse(number, reason, remedy, SKIPPED),
        };
        let notes = compiled.notes.iter().chain(except.iter().flat_map(|except| &except.notes));
        notes.for_each(|note| report.note(number, note));
        if let Some(value) = value {
            if value.is_empty() {
                let remedy = "write the pattern, a space and the value";
                report.refuse(number, "has no value", remedy, "its value is the empty text");
            } else {
                report.see_value(number, value, true);
            }
        }
        let outcome = match pieces {
            Some(pieces) => Outcome::Value(pieces.into()),
            None => {
                self.open.push(self.rules.len());
                Outcome::Until(usize::MAX)
            }
        };
        self.outlines.push(compiled.outline.filter(|_| !pattern.is_negated));
        self.rules.push(Rule {
            line: number,
            pattern: compiled.pattern,
            is_negated: pattern.is_negated,
            except: except.map(|except| except.pattern),
            outcome,
            is_limit_said: AtomicBool::new(false),
        });
    }
}

impl LookupTable for PatternTable {
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        _: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let Some(mut candidates) = self.filter.candidates(arena, key) else { return Ok(None) };
        let (mut index, mut given_up) = (0, 0);
        while let Some(rule) = self.rules.get(index) {
            if !self.has_conditions {
                // No rule between is looked at.
                let (next, is_candidate) = candidates.next_from(index);
                if !is_candidate || next != index {
                    index = next;
                    continue;
                }
            }
            let is_match = candidates.has(index)
                && match rule.is_match(key) {
                    Ok(is_match) => is_match,
                    Err(reason) if self.give_up(rule, &reason, &mut given_up) => {
                        return Err(LookupError::Unavailable);
                    }
                    Err(_) => false,
                };
            match &rule.outcome {
                Outcome::Value(pieces) if is_match => return self.value(arena, rule, pieces, key).map(Some),
                Outcome::Until(end) if !is_match => index = *end,
                _ => index += 1,
            }
        }
        Ok(None)
    }

    fn is_asked_for_parts(&self) -> bool {
        false
    }
}

impl PatternTable {
    fn value<'a>(
        &'a self,
        arena: &'a Bump,
        rule: &'a Rule,
        pieces: &'a [Piece],
        key: &[u8],
    ) -> Result<&'a [u8], LookupError> {
        if let [Piece::Text(text)] = pieces {
            return Ok(text);
        }
        let groups = match rule.pattern.groups(key) {
            Ok(groups) => groups.unwrap_or_default(),
            Err(reason) => {
                self.give_up(rule, &reason, &mut 0);
                return Err(LookupError::Unavailable);
            }
        };
        let mut out = ArenaVec::new_in(arena);
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice_copy(text),
                Piece::Group(number) => {
                    let span = groups.get(*number).copied().flatten();
                    out.extend_from_slice_copy(
                        span.and_then(|(from, to)| key.get(from..to)).unwrap_or_default(),
                    );
                }
            }
        }
        Ok(out.into_bump_slice())
    }
}

#[cfg(test)]
mod tests;
