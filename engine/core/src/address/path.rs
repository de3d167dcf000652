//! Owns the paths of MAIL and RCPT (RFC 5321 §4.1.2).
//!
//! Lenient as servers have to be, where no two readings are possible: dots anywhere in a local-part, UTF-8
//! without SMTPUTF8, a blank after the colon, brackets left out.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

/// A path as it was given, in internal form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Local-part, unquoted, then `@` and the domain, if there is one. Empty: `<>`.
    pub address: Vec<u8>,
    /// Octets of the local-part; what follows is `@` and the domain, or nothing.
    pub local_size: usize,
}

/// Why a path is none; answered with 501 5.1.7 (MAIL) or 501 5.1.3 (RCPT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError;

/// Splits `argument` into a path and what follows it, the blanks between them not included.
///
/// `argument`: the octets after `FROM:` or `TO:`, no line end. A source route is accepted and dropped (§3.3,
/// appendix C).
///
/// # Errors
/// [`PathError`].
pub fn split_path(argument: &[u8], is_strict: bool) -> Result<(Path, &[u8]), PathError> {
    let argument = if is_strict { argument } else { argument.trim_ascii_start() };
    match argument.split_first() {
        Some((b'<', rest)) => {
            let mut reader = Reader { rest };
            let path = reader.path()?;
            reader.expect(b'>')?;
            separated(path, reader.rest)
        }
        _ if is_strict => Err(PathError),
        _ => {
            let mut reader = Reader { rest: argument };
            let path = reader.path()?;
            if path.address.is_empty() { Err(PathError) } else { separated(path, reader.rest) }
        }
    }
}

fn separated(path: Path, rest: &[u8]) -> Result<(Path, &[u8]), PathError> {
    match rest.first() {
        None => Ok((path, rest)),
        Some(b' ' | b'\t') => Ok((path, rest.trim_ascii())),
        Some(_) => Err(PathError),
    }
}

/// Reads from the front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn path(&mut self) -> Result<Path, PathError> {
        let mut path = Path::default();
        self.skip_source_route()?;
        match self.rest.first() {
            Some(b'>') | None => return Ok(path),
            Some(b'"') => self.quoted_string(&mut path.address)?,
            Some(_) => self.local_part(&mut path.address)?,
        }
        path.local_size = path.address.len();
        if self.rest.first() == Some(&b'@') {
            self.rest = self.rest.get(1..).unwrap_or_default();
            path.address.push(b'@');
            let domain = self.domain()?;
            path.address.extend_from_slice(domain);
        }
        Ok(path)
    }

    /// `@one,@two:` in front of the mailbox.
    fn skip_source_route(&mut self) -> Result<(), PathError> {
        if self.rest.first() != Some(&b'@') {
            return Ok(());
        }
        loop {
            self.expect(b'@')?;
            self.domain()?;
            match self.rest.first() {
                Some(b',') => self.expect(b',')?,
                _ => return self.expect(b':'),
            }
        }
    }

    /// Atoms and dots; also `@`, if a domain follows further on, for what is then refused by its meaning and not by
    /// its look: `a@b@c` is the mailbox `a@b` at `c`.
    fn local_part(&mut self, out: &mut Vec<u8>) -> Result<(), PathError> {
        let end = self.rest.iter().position(|octet| !is_atext(*octet) && *octet != b'.' && *octet != b'@');
        let part = self.rest.get(..end.unwrap_or(self.rest.len())).unwrap_or_default();
        let size = match memchr::memrchr(b'@', part) {
            Some(at) => at,
            None => part.len(),
        };
        let local = part.get(..size).unwrap_or_default();
        if local.is_empty() {
            return Err(PathError);
        }
        out.extend_from_slice(local);
        self.rest = self.rest.get(size..).unwrap_or_default();
        Ok(())
    }

    fn quoted_string(&mut self, out: &mut Vec<u8>) -> Result<(), PathError> {
        self.expect(b'"')?;
        loop {
            let (octet, rest) = self.rest.split_first().ok_or(PathError)?;
            self.rest = rest;
            match octet {
                b'"' => return Ok(()),
                b'\\' => {
                    let (octet, rest) = self.rest.split_first().ok_or(PathError)?;
                    self.rest = rest;
                    out.push(*octet);
                }
                _ => out.push(*octet),
            }
            if out.last().is_some_and(u8::is_ascii_control) {
                return Err(PathError);
            }
        }
    }

    /// A domain or an address literal; one dot at its end is dropped.
    fn domain(&mut self) -> Result<&'a [u8], PathError> {
        if self.rest.first() == Some(&b'[') {
            let end = memchr::memchr(b']', self.rest).ok_or(PathError)?;
            let (literal, rest) = self.rest.split_at_checked(end + 1).ok_or(PathError)?;
            self.rest = rest;
            return if literal_address(literal).is_some() { Ok(literal) } else { Err(PathError) };
        }
        let is_part =
            |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.' | 128..);
        let end = self.rest.iter().position(|octet| !is_part(octet)).unwrap_or(self.rest.len());
        let (domain, rest) = self.rest.split_at_checked(end).ok_or(PathError)?;
        self.rest = rest;
        let domain = domain.strip_suffix(b".").unwrap_or(domain);
        let is_label = |label: &[u8]| {
            (1..=63).contains(&label.len()) && !label.starts_with(b"-") && !label.ends_with(b"-")
        };
        let is_valid = domain.len() <= 255 && domain.split(|octet| *octet == b'.').all(is_label);
        if is_valid { Ok(domain) } else { Err(PathError) }
    }

    fn expect(&mut self, octet: u8) -> Result<(), PathError> {
        match self.rest.split_first() {
            Some((first, rest)) if *first == octet => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(PathError),
        }
    }
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

/// RFC 5322 §3.2.3, with UTF-8 (RFC 6531 §3.3).
const fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'/'
                | b'='
                | b'?'
                | b'^'
                | b'_'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
                | b'~'
                | 128..
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn read(argument: &str) -> Option<(String, String)> {
        let (path, rest) = split_path(argument.as_bytes(), false).ok()?;
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        Some((text(&path.address), text(rest)))
    }

    #[test]
    fn paths_come_out_in_internal_form() {
        let cases = [
            ("<>", "", ""),
            ("<> SIZE=1", "", "SIZE=1"),
            ("<user@example.com>", "user@example.com", ""),
            (" <user@example.com>  A=b  ", "user@example.com", "A=b"),
            ("user@example.com", "user@example.com", ""),
            ("user@example.com SIZE=1", "user@example.com", "SIZE=1"),
            ("<postmaster>", "postmaster", ""),
            ("<@a.example,@b.example:user@c.example>", "user@c.example", ""),
            ("<@[IPv6:::1]:user@c.example>", "user@c.example", ""),
            ("<\"john doe\"@example.com>", "john doe@example.com", ""),
            ("<\"a\\\"b\\\\c\"@example.com>", "a\"b\\c@example.com", ""),
            ("<\"a>b\"@example.com> X", "a>b@example.com", "X"),
            ("<user@[192.0.2.1]>", "user@[192.0.2.1]", ""),
            ("<user@[IPv6:2001:db8::1]>", "user@[IPv6:2001:db8::1]", ""),
            ("<user@example.com.>", "user@example.com", ""),
            ("<a@b@c.example>", "a@b@c.example", ""),
            ("<a!b%c@d.example>", "a!b%c@d.example", ""),
            (".dots..@example.com", ".dots..@example.com", ""),
            ("<jörg@bücher.example>", "jörg@bücher.example", ""),
        ];
        for (argument, address, rest) in cases {
            assert_eq!(read(argument), Some((address.into(), rest.into())), "{argument}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for argument in [
            "",
            " ",
            "<",
            ">",
            "<user@example.com",
            "user@example.com>",
            "<<user@example.com>>",
            "<user@>",
            "<user@.>",
            "<user@exa mple.com>",
            "<user@example..com>",
            "<user@-example.org>",
            "<user@example,com>",
            "<@example.com>",
            "<@a.example:>x",
            "<us er@example.com>",
            "<user@example.com>SIZE=1",
            "<\"a@b>",
            "<\"a\"b@c>",
            "<user@[1.2.3]>",
            "<user@[1.2.3.4>",
            "<user@[IPv6:1.2.3.4]>",
            "<a\u{1}b@c>",
            "<\"a\u{0}b\"@c>",
            "<;x@y>",
            "<user@example.com..>",
            "<@>",
            "< user@example.com>",
        ] {
            assert_eq!(read(argument), None, "{argument:?}");
        }
        assert!(split_path(b" <a@b>", true).is_err());
        assert!(split_path(b"a@b", true).is_err());
    }

    proptest! {
        #[test]
        fn any_octets_are_a_value(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((path, _)) = split_path(&octets, false) {
                prop_assert!(path.local_size <= path.address.len());
                prop_assert!(!path.address.iter().any(u8::is_ascii_control));
            }
        }

        #[test]
        fn what_is_written_quoted_reads_back(local in "[ -~]{1,20}") {
            let mut external = alloc::vec![b'<'];
            let address = alloc::format!("{local}@example.com");
            crate::address::quote_local_part(address.as_bytes(), &mut external);
            external.push(b'>');
            let (path, _) = split_path(&external, true).unwrap();
            prop_assert_eq!(path.address, address.as_bytes());
            prop_assert_eq!(path.local_size, local.len());
        }
    }
}
