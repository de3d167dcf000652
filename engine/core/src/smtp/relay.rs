//! Owns the decision which recipients strangers may send to.
//!
//! An address names a destination in more ways than its domain: `a%b@here`, `b!a@here`, `"a@b"@here` all mean
//! `a@b` to some software behind us. Each spelling is therefore resolved like Postfix's resolver does it, and
//! whatever is left of such routing at a domain that we relay to is refused too (`allow_untrusted_routing = no`).

use super::Settings;
use super::settings::Destinations;
use crate::address::{literal_address, split_domain};

/// How often an address may be taken apart. Each time it gets shorter; real ones need two.
const ROUNDS_MAX: usize = 16;

/// Whether a stranger may send to `address` (internal form).
#[must_use]
pub fn is_destination_permitted(settings: &Settings, address: &[u8]) -> bool {
    let mut rest = address;
    for _ in 0..ROUNDS_MAX {
        let (local, domain) = match split_domain(rest) {
            (local, Some(domain)) => (local, domain),
            (bare, None) => match split_route(bare) {
                Some(split) => split,
                None => (bare, settings.myorigin.as_slice()),
            },
        };
        if is_local(&settings.destinations, domain) {
            if !is_routed(local) {
                return !local.is_empty();
            }
            // What is before the local domain is an address of its own.
            rest = local;
            continue;
        }
        return settings.destinations.relay_domains.contains(domain)
            && !local.is_empty()
            && !is_routed(local);
    }
    false
}

/// `host!user` or `user%host` as (user, host).
fn split_route(bare: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(bang) = memchr::memchr(b'!', bare) {
        return Some((bare.get(bang + 1..)?, bare.get(..bang)?));
    }
    let percent = memchr::memrchr(b'%', bare)?;
    Some((bare.get(..percent)?, bare.get(percent + 1..)?))
}

fn is_routed(local: &[u8]) -> bool {
    memchr::memchr3(b'@', b'!', b'%', local).is_some()
}

fn is_local(destinations: &Destinations, domain: &[u8]) -> bool {
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    destinations.mydestination.contains(domain)
        || literal_address(domain).is_some_and(|address| destinations.own_addresses.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings {
            myorigin: b"here.example".to_vec(),
            destinations: Destinations {
                mydestination: ["here.example", "localhost"].into_iter().collect(),
                relay_domains: ["example.com"].into_iter().collect(),
                own_addresses: [[127, 0, 0, 1].into()].into(),
            },
            ..Settings::default()
        }
    }

    #[test]
    fn only_our_domains_in_any_spelling() {
        for (address, is_permitted) in [
            ("user@here.example", true),
            ("user@localhost", true),
            ("user@example.com", true),
            ("user@[127.0.0.1]", true),
            ("user", true),
            ("user%example.com", true),
            ("user@example.com@here.example", true),
            ("user%example.com@here.example", true),
            ("here.example!user", true),
            ("user@evil.example", false),
            ("user%evil.example", false),
            ("evil.example!user", false),
            ("user%evil.example@here.example", false),
            ("user%evil.example@example.com", false),
            ("user@evil.example@example.com", false),
            ("user@evil.example@here.example", false),
            ("user@example.com@evil.example", false),
            ("evil.example!user@example.com", false),
            ("evil.example!here.example!user@here.example", false),
            ("here.example!evil.example!user@here.example", false),
            ("user%evil.example%here.example@here.example", false),
            ("user%evil.example@[127.0.0.1]", false),
            ("user@[192.0.2.1]", false),
            ("user@2130706433", false),
            ("user@example.com.evil.example", false),
            ("user@sub.example.com", false),
            ("@example.com", false),
            ("@here.example", false),
        ] {
            assert_eq!(is_destination_permitted(&settings(), address.as_bytes()), is_permitted, "{address}");
        }
    }

    proptest! {
        #[test]
        fn no_spelling_reaches_a_foreign_domain(
            parts in prop::collection::vec(
                prop::sample::select(&["user", "here.example", "example.com", "localhost", "[127.0.0.1]"][..]), 0..4),
            signs in prop::collection::vec(prop::sample::select(&["@", "!", "%"][..]), 5),
            place in 0usize..4,
        ) {
            let mut parts = parts;
            parts.insert(place.min(parts.len()), "evil.example");
            // The foreign domain as the mailbox's own name is no destination.
            prop_assume!(parts.len() > 1);
            let mut address = alloc::string::String::new();
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    address.push_str(signs[index % signs.len()]);
                }
                address.push_str(part);
            }
            let is_permitted = is_destination_permitted(&settings(), address.as_bytes());
            // Permitted only where `evil.example` stands as the user of a domain of ours.
            if is_permitted {
                let users = ["evil.example@", "!evil.example", "evil.example%"];
                prop_assert!(users.iter().any(|user| address.contains(user)), "{}", address);
            }
        }
    }
}
