//! Addresses: their two spellings, paths, and the rewrite.

use bumpalo::Bump;
use mailrace_core::address::{
    RewriteContext, RewriteRules, is_domain, literal_address, quoted, rewrite, split_domain, split_path,
    unquoted,
};
use proptest::prelude::*;

/// Local-parts with everything that needs quotes, but no line ends and no controls.
const LOCAL: &str = r#"[a-z0-9.@<>()"\\ ,;:%!+\[\]é-]{1,12}"#;
const DOMAIN: &str = "[a-z0-9]{1,8}(-[a-z0-9]{1,4})?\\.[a-z]{2,6}";

proptest! {
    #[test]
    fn an_address_survives_its_external_form(local in LOCAL, domain in DOMAIN) {
        let arena = Bump::new();
        let address = format!("{local}@{domain}");
        // A source route stays as it is.
        prop_assume!(!address.starts_with('@'));
        let external = quoted(&arena, address.as_bytes());
        prop_assert_eq!(unquoted(&arena, external), address.as_bytes());
        prop_assert_eq!(quoted(&arena, unquoted(&arena, external)), external);
    }

    #[test]
    fn an_address_survives_a_path(local in LOCAL, domain in DOMAIN, has_parameters in any::<bool>()) {
        let arena = Bump::new();
        let address = format!("{local}@{domain}");
        prop_assume!(!address.starts_with('@'));
        let external = String::from_utf8_lossy(quoted(&arena, address.as_bytes())).into_owned();
        let parameters = if has_parameters { " SIZE=1 BODY=7BIT" } else { "" };
        for is_strict in [false, true] {
            let path = format!("<{external}>{parameters}");
            let read = split_path(path.as_bytes(), is_strict);
            prop_assert_eq!(read, Ok((address.clone().into_bytes(), parameters.trim_start().as_bytes())));
        }
    }

    #[test]
    fn any_path_is_read_or_refused(argument in r#"[<>@:"\\ .,a-z()\[\]]{0,20}"#, is_strict in any::<bool>()) {
        if let Ok((address, rest)) = split_path(argument.as_bytes(), is_strict) {
            prop_assert!(argument.as_bytes().ends_with(rest) || argument.trim_end().as_bytes().ends_with(rest));
            prop_assert!(!address.iter().any(u8::is_ascii_control));
            prop_assert!(!is_strict || argument.starts_with('<'));
        }
    }

    #[test]
    fn a_rewritten_address_with_a_domain_stays(user in "[a-z.%!+]{1,8}", domain in DOMAIN) {
        let arena = Bump::new();
        let context = RewriteContext { origin: b"example.com".to_vec(), domain: b"example.com".to_vec() };
        let rules = RewriteRules::default();
        for given in [user.clone(), format!("{user}@{domain}"), format!("{domain}!{user}"), format!("{user}%{domain}")] {
            let given = quoted(&arena, given.as_bytes());
            let once = rewrite(&arena, &rules, &context, given);
            let (_, complete) = split_domain(once);
            prop_assert!(complete.is_some(), "{}", once.escape_ascii());
            if complete.is_some_and(is_domain) {
                prop_assert_eq!(rewrite(&arena, &rules, &context, once), once);
            }
        }
    }

    #[test]
    fn an_address_literal_is_an_ip_address(v4 in any::<std::net::Ipv4Addr>(), v6 in any::<std::net::Ipv6Addr>()) {
        let (short, long) = (format!("[{v4}]"), format!("[IPv6:{v6}]"));
        prop_assert_eq!(literal_address(short.as_bytes()), Some(v4.into()));
        prop_assert_eq!(literal_address(long.as_bytes()), Some(v6.into()));
        prop_assert_eq!(literal_address(format!("[{v6}]").as_bytes()), None, "the tag is required");
        prop_assert_eq!(literal_address(v4.to_string().as_bytes()), None, "the brackets are required");
        prop_assert!(is_domain(short.as_bytes()) && is_domain(long.as_bytes()));
        prop_assert!(!is_domain(v4.to_string().as_bytes()), "an address without brackets is not a domain");
    }

    #[test]
    fn domains_of_valid_labels_are_domains(domain in DOMAIN, place in any::<prop::sample::Index>(), byte in "[ !-,/:-@\\[-^`{-~]") {
        prop_assert!(is_domain(domain.as_bytes()));
        for invalid in [format!(".{domain}"), format!("{domain}."), format!("-{domain}"), format!("{domain}-"), domain.replace('.', "..")] {
            prop_assert!(!is_domain(invalid.as_bytes()), "{}", invalid);
        }
        let mut other = domain.clone();
        other.insert_str(place.index(domain.len()), &byte);
        prop_assert!(!is_domain(other.as_bytes()), "{}", other);
    }
}

#[test]
fn labels_and_domains_are_bounded() {
    let label = |size: usize| "a".repeat(size);
    assert!(is_domain(format!("{}.example", label(63)).as_bytes()));
    assert!(!is_domain(format!("{}.example", label(64)).as_bytes()));
    let labels = [label(63), label(63), label(63)].join(".");
    for (size, is_one) in [(61, true), (62, false)] {
        let domain = format!("{labels}.{}.b", label(size));
        assert_eq!(is_domain(domain.as_bytes()), is_one, "{} bytes", domain.len());
    }
    assert!(!is_domain(b""));
}
