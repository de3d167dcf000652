use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::tables::{BadLines, Spec, TableErrors};

fn table(text: &[u8]) -> Result<CidrTable, String> {
    let spec = Spec::parse("cidr:x", Path::new("/"), 0);
    let mut report = Report::new(&spec, BadLines::Refuse);
    let table = CidrTable::parse(text, &mut report);
    let errors = report.finish().errors;
    if errors.is_empty() { Ok(table) } else { Err(TableErrors(errors).to_string()) }
}

#[test]
fn the_first_matching_network_wins() {
    let text = b"192.0.2.1 one\nif 192.0.2.0/24\n!192.0.2.128/25 low\n192.0.2.0/24 high\nendif\n\
                 2001:db8::/32 six\n0.0.0.0/0 rest\n";
    let table = table(text).unwrap();
    let arena = Bump::new();
    for (key, value) in [
        ("192.0.2.1", Some("one")),
        ("192.0.2.2", Some("low")),
        ("192.0.2.200", Some("high")),
        ("192.0.3.1", Some("rest")),
        ("2001:db8::5", Some("six")),
        ("2001:db9::5", None),
        ("x", None),
    ] {
        assert_eq!(
            table.look_up(&arena, key.as_bytes(), Sharer::default()).unwrap(),
            value.map(str::as_bytes),
            "{key}"
        );
    }
}

#[test]
fn errors_name_the_line() {
    for (text, wanted) in [
        ("192.0.2.1/24 x", "/x:1: cidr:x: \"192.0.2.1/24\" is not a network"),
        ("\n10.0.0.0/8", "/x:2: cidr:x: has no value"),
        ("endif", "/x:1: cidr:x: endif without if"),
        ("if 10.0.0.0/8", "/x:1: cidr:x: if without endif"),
        ("a b\n! 10.0.0.0/8 x\nc d", "/x:3: cidr:x: \"c\" is not a network"),
    ] {
        let error = table(text.as_bytes()).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn networks_are_written_as_in_postfix() {
    for (network, key, is_match) in [
        ("192.0.2.7", "192.0.2.7", true),
        ("192.0.2.7/32", "192.0.2.6", false),
        ("0.0.0.0/0", "255.255.255.255", true),
        ("::/0", "192.0.2.1", false),
        ("0.0.0.0/0", "::1", false),
        ("2001:db8::/32", "2001:DB8:ffff::1", true),
        ("[2001:db8::]/32", "2001:db8::1", true),
        ("2001:db8::1", "2001:db8::2", false),
        ("!192.0.2.0/24", "192.0.3.1", true),
        ("!192.0.2.0/24", "192.0.2.1", false),
        ("!192.0.2.0/24", "2001:db8::1", true),
        ("!!192.0.2.0/24", "192.0.2.1", true),
        ("! 192.0.2.0/24", "192.0.3.1", true),
        ("10.0.0.0/8", "10.0.0.1.", false),
        ("10.0.0.0/8", "[10.0.0.1]", false),
        ("10.0.0.0/8", "", false),
    ] {
        let table = table(format!("{network} x\n").as_bytes()).unwrap();
        let arena = Bump::new();
        let found = table.look_up(&arena, key.as_bytes(), Sharer::default()).unwrap();
        assert_eq!(found.is_some(), is_match, "{network} {key}");
    }
}

#[test]
fn text_that_is_no_network_is_refused() {
    for network in [
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "10.0.0.1/8",
        "::1/0",
        "2001:db8::/129",
        "[2001:db8::/32]",
        "[2001:db8::",
        "example.com",
        "!",
        "010.0.0.0/8",
    ] {
        let error = table(format!("{network} x\n").as_bytes()).unwrap_err();
        assert!(
            error.starts_with("/x:1: cidr:x: ") && error.contains(" is not a network; "),
            "{network}: {error}"
        );
    }
}

#[test]
fn conditions_nest_and_words_ignore_case() {
    let text = b"IF 10.0.0.0/8\nif !10.1.0.0/16\n10.2.0.0/16 inner\nendIf\n10.1.0.0/16 outer\nENDIF\n10.0.0.0/8 rest\n";
    let table = table(text).unwrap();
    let arena = Bump::new();
    for (key, value) in [
        ("10.2.0.1", Some("inner")),
        ("10.1.0.1", Some("outer")),
        ("10.3.0.1", Some("rest")),
        ("11.0.0.1", None),
    ] {
        let found = table.look_up(&arena, key.as_bytes(), Sharer::default()).unwrap();
        assert_eq!(found, value.map(str::as_bytes), "{key}");
    }
}

#[test]
fn text_that_has_no_meaning_is_refused() {
    for (text, wanted) in [
        ("if 10.0.0.0/8 x\nendif\n", "/x:1: cidr:x: text after the network of an if"),
        ("if 10.0.0.0/8\nendif x\n", "/x:2: cidr:x: text after endif"),
        ("if\nendif\n", "/x:1: cidr:x: \"\" is not a network"),
        (" 10.0.0.0/8 x\n", "/x:1: cidr:x: begins with a space"),
    ] {
        let error = table(text.as_bytes()).unwrap_err();
        assert!(error.starts_with(wanted), "{text:?}: {error}");
    }
}

proptest! {
    /// The oracle compares the first bits of both addresses one by one.
    #[test]
    fn a_network_contains_the_addresses_with_its_prefix(number: u32, other: u32, prefix in 0u32..=32) {
        let first = if prefix == 0 { 0 } else { number & (u32::MAX << (32 - prefix)) };
        let key = if other % 2 == 0 { number ^ (other >> prefix.min(31)) } else { other };
        let is_in = (0..prefix).all(|bit| (first ^ key) & (1 << (31 - bit)) == 0);
        let table = table(format!("{}/{prefix} x\n", std::net::Ipv4Addr::from(first)).as_bytes()).unwrap();
        let arena = Bump::new();
        let key = std::net::Ipv4Addr::from(key).to_string();
        let found = table.look_up(&arena, key.as_bytes(), Sharer::default()).unwrap();
        prop_assert_eq!(found.is_some(), is_in);
    }

    #[test]
    fn any_text_is_a_table_or_is_refused(text in "(if|endif|!|10.0.0.0/8|::/0|[ \n\t/x.:]){0,20}", key in "[0-9.:]{0,8}") {
        if let Ok(table) = table(text.as_bytes()) {
            let arena = Bump::new();
            prop_assert!(table.look_up(&arena, key.as_bytes(), Sharer::default()).is_ok());
        }
    }
}

proptest! {
    /// `mynetworks` and a table of networks read the same item in the same way.
    #[test]
    fn a_network_is_the_same_as_in_a_list_of_networks(
        number: u128, other: u128, prefix in 0u32..=128, is_ipv4: bool, is_near: bool,
    ) {
        let bits = if is_ipv4 { 32 } else { 128 };
        let prefix = prefix % (bits + 1);
        let all = if is_ipv4 { u128::from(u32::MAX) } else { u128::MAX };
        let mask = if prefix == 0 { 0 } else { all & (u128::MAX << (bits - prefix)) };
        let number = number & all;
        let key = if is_near { number ^ (other & !mask & all) } else { other & all };
        let text = |number: u128| -> IpAddr {
            match u32::try_from(number) {
                Ok(number) if is_ipv4 => std::net::Ipv4Addr::from(number).into(),
                _ => std::net::Ipv6Addr::from(number).into(),
            }
        };
        let key = text(key);
        prop_assume!(key.to_canonical() == key);
        let network = format!("{}/{prefix}", text(number & mask));
        let bracketed = format!("[{}]/{prefix}", text(number & mask));
        let listed = if is_ipv4 { &network } else { &bracketed };
        let list = crate::networks::Networks::parse(std::slice::from_ref(listed));
        let table = table(format!("{network} x\n").as_bytes()).unwrap();
        let arena = Bump::new();
        let found = table.look_up(&arena, key.to_string().as_bytes(), Sharer::default()).unwrap();
        prop_assert_eq!(found.is_some(), list.unwrap().contains(key), "{} in {}", key, network);
    }
}
