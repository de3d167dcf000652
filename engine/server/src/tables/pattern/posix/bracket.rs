//! Bracket expressions: sets of bytes, ranges and classes of the C locale.

use super::super::tree::ByteSet;
use super::{Parser, is_space};

const INVALID_RANGE: &str = "Invalid range end";

impl Parser<'_> {
    /// The content of brackets; `at` is after the opening one, and after the closing one then.
    pub(super) fn bracket(&mut self) -> Result<ByteSet, String> {
        const UNMATCHED: &str = "Unmatched [, [^, [:, [., or [=";
        let mut set = ByteSet::default();
        let is_negated = self.text.get(self.at) == Some(&b'^');
        self.at += usize::from(is_negated);
        let mut is_first = true;
        loop {
            let Some(byte) = self.text.get(self.at).copied() else { return Err(UNMATCHED.to_owned()) };
            if byte == b']' && !is_first {
                self.at += 1;
                break;
            }
            let start = self.bracket_element(is_first)?;
            is_first = false;
            let is_range = self.text.get(self.at) == Some(&b'-')
                && match self.text.get(self.at + 1) {
                    None => return Err(UNMATCHED.to_owned()),
                    Some(b']') => false,
                    Some(_) => true,
                };
            match (start, is_range) {
                (Element::Class(class), false) => set = set.union(class),
                (Element::Byte(byte), false) => set.insert(byte),
                (start, true) => {
                    self.at += 1;
                    let end = self.bracket_element(true)?;
                    let (Element::Byte(start), Element::Byte(end)) = (start, end) else {
                        return Err(INVALID_RANGE.to_owned());
                    };
                    if start > end {
                        return Err(self.invalid_range(start, end));
                    }
                    (start..=end).for_each(|byte| set.insert(byte));
                }
            }
        }
        // The text is folded before it is looked up.
        let folded = set;
        if self.syntax.ignores_case {
            set = ByteSet::with(|byte| folded.contains(byte.to_ascii_uppercase()));
        }
        if is_negated {
            set = set.complement();
            if self.syntax.knows_lines {
                set.remove(b'\n');
            }
        }
        Ok(set)
    }

    fn invalid_range(&self, start: u8, end: u8) -> String {
        let note = if self.syntax.ignores_case && (start.is_ascii_uppercase() || end.is_ascii_uppercase()) {
            ": while case is ignored, letters of a range count as capitals"
        } else {
            ""
        };
        format!("{INVALID_RANGE}{note}")
    }

    /// One element of a bracket expression; `accepts_hyphen`: a hyphen may stand for itself here.
    fn bracket_element(&mut self, accepts_hyphen: bool) -> Result<Element, String> {
        const UNMATCHED: &str = "Unmatched [, [^, [:, [., or [=";
        let Some(byte) = self.text.get(self.at).copied() else { return Err(UNMATCHED.to_owned()) };
        let kind = self.text.get(self.at + 1).copied().filter(|kind| matches!(kind, b':' | b'.' | b'='));
        if let (b'[', Some(kind)) = (byte, kind) {
            let source = if kind == b':' { self.raw } else { self.text };
            let inner = source.get(self.at + 2..).unwrap_or_default();
            let size = inner.windows(2).position(|window| window == [kind, b']']);
            // Names are shorter than that in glibc.
            let Some(size) = size.filter(|size| *size < 32) else { return Err(UNMATCHED.to_owned()) };
            let name = inner.get(..size).unwrap_or_default();
            self.at += size + 4;
            return match (kind, name) {
                (b':', name) => class(name, self.syntax.ignores_case).map(Element::Class).ok_or_else(|| {
                    let known = "alnum alpha blank cntrl digit graph lower print punct space upper xdigit";
                    format!("Invalid character class name; the names are {known}")
                }),
                (b'=', [byte]) => Ok(Element::Class(ByteSet::of([*byte]))),
                (_, [byte]) => Ok(Element::Byte(*byte)),
                _ => Err("Invalid collation character".to_owned()),
            };
        }
        if byte == b'-' && !accepts_hyphen && self.text.get(self.at + 1) != Some(&b']') {
            return Err(INVALID_RANGE.to_owned());
        }
        self.at += 1;
        Ok(Element::Byte(byte))
    }
}

enum Element {
    Byte(u8),
    Class(ByteSet),
}

/// A class of the C locale, in upper case where case is ignored.
pub(in super::super) fn class(name: &[u8], ignores_case: bool) -> Option<ByteSet> {
    let is_in: fn(u8) -> bool = match name {
        b"upper" | b"lower" if ignores_case => |byte| byte.is_ascii_alphabetic(),
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"digit" => |byte| byte.is_ascii_digit(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"print" => |byte| byte.is_ascii_graphic() || byte == b' ',
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"space" => is_space,
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return None,
    };
    Some(ByteSet::with(is_in))
}
