//! Expressions of `pcre:` tables (pcre_table(5)): PCRE2 itself compiles and matches them, byte by byte.
//!
//! Postfix gives its library the pattern and options. The crate that makes PCRE2 safe to call takes text that is valid
//! UTF-8 and fewer options, so a pattern is spelled differently where needed, with the same meaning: bytes that are
//! no UTF-8 become `\xHH`, the flag U a `(?U)`, and what PCRE2 10.43 gave another meaning is spelled as it was meant: a
//! brace that began no quantifier gets a backslash, `\p{Lu}` looks at case. Limits of a match are put in front; a pattern may lower them.

use pcre2::bytes::{CaptureLocations, Regex, RegexBuilder};

use super::matcher::Span;

/// What a pattern's flags say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) ignores_case: bool,
    pub(super) knows_lines: bool,
    pub(super) dot_matches_line_feed: bool,
    pub(super) is_extended: bool,
    pub(super) is_anchored: bool,
    /// A dollar matches at the very end only, not before a line feed there.
    pub(super) is_dollar_end_only: bool,
    pub(super) is_ungreedy: bool,
}

/// Why a search has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure(pub(super) String);

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pcre {
    regex: Regex,
    options: Options,
    /// The flag E where it makes a difference: for a text with a line feed at its end.
    strict: Option<Box<Regex>>,
    pub(super) groups: usize,
}

/// Steps of a match (PCRE2's match limit).
const MATCH_LIMIT: u32 = 1_000_000;
/// KiB that a match may take while its memory stays with the pattern, which is so without JIT compilation only.
const KEPT_HEAP: u32 = 256;
/// KiB that a match may take at most.
const HEAP_LIMIT: u32 = 64 * 1024;
/// PCRE2_ERROR_JIT_STACKLIMIT and PCRE2_ERROR_HEAPLIMIT.
const TOO_LITTLE_MEMORY: [i32; 2] = [-46, -63];

/// Settings that may precede a pattern and apply to all of it.
const VERBS: &[&str] = &[
    "ANY)",
    "ANYCRLF)",
    "BSR_ANYCRLF)",
    "BSR_UNICODE)",
    "CR)",
    "CRLF)",
    "LF)",
    "LIMIT_DEPTH=",
    "LIMIT_HEAP=",
    "LIMIT_MATCH=",
    "LIMIT_RECURSION=",
    "NO_AUTO_POSSESS)",
    "NO_DOTSTAR_ANCHOR)",
    "NO_JIT)",
    "NO_START_OPT)",
    "NOTEMPTY)",
    "NOTEMPTY_ATSTART)",
    "NUL)",
    "UCP)",
    "UTF)",
];

impl Pcre {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What PCRE2 says, or what cannot be spelled for it.
    pub(super) fn new(pattern: &[u8], options: Options) -> Result<Self, String> {
        let Spelling { verbs, mut text, has_match_start, has_options } = spell(pattern, options, false);
        if options.is_anchored && has_match_start {
            return Err(
                "\\K together with the flag A is not supported; write \\G at the start instead".to_owned()
            );
        }
        if options.is_ungreedy {
            text.insert_str(0, "(?U)");
        }
        let regex =
            build(&verbs, &text, options, true, KEPT_HEAP).map_err(|error| said(&error, &verbs, options))?;
        let is_strict = options.is_dollar_end_only && !options.knows_lines;
        if is_strict && has_options {
            return Err(
                "(?m) together with the flag E is not supported; write \\z for the very end".to_owned()
            );
        }
        let strict = is_strict.then(|| {
            let mut text = spell(pattern, options, true).text;
            if options.is_ungreedy {
                text.insert_str(0, "(?U)");
            }
            build(&verbs, &text, options, true, KEPT_HEAP).map_err(|error| said(&error, &verbs, options))
        });
        let strict = strict.transpose()?.map(Box::new);
        let groups = regex.captures_len() - 1;
        Ok(Self { regex, options, strict, groups })
    }

    /// Whether it matches somewhere.
    ///
    /// # Errors
    /// PCRE2 gave up.
    pub(super) fn is_match(&self, text: &[u8]) -> Result<bool, Failure> {
        let find = |regex: &Regex| {
            if self.options.is_anchored {
                // The first match is the leftmost one.
                regex.find(text).map(|found| found.is_some_and(|found| found.start() == 0))
            } else {
                regex.is_match(text)
            }
        };
        self.with_more_memory(text, find)
    }

    /// Where its groups matched; the first is the whole.
    ///
    /// # Errors
    /// PCRE2 gave up.
    pub(super) fn groups(&self, text: &[u8]) -> Result<Option<Vec<Option<Span>>>, Failure> {
        let find = |regex: &Regex| {
            let mut locations: CaptureLocations = regex.capture_locations();
            let found = regex.captures_read(&mut locations, text)?;
            let groups = || (0..locations.len()).map(|group| locations.get(group)).collect();
            Ok(found.map(|_| groups()))
        };
        self.with_more_memory(text, find)
    }

    /// Searches with what is compiled, and once more with more memory than is kept where that was too little.
    fn with_more_memory<T>(
        &self,
        text: &[u8],
        find: impl Fn(&Regex) -> Result<T, pcre2::Error>,
    ) -> Result<T, Failure> {
        let regex = match &self.strict {
            Some(strict) if text.ends_with(b"\n") => strict,
            _ => &self.regex,
        };
        let failure = |error: pcre2::Error| {
            let text = error.to_string();
            Failure(text.rsplit_once("matching: ").map_or(text.as_str(), |(_, reason)| reason).to_owned())
        };
        match find(regex) {
            Err(error) if TOO_LITTLE_MEMORY.contains(&error.code()) => {
                let own = regex.as_str();
                let rest = own
                    .split_once(')')
                    .and_then(|(_, rest)| rest.split_once(')'))
                    .map_or(own, |(_, rest)| rest);
                let regex = build("", rest, self.options, false, HEAP_LIMIT).map_err(failure)?;
                find(&regex).map_err(failure)
            }
            found => found.map_err(failure),
        }
    }
}

fn build(verbs: &str, text: &str, options: Options, is_jit: bool, heap: u32) -> Result<Regex, pcre2::Error> {
    RegexBuilder::new()
        .caseless(options.ignores_case)
        .multi_line(options.knows_lines)
        .dotall(options.dot_matches_line_feed)
        .extended(options.is_extended)
        .jit_if_available(is_jit)
        .build(&format!("(*LIMIT_MATCH={MATCH_LIMIT})(*LIMIT_HEAP={heap}){verbs}{text}"))
}

/// PCRE2's sentence with the place in the pattern as it was written, as near as can be told.
fn said(error: &pcre2::Error, verbs: &str, options: Options) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason);
    let front = format!("(*LIMIT_MATCH={MATCH_LIMIT})(*LIMIT_HEAP={KEPT_HEAP})").len()
        + if options.is_ungreedy { "(?U)".len() } else { 0 };
    match error.offset() {
        // The verbs are the pattern's own.
        Some(offset) if offset >= front + verbs.len() => format!("at byte {}: {reason}", offset - front),
        _ => reason.to_owned(),
    }
}

/// A pattern as the library takes it.
struct Spelling {
    verbs: String,
    text: String,
    /// `\K`.
    has_match_start: bool,
    /// `(?` and options with m among them.
    has_options: bool,
}

/// Spells a pattern; `is_strict`: with `\z` for each dollar.
fn spell(pattern: &[u8], options: Options, is_strict: bool) -> Spelling {
    let mut at = 0;
    while let Some(inner) = pattern.get(at..).and_then(|rest| rest.strip_prefix(b"(*")) {
        let is_known = VERBS.iter().any(|verb| inner.starts_with(verb.as_bytes()));
        let Some(size) = inner.iter().position(|byte| *byte == b')').filter(|_| is_known) else { break };
        at += 2 + size + 1;
    }
    let (verbs, rest) = pattern.split_at_checked(at).unwrap_or_default();
    let mut speller = Speller {
        rest,
        out: Vec::with_capacity(rest.len()),
        is_strict,
        is_extended: options.is_extended,
        ignores_case: options.ignores_case,
        has_match_start: false,
        has_options: false,
    };
    speller.all();
    Spelling {
        // Only bytes of ASCII are in a verb that is known.
        verbs: String::from_utf8_lossy(verbs).into_owned(),
        text: String::from_utf8(speller.out).unwrap_or_default(),
        has_match_start: speller.has_match_start,
        has_options: speller.has_options,
    }
}

struct Speller<'p> {
    rest: &'p [u8],
    out: Vec<u8>,
    is_strict: bool,
    is_extended: bool,
    ignores_case: bool,
    has_match_start: bool,
    has_options: bool,
}

impl<'p> Speller<'p> {
    fn all(&mut self) {
        let (mut is_in_class, mut is_class_start) = (false, false);
        while let Some((byte, rest)) = self.rest.split_first() {
            let was_class_start = std::mem::take(&mut is_class_start);
            match byte {
                b'\\' if !is_in_class && self.ignores_case && is_cased_property(rest) => {
                    // Since PCRE2 10.43 these match letters of the other case too where case is ignored.
                    self.out.extend_from_slice(b"(?-i:");
                    self.escaped(rest);
                    self.out.push(b')');
                    continue;
                }
                b'\\' => {
                    self.escaped(rest);
                    continue;
                }
                b'[' if is_in_class => self.copy(name_size(rest)),
                b'[' => {
                    (is_in_class, is_class_start) = (true, true);
                    self.copy(usize::from(rest.first() == Some(&b'^')));
                }
                b']' if is_in_class && !was_class_start => is_in_class = false,
                _ if is_in_class => {}
                b'(' => self.look_at_group(rest),
                b'#' if self.is_extended => {
                    // A comment to the end of the line: nothing in it has a meaning.
                    let size = self.rest.iter().position(|byte| *byte == b'\n').unwrap_or(self.rest.len());
                    self.rest = self.rest.get(size..).unwrap_or_default();
                    continue;
                }
                b'{' if !is_quantifier(self.rest) => self.out.push(b'\\'),
                b'$' if self.is_strict => {
                    self.out.extend_from_slice(b"\\z");
                    self.rest = rest;
                    continue;
                }
                _ => {}
            }
            self.copy(1);
        }
    }

    /// What a backslash begins, with `rest` after it.
    fn escaped(&mut self, rest: &'p [u8]) {
        match rest {
            [b'Q', quoted @ ..] => {
                let size = memchr::memmem::find(quoted, b"\\E").unwrap_or(quoted.len());
                let end = quoted.len() - size;
                self.copy(2);
                while self.rest.len() > end {
                    self.copy_one(b"\\E", b"\\Q");
                }
            }
            [b'x' | b'o' | b'p' | b'P' | b'g' | b'k' | b'N', b'{', argument @ ..] => {
                let size = argument.iter().position(|byte| *byte == b'}').map_or(0, |size| size + 1);
                self.copy(3 + size);
            }
            [byte, ..] if byte.is_ascii() || character_size(rest) > 0 => {
                self.has_match_start |= *byte == b'K';
                self.copy(2);
            }
            _ => {
                // Either it is the last byte, or what follows becomes an escape of its own.
                if rest.is_empty() {
                    self.out.push(b'\\');
                }
                self.rest = rest;
                self.copy(1);
            }
        }
    }

    /// Takes note of options that begin at a parenthesis, and takes comments and the names of verbs as they are.
    fn look_at_group(&mut self, rest: &[u8]) {
        let is_text = match rest {
            [b'?', b'#', ..] => true,
            [b'*', first, ..] => first.is_ascii_uppercase() || *first == b':',
            _ => false,
        };
        if is_text {
            self.copy(rest.iter().position(|byte| *byte == b')').unwrap_or(rest.len()));
        } else if let Some(options) = rest.strip_prefix(b"?") {
            let is_option = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'^' | b'-');
            let size = options.iter().take_while(|byte| is_option(byte)).count();
            let letters = options.get(..size).unwrap_or_default();
            if matches!(options.get(size), Some(b')' | b':')) {
                self.has_options |= letters.contains(&b'm');
                let added = letters.split(|byte| *byte == b'-').next().unwrap_or_default();
                self.is_extended |= added.contains(&b'x');
            }
        }
    }

    /// Takes at least `size` bytes unchanged, up to the end of a character; what is no UTF-8 becomes `\xHH`.
    fn copy(&mut self, size: usize) {
        let end = self.rest.len().saturating_sub(size);
        while self.rest.len() > end {
            self.copy_one(b"", b"");
        }
    }

    /// Takes one character, or one byte as `\xHH` with something before and after it.
    fn copy_one(&mut self, before: &[u8], after: &[u8]) {
        let size = character_size(self.rest);
        let (front, rest) = self.rest.split_at_checked(size.max(1)).unwrap_or_default();
        match front {
            [byte] if size == 0 => {
                self.out.extend_from_slice(before);
                self.out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
                self.out.extend_from_slice(after);
            }
            character => self.out.extend_from_slice(character),
        }
        self.rest = rest;
    }
}

/// Whether what follows a backslash is a property of capital, small or title case letters.
fn is_cased_property(text: &[u8]) -> bool {
    let [b'p' | b'P', b'{', name @ ..] = text else { return false };
    let size = name.iter().position(|byte| *byte == b'}').unwrap_or_default();
    let name = name.get(..size).unwrap_or_default().trim_ascii();
    let name = name.strip_prefix(b"^").unwrap_or(name).to_ascii_lowercase();
    matches!(name.as_slice(), b"lu" | b"ll" | b"lt")
}

/// Bytes of a POSIX class within brackets, its opening bracket before `text` and its closing one not counted.
fn name_size(text: &[u8]) -> usize {
    let Some((kind @ (b':' | b'.' | b'='), name)) = text.split_first() else { return 0 };
    let size = name.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'^').count();
    let is_whole = name.get(size..).is_some_and(|end| end.starts_with(&[*kind, b']']));
    if is_whole { size + 2 } else { 0 }
}

/// Bytes of the character at the start of a text; 0: it is no UTF-8.
fn character_size(text: &[u8]) -> usize {
    (1..=text.len().min(4)).find(|size| std::str::from_utf8(&text[..*size]).is_ok()).unwrap_or_default()
}

/// Whether `{` begins `{n}`, `{n,}` or `{n,m}`.
fn is_quantifier(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = text.get(1..).unwrap_or_default();
    let first = digits(rest);
    let rest = rest.get(first..).unwrap_or_default();
    let rest = match rest.strip_prefix(b",") {
        Some(rest) => rest.get(digits(rest)..).unwrap_or_default(),
        None => rest,
    };
    first > 0 && rest.starts_with(b"}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::pattern::rules::pcre_flags;

    #[test]
    fn patterns_match_bytes() {
        // As in Postfix, which does not ask for UTF: only the second byte of the letter is repeated.
        let pattern = Pcre::new("x\u{a1}*".as_bytes(), pcre_flags(b"").unwrap().0).unwrap();
        assert_eq!(pattern.is_match(b"x"), Ok(false));
        assert_eq!(pattern.is_match(b"x\xc2"), Ok(true));
        assert_eq!(pattern.is_match(b"x\xc2\xa1\xa1"), Ok(true));
    }
}
