//! Lists of addresses in header fields (RFC 5322 §3.4): where each address is, and how a list
//! is written again.
//!
//! Nothing is thrown away: text that is no address stays where it is. A comment inside an address moves after
//! it, and where a comma is missing between two addresses one is added. Both as Postfix does it.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::quote::quote_onto;
use super::rewrite::is_complete;
use super::token::{Token, TokenKind, scan};

/// A part of a list.
#[derive(Debug)]
pub enum Part<'a> {
    /// The tokens of one address.
    Address(ArenaVec<'a, Token<'a>>),
    /// What stands between addresses.
    Token(Token<'a>),
    /// The colon after a group's name.
    GroupStart,
}

/// A list of addresses.
#[derive(Debug)]
pub struct AddressList<'a> {
    /// In their order.
    pub parts: ArenaVec<'a, Part<'a>>,
}

impl<'a> AddressList<'a> {
    /// Reads `text`, of which only the first `token_limit` tokens count.
    #[must_use]
    pub fn parse(arena: &'a Bump, text: &'a [u8], token_limit: usize) -> Self {
        let mut tokens = ArenaVec::with_capacity_in(16, arena);
        scan(arena, text, token_limit, &mut tokens);
        let mut reader = Reader {
            arena,
            tokens: &tokens,
            parts: ArenaVec::with_capacity_in(tokens.len() + 2, arena),
            pending: ArenaVec::new_in(arena),
        };
        reader.read();
        let mut parts = reader.parts;
        parts.reverse();
        Self { parts }
    }

    /// The addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &ArenaVec<'a, Token<'a>>> {
        self.parts.iter().filter_map(|part| match part {
            Part::Address(tokens) => Some(tokens),
            _ => None,
        })
    }

    /// Appends the list in external form to `out`, a line feed after each comma. Of an entry with more than 250
    /// bytes besides its address only the address is written.
    pub fn write(&self, arena: &'a Bump, out: &mut ArenaVec<'a, u8>) {
        let mut entry = Entry::default();
        entry.begin(out.len());
        for (index, part) in self.parts.iter().enumerate() {
            let next = self.parts.get(index + 1);
            match part {
                Part::Token(token) if token.is_operator(b',') => {
                    entry.end(arena, out);
                    out.extend_from_slice_copy(b",\n");
                    entry.begin(out.len());
                    continue;
                }
                Part::Address(tokens) => {
                    let start = out.len();
                    write_address(arena, tokens, out);
                    entry.address = Some(tokens);
                    entry.address_size = out.len() - start;
                }
                Part::Token(token) => {
                    let is_empty_path = token.is_operator(b'<')
                        && matches!(next, Some(Part::Token(next)) if next.is_operator(b'>'));
                    if is_empty_path {
                        entry.address = Some(&[]);
                        entry.address_size = 0;
                    }
                    write_token(token, out);
                }
                Part::GroupStart => out.push(b':'),
            }
            if next.is_some_and(|next| is_blank_between(part, next)) {
                out.push(b' ');
            }
        }
        entry.end(arena, out);
    }
}

/// The addresses of a list in which nothing is unusual: each is alone or in brackets after words or a quoted
/// string, and is complete as it is ([`super::rewrite`] leaves it alone). `None` for any other list.
#[must_use]
pub(crate) fn plain_addresses<'a>(arena: &'a Bump, text: &'a [u8]) -> Option<ArenaVec<'a, &'a [u8]>> {
    let mut addresses = ArenaVec::with_capacity_in(4, arena);
    let mut rest = text.trim_ascii();
    loop {
        let (address, behind) = plain_entry(rest)?;
        addresses.push(address);
        match behind.split_first() {
            None => return Some(addresses),
            Some((b',', behind)) => rest = behind.trim_ascii_start(),
            Some(_) => return None,
        }
    }
}

/// The address of the first entry, and what follows the entry.
fn plain_entry(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    while let Some(octet) = text.get(at) {
        match octet {
            b'"' => {
                let inner = text.get(at + 1..)?;
                at += 2 + inner.iter().position(|octet| matches!(octet, b'"' | b'\\' | b'\n'))?;
                if text.get(at - 1) != Some(&b'"') {
                    return None;
                }
            }
            b'<' => {
                let inner = text.get(at + 1..)?;
                let (address, behind) = inner.split_at_checked(memchr::memchr(b'>', inner)?)?;
                return is_complete(address).then(|| (address, behind.get(1..).unwrap_or_default()));
            }
            b',' => break,
            b'(' | b')' | b'[' | b']' | b':' | b';' | b'>' | b'\\' | 0 => return None,
            _ => at += 1,
        }
    }
    let (address, behind) = text.split_at_checked(at)?;
    is_complete(address).then_some((address, behind))
}

/// What was written since the last comma.
#[derive(Default)]
struct Entry<'l, 'a> {
    start: usize,
    /// Its last address.
    address: Option<&'l [Token<'a>]>,
    address_size: usize,
}

/// Bytes of an entry that are no address: with more of them some software would overflow.
const NO_ADDRESS_SIZE_MAX: usize = 250;

impl<'l, 'a> Entry<'l, 'a> {
    fn begin(&mut self, start: usize) {
        *self = Self { start, ..Self::default() };
    }

    fn end(&self, arena: &'a Bump, out: &mut ArenaVec<'a, u8>) {
        let Some(address) = self.address else { return };
        if out.len() - self.address_size > self.start + NO_ADDRESS_SIZE_MAX {
            out.truncate(self.start);
            out.push(b'<');
            if !address.is_empty() {
                write_address(arena, address, out);
            }
            out.push(b'>');
        }
    }
}

/// Whether a space is written between two parts.
fn is_blank_between(part: &Part<'_>, next: &Part<'_>) -> bool {
    let is_text = |part: &Part<'_>| match part {
        Part::Address(_) => true,
        Part::Token(token) => token.is_text(),
        Part::GroupStart => false,
    };
    matches!(part, Part::GroupStart)
        || matches!(next, Part::Token(next) if next.is_operator(b'<'))
        || is_text(part) && is_text(next)
}

/// Appends an address in external form, its local-part quoted if it has to be.
pub(super) fn write_address<'a>(arena: &'a Bump, tokens: &[Token<'_>], out: &mut ArenaVec<'a, u8>) {
    let mut internal = ArenaVec::new_in(arena);
    write_internal(tokens, &mut internal);
    quote_onto(&internal, out);
}

/// Appends tokens as they would be spelled, each on its own.
pub(crate) fn write_tokens(tokens: &[Token<'_>], out: &mut ArenaVec<'_, u8>) {
    for (index, token) in tokens.iter().enumerate() {
        write_token(token, out);
        // After a comma also where nothing follows: so an address that ends in one counts as changed.
        if token.is_operator(b',') || is_blank_after(token, tokens.get(index + 1)) {
            out.push(b' ');
        }
    }
}

/// Appends what tokens mean: without quotes.
pub(crate) fn write_internal(tokens: &[Token<'_>], out: &mut ArenaVec<'_, u8>) {
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Atom | TokenKind::Quoted | TokenKind::Comment => {
                out.extend_from_slice_copy(token.text);
            }
            TokenKind::Literal => {
                out.push(b'[');
                out.extend_from_slice_copy(token.text);
                out.push(b']');
            }
            TokenKind::Operator(octet) => out.push(octet),
        }
        if is_blank_after(token, tokens.get(index + 1)) {
            out.push(b' ');
        }
    }
}

fn is_blank_after(token: &Token<'_>, next: Option<&Token<'_>>) -> bool {
    !token.is_joined
        && next.is_some_and(|next| {
            token.is_operator(b',') || next.is_operator(b'<') || token.is_text() && next.is_text()
        })
}

fn write_token(token: &Token<'_>, out: &mut ArenaVec<'_, u8>) {
    match token.kind {
        TokenKind::Atom | TokenKind::Comment => out.extend_from_slice_copy(token.text),
        TokenKind::Quoted => {
            out.push(b'"');
            write_escaped(token.text, b"\"\\\r", out);
            out.push(b'"');
        }
        TokenKind::Literal => {
            out.push(b'[');
            write_escaped(token.text, b"\\\r", out);
            out.push(b']');
        }
        TokenKind::Operator(octet) => out.push(octet),
    }
}

fn write_escaped(text: &[u8], escaped: &[u8], out: &mut ArenaVec<'_, u8>) {
    for octet in text {
        if escaped.contains(octet) {
            out.push(b'\\');
        }
        out.push(*octet);
    }
}

/// Finds the addresses, from the end of the tokens to their front: what follows a token says what it means.
struct Reader<'t, 'a> {
    arena: &'a Bump,
    tokens: &'t [Token<'a>],
    /// The parts found, last first.
    parts: ArenaVec<'a, Part<'a>>,
    /// The tokens of the current address, last first.
    pending: ArenaVec<'a, Token<'a>>,
}

impl<'a> Reader<'_, 'a> {
    fn read(&mut self) {
        let mut left = self.tokens.len();
        // A word may begin the current address, or belong to it after an operator.
        let mut may_take_word = true;
        let mut is_in_group = false;
        // The current token ends the skipped text and is not part of an address.
        let mut is_border = false;
        while let Some(token) = left.checked_sub(1).and_then(|last| self.tokens.get(last)).copied() {
            left -= 1;
            let was_border = core::mem::take(&mut is_border);
            match token.kind {
                TokenKind::Comment => self.parts.push(Part::Token(token)),
                TokenKind::Operator(b';') => {
                    self.end_address(true);
                    self.parts.push(Part::Token(token));
                    is_in_group = true;
                    may_take_word = true;
                }
                TokenKind::Operator(b':') if is_in_group => {
                    self.end_address(false);
                    self.parts.push(Part::GroupStart);
                    left = self.skip(left, |octet| octet == b',');
                    is_border = true;
                }
                TokenKind::Operator(b'>') => {
                    self.end_address(true);
                    self.parts.push(Part::Token(token));
                    left = self.read_path(left);
                    left = self.skip(left, |octet| matches!(octet, b'>' | b';' | b',' | b':'));
                    is_border = true;
                    may_take_word = true;
                }
                TokenKind::Atom | TokenKind::Quoted | TokenKind::Literal => {
                    if !may_take_word {
                        self.end_address(true);
                    }
                    may_take_word = false;
                    self.pending.push(token);
                }
                TokenKind::Operator(b',') => {
                    self.end_address(false);
                    self.parts.push(Part::Token(token));
                    may_take_word = true;
                }
                TokenKind::Operator(_) => {
                    if was_border {
                        self.parts.push(Part::Token(token));
                    } else {
                        self.pending.push(token);
                    }
                    may_take_word = true;
                }
            }
        }
        self.end_address(false);
    }

    /// Takes the current tokens as an address. `with_comma`: no comma separates them from what comes before.
    fn end_address(&mut self, with_comma: bool) {
        if self.pending.is_empty() {
            return;
        }
        let empty = ArenaVec::new_in(self.arena);
        let mut tokens = core::mem::replace(&mut self.pending, empty);
        tokens.reverse();
        tokens.iter_mut().for_each(|token| token.is_joined = true);
        self.parts.push(Part::Address(tokens));
        if with_comma {
            self.parts.push(Part::Token(Token::operator(b',')));
        }
    }

    /// An address in angle brackets, from its last token to the `<`, which is left where it is.
    fn read_path(&mut self, mut left: usize) -> usize {
        while let Some(token) = left.checked_sub(1).and_then(|last| self.tokens.get(last)).copied() {
            if token.is_operator(b'<') {
                break;
            }
            left -= 1;
            if token.kind == TokenKind::Comment {
                self.parts.push(Part::Token(token));
            } else {
                self.pending.push(token);
            }
        }
        self.end_address(false);
        left
    }

    /// Takes all up to an operator that `is_end` names as text that is no address.
    fn skip(&mut self, mut left: usize, is_end: impl Fn(u8) -> bool) -> usize {
        while let Some(token) = left.checked_sub(1).and_then(|last| self.tokens.get(last)).copied() {
            if matches!(token.kind, TokenKind::Operator(octet) if is_end(octet)) {
                break;
            }
            left -= 1;
            self.parts.push(Part::Token(token));
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        let arena = Bump::new();
        let list = AddressList::parse(&arena, arena.alloc_slice_copy(text.as_bytes()), usize::MAX);
        let mut out = ArenaVec::new_in(&arena);
        list.write(&arena, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn lists_are_written_as_postfix_writes_them() {
        for (text, written) in [
            ("a@b, C D <e@f> (x)", "a@b,\nC D <e@f>(x)"),
            ("a (c) b", "a,\nb (c)"),
            ("g: a@b, \"x, y\" <c@d>;, e", "g: a@b,\n\"x, y\" <c@d>;,\ne"),
            ("(c)a@b", "a@b (c)"),
            ("<a@b", "\"<a\"@b"),
            ("a b@c d", "a,\nb@c,\nd"),
            ("Joe<joe>", "Joe <joe>"),
            ("<>", "<>"),
            (",", ",\n"),
        ] {
            assert_eq!(shown(text), written, "{text}");
        }
    }

    #[test]
    fn long_comments_are_stripped() {
        let comment = alloc::format!("({})", "x".repeat(260));
        assert_eq!(shown(&alloc::format!("a@b {comment}, c@d")), "<a@b>,\nc@d");
        assert_eq!(shown(&comment), comment, "no address, nothing to save");
    }

    proptest! {
        #[test]
        fn the_fast_path_equals_the_slow_path(text in "([ab .<>,@\"-]|a@b[.]c){0,8}") {
            let arena = Bump::new();
            let text = arena.alloc_str(&text).as_bytes();
            if let Some(plain) = plain_addresses(&arena, text) {
                let list = AddressList::parse(&arena, text, usize::MAX);
                let long: Vec<Vec<u8>> = list
                    .addresses()
                    .map(|tokens| {
                        let mut out = ArenaVec::new_in(&arena);
                        write_tokens(tokens, &mut out);
                        out.to_vec()
                    })
                    .collect();
                prop_assert_eq!(plain.iter().map(|address| address.to_vec()).collect::<Vec<_>>(), long);
            }
        }
    }
}
