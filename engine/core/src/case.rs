//! Comparison of text without regard to case (Unicode's full case folding, as Postfix does it with ICU).

use alloc::borrow::Cow;
use alloc::vec::Vec;

use unicase::UniCase;

/// `text` with its case folded: equal for texts that differ in case only. Of text that is not UTF-8 only ASCII letters
/// are folded.
#[must_use]
pub fn folded(text: &[u8]) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return if text.iter().any(u8::is_ascii_uppercase) {
            text.to_ascii_lowercase().into()
        } else {
            text.into()
        };
    }
    match core::str::from_utf8(text) {
        Ok(text) => UniCase::unicode(text).to_folded_case().into_bytes().into(),
        Err(_) => text.to_ascii_lowercase().into(),
    }
}

/// Whether two texts differ in case only.
#[must_use]
pub fn eq_ignoring_case(one: &[u8], other: &[u8]) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one.eq_ignore_ascii_case(other);
    }
    folded(one) == folded(other)
}

/// Spelling in which domains are compared: A-labels in lower case (UTS 46). What cannot be a domain name beyond ASCII has
/// its ASCII letters in lower case.
pub(crate) fn comparable_domain(domain: &[u8]) -> Vec<u8> {
    let (dot, name) = match domain.strip_prefix(b".") {
        Some(name) => (&b"."[..], name),
        None => (&b""[..], domain),
    };
    let text = core::str::from_utf8(name).ok();
    let ascii = text.and_then(|text| idna::domain_to_ascii(text).ok());
    let ascii = ascii.map_or_else(|| name.to_ascii_lowercase(), |ascii| ascii.into_bytes());
    [dot, &ascii].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_case_are_equal() {
        for (one, other) in [
            ("abc", "ABC"),
            ("\u{e9}a", "\u{c9}A"),
            // All three sigmas are one.
            ("\u{3c3}\u{3b1}\u{3c2}", "\u{3a3}\u{391}\u{3a3}"),
            ("\u{3c3}\u{3b1}\u{3c3}", "\u{3a3}\u{391}\u{3c2}"),
            ("stra\u{df}e", "STRASSE"),
            ("gro\u{1e9e}", "gross"),
            ("\u{fb01}x", "FIX"),
            ("\u{13a0}", "\u{ab70}"),
            ("\u{10400}", "\u{10428}"),
        ] {
            assert!(eq_ignoring_case(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
        for (one, other) in [("a", "b"), ("\u{e9}", "e"), ("\u{131}", "i"), ("\u{e9}", "e\u{301}")] {
            assert!(!eq_ignoring_case(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
        assert!(eq_ignoring_case(b"A\xff", b"a\xff"));
        assert!(matches!(folded(b"abc"), Cow::Borrowed(_)));
    }

    #[test]
    fn domains_are_compared_as_a_labels() {
        for (domain, comparable) in [
            ("EX\u{c4}MPLE.Com", "xn--exmple-cua.com"),
            ("ex\u{e4}mple.com", "xn--exmple-cua.com"),
            ("exa\u{308}mple.com", "xn--exmple-cua.com"),
            ("XN--EXMPLE-CUA.com", "xn--exmple-cua.com"),
            (".Ex\u{c4}mple.com", ".xn--exmple-cua.com"),
            ("STRASSE.example", "strasse.example"),
            ("stra\u{df}e.example", "xn--strae-oqa.example"),
            ("xn--\u{e4}.example", "xn--\u{e4}.example"),
            ("a_b.example", "a_b.example"),
            ("[127.0.0.1]", "[127.0.0.1]"),
            ("", ""),
        ] {
            let found = comparable_domain(domain.as_bytes());
            assert_eq!(core::str::from_utf8(&found), Ok(comparable), "{domain}");
        }
    }
}
