//! Properties of addresses, paths and address lists: written text parses back to the same value, and fast paths give the
//! same results as the general code.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::address::{
    AddressList, Destinations, Domains, Part, RewriteContext, RewriteRules, Subdomains, is_domain,
    literal_address, quote_onto, quoted, quoted_local_part, rewrite, rewrite_by_steps, scan, split_domain,
    split_path, unquoted,
};

use super::front;

/// Checks text as a path, as an address in both forms, and as a list. The first byte has flags.
///
/// # Panics
/// A property does not hold.
pub fn check(octets: &[u8]) {
    let ([flags], text) = front(octets);
    check_path(text);
    check_spellings(text);
    check_domain(text);
    check_list(text, usize::from(flags));
    check_rewrite(text, flags);
}

/// Checks that an accepted path parses back from its written form.
fn check_path(text: &[u8]) {
    // A session refuses control characters before it parses a path.
    if text.iter().any(u8::is_ascii_control) {
        let _ = split_path(text, false);
        return;
    }
    let lenient = split_path(text, false);
    let strict = split_path(text, true);
    if let Ok((path, rest)) = &strict {
        assert_eq!(
            lenient.as_ref(),
            Ok(&(path.clone(), *rest)),
            "what strict clients may write means the same"
        );
    }
    let Ok((path, rest)) = lenient else { return };
    assert!(text.trim_ascii_end().ends_with(rest), "parameters are the end of the argument");
    if is_plain(text) {
        let long = [b"()", text].concat();
        assert_eq!(split_path(&long, false), Ok((path.clone(), rest)), "the short way is the long way");
    }
    let (local, domain) = split_domain(&path);
    if path.starts_with(b"@") || local.is_empty() || !domain.is_some_and(is_domain) {
        return;
    }
    let arena = Bump::new();
    let written = [b"<", quoted(&arena, &path), b">"].concat();
    assert_eq!(split_path(&written, true), Ok((path.clone(), &b""[..])), "{}", written.escape_ascii());
}

/// Returns whether the text is `<local@domain>` of letters, digits and few other characters, optionally followed by a space.
fn is_plain(text: &[u8]) -> bool {
    let Some(close) = text.iter().position(|octet| *octet == b'>') else { return false };
    let (path, rest) = text.split_at(close + 1);
    let Some((local, domain)) = path
        .strip_prefix(b"<")
        .and_then(|inner| inner.strip_suffix(b">"))
        .and_then(|inner| Some(inner.split_at(inner.iter().position(|octet| *octet == b'@')?)))
    else {
        return false;
    };
    let is_atom = |octet: &u8| octet.is_ascii_alphanumeric() || b".-_+=/#'".contains(octet);
    (rest.is_empty() || rest.starts_with(b" "))
        && !local.is_empty()
        && domain.len() > 1
        && local.iter().chain(&domain[1..]).all(is_atom)
}

/// Checks that quoting does not change the meaning.
fn check_spellings(text: &[u8]) {
    let arena = Bump::new();
    let external = quoted(&arena, text);
    let mut appended = ArenaVec::new_in(&arena);
    quote_onto(text, &mut appended);
    assert_eq!(external, &*appended, "both ways of quoting are one");
    let internal = unquoted(&arena, text);
    assert!(internal.len() <= text.len());
    let (local, domain) = split_domain(text);
    let quoted_local = quoted_local_part(&arena, local);
    assert_eq!(unquoted(&arena, quoted_local), local, "{}", quoted_local.escape_ascii());
    // Source routes are not quoted, and a quote in a domain has no meaning.
    let has_quotes = domain.is_some_and(|domain| domain.iter().any(|octet| b"\"\\".contains(octet)));
    if !text.starts_with(b"@") && !has_quotes {
        assert_eq!(unquoted(&arena, external), text, "{}", external.escape_ascii());
    }
}

fn check_domain(text: &[u8]) {
    if is_domain(text) {
        assert!((1..=255).contains(&text.len()));
        assert!(!text.iter().any(|octet| octet.is_ascii_control() || b" <>@,;\"\\()".contains(octet)));
    }
    if let Some(address) = literal_address(text) {
        let own = Destinations { own_addresses: vec![address], ..Destinations::default() };
        assert!(own.is_local(text) && own.is_local(&[text, b"."].concat()));
    }
    let lower = text.to_ascii_lowercase();
    for subdomains in [Subdomains::Never, Subdomains::OfEach, Subdomains::OfDotted] {
        let mut domains = Domains::new(subdomains);
        domains.add_name(&lower, false);
        if text.len() <= 255 {
            assert!(domains.has_name(text), "a domain is itself, in any case");
        }
        if text.is_ascii() && text.len() <= 250 && !lower.windows(4).any(|octets| octets == b"xn--") {
            let is_dotted = text.starts_with(b".");
            assert_eq!(
                domains.has_name(&[b"x", text].concat()),
                is_dotted && subdomains == Subdomains::OfDotted,
                "{}",
                text.escape_ascii()
            );
            assert_eq!(
                domains.has_name(&[b"x.", text].concat()),
                subdomains == Subdomains::OfEach || is_dotted && subdomains == Subdomains::OfDotted,
                "{}",
                text.escape_ascii()
            );
        }
    }
}

/// Checks that a list is bounded by its text, and that a list of only addresses and commas parses back.
fn check_list(text: &[u8], limit: usize) {
    let arena = Bump::new();
    let mut tokens = ArenaVec::new_in(&arena);
    scan(&arena, text, usize::MAX, &mut tokens);
    assert!(tokens.len() <= text.len(), "a token is an octet at least");
    let mut first = ArenaVec::new_in(&arena);
    scan(&arena, text, limit, &mut first);
    assert_eq!(*first, tokens[..limit.min(tokens.len())], "a limit leaves out what is behind it");
    let list = AddressList::parse(&arena, text, usize::MAX);
    // A comma may be between any two tokens.
    assert!(list.parts.len() <= 2 * tokens.len() + 2, "{} parts", list.parts.len());
    let mut out = ArenaVec::new_in(&arena);
    list.write(&arena, &mut out);
    assert!(out.len() <= 6 * text.len() + 8, "a list of {} octets is written in {}", text.len(), out.len());
    let addresses = addresses_of(&list);
    if !is_simple(&list) || addresses.iter().any(|address| !is_mailbox(address)) {
        return;
    }
    let again = AddressList::parse(&arena, arena.alloc_slice_copy(&out), usize::MAX);
    assert_eq!(addresses_of(&again), addresses, "{}", out.escape_ascii());
    let mut twice = ArenaVec::new_in(&arena);
    again.write(&arena, &mut twice);
    assert_eq!(*twice, *out, "{}", out.escape_ascii());
}

/// Returns whether the list consists of addresses separated by commas.
fn is_simple(list: &AddressList<'_>) -> bool {
    list.parts.iter().enumerate().all(|(index, part)| match part {
        Part::Address(_) => index % 2 == 0,
        Part::Token(token) => {
            index % 2 == 1 && token.kind == mailrace_core::address::TokenKind::Operator(b',')
        }
        Part::GroupStart => false,
    })
}

/// Returns the addresses of a list, each in its written form.
fn addresses_of(list: &AddressList<'_>) -> Vec<Vec<u8>> {
    let arena = Bump::new();
    let alone = |tokens: &[mailrace_core::address::Token<'_>]| {
        let mut tokens_alone = ArenaVec::new_in(&arena);
        tokens_alone.extend(tokens.iter().copied());
        let mut parts = ArenaVec::new_in(&arena);
        parts.push(Part::Address(tokens_alone));
        let mut out = ArenaVec::new_in(&arena);
        AddressList { parts }.write(&arena, &mut out);
        out.to_vec()
    };
    list.addresses().map(|tokens| alone(tokens)).collect()
}

/// Returns whether an address (external form) consists of only a local-part and a domain.
fn is_mailbox(address: &[u8]) -> bool {
    let arena = Bump::new();
    let (local, domain) = split_domain(unquoted(&arena, address));
    !local.is_empty() && !address.starts_with(b"@") && domain.is_some_and(is_domain)
}

/// Checks that rewriting gives the same result with and without reporting its steps, and leaves a complete address
/// unchanged.
fn check_rewrite(text: &[u8], flags: u8) {
    let arena = Bump::new();
    let rules = RewriteRules {
        append_at_myorigin: flags & 1 == 0,
        append_dot_mydomain: flags & 2 == 0,
        swap_bangpath: flags & 4 == 0,
        allow_percent_hack: flags & 8 == 0,
    };
    let context = RewriteContext { origin: b"origin.example".to_vec(), domain: b"domain.example".to_vec() };
    let once = rewrite(&arena, &rules, &context, text);
    let by_steps = rewrite_by_steps(&arena, &rules, &context, text, &mut |_, _| {});
    assert_eq!(
        once.escape_ascii().to_string(),
        by_steps.escape_ascii().to_string(),
        "the short way is the long way"
    );
    assert!(once.len() <= 3 * text.len() + 64, "{} octets become {}", text.len(), once.len());
    // The first rewriting keeps the line ends of a comment that became part of a word.
    if is_mailbox(once) && !text.iter().any(u8::is_ascii_control) {
        let twice = rewrite(&arena, &rules, &context, once);
        if !(rules.append_dot_mydomain || rules.swap_bangpath || rules.allow_percent_hack) {
            assert_eq!(twice.escape_ascii().to_string(), once.escape_ascii().to_string());
        }
    }
}
