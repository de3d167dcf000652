//! The trivial rewrite: how one address becomes `user@fully.qualified.domain`, as Postfix's trivial-rewrite
//! does it.

use alloc::vec::Vec;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::list::{write_address, write_tokens};
use super::token::{Token, TokenKind, scan};
use crate::octet_table::OctetTable;

/// What every rewrite is set to; names and defaults are Postfix's.
#[derive(Clone, Debug)]
pub struct RewriteRules {
    /// Whether an address without domain gets one.
    pub append_at_myorigin: bool,
    /// Whether a domain without a dot gets one.
    pub append_dot_mydomain: bool,
    /// Whether `site!user` is `user@site`.
    pub swap_bangpath: bool,
    /// Whether `user%domain` is `user@domain`.
    pub allow_percent_hack: bool,
}

impl Default for RewriteRules {
    fn default() -> Self {
        Self {
            append_at_myorigin: true,
            append_dot_mydomain: false,
            swap_bangpath: true,
            allow_percent_hack: true,
        }
    }
}

/// What incomplete addresses are completed with.
#[derive(Clone, Debug, Default)]
pub struct RewriteContext {
    /// Follows `user`; empty: nothing is.
    pub origin: Vec<u8>,
    /// Follows `user@host`; empty: nothing is.
    pub domain: Vec<u8>,
}

/// All that addresses are rewritten by.
#[derive(Clone, Debug, Default)]
pub struct Rewriting {
    /// The rules.
    pub rules: RewriteRules,
    /// For envelopes, and for header sections of our own clients: `myorigin` and `mydomain`.
    pub local: RewriteContext,
    /// For header sections of strangers: `remote_header_rewrite_domain` twice. `None`: they are left alone.
    pub remote: Option<RewriteContext>,
}

/// A rule that changed an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteStep {
    /// A lone `@` means the empty address.
    LoneAt,
    /// `@a,@b:user@c` is `user@c`.
    SourceRoute,
    /// `swap_bangpath`.
    BangPath,
    /// `allow_percent_hack`.
    PercentHack,
    /// `append_at_myorigin`.
    Origin,
    /// `append_dot_mydomain`.
    Domain,
    /// `host.` is `host`.
    TrailingDot,
}

/// The rewritten form of `address`; both are in external form. The same slice if nothing changes.
#[must_use]
pub fn rewrite<'a>(
    arena: &'a Bump,
    rules: &RewriteRules,
    context: &'a RewriteContext,
    address: &'a [u8],
) -> &'a [u8] {
    if is_complete(address) {
        return address;
    }
    rewrite_spelled(arena, rules, context, address, &mut |_, _| {})
}

/// [`rewrite`], with a call of `note` for each rule that changes something and what the address then is.
pub fn rewrite_by_steps<'a>(
    arena: &'a Bump,
    rules: &RewriteRules,
    context: &'a RewriteContext,
    address: &'a [u8],
    note: &mut impl FnMut(RewriteStep, &[u8]),
) -> &'a [u8] {
    rewrite_spelled(arena, rules, context, address, &mut |step, tokens: &[Token<'a>]| {
        let mut spelled = ArenaVec::new_in(arena);
        write_tokens(tokens, &mut spelled);
        note(step, &spelled);
    })
}

fn rewrite_spelled<'a>(
    arena: &'a Bump,
    rules: &RewriteRules,
    context: &'a RewriteContext,
    address: &'a [u8],
    note: &mut impl FnMut(RewriteStep, &[Token<'a>]),
) -> &'a [u8] {
    let mut tokens = ArenaVec::with_capacity_in(16, arena);
    scan(arena, address, usize::MAX, &mut tokens);
    if tokens.is_empty() {
        return address;
    }
    rewrite_tokens(arena, rules, context, &mut tokens, note);
    let mut out = ArenaVec::with_capacity_in(address.len() + 32, arena);
    write_address(arena, &tokens, &mut out);
    if *out == *address { address } else { out.into_bump_slice() }
}

/// Rewrites an address as tokens.
pub(crate) fn rewrite_tokens<'a>(
    arena: &'a Bump,
    rules: &RewriteRules,
    context: &'a RewriteContext,
    tokens: &mut ArenaVec<'a, Token<'a>>,
    note: &mut impl FnMut(RewriteStep, &[Token<'a>]),
) {
    if tokens.is_empty() || is_empty_address(tokens) {
        return;
    }
    if matches!(tokens.as_slice(), [only] if only.is_operator(b'@')) {
        tokens.clear();
        tokens.push(Token { kind: TokenKind::Quoted, text: b"", is_joined: true });
        note(RewriteStep::LoneAt, tokens);
        return;
    }
    drop_source_route(tokens, note);
    complete(arena, rules, context, tokens, note);
    drop_trailing_dot(tokens, note);
}

/// `""`: it stays.
fn is_empty_address(tokens: &[Token<'_>]) -> bool {
    matches!(tokens, [only] if only.kind == TokenKind::Quoted && only.text.is_empty())
}

fn drop_source_route<'a>(
    tokens: &mut ArenaVec<'a, Token<'a>>,
    note: &mut impl FnMut(RewriteStep, &[Token<'a>]),
) {
    if !tokens.first().is_some_and(|first| first.is_operator(b'@')) {
        return;
    }
    if let Some(colon) = tokens.iter().position(|token| token.is_operator(b':'))
        && colon + 1 < tokens.len()
    {
        tokens.drain(..=colon);
        note(RewriteStep::SourceRoute, tokens);
    }
}

fn complete<'a>(
    arena: &'a Bump,
    rules: &RewriteRules,
    context: &'a RewriteContext,
    tokens: &mut ArenaVec<'a, Token<'a>>,
    note: &mut impl FnMut(RewriteStep, &[Token<'a>]),
) {
    let first = |tokens: &[Token<'_>], octet| tokens.iter().position(|token| token.is_operator(octet));
    let last = |tokens: &[Token<'_>], octet| tokens.iter().rposition(|token| token.is_operator(octet));
    if last(tokens, b'@').is_none() {
        if rules.swap_bangpath
            && let Some(bang) = first(tokens, b'!')
        {
            let mut swapped = ArenaVec::with_capacity_in(tokens.len() + 4, arena);
            swapped.extend(tokens.iter().skip(bang + 1));
            swapped.push(Token::operator(b'@'));
            if bang == 0 {
                // With no site before the sign Postfix writes what follows it without spaces.
                swapped.iter_mut().for_each(|token| token.is_joined = true);
            }
            swapped.extend(tokens.iter().take(bang));
            *tokens = swapped;
            note(RewriteStep::BangPath, tokens);
        } else if rules.allow_percent_hack
            && let Some(percent) = last(tokens, b'%')
        {
            if let Some(token) = tokens.get_mut(percent) {
                token.kind = TokenKind::Operator(b'@');
            }
            note(RewriteStep::PercentHack, tokens);
        } else if rules.append_at_myorigin && !context.origin.is_empty() {
            tokens.push(Token::operator(b'@').joined());
            append(arena, &context.origin, tokens);
            note(RewriteStep::Origin, tokens);
        }
    }
    if rules.append_dot_mydomain
        && !context.domain.is_empty()
        && let Some(at) = last(tokens, b'@')
    {
        let domain = tokens.get(at + 1..).unwrap_or_default();
        let is_short =
            !domain.iter().any(|token| token.kind == TokenKind::Literal || token.is_operator(b'.'));
        if !domain.is_empty() && is_short {
            tokens.push(Token::operator(b'.').joined());
            append(arena, &context.domain, tokens);
            note(RewriteStep::Domain, tokens);
        }
    }
}

fn append<'a>(arena: &'a Bump, text: &'a [u8], tokens: &mut ArenaVec<'a, Token<'a>>) {
    let start = tokens.len();
    scan(arena, text, usize::MAX, tokens);
    tokens.iter_mut().skip(start).for_each(|token| token.is_joined = true);
}

/// Only one dot, and none after another dot or after the `@`: a malformed address stays recognisable.
fn drop_trailing_dot<'a>(
    tokens: &mut ArenaVec<'a, Token<'a>>,
    note: &mut impl FnMut(RewriteStep, &[Token<'a>]),
) {
    if let [.., before, last] = tokens.as_slice()
        && last.is_operator(b'.')
        && !before.is_operator(b'.')
        && !before.is_operator(b'@')
    {
        tokens.pop();
        note(RewriteStep::TrailingDot, tokens);
    }
}

/// An address (external form) as its tokens would be written: quotes closed, blanks between words.
pub(crate) fn respelled<'a>(arena: &'a Bump, address: &'a [u8]) -> &'a [u8] {
    if is_complete(address) {
        return address;
    }
    let mut tokens = ArenaVec::with_capacity_in(16, arena);
    scan(arena, address, usize::MAX, &mut tokens);
    let mut out = ArenaVec::with_capacity_in(address.len() + 2, arena);
    write_tokens(&tokens, &mut out);
    if *out == *address { address } else { out.into_bump_slice() }
}

/// Whether an address is already what every rule leaves alone, and the same in internal and in external form: a
/// dot-string at a domain of letters, digits and hyphens with a dot inside.
pub(crate) fn is_complete(address: &[u8]) -> bool {
    let mut before = DOT;
    let (mut has_at, mut has_dot) = (false, false);
    for octet in address {
        let class = PLAIN.get(*octet);
        if class != WORD {
            if before != WORD || class == 0 || class == AT && has_at {
                return false;
            }
            has_dot |= has_at;
            has_at |= class == AT;
        }
        before = class;
    }
    has_dot && before == WORD
}

/// What words of a plain address are of.
const WORD: u8 = 1;
/// Between two words.
const DOT: u8 = 2;
/// Between local-part and domain.
const AT: u8 = 3;

/// What each byte is in a plain address; 0: it is not in one.
static PLAIN: OctetTable<u8> = {
    let mut plain = OctetTable::filled(0);
    let mut octet = 0;
    while octet < 128 {
        let class = match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => WORD,
            b'-' | b'_' | b'+' | b'=' | b'&' | b'\'' | b'*' | b'/' | b'#' => WORD,
            b'.' => DOT,
            b'@' => AT,
            _ => 0,
        };
        plain.set(octet, class);
        octet += 1;
    }
    plain
};

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn context() -> RewriteContext {
        RewriteContext { origin: b"example.test".to_vec(), domain: b"example.test".to_vec() }
    }

    fn rewritten(append_dot_mydomain: bool, address: &[u8]) -> Vec<u8> {
        let rules = RewriteRules { append_dot_mydomain, ..RewriteRules::default() };
        let (arena, context) = (Bump::new(), context());
        rewrite(&arena, &rules, &context, address).to_vec()
    }

    /// Each as real Postfix 3.7 does it, without and with append_dot_mydomain.
    #[test]
    fn rewrites_addresses_as_postfix_does() {
        for (address, without, with) in [
            ("user", "user@example.test", "user@example.test"),
            ("user@host", "user@host", "user@host.example.test"),
            ("user@Host.DOM", "user@Host.DOM", "user@Host.DOM"),
            ("user@", "user@", "user@"),
            ("@", "\"\"", "\"\""),
            ("@host.dom", "\"\"@host.dom", "\"\"@host.dom"),
            ("\"\"", "\"\"", "\"\""),
            ("user@host.", "user@host", "user@host"),
            ("user@host.dom.", "user@host.dom", "user@host.dom"),
            ("user@host.dom..", "user@host.dom..", "user@host.dom.."),
            ("user@.", "user@.", "user@."),
            ("user@..", "user@..", "user@.."),
            ("host!user", "user@host", "user@host.example.test"),
            ("h1!h2!user", "h2!user@h1", "h2!user@h1.example.test"),
            ("host!user%x", "user%x@host", "user%x@host.example.test"),
            ("!user", "user@", "user@"),
            ("host!", "\"\"@host", "\"\"@host.example.test"),
            ("user%host", "user@host", "user@host.example.test"),
            ("u%h1%h2", "u%h1@h2", "u%h1@h2.example.test"),
            ("%host", "\"\"@host", "\"\"@host.example.test"),
            ("user%", "user@", "user@"),
            ("user%host@dom.x", "user%host@dom.x", "user%host@dom.x"),
            ("@r1:user@x.y", "user@x.y", "user@x.y"),
            ("@r1,@r2:user@x.y", "user@x.y", "user@x.y"),
            ("@r1:user", "user@example.test", "user@example.test"),
            ("\"quoted user\"", "\"quoted user\"@example.test", "\"quoted user\"@example.test"),
            ("\"user\"@x.y", "user@x.y", "user@x.y"),
            ("\"user@inner\"@x.y", "\"user@inner\"@x.y", "\"user@inner\"@x.y"),
            ("\"user%h\"", "user%h@example.test", "user%h@example.test"),
            ("us er", "\"us er\"@example.test", "\"us er\"@example.test"),
            ("a@b@c.d", "\"a@b\"@c.d", "\"a@b\"@c.d"),
            ("a\\@b", "\"a@b\"@example.test", "\"a@b\"@example.test"),
            ("user@[1.2.3.4]", "user@[1.2.3.4]", "user@[1.2.3.4]"),
            ("user@1.2.3.4", "user@1.2.3.4", "user@1.2.3.4"),
            ("Name <user@x>", "\"Name <user\"@x>", "\"Name <user\"@x>.example.test"),
            (".user", "\".user\"@example.test", "\".user\"@example.test"),
            ("user..x@y", "\"user..x\"@y", "\"user..x\"@y.example.test"),
            ("user;@x", "\"user;\"@x", "\"user;\"@x.example.test"),
            ("user@host..dom", "user@host..dom", "user@host..dom"),
            ("üser", "üser@example.test", "üser@example.test"),
        ] {
            assert_eq!(String::from_utf8_lossy(&rewritten(false, address.as_bytes())), without, "{address}");
            assert_eq!(
                String::from_utf8_lossy(&rewritten(true, address.as_bytes())),
                with,
                "{address}, with"
            );
        }
    }

    #[test]
    fn reports_every_step() {
        let (arena, context) = (Bump::new(), context());
        let rules = RewriteRules { append_dot_mydomain: true, ..RewriteRules::default() };
        let mut steps = Vec::new();
        rewrite_by_steps(&arena, &rules, &context, b"@relay:host!user", &mut |step, address| {
            steps.push((step, String::from_utf8(address.to_vec()).unwrap()));
        });
        let wanted = [
            (RewriteStep::SourceRoute, "host!user"),
            (RewriteStep::BangPath, "user@host"),
            (RewriteStep::Domain, "user@host.example.test"),
        ];
        assert_eq!(steps, wanted.map(|(step, address)| (step, String::from(address))));
    }

    proptest! {
        #[test]
        fn the_fast_path_equals_the_slow_path(address in "[ab.@+-]{0,12}") {
            let (arena, context, rules) = (Bump::new(), context(), RewriteRules::default());
            let slow = rewrite_by_steps(&arena, &rules, &context, address.as_bytes(), &mut |_, _| {});
            prop_assert_eq!(rewrite(&arena, &rules, &context, address.as_bytes()), slow);
        }

        #[test]
        fn rewrites_any_input_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = rewritten(true, &octets);
        }
    }
}
