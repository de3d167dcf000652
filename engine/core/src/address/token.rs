//! The words of address text: how bytes become tokens (RFC 5322 §3.2, with the operators `%`, `!` and `|`).

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::octet_table::OctetTable;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A word without quotes.
    Atom,
    /// A quoted string; the text is what the quotes mean.
    Quoted,
    /// A comment; the text is its spelling, parentheses included.
    Comment,
    /// A domain literal; the text stands without its brackets.
    Literal,
    /// One byte that separates the others, such as `@`.
    Operator(u8),
}

/// One token of an address or a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind,
    /// Its meaning, for operators nothing.
    pub text: &'a [u8],
    /// It directly follows its neighbour: no space separates them when the tokens are written.
    pub(crate) is_joined: bool,
}

impl<'a> Token<'a> {
    pub(super) const fn operator(octet: u8) -> Self {
        Self { kind: TokenKind::Operator(octet), text: b"", is_joined: false }
    }

    const fn word(kind: TokenKind, text: &'a [u8]) -> Self {
        Self { kind, text, is_joined: false }
    }

    pub(super) const fn joined(self) -> Self {
        Self { is_joined: true, ..self }
    }

    pub(crate) fn is_operator(&self, octet: u8) -> bool {
        self.kind == TokenKind::Operator(octet)
    }

    /// Whether it is text and no operator.
    pub(super) const fn is_text(&self) -> bool {
        !matches!(self.kind, TokenKind::Operator(_))
    }
}

/// Appends the tokens of `text`, at most `limit`; the rest is left out.
pub fn scan<'a>(arena: &'a Bump, text: &'a [u8], limit: usize, tokens: &mut ArenaVec<'a, Token<'a>>) {
    let mut at = 0;
    let limit = tokens.len().saturating_add(limit);
    while let Some(octet) = text.get(at) {
        if tokens.len() == limit || *octet == 0 {
            break;
        }
        at += 1;
        let token = match octet {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'(' => comment(text, &mut at),
            b'[' => Token::word(TokenKind::Literal, enclosed(arena, text, &mut at, b']')),
            b'"' => Token::word(TokenKind::Quoted, enclosed(arena, text, &mut at, b'"')),
            octet if CLASS.get(*octet) & OPERATOR != 0 => Token::operator(*octet),
            _ => {
                at -= 1;
                atom(arena, text, &mut at)
            }
        };
        tokens.push(token);
    }
}

/// A comment from after its first parenthesis on, as it is spelled; comments nest.
fn comment<'a>(text: &'a [u8], at: &mut usize) -> Token<'a> {
    let start = *at - 1;
    let mut depth = 1;
    while let Some(octet) = octet_at(text, *at) {
        *at += 1;
        match octet {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\\' if octet_at(text, *at).is_some() => *at += 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    Token::word(TokenKind::Comment, text.get(start..*at).unwrap_or_default())
}

/// The text up to `close`, which is skipped.
fn enclosed<'a>(arena: &'a Bump, text: &'a [u8], at: &mut usize, close: u8) -> &'a [u8] {
    let inner = collect(arena, text, at, |octet| octet != close);
    if octet_at(text, *at).is_some() {
        *at += 1;
    }
    inner
}

/// A word; it counts as quoted if it holds, by a backslash, what only quotes may hold.
fn atom<'a>(arena: &'a Bump, text: &'a [u8], at: &mut usize) -> Token<'a> {
    let word = collect(arena, text, at, |octet| CLASS.get(octet) & (OPERATOR | BLANK) == 0);
    let is_plain = word.iter().all(|octet| CLASS.get(*octet) == 0);
    Token::word(if is_plain { TokenKind::Atom } else { TokenKind::Quoted }, word)
}

/// The bytes up to one that `is_part` refuses: a backslash makes any byte part, blanks of all kinds become
/// spaces.
fn collect<'a>(arena: &'a Bump, text: &'a [u8], at: &mut usize, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
    let rest = text.get(*at..).unwrap_or_default();
    let is_simple = |octet: &u8| is_part(*octet) && !matches!(octet, 0 | b'\\' | b'\t' | b'\r' | b'\n');
    let size = rest.iter().position(|octet| !is_simple(octet)).unwrap_or(rest.len());
    let (front, behind) = rest.split_at_checked(size).unwrap_or((rest, b""));
    *at += size;
    // The usual end: the text is a slice of the input.
    if behind.first().is_none_or(|octet| *octet == 0 || *octet != b'\\' && !is_part(*octet)) {
        return front;
    }
    // Not for all that follows: a field may have as many such words as it has bytes.
    let mut out = ArenaVec::with_capacity_in(front.len() + 16, arena);
    out.extend_from_slice_copy(front);
    while let Some(mut octet) = octet_at(text, *at) {
        if octet == b'\\' {
            *at += 1;
            match octet_at(text, *at) {
                Some(escaped) => octet = escaped,
                None => break,
            }
        } else if !is_part(octet) {
            break;
        }
        out.push(blank_for(octet));
        *at += 1;
    }
    out.into_bump_slice()
}

/// The byte there; none after the end, which a NUL is too.
fn octet_at(text: &[u8], at: usize) -> Option<u8> {
    text.get(at).copied().filter(|octet| *octet != 0)
}

const fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

const fn blank_for(octet: u8) -> u8 {
    if is_blank(octet) { b' ' } else { octet }
}

/// Operators stand alone.
const OPERATOR: u8 = 1;
/// Blanks separate.
const BLANK: u8 = 2;
/// What an atom cannot hold besides.
const CONTROL: u8 = 4;

/// For each byte what keeps it out of an atom.
static CLASS: OctetTable<u8> = {
    let mut class = OctetTable::filled(0);
    let mut octet = 0_u8;
    loop {
        let of_octet = match octet {
            b' ' | b'\t' | b'\r' | b'\n' => BLANK,
            b'|' | b'"' | b'(' | b')' | b',' | b'.' | b':' | b';' | b'<' | b'>' | b'@' | b'[' | b']'
            | b'%' | b'!' => OPERATOR,
            0..=31 | 127 | b'\\' => CONTROL,
            _ => 0,
        };
        class.set(octet, of_octet);
        if octet == u8::MAX {
            break class;
        }
        octet += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn scanned(text: &str) -> Vec<(TokenKind, String)> {
        let arena = Bump::new();
        let mut tokens = ArenaVec::new_in(&arena);
        scan(&arena, arena.alloc_slice_copy(text.as_bytes()), usize::MAX, &mut tokens);
        tokens.iter().map(|token| (token.kind, String::from_utf8(token.text.to_vec()).unwrap())).collect()
    }

    #[test]
    fn distinguishes_words_operators_and_comments() {
        use TokenKind::{Atom, Comment, Literal, Operator, Quoted};
        let cases: [(&str, &[(TokenKind, &str)]); 8] = [
            ("a.b", &[(Atom, "a"), (Operator(b'.'), ""), (Atom, "b")]),
            (" \"a \\\"b\"\t", &[(Quoted, "a \"b")]),
            ("a\\@b", &[(Quoted, "a@b")]),
            ("\\a", &[(Atom, "a")]),
            ("\\\\", &[(Quoted, "\\")]),
            ("(a (b\n) \\) c)d", &[(Comment, "(a (b\n) \\) c)"), (Atom, "d")]),
            ("[1.2\t3", &[(Literal, "1.2 3")]),
            ("x\u{1}y", &[(Quoted, "x\u{1}y")]),
        ];
        for (text, wanted) in cases {
            let wanted: Vec<_> = wanted.iter().map(|(kind, text)| (*kind, String::from(*text))).collect();
            assert_eq!(scanned(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn stops_at_the_limit() {
        let arena = Bump::new();
        let mut tokens = ArenaVec::new_in(&arena);
        scan(&arena, b"a,b,c", 3, &mut tokens);
        assert_eq!(tokens.len(), 3);
    }

    proptest! {
        #[test]
        fn tokenises_any_input_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let arena = Bump::new();
            let mut tokens = ArenaVec::new_in(&arena);
            scan(&arena, &octets, usize::MAX, &mut tokens);
            prop_assert!(tokens.len() <= octets.len());
        }
    }
}
