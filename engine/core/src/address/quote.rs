//! Owns the external (quoted) spelling of an address, and where its local-part ends.

use alloc::vec::Vec;

/// Splits an address in internal form at its last `@`: local-part and, if there is an `@`, domain.
#[must_use]
pub fn split_domain(address: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memrchr(b'@', address) {
        Some(at) => (address.get(..at).unwrap_or_default(), address.get(at + 1..)),
        None => (address, None),
    }
}

/// Appends `address` (internal form) in external form: the local-part is quoted unless it is a dot-string.
pub fn quote_local_part(address: &[u8], out: &mut Vec<u8>) {
    let (local, domain) = split_domain(address);
    if is_dot_string(local) {
        out.extend_from_slice(address);
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
    if let Some(domain) = domain {
        out.push(b'@');
        out.extend_from_slice(domain);
    }
}

/// Whether a local-part needs no quotes; UTF-8 counts as letters.
fn is_dot_string(local: &[u8]) -> bool {
    let mut before = b'.';
    for octet in local {
        let is_plain = match octet {
            b'.' => before != b'.',
            b'(' | b')' | b'<' | b'>' | b'@' | b',' | b';' | b':' | b'\\' | b'"' | b'[' | b']' => false,
            33..=126 | 128..=255 => true,
            _ => false,
        };
        if !is_plain {
            return false;
        }
        before = *octet;
    }
    before != b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_quotes_gets_them() {
        let cases: [(&str, &str); 9] = [
            ("user@example.com", "user@example.com"),
            ("a.b+c@d", "a.b+c@d"),
            ("john doe@d", "\"john doe\"@d"),
            ("a\"b\\c@d", "\"a\\\"b\\\\c\"@d"),
            ("@d", "\"\"@d"),
            (".a@d", "\".a\"@d"),
            ("a..b@d", "\"a..b\"@d"),
            ("a@b@c", "\"a@b\"@c"),
            ("postmaster", "postmaster"),
        ];
        for (internal, external) in cases {
            let mut out = Vec::new();
            quote_local_part(internal.as_bytes(), &mut out);
            assert_eq!(out, external.as_bytes(), "{internal}");
        }
    }
}
