//! Owns tables of regular expressions (Postfix's regexp_table(5) and pcre_table(5)): the first that matches counts.
//!
//! Patterns without look-around and back references run in time that is linear in what they look at, whatever they
//! are. The others run with a bounded number of steps; beyond, the table has no answer (451 4.3.0).

use std::borrow::Cow;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use fancy_regex::Expr;
use mailrace_core::lookup::{LookupError, LookupTable};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;

use super::pattern_set::PatternSet;
use super::prefix::PrefixFilter;
use super::source::logical_lines;
use super::{Spec, TableError};

/// Steps back of a pattern that is not linear.
const BACKTRACK_LIMIT: usize = 1_000_000;
/// Letters that a pattern may want at least; nothing as long is looked up.
const MATCH_SIZE_MAX: u64 = 1 << 30;
/// Octets of a compiled pattern, and of its cache.
const PATTERN_SIZE_LIMIT: usize = 16 << 20;

/// A table of patterns.
#[derive(Debug)]
pub(super) struct PatternTable {
    rules: Vec<Rule>,
    /// Which of them the front of a text leaves.
    filter: PrefixFilter,
    /// All patterns at once, to see quickly that none matches; none if a rule counts where its pattern does not match.
    any: Option<PatternSet>,
}

#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    /// `!`: counts where the pattern does not match.
    is_negated: bool,
    /// regexp's `/one/!/other/`: the other does not match.
    except: Option<Pattern>,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Value(Box<[Piece]>),
    /// `if`: the rules up to this index count only where it matches.
    Until(usize),
}

/// A piece of a value.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<[u8]>),
    /// `$1` and so on.
    Group(usize),
}

#[derive(Debug)]
enum Pattern {
    Linear(Regex),
    /// With look-around or back references; sees octets as the letters U+0000 to U+00FF.
    Bounded(Box<fancy_regex::Regex>),
}

/// Where groups matched.
enum Groups<'t> {
    None,
    Linear(regex::bytes::Captures<'t>),
    Bounded(Vec<Option<Vec<u8>>>),
}

/// What a pattern's flags say.
#[derive(Clone, Copy, Debug)]
struct Flags {
    ignores_case: bool,
    is_multi_line: bool,
    dot_matches_new_line: bool,
    ignores_blanks: bool,
    is_anchored: bool,
    is_ungreedy: bool,
}

impl Pattern {
    fn compile(text: &[u8], flags: Flags) -> Result<(Self, String), String> {
        let text = String::from_utf8_lossy(text);
        let text = if flags.is_anchored { format!("\\A(?:{text})") } else { text.into_owned() };
        let linear = |is_unicode| {
            RegexBuilder::new(&text)
                .unicode(is_unicode)
                .case_insensitive(flags.ignores_case)
                .multi_line(flags.is_multi_line)
                .dot_matches_new_line(flags.dot_matches_new_line)
                .ignore_whitespace(flags.ignores_blanks)
                .swap_greed(flags.is_ungreedy)
                .size_limit(PATTERN_SIZE_LIMIT)
                .dfa_size_limit(PATTERN_SIZE_LIMIT)
                .build()
        };
        let reason = match linear(false).or_else(|_| linear(true)) {
            Ok(regex) => return Ok((Self::Linear(regex), text)),
            Err(error) => error.to_string(),
        };
        let letters: String = ascii_classes(&text).bytes().map(char::from).collect();
        let flag = |is_on, letter: &'static str| if is_on { letter } else { "" };
        let prefix = [
            flag(flags.ignores_case, "i"),
            flag(flags.is_multi_line, "m"),
            flag(flags.dot_matches_new_line, "s"),
            flag(flags.ignores_blanks, "x"),
            flag(flags.is_ungreedy, "U"),
        ]
        .concat();
        let letters = if prefix.is_empty() { letters } else { format!("(?{prefix}){letters}") };
        let wrong = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let tree = Expr::parse_tree(&letters).map_err(|_| wrong.to_owned())?;
        if size_bound(&tree.expr, &mut Vec::new()) > MATCH_SIZE_MAX {
            return Err(format!("only texts of more than {MATCH_SIZE_MAX} letters could match it"));
        }
        match fancy_regex::RegexBuilder::new(&letters).backtrack_limit(BACKTRACK_LIMIT).build() {
            Ok(regex) => Ok((Self::Bounded(Box::new(regex)), text)),
            Err(_) => Err(wrong.to_owned()),
        }
    }

    /// Without look-around or back references.
    const fn is_linear(&self) -> bool {
        matches!(self, Self::Linear(_))
    }

    fn is_match(&self, text: &[u8]) -> Result<bool, LookupError> {
        match self {
            Self::Linear(regex) => Ok(regex.is_match(text)),
            Self::Bounded(regex) => regex.is_match(&letters(text)).map_err(|_| LookupError::Unavailable),
        }
    }

    fn groups<'t>(&self, text: &'t [u8]) -> Result<Groups<'t>, LookupError> {
        match self {
            Self::Linear(regex) => Ok(regex.captures(text).map_or(Groups::None, Groups::Linear)),
            Self::Bounded(regex) => {
                let letters = letters(text);
                let captures = regex.captures(&letters).map_err(|_| LookupError::Unavailable)?;
                let octets = |group: Option<fancy_regex::Match<'_>>| {
                    let letters = group?.as_str().chars();
                    // They were octets before.
                    Some(letters.map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect())
                };
                Ok(captures
                    .map_or(Groups::None, |captures| Groups::Bounded(captures.iter().map(octets).collect())))
            }
        }
    }

    fn group_count(&self) -> usize {
        match self {
            Self::Linear(regex) => regex.captures_len(),
            Self::Bounded(regex) => regex.captures_len(),
        }
    }
}

/// The least number of letters that a part of a pattern matches, or more than that; `groups` has those of the groups
/// that opened before. fancy-regex adds and multiplies them, and does not look whether they overflow.
fn size_bound(part: &Expr, groups: &mut Vec<u64>) -> u64 {
    match part {
        Expr::Concat(parts) | Expr::Alt(parts) => {
            parts.iter().fold(0, |size, part| size.saturating_add(size_bound(part, groups)))
        }
        Expr::Group(part) => {
            let index = groups.len();
            groups.push(0);
            groups[index] = size_bound(part, groups);
            groups[index]
        }
        Expr::LookAround(part, _) | Expr::AtomicGroup(part) => size_bound(part, groups),
        Expr::Repeat { child, lo, .. } => {
            size_bound(child, groups).saturating_mul(u64::try_from(*lo).unwrap_or(u64::MAX).max(1))
        }
        Expr::Conditional { condition, true_branch, false_branch } => [condition, true_branch, false_branch]
            .iter()
            .fold(0, |size, part| size.saturating_add(size_bound(part, groups))),
        Expr::Backref { group, .. } => {
            group.checked_sub(1).and_then(|index| groups.get(index)).copied().unwrap_or(0)
        }
        _ => 1,
    }
}

/// A pattern whose classes of letters are those of ASCII: above it an octet is no letter.
fn ascii_classes(text: &str) -> String {
    const WORD: &str = "0-9A-Za-z_";
    let mut out = String::with_capacity(text.len() + 32);
    let mut letters = text.chars();
    let mut is_in_brackets = false;
    while let Some(letter) = letters.next() {
        match letter {
            '[' => is_in_brackets = true,
            ']' => is_in_brackets = false,
            _ => {}
        }
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('w') if is_in_brackets => out.push_str(WORD),
            Some('d') if is_in_brackets => out.push_str("0-9"),
            Some('s') if is_in_brackets => out.push_str(" \\t-\\r"),
            Some('w') => out.push_str(&format!("[{WORD}]")),
            Some('W') if !is_in_brackets => out.push_str(&format!("[^{WORD}]")),
            Some('d') => out.push_str("[0-9]"),
            Some('D') if !is_in_brackets => out.push_str("[^0-9]"),
            Some('s') => out.push_str("[ \\t-\\r]"),
            Some('S') if !is_in_brackets => out.push_str("[^ \\t-\\r]"),
            Some('b') if !is_in_brackets => {
                let edge = format!("(?:(?<=[{WORD}])(?![{WORD}])|(?<![{WORD}])(?=[{WORD}]))");
                out.push_str(&edge);
            }
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// Octets as the letters with the same numbers.
fn letters(text: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(text) {
        Ok(ascii) if text.is_ascii() => Cow::Borrowed(ascii),
        _ => text.iter().copied().map(char::from).collect::<String>().into(),
    }
}

impl Groups<'_> {
    fn get(&self, index: usize) -> &[u8] {
        match self {
            Self::None => b"",
            Self::Linear(captures) => captures.get(index).map_or(b"", |group| group.as_bytes()),
            Self::Bounded(groups) => groups.get(index).and_then(Option::as_deref).unwrap_or_default(),
        }
    }
}

impl PatternTable {
    pub(super) fn parse(spec: &Spec<'_>, text: &[u8]) -> Result<Self, TableError> {
        let mut rules: Vec<Rule> = Vec::new();
        let mut open = Vec::new();
        let mut sources = Vec::new();
        for (number, line) in logical_lines(text) {
            let fail = |reason: String, remedy: &str| Err(spec.error_at(number, reason, remedy));
            let line = line.trim_ascii();
            if line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"endif")) {
                let Some(start) = open.pop() else { return fail("endif without if".to_owned(), "remove it") };
                let end = rules.len();
                if let Some(Rule { outcome: Outcome::Until(until), .. }) = rules.get_mut(start) {
                    *until = end;
                }
                continue;
            }
            let after_if = line.strip_prefix(b"if").or_else(|| line.strip_prefix(b"IF"));
            let after_if =
                after_if.filter(|rest| rest.first().is_none_or(|octet| !octet.is_ascii_alphanumeric()));
            let rule_text = after_if.map_or(line, <[u8]>::trim_ascii_start);
            let is_negated = rule_text.starts_with(b"!");
            let rule_text = rule_text.strip_prefix(b"!").unwrap_or(rule_text).trim_ascii_start();
            let (first, mut rest) = match delimited(rule_text) {
                Ok(split) => split,
                Err((reason, remedy)) => return fail(reason, remedy),
            };
            let mut except = None;
            if spec.kind == "regexp" && rest.starts_with(b"!") {
                match delimited(rest.get(1..).unwrap_or_default()) {
                    Ok((second, behind)) => {
                        except = Some(second);
                        rest = behind;
                    }
                    Err((reason, remedy)) => return fail(reason, remedy),
                }
            }
            let size = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let (letters, value) = rest.split_at_checked(size).unwrap_or((rest, b""));
            let value = value.trim_ascii();
            let flags = match flags(spec.kind, letters) {
                Ok(flags) => flags,
                Err((reason, remedy)) => return fail(reason, remedy),
            };
            let compile = |text: &[u8]| {
                let text =
                    if spec.kind == "regexp" { from_posix(text, flags.ignores_case) } else { text.to_vec() };
                Pattern::compile(&text, flags).map_err(|reason| {
                    spec.error_at(number, format!("the pattern is wrong: {reason}"), "correct the pattern")
                })
            };
            let (pattern, source) = compile(first)?;
            let except = except.map(compile).transpose()?.map(|(pattern, _)| pattern);
            sources.push((source, flags, pattern.is_linear()));
            let outcome = if after_if.is_some() {
                open.push(rules.len());
                Outcome::Until(usize::MAX)
            } else if value.is_empty() {
                return fail("has no value".to_owned(), "write the pattern, a blank and the value");
            } else {
                let groups = if is_negated { 0 } else { pattern.group_count() };
                match pieces(value, groups) {
                    Ok(pieces) => Outcome::Value(pieces.into()),
                    Err((reason, remedy)) => return fail(reason, remedy),
                }
            };
            rules.push(Rule { pattern, is_negated, except, outcome });
        }
        if !open.is_empty() {
            return Err(spec.error("an if has no endif", "add endif"));
        }
        let mut filter = PrefixFilter::default();
        for (rule, (text, flags, is_linear)) in rules.iter().zip(&sources) {
            let hir = (*is_linear && !rule.is_negated).then(|| parsed(text, *flags)).flatten();
            filter.add(hir.as_ref());
        }
        let any = all_at_once(&rules, &sources);
        Ok(Self { rules, filter, any })
    }
}

/// A pattern as its parts.
fn parsed(text: &str, flags: Flags) -> Option<Hir> {
    ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .case_insensitive(flags.ignores_case)
        .multi_line(flags.is_multi_line)
        .dot_matches_new_line(flags.dot_matches_new_line)
        .ignore_whitespace(flags.ignores_blanks)
        .swap_greed(flags.is_ungreedy)
        .build()
        .parse(text)
        .ok()
}

/// All patterns as one, if they are all linear and none counts where it does not match.
fn all_at_once(rules: &[Rule], sources: &[(String, Flags, bool)]) -> Option<PatternSet> {
    if rules.iter().any(|rule| rule.is_negated) || sources.iter().any(|(_, _, is_linear)| !is_linear) {
        return None;
    }
    let hirs = sources.iter().map(|(text, flags, _)| parsed(text, *flags));
    PatternSet::build(&hirs.collect::<Option<Vec<Hir>>>()?)
}

type Complaint = (String, &'static str);

/// The text between two delimiters, and what follows; a backslash before one makes it text.
fn delimited(text: &[u8]) -> Result<(&[u8], &[u8]), Complaint> {
    let wrong = || {
        let reason = format!("{:?} is no pattern", String::from_utf8_lossy(text));
        (reason, "write /pattern/ and a value")
    };
    let (delimiter, rest) = text.split_first().ok_or_else(wrong)?;
    if delimiter.is_ascii_alphanumeric() || delimiter.is_ascii_whitespace() {
        return Err(wrong());
    }
    let mut is_escaped = false;
    let end = rest.iter().position(|octet| {
        let was_escaped = std::mem::take(&mut is_escaped);
        is_escaped = !was_escaped && *octet == b'\\';
        !was_escaped && octet == delimiter
    });
    let end = end.ok_or_else(wrong)?;
    let (pattern, behind) = rest.split_at_checked(end).ok_or_else(wrong)?;
    Ok((pattern, behind.get(1..).unwrap_or_default()))
}

/// Flags turn what is usual around.
fn flags(kind: &str, letters: &[u8]) -> Result<Flags, Complaint> {
    let mut flags = Flags {
        ignores_case: true,
        is_multi_line: false,
        dot_matches_new_line: true,
        ignores_blanks: false,
        is_anchored: false,
        is_ungreedy: false,
    };
    for letter in letters {
        match (kind, letter) {
            (_, b'i') => flags.ignores_case = !flags.ignores_case,
            ("pcre", b'm') => flags.is_multi_line = !flags.is_multi_line,
            // POSIX calls both the same.
            (_, b'm') => {
                flags.is_multi_line = !flags.is_multi_line;
                flags.dot_matches_new_line = !flags.is_multi_line;
            }
            ("pcre", b's') => flags.dot_matches_new_line = !flags.dot_matches_new_line,
            ("pcre", b'x') => flags.ignores_blanks = !flags.ignores_blanks,
            ("pcre", b'A') => flags.is_anchored = !flags.is_anchored,
            ("pcre", b'U') => flags.is_ungreedy = !flags.is_ungreedy,
            // The keys have no line end that a dollar could match before; nothing to be strict about.
            ("pcre", b'E' | b'X') => {}
            (_, b'x') => {
                return Err((
                    "basic regular expressions are not read".to_owned(),
                    "write an extended one without x",
                ));
            }
            (_, other) => {
                let reason = format!("the flag {:?} is not known", char::from(*other));
                return Err((
                    reason,
                    if kind == "pcre" { "write some of imsxAEU" } else { "write some of im" },
                ));
            }
        }
    }
    Ok(flags)
}

/// A POSIX extended expression as this library writes it: a backslash means nothing within brackets, and outside of
/// them something before few letters only. Another small letter behind one is never matched where case is ignored, as
/// in the C library that Postfix uses here.
fn from_posix(text: &[u8], ignores_case: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some((octet, behind)) = rest.split_first() {
        rest = behind;
        match octet {
            b'[' => {
                out.push(b'[');
                if let Some(behind) = rest.strip_prefix(b"^") {
                    out.push(b'^');
                    rest = behind;
                }
                rest = posix_brackets(rest, &mut out);
            }
            b'\\' => {
                let Some((escaped, behind)) = rest.split_first() else {
                    out.extend_from_slice(b"\\\\");
                    break;
                };
                rest = behind;
                match escaped {
                    b'<' => out.extend_from_slice(b"\\b{start}"),
                    b'>' => out.extend_from_slice(b"\\b{end}"),
                    b'`' => out.extend_from_slice(b"\\A"),
                    b'\'' => out.extend_from_slice(b"\\z"),
                    b'w' | b'W' | b's' | b'S' | b'b' | b'B' | b'1'..=b'9' => out.extend([b'\\', *escaped]),
                    escaped if escaped.is_ascii_punctuation() => out.extend([b'\\', *escaped]),
                    escaped if escaped.is_ascii_lowercase() && ignores_case => out.extend_from_slice(NEVER),
                    escaped => out.push(*escaped),
                }
            }
            octet => out.push(*octet),
        }
    }
    out
}

/// Matches nothing.
const NEVER: &[u8] = b"[a&&b]";

/// What stands in brackets, its closing one included; returns what follows.
fn posix_brackets<'t>(text: &'t [u8], out: &mut Vec<u8>) -> &'t [u8] {
    let mut at = 0;
    while let Some(octet) = text.get(at).copied() {
        let rest = text.get(at..).unwrap_or_default();
        match octet {
            b']' if at > 0 => {
                out.push(b']');
                return text.get(at + 1..).unwrap_or_default();
            }
            b'[' if rest.starts_with(b"[:") => {
                let end = memchr::memmem::find(rest, b":]").map_or(rest.len(), |end| end + 2);
                out.extend_from_slice(rest.get(..end).unwrap_or_default());
                at += end;
                continue;
            }
            b'[' | b']' | b'\\' | b'&' | b'~' => out.extend([b'\\', octet]),
            b'-' if at == 0 || text.get(at + 1) == Some(&b']') => out.extend_from_slice(b"\\-"),
            octet => out.push(octet),
        }
        at += 1;
    }
    text.get(text.len()..).unwrap_or_default()
}

/// A value as text and groups: `$1`, `${1}`, `$(1)`; `$$` is a dollar.
fn pieces(value: &[u8], group_count: usize) -> Result<Vec<Piece>, Complaint> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut rest = value;
    while let Some(dollar) = memchr::memchr(b'$', rest) {
        let (front, behind) = rest.split_at_checked(dollar).unwrap_or_default();
        text.extend_from_slice(front);
        let behind = behind.get(1..).unwrap_or_default();
        if let Some(behind) = behind.strip_prefix(b"$") {
            text.push(b'$');
            rest = behind;
            continue;
        }
        let close = match behind.first() {
            Some(b'{') => Some(b'}'),
            Some(b'(') => Some(b')'),
            _ => None,
        };
        let inner = if close.is_some() { behind.get(1..).unwrap_or_default() } else { behind };
        let digits = inner.iter().position(|octet| !octet.is_ascii_digit()).unwrap_or(inner.len());
        let (number, mut after) = inner.split_at_checked(digits).unwrap_or_default();
        if let Some(close) = close {
            let Some(behind) = after.strip_prefix(&[close]) else {
                return Err(("a ${ has no end".to_owned(), "write ${1}, or $$ for a dollar"));
            };
            after = behind;
        }
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<usize>().ok());
        match number {
            Some(number) if number < group_count => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                }
                pieces.push(Piece::Group(number));
            }
            _ => {
                return Err((
                    "the pattern has no such group".to_owned(),
                    "write $1 and so on for its groups, or $$",
                ));
            }
        }
        rest = after;
    }
    text.extend_from_slice(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(pieces)
}

impl LookupTable for PatternTable {
    fn look_up<'a>(&'a self, arena: &'a Bump, key: &[u8]) -> Result<Option<&'a [u8]>, LookupError> {
        if !self.filter.has_candidates(key) || self.any.as_ref().is_some_and(|any| !any.is_match(key)) {
            return Ok(None);
        }
        let mut candidates = self.filter.candidates(key);
        let mut index = 0;
        while let Some(rule) = self.rules.get(index) {
            let is_match = candidates.has(index)
                && rule.pattern.is_match(key)? != rule.is_negated
                && match &rule.except {
                    Some(except) => !except.is_match(key)?,
                    None => true,
                };
            match &rule.outcome {
                Outcome::Value(pieces) if is_match => return value(arena, rule, pieces, key).map(Some),
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

fn value<'a>(
    arena: &'a Bump,
    rule: &'a Rule,
    pieces: &'a [Piece],
    key: &[u8],
) -> Result<&'a [u8], LookupError> {
    if let [Piece::Text(text)] = pieces {
        return Ok(text);
    }
    let groups = rule.pattern.groups(key)?;
    let mut out = ArenaVec::new_in(arena);
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice_copy(text),
            Piece::Group(number) => out.extend_from_slice_copy(groups.get(*number)),
        }
    }
    Ok(out.into_bump_slice())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn table(kind: &'static str, text: &str) -> Result<PatternTable, String> {
        let spec = Spec { text: "table", kind, name: "x", base: Path::new("/") };
        PatternTable::parse(&spec, text.as_bytes()).map_err(|error| error.to_string())
    }

    fn found(table: &PatternTable, key: &[u8]) -> Option<String> {
        let arena = Bump::new();
        table.look_up(&arena, key).unwrap().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn the_first_match_counts_and_groups_are_filled_in() {
        let text =
            "/^Subject: (\\w+) x/ REJECT $1 ${1}$$\n!/:/ none\nif /^to:/\n/a@b/i IGNORE\nendif\n/./ REST\n";
        for kind in ["regexp", "pcre"] {
            let table = table(kind, text).unwrap();
            assert_eq!(found(&table, b"SUBJECT: Buy x").as_deref(), Some("REJECT Buy Buy$"));
            assert_eq!(found(&table, b"nothing").as_deref(), Some("none"));
            assert_eq!(found(&table, b"To: a@b").as_deref(), Some("IGNORE"));
            assert_eq!(found(&table, b"To: A@b").as_deref(), Some("REST"), "the flag i turns case on");
        }
    }

    #[test]
    fn octets_need_no_encoding() {
        let pcre = table("pcre", "/^S: \\xe9.\\xff$/ found\n").unwrap();
        assert_eq!(found(&pcre, b"S: \xe9\n\xff").as_deref(), Some("found"));
        let behind = table("pcre", "/(?<=\\xe9)(.)\\1/ $1\n").unwrap();
        assert_eq!(found(&behind, b"\xe9\xc3\xc3").map(|text| text.len()), Some(3), "one replaced octet");
    }

    #[test]
    fn posix_expressions_keep_their_meaning() {
        let regexp =
            table("regexp", "/^[\\.]x[]a-]$/ one\n/a\\<b/ never\n/\\d/ never\n/\\.D\\D/!/q/ two\n").unwrap();
        assert_eq!(found(&regexp, b"\\x]").as_deref(), Some("one"));
        assert_eq!(found(&regexp, b".x-").as_deref(), Some("one"));
        assert_eq!(found(&regexp, b".dd").as_deref(), Some("two"));
        assert_eq!(found(&regexp, b".ddq"), None);
    }

    #[test]
    fn what_explodes_elsewhere_ends_here() {
        let arena = Bump::new();
        let linear = table("pcre", "/^(a+)+$/ x\n").unwrap();
        assert_eq!(found(&linear, &[&[b'a'; 50_000][..], b"!"].concat()), None);
        let bounded = table("pcre", "/^(?=(a+)+b)(a+)+\\1$/ x\n").unwrap();
        let key = [&[b'a'; 5000][..], b"b"].concat();
        assert_eq!(bounded.look_up(&arena, &key), Err(LookupError::Unavailable));
    }

    #[test]
    fn sizes_beyond_numbers_are_refused() {
        let doubled: String = (1..70).map(|group| format!("(\\{group}\\{group})")).collect();
        let nested = format!("{}a{}", "(?:".repeat(5), "){65535}".repeat(5));
        for pattern in
            ["(?=b)a{4099276460824344769}aa".to_owned(), format!("(?=b){nested}"), format!("(a){doubled}")]
        {
            let error = table("pcre", &format!("/{pattern}/ x\n")).unwrap_err();
            assert!(error.contains("/x:1: table: the pattern is wrong: only texts of more than"), "{error}");
        }
        let table = table("pcre", "/^(a{2})(\\1\\1)(?!b)/ $2\n").unwrap();
        assert_eq!(found(&table, b"aaaaaa").as_deref(), Some("aaaa"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, wanted) in [
            ("x y", "/x:1: table: \"x y\" is no pattern"),
            ("\n/(/ x", "/x:2: table: the pattern is wrong"),
            ("/a/", "/x:1: table: has no value"),
            ("/a/q x", "the flag 'q' is not known"),
            ("/a/ $1", "the pattern has no such group"),
            ("if /a/", "an if has no endif"),
        ] {
            let error = table("pcre", text).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
