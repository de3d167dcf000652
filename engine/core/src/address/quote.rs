//! The two spellings of an address: internal (what it means) and external (its local-part quoted).

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::octet_table::OctetTable;

/// Splits an address in internal form at its last `@`: local-part and, if there is an `@`, domain.
#[must_use]
pub fn split_domain(address: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memrchr(b'@', address) {
        Some(at) => (address.get(..at).unwrap_or_default(), address.get(at + 1..)),
        None => (address, None),
    }
}

/// Appends `address` (internal form) in external form: the local-part is quoted unless it is a dot-string. A
/// source route in front of it stays as it is.
pub fn quote_onto(address: &[u8], out: &mut ArenaVec<'_, u8>) {
    let (route, mailbox) = split_route(address);
    out.extend_from_slice_copy(route);
    let (local, domain) = split_domain(mailbox);
    quote_local_part_onto(local, out);
    if let Some(domain) = domain {
        out.push(b'@');
        out.extend_from_slice_copy(domain);
    }
}

fn quote_local_part_onto(local: &[u8], out: &mut ArenaVec<'_, u8>) {
    if is_dot_string(local) {
        out.extend_from_slice_copy(local);
        return;
    }
    out.push(b'"');
    for octet in local {
        if matches!(octet, b'"' | b'\\' | b'\r') {
            out.push(b'\\');
        }
        out.push(*octet);
    }
    out.push(b'"');
}

/// A local-part (internal form) in external form; the same slice if nothing is to be quoted.
#[must_use]
pub fn quoted_local_part<'a>(arena: &'a Bump, local: &'a [u8]) -> &'a [u8] {
    if is_dot_string(local) {
        return local;
    }
    let mut out = ArenaVec::with_capacity_in(local.len() + 2, arena);
    quote_local_part_onto(local, &mut out);
    out.into_bump_slice()
}

/// An address (internal form) in external form; the same slice if nothing is to be quoted.
#[must_use]
pub fn quoted<'a>(arena: &'a Bump, address: &'a [u8]) -> &'a [u8] {
    if !address.starts_with(b"@") && is_dot_string(split_domain(address).0) {
        return address;
    }
    let mut out = ArenaVec::with_capacity_in(address.len() + 2, arena);
    quote_onto(address, &mut out);
    out.into_bump_slice()
}

/// An address (external form) in internal form; the same slice if nothing is quoted. Only the local-part, up to the
/// last `@` outside quotes, is looked at.
#[must_use]
pub fn unquoted<'a>(arena: &'a Bump, address: &'a [u8]) -> &'a [u8] {
    if memchr::memchr2(b'"', b'\\', address).is_none() {
        return address;
    }
    let (route, mailbox) = split_route(address);
    let mut out = ArenaVec::with_capacity_in(address.len(), arena);
    out.extend_from_slice_copy(route);
    let mut is_quoted = false;
    // Where the last bare @ is: in `mailbox`, and in `out`.
    let mut bare_at = None;
    let mut octets = mailbox.iter().copied().enumerate();
    while let Some((index, octet)) = octets.next() {
        match octet {
            b'"' => is_quoted = !is_quoted,
            b'\\' => out.extend(octets.next().map(|(_, escaped)| escaped)),
            b'@' if !is_quoted => {
                bare_at = Some((index, out.len()));
                out.push(octet);
            }
            _ => out.push(octet),
        }
    }
    if let Some((index, size)) = bare_at {
        out.truncate(size);
        out.extend_from_slice_copy(mailbox.get(index..).unwrap_or_default());
    }
    out.into_bump_slice()
}

/// A source route, its colon included, and what follows it.
fn split_route(address: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', address) {
        Some(colon) if address.starts_with(b"@") => {
            address.split_at_checked(colon + 1).unwrap_or((b"", address))
        }
        _ => (b"", address),
    }
}

/// Whether a local-part needs no quotes; bytes above 127 count as letters.
fn is_dot_string(local: &[u8]) -> bool {
    let mut before = b'.';
    for octet in local {
        if !NEEDS_NO_QUOTES.get(*octet) || (*octet == b'.' && before == b'.') {
            return false;
        }
        before = *octet;
    }
    before != b'.'
}

/// The bytes of a dot-string.
static NEEDS_NO_QUOTES: OctetTable<bool> = {
    let mut table = OctetTable::filled(true);
    let mut octet = 0_u8;
    loop {
        let is_plain = match octet {
            b'(' | b')' | b'<' | b'>' | b'@' | b',' | b';' | b':' | b'\\' | b'"' | b'[' | b']' => false,
            33..=126 | 128..=255 => true,
            _ => false,
        };
        table.set(octet, is_plain);
        if octet == u8::MAX {
            break table;
        }
        octet += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn quotes_only_where_needed() {
        let arena = Bump::new();
        for (internal, external) in [
            ("user@example.com", "user@example.com"),
            ("a.b+c@d", "a.b+c@d"),
            ("john doe@d", "\"john doe\"@d"),
            ("a\"b\\c@d", "\"a\\\"b\\\\c\"@d"),
            ("@d", "\"\"@d"),
            (".a@d", "\".a\"@d"),
            ("a..b@d", "\"a..b\"@d"),
            ("a@b@c", "\"a@b\"@c"),
            ("@r1,@r2:a b@c", "@r1,@r2:\"a b\"@c"),
            ("postmaster", "postmaster"),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(&arena, internal.as_bytes()), external.as_bytes(), "{internal}");
            assert_eq!(unquoted(&arena, external.as_bytes()), internal.as_bytes(), "{external}");
        }
    }

    #[test]
    fn quotes_after_the_last_bare_at_sign_are_kept() {
        let arena = Bump::new();
        for (external, internal) in
            [("a@\"b\"", "a@\"b\""), ("\"a@b", "a@b"), ("a\\@b", "a@b"), ("a\\", "a"), ("\"a\"@b@c", "a@b@c")]
        {
            assert_eq!(unquoted(&arena, external.as_bytes()), internal.as_bytes(), "{external}");
        }
    }

    proptest! {
        #[test]
        fn quoting_preserves_the_meaning(address in prop::collection::vec(prop::sample::select(b"ab@.\" \\<:".to_vec()), 0..20)) {
            let arena = Bump::new();
            // A source route is not quoted, and a quote in a domain is none.
            let (local, domain) = split_domain(&address);
            prop_assume!(!address.starts_with(b"@") && domain.is_none_or(|domain| !domain.contains(&b'"')));
            prop_assume!(domain.is_none_or(|domain| !domain.contains(&b'\\')) && !local.is_empty());
            let again: Vec<u8> = unquoted(&arena, quoted(&arena, &address)).to_vec();
            prop_assert_eq!(again, address);
        }
    }
}
