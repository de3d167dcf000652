//! Owns which domains are ours.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use bumpalo::Bump;

use super::path::literal_address;
use crate::lookup::{LookupError, Maps};

/// The domains that strangers may send to.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    /// Domains of this host (`mydestination`), in lower case.
    pub mydestination: DomainSet,
    /// Domains whose recipients are all replaced (`virtual_alias_domains`), in lower case.
    pub virtual_alias_domains: Domains,
    /// Domains that mail is relayed to (`relay_domains`), in lower case.
    pub relay_domains: Domains,
    /// Addresses of this host: `user@[ADDRESS]` is local.
    pub own_addresses: Vec<IpAddr>,
}

impl Destinations {
    /// Whether `domain` is this host: one of its domains, or an address literal of it. One dot at the end is
    /// nothing.
    #[must_use]
    pub fn is_local(&self, domain: &[u8]) -> bool {
        let domain = domain.strip_suffix(b".").unwrap_or(domain);
        self.mydestination.contains(domain)
            || literal_address(domain).is_some_and(|address| self.own_addresses.contains(&address))
    }
}

/// Domains that a list names, and those that are keys of its tables.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    /// By name.
    pub names: DomainSet,
    /// By table.
    pub maps: Maps,
}

impl Domains {
    /// Whether `domain` is one of them.
    ///
    /// # Errors
    /// [`LookupError`] of a table.
    pub fn contains(&self, domain: &[u8]) -> Result<bool, LookupError> {
        if self.names.contains(domain) {
            return Ok(true);
        }
        if self.maps.is_empty() {
            return Ok(false);
        }
        let arena = Bump::new();
        let parents = memchr::memchr_iter(b'.', domain).filter_map(|dot| domain.get(dot..));
        for name in core::iter::once(domain).chain(parents) {
            if self.maps.find(&arena, name)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<Name: AsRef<[u8]>> FromIterator<Name> for Domains {
    fn from_iter<Names: IntoIterator<Item = Name>>(names: Names) -> Self {
        Self { names: names.into_iter().collect(), maps: Maps::default() }
    }
}

/// A set of domains; an entry `.example.com` stands for all domains below `example.com`.
#[derive(Clone, Debug, Default)]
pub struct DomainSet(BTreeSet<Vec<u8>>);

/// Octets of a domain at most (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_SIZE_MAX: usize = 255;

impl DomainSet {
    /// Whether `domain`, in any case, is in it.
    #[must_use]
    pub fn contains(&self, domain: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut memory = [0; DOMAIN_SIZE_MAX];
        let Some(lower) = memory.get_mut(..domain.len()) else { return false };
        lower.copy_from_slice(domain);
        lower.make_ascii_lowercase();
        let lower: &[u8] = lower;
        self.0.contains(lower)
            || memchr::memchr_iter(b'.', lower)
                .any(|dot| lower.get(dot..).is_some_and(|parent| self.0.contains(parent)))
    }
}

impl<Name: AsRef<[u8]>> FromIterator<Name> for DomainSet {
    fn from_iter<Names: IntoIterator<Item = Name>>(names: Names) -> Self {
        Self(names.into_iter().map(|name| name.as_ref().to_ascii_lowercase()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_front_stands_for_all_below() {
        let domains: DomainSet = ["Example.com", ".sub.example.org"].into_iter().collect();
        for (domain, is_in) in [
            ("example.com", true),
            ("EXAMPLE.COM", true),
            ("a.example.com", false),
            ("xexample.com", false),
            ("sub.example.org", false),
            ("a.sub.example.org", true),
            ("a.b.Sub.Example.org", true),
            ("", false),
        ] {
            assert_eq!(domains.contains(domain.as_bytes()), is_in, "{domain}");
        }
        assert!(!domains.contains(&[b'a'; 300]));
    }
}
