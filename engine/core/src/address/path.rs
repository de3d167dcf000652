//! The paths of MAIL and RCPT (RFC 5321 §4.1.2).
//!
//! Lenient as Postfix is: what the brackets hold is read like an address in a header field, so that comments, blanks
//! and quotes come out as what they mean. What can be read in two ways is refused.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::list::{AddressList, Part, write_internal};

/// Why a path is none; answered with 501 5.1.7 (MAIL) or 501 5.1.3 (RCPT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError;

/// Splits `argument` into a path and what follows it, the blanks between them not included.
///
/// `argument`: the bytes after `FROM:` or `TO:`, no line end. The path comes in internal form, empty for `<>`; a
/// source route is accepted and dropped (§3.3, appendix C). `is_strict`: brackets are needed, and nothing may stand
/// beside them.
///
/// # Errors
/// [`PathError`].
pub fn split_path(argument: &[u8], is_strict: bool) -> Result<(Vec<u8>, &[u8]), PathError> {
    if let Some((address, rest)) = plain_path(argument) {
        return Ok((address.to_vec(), rest));
    }
    if is_strict && !argument.starts_with(b"<") {
        return Err(PathError);
    }
    let argument = argument.trim_ascii_start();
    let (word, rest) = first_word(argument)?;
    let inner = word.strip_prefix(b"<").and_then(|inner| inner.strip_suffix(b">")).unwrap_or(word);
    let inner = match memchr::memchr(b':', inner) {
        Some(colon) if inner.starts_with(b"@") => inner.get(colon + 1..).unwrap_or_default(),
        _ => inner,
    };
    let arena = Bump::new();
    let list = AddressList::parse(&arena, arena.alloc_slice_copy(inner), usize::MAX);
    let is_bracket = |part: &Part<'_>| matches!(part, Part::Token(token) if token.is_operator(b'<') || token.is_operator(b'>'));
    let is_other = |part: &Part<'_>| !matches!(part, Part::Address(_)) && !is_bracket(part);
    let mut addresses = list.addresses();
    let address = addresses.next();
    if addresses.next().is_some() || is_strict && list.parts.iter().any(is_other) {
        return Err(PathError);
    }
    let mut internal = ArenaVec::new_in(&arena);
    if let Some(tokens) = address {
        write_internal(tokens, &mut internal);
    }
    if is_strict && internal.starts_with(b"@") || internal.is_empty() && word != b"<>" && address.is_some() {
        return Err(PathError);
    }
    Ok((internal.to_vec(), rest.trim_ascii()))
}

/// The usual path, `<user@domain>` of letters, digits and few signs, without looking for more in it.
fn plain_path(argument: &[u8]) -> Option<(&[u8], &[u8])> {
    let close = memchr::memchr(b'>', argument)?;
    let (path, rest) = argument.split_at_checked(close + 1)?;
    if !rest.is_empty() && !rest.starts_with(b" ") {
        return None;
    }
    let inner = path.strip_prefix(b"<")?.strip_suffix(b">")?;
    let (local, domain) = inner.split_at_checked(memchr::memchr(b'@', inner)?)?;
    let is_atom = |octet: &u8| octet.is_ascii() && PLAIN >> *octet & 1 == 1;
    let is_plain = !local.is_empty() && domain.len() > 1;
    let is_plain = is_plain && local.iter().chain(domain.iter().skip(1)).all(is_atom);
    is_plain.then(|| (inner, rest.trim_ascii()))
}

/// A bit for each ASCII character that [`plain_path`] knows.
const PLAIN: u128 = {
    let mut set = 0;
    let mut rest: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_+=/#'";
    while let Some((octet, behind)) = rest.split_first() {
        set |= 1 << *octet;
        rest = behind;
    }
    set
};

/// The bytes up to a space outside of quotes and brackets.
fn first_word(argument: &[u8]) -> Result<(&[u8], &[u8]), PathError> {
    let (size, is_closed) = word_size(argument);
    if !is_closed {
        return Err(PathError);
    }
    Ok(argument.split_at_checked(size).unwrap_or((argument, b"")))
}

/// Bytes of the word at the front of `text`, up to a space outside of quotes and angle brackets, and whether all of
/// these are closed. Postfix splits commands so.
pub(crate) fn word_size(text: &[u8]) -> (usize, bool) {
    let mut at = 0;
    let (mut depth, mut is_in_quotes) = (0_usize, false);
    while let Some(octet) = text.get(at) {
        match octet {
            b'\\' => at += 1,
            b'"' => is_in_quotes = !is_in_quotes,
            _ if is_in_quotes => {}
            b'<' => depth += 1,
            b'>' => depth = depth.saturating_sub(1),
            b' ' | b'\t' if depth == 0 => return (at, true),
            _ => {}
        }
        at += 1;
    }
    (text.len(), depth == 0 && !is_in_quotes)
}

/// What an address literal in brackets says (RFC 5321 §4.1.3); `None` if it is none.
#[must_use]
pub fn literal_address(literal: &[u8]) -> Option<core::net::IpAddr> {
    let inner = literal.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let text = core::str::from_utf8(inner).ok()?;
    match text.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => {
            address.parse::<Ipv6Addr>().ok().map(Into::into)
        }
        _ => text.parse::<Ipv4Addr>().ok().map(Into::into),
    }
}

/// Whether a domain can be one: labels of letters, digits, hyphens inside and underscores, or an address literal. A
/// number or a bare IP address is none. Bytes above 127 count as letters (RFC 6531).
#[must_use]
pub fn is_domain(domain: &[u8]) -> bool {
    if domain.starts_with(b"[") {
        return literal_address(domain).is_some();
    }
    if domain.len() > 255 || domain.ends_with(b"-") {
        return false;
    }
    // Of the current label.
    let mut size = 0;
    let mut is_number = true;
    let mut before = b'.';
    for octet in domain {
        match octet {
            b'.' if size == 0 || before == b'-' => return false,
            b'.' => size = 0,
            b'-' if size == 0 => return false,
            b'0'..=b'9' => size += 1,
            b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | 128.. => {
                is_number = false;
                size += 1;
            }
            _ => return false,
        }
        if size > 63 {
            return false;
        }
        before = *octet;
    }
    size > 0 && !is_number
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn read(argument: &str) -> Option<(String, String)> {
        let (path, rest) = split_path(argument.as_bytes(), false).ok()?;
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        Some((text(&path), text(rest)))
    }

    /// [`is_domain`] by its rules, one after the other.
    fn is_domain_slowly(domain: &[u8]) -> bool {
        let is_label = |label: &[u8]| {
            (1..=63).contains(&label.len())
                && !label.starts_with(b"-")
                && !label.ends_with(b"-")
                && label
                    .iter()
                    .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | 128..))
        };
        domain.len() <= 255
            && domain.split(|octet| *octet == b'.').all(is_label)
            && domain.iter().any(|octet| !octet.is_ascii_digit() && *octet != b'.')
    }

    proptest! {
        #[test]
        fn both_parsers_agree_on_domains(
            labels in prop::collection::vec("[a-cA-C0-9_. \u{e9}-]{0,4}|[a-c0-9]{60,66}", 0..6),
        ) {
            let domain = labels.join(".");
            prop_assert_eq!(is_domain(domain.as_bytes()), is_domain_slowly(domain.as_bytes()));
        }
    }

    #[test]
    fn paths_come_out_in_internal_form() {
        for (argument, address, rest) in [
            ("<>", "", ""),
            ("<> SIZE=1", "", "SIZE=1"),
            ("<user@example.com>", "user@example.com", ""),
            (" <user@example.com>  A=b  ", "user@example.com", "A=b"),
            ("user@example.com", "user@example.com", ""),
            ("user@example.com SIZE=1", "user@example.com", "SIZE=1"),
            ("user@example.com>", "user@example.com", ""),
            ("<postmaster>", "postmaster", ""),
            ("< user@example.com >", "user@example.com", ""),
            ("(c)<user@host>", "user@host", ""),
            ("<(c)joe(d)@host>", "joe@host", ""),
            ("<a\\ b@host>", "a b@host", ""),
            ("<user@ host . example . net>", "user@host.example.net", ""),
            ("<@host:>", "", ""),
            ("<@host>", "@host", ""),
            ("<@a.example,@b.example:user@c.example>", "user@c.example", ""),
            ("<\"john doe\"@example.com>", "john doe@example.com", ""),
            ("<\"a\\\"b\\\\c\"@example.com>", "a\"b\\c@example.com", ""),
            ("<\"a>b\"@example.com> X", "a>b@example.com", "X"),
            ("<user@[192.0.2.1]>", "user@[192.0.2.1]", ""),
            ("<user@[IPv6:2001:db8::1]>", "user@[IPv6:2001:db8::1]", ""),
            ("<user@example.com.>", "user@example.com.", ""),
            ("<user@>", "user@", ""),
            ("<a@b@c.example>", "a@b@c.example", ""),
            ("<a!b%c@d.example>", "a!b%c@d.example", ""),
            (".dots..@example.com", ".dots..@example.com", ""),
            ("<jörg@bücher.example>", "jörg@bücher.example", ""),
        ] {
            assert_eq!(read(argument), Some((address.into(), rest.into())), "{argument}");
        }
    }

    #[test]
    fn refuses_invalid_paths() {
        for argument in [
            "<",
            "<user@example.com",
            "<user@exa mple.com>",
            "<user@example,com>",
            "<us er@example.com>",
            "<user@example.com>SIZE=1",
            "<\"a@b>",
            "<\"a\"b@c>",
            "<;x@y>z@y",
            "<\"\">",
        ] {
            assert_eq!(read(argument), None, "{argument:?}");
        }
        for argument in [&b" <a@b>"[..], b"a@b", b"<(c)a@b>", b"<@b>"] {
            assert!(split_path(argument, true).is_err());
        }
    }

    #[test]
    fn recognises_domains() {
        for (domain, is_one) in [
            ("example.com", true),
            ("host_name", true),
            ("[192.0.2.1]", true),
            ("[IPv6:2001:db8::1]", true),
            ("bücher.example", true),
            ("", false),
            (".", false),
            ("a..b", false),
            ("a.", false),
            ("-a", false),
            ("a-.b", false),
            ("1.2.3.4", false),
            ("2130706433", false),
            ("[1.2.3]", false),
            ("[x]", false),
            ("host:25", false),
        ] {
            assert_eq!(is_domain(domain.as_bytes()), is_one, "{domain}");
        }
    }

    proptest! {
        #[test]
        fn parses_any_input_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = split_path(&octets, false);
        }

        #[test]
        fn the_fast_path_equals_the_slow_path(inner in "[ab.@+ -]{0,12}") {
            let argument = alloc::format!("<{inner}> X");
            if let Some((address, rest)) = plain_path(argument.as_bytes()) {
                let commented = alloc::format!("(){argument}");
                let long = split_path(commented.as_bytes(), false);
                prop_assert_eq!(long, Ok((address.to_vec(), rest)));
            }
        }
    }
}
