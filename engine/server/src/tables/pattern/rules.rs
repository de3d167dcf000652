//! The lines of pattern tables: `/pattern/flags value`, `if`, `endif`, `!` (pcre_table(5), regexp_table(5)).

use super::pcre::Options;
use super::posix::Syntax;

/// A line of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    Rule {
        pattern: Pattern<'l>,
        value: &'l [u8],
    },
    /// What follows the pattern has no meaning.
    If {
        pattern: Pattern<'l>,
        rest: &'l [u8],
    },
    EndIf {
        rest: &'l [u8],
    },
}

/// A pattern as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pattern<'l> {
    /// `!`: counts where the pattern does not match.
    pub(super) is_negated: bool,
    pub(super) text: &'l [u8],
    pub(super) flags: &'l [u8],
    /// The second pattern of regexp's `/one/!/other/`, with its flags: it must not match.
    pub(super) except: Option<(&'l [u8], &'l [u8])>,
}

/// A piece of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Box<[u8]>),
    /// `$1` and so on.
    Group(usize),
}

/// What is wrong, and what to do about it.
pub(super) type Complaint = (String, &'static str);

/// Reads a logical line; `has_exception`: the pattern may be followed by `!` and another.
pub(super) fn parse(line: &[u8], has_exception: bool) -> Result<Line<'_>, Complaint> {
    let first = line.first().copied().unwrap_or_default();
    if !first.is_ascii_alphanumeric() {
        let (pattern, rest) = pattern(line, has_exception)?;
        return Ok(Line::Rule { pattern, value: rest.trim_ascii() });
    }
    let after = |word: &[u8]| {
        let (front, rest) = line.split_at_checked(word.len())?;
        let is_it = front.eq_ignore_ascii_case(word) && !rest.first().is_some_and(u8::is_ascii_alphanumeric);
        is_it.then_some(rest.trim_ascii())
    };
    if let Some(rest) = after(b"endif") {
        return Ok(Line::EndIf { rest });
    }
    if let Some(rest) = after(b"if") {
        let (pattern, rest) = pattern(rest, has_exception)?;
        return Ok(Line::If { pattern, rest: rest.trim_ascii() });
    }
    let reason = format!("{:?} is not a pattern", String::from_utf8_lossy(line));
    Err((reason, "write /pattern/ and a value"))
}

/// The pattern at the start of a text, and what follows its flags.
fn pattern(text: &[u8], has_exception: bool) -> Result<(Pattern<'_>, &[u8]), Complaint> {
    let signs = text.iter().take_while(|byte| **byte == b'!').count();
    let rest = text.get(signs..).unwrap_or_default().trim_ascii_start();
    let (text, flags, mut rest) = delimited(rest, has_exception)?;
    let mut except = None;
    if has_exception && rest.starts_with(b"!") {
        let (text, flags, behind) = delimited(rest.get(1..).unwrap_or_default(), false)?;
        except = Some((text, flags));
        rest = behind;
    }
    Ok((Pattern { is_negated: signs % 2 == 1, text, flags, except }, rest))
}

/// A pattern, its flags, and what follows.
type Parts<'l> = (&'l [u8], &'l [u8], &'l [u8]);

/// The text between two delimiters, the flags, and what follows; a backslash before a delimiter keeps it in the text.
fn delimited(text: &[u8], ends_at_mark: bool) -> Result<Parts<'_>, Complaint> {
    const REMEDY: &str = "write /pattern/ and a value";
    let Some((delimiter, rest)) = text.split_first() else {
        return Err(("there is not a pattern".to_owned(), REMEDY));
    };
    let mut is_escaped = false;
    let end = rest.iter().position(|byte| {
        let was_escaped = std::mem::take(&mut is_escaped);
        is_escaped = !was_escaped && *byte == b'\\';
        !was_escaped && !is_escaped && byte == delimiter
    });
    let Some((pattern, rest)) = end.and_then(|end| rest.split_at_checked(end)) else {
        let delimiter = char::from(*delimiter);
        let reason = format!("{:?} has no second delimiter {delimiter:?}", String::from_utf8_lossy(text));
        return Err((reason, REMEDY));
    };
    let rest = rest.get(1..).unwrap_or_default();
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b || ends_at_mark && *byte == b'!';
    let size = rest.iter().position(is_end).unwrap_or(rest.len());
    let (flags, rest) = rest.split_at_checked(size).unwrap_or((rest, b""));
    Ok((pattern, flags, rest))
}

/// The flags of a pcre table turn what is usual around; true: X is among them, which means nothing any more.
pub(super) fn pcre_flags(flags: &[u8]) -> Result<(Options, bool), Complaint> {
    let mut options = Options {
        ignores_case: true,
        knows_lines: false,
        dot_matches_line_feed: true,
        is_extended: false,
        is_anchored: false,
        is_dollar_end_only: false,
        is_ungreedy: false,
    };
    let mut is_obsolete = false;
    for flag in flags {
        let option = match flag {
            b'i' => &mut options.ignores_case,
            b'm' => &mut options.knows_lines,
            b's' => &mut options.dot_matches_line_feed,
            b'x' => &mut options.is_extended,
            b'A' => &mut options.is_anchored,
            b'E' => &mut options.is_dollar_end_only,
            b'U' => &mut options.is_ungreedy,
            b'X' => {
                is_obsolete = true;
                continue;
            }
            other => return Err((unknown_flag(*other), "use only the flags imsxAEU")),
        };
        *option = !*option;
    }
    Ok((options, is_obsolete))
}

/// The flags of a regexp table turn what is usual around.
pub(super) fn regexp_flags(flags: &[u8]) -> Result<Syntax, Complaint> {
    let mut syntax = Syntax { is_extended: true, ignores_case: true, knows_lines: false };
    for flag in flags {
        let option = match flag {
            b'i' => &mut syntax.ignores_case,
            b'm' => &mut syntax.knows_lines,
            b'x' => &mut syntax.is_extended,
            other => return Err((unknown_flag(*other), "use only the flags imx")),
        };
        *option = !*option;
    }
    Ok(syntax)
}

fn unknown_flag(flag: u8) -> String {
    format!("unknown flag {:?}", char::from(flag))
}

/// A value as text and groups: `$1`, `${1}`, `$(1)`; `$$` is a dollar. `groups`: how many the pattern has; `None`: it
/// counts where it does not match.
pub(super) fn pieces(value: &[u8], groups: Option<usize>) -> Result<Vec<Piece>, Complaint> {
    const REMEDY: &str =
        "write $1 and so on for the pattern's groups, ${1} before a letter or digit, or $$ for a dollar";
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
        let (name, after) = match close {
            Some(close) => {
                let inner = behind.get(1..).unwrap_or_default();
                let Some(size) = inner.iter().position(|byte| *byte == close) else {
                    return Err((format!("${} is not closed", char::from(behind[0])), REMEDY));
                };
                let (name, after) = inner.split_at_checked(size).unwrap_or_default();
                (name, after.get(1..).unwrap_or_default())
            }
            None => {
                let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let size = behind.iter().position(|byte| !is_of_name(byte)).unwrap_or(behind.len());
                behind.split_at_checked(size).unwrap_or_default()
            }
        };
        rest = after;
        let Some(groups) = groups else {
            return Err(("a pattern that does not match has no groups".to_owned(), "leave out the $"));
        };
        let is_number = !name.is_empty() && name.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(name).ok().filter(|_| is_number).and_then(|name| name.parse().ok());
        match number {
            Some(number) if (1..=groups).contains(&number) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                }
                pieces.push(Piece::Group(number));
            }
            _ => {
                let name = String::from_utf8_lossy(name).into_owned();
                return Err((format!("the pattern has no group ${name}"), REMEDY));
            }
        }
    }
    text.extend_from_slice(rest);
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_kinds_of_lines() {
        let pattern = |is_negated, text, flags| Pattern { is_negated, text, flags, except: None };
        for (line, wanted) in [
            (&b"/a\\/b/i  x y "[..], Line::Rule { pattern: pattern(false, b"a\\/b", b"i"), value: b"x y" }),
            (b"!! (a( x", Line::Rule { pattern: pattern(false, b"a", b""), value: b"x" }),
            (b"!|a|", Line::Rule { pattern: pattern(true, b"a", b""), value: b"" }),
            (b"IF!/a/m", Line::If { pattern: pattern(true, b"a", b"m"), rest: b"" }),
            (b"if /a/ x", Line::If { pattern: pattern(false, b"a", b""), rest: b"x" }),
            (b"EndIf", Line::EndIf { rest: b"" }),
        ] {
            assert_eq!(parse(line, true), Ok(wanted), "{}", line.escape_ascii());
        }
        let both = Line::Rule {
            pattern: Pattern { is_negated: false, text: b"a", flags: b"i", except: Some((b"b", b"m")) },
            value: b"x",
        };
        assert_eq!(parse(b"/a/i!/b/m x", true), Ok(both));
        for line in ["a x", "endifs", "ifs /a/", "/a x", "!", "\\a\\ x", "if"] {
            assert!(parse(line.as_bytes(), true).is_err(), "{line}");
        }
    }

    #[test]
    fn values_refer_to_groups() {
        let text = |text: &[u8]| Piece::Text(text.into());
        assert_eq!(
            pieces(b"a $1${2}b$(1)$$", Some(2)),
            Ok(vec![text(b"a "), Piece::Group(1), Piece::Group(2), text(b"b"), Piece::Group(1), text(b"$")])
        );
        for value in ["$", "$0", "$3", "$1st", "${1", "$(1}", "${}", "$x", "$ 1", "${1?x}"] {
            assert!(pieces(value.as_bytes(), Some(2)).is_err(), "{value}");
        }
        assert!(pieces(b"$1", None).is_err());
        assert_eq!(pieces(b"", None), Ok(vec![text(b"")]));
    }
}
