//! Which domains are ours.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use bumpalo::Bump;

use super::path::literal_address;
use crate::case::comparable_domain;
use crate::lookup::{Asker, LookupError, Maps};

/// The domains that strangers may send to.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    /// Domains of this host (`mydestination`); tables are not asked.
    pub mydestination: Domains,
    /// Domains whose recipients are all replaced (`virtual_alias_domains`).
    pub virtual_alias_domains: Domains,
    /// Domains whose mailboxes have owners without accounts (`virtual_mailbox_domains`).
    pub virtual_mailbox_domains: Domains,
    /// Domains that mail is relayed to (`relay_domains`).
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
        self.mydestination.has_name(domain)
            || literal_address(domain).is_some_and(|address| self.own_addresses.contains(&address))
    }

    /// The class of a domain that is not local: of the first list that has it, in Postfix's order.
    ///
    /// # Errors
    /// [`LookupError`] of a table.
    pub fn class_beyond_local(&self, domain: &[u8], asker: Asker<'_>) -> Result<DomainClass, LookupError> {
        for (domains, class) in [
            (&self.virtual_alias_domains, DomainClass::VirtualAlias),
            (&self.virtual_mailbox_domains, DomainClass::VirtualMailbox),
            (&self.relay_domains, DomainClass::Relay),
        ] {
            if domains.contains(domain, asker)? {
                return Ok(class);
            }
        }
        Ok(DomainClass::Default)
    }

    /// Whether a table may say [`LookupError::Pending`].
    #[must_use]
    pub fn may_wait(&self) -> bool {
        [&self.virtual_alias_domains, &self.virtual_mailbox_domains, &self.relay_domains]
            .into_iter()
            .any(Domains::may_wait)
    }
}

/// Class of a domain, which says what its addresses are (Postfix's `ADDRESS_CLASS_README`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainClass {
    /// This host: `mydestination`, and its own address literals.
    Local,
    /// `virtual_alias_domains`.
    VirtualAlias,
    /// `virtual_mailbox_domains`.
    VirtualMailbox,
    /// `relay_domains`.
    Relay,
    /// Any other domain.
    Default,
}

/// Which entries of a list of domains stand for subdomains too (`parent_domain_matches_subdomains`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subdomains {
    /// None: domains match exactly.
    #[default]
    Never,
    /// `example.com` stands for itself and all domains below it; `.example.com` for nothing.
    OfEach,
    /// `.example.com` stands for all domains below `example.com`.
    OfDotted,
}

/// A list of domains: of names, and of tables that have them as keys. The first entry that matches decides; domains
/// match in any case, and with A-labels as with U-labels (RFC 5890 §2.3.2.1).
#[derive(Clone, Debug, Default)]
pub struct Domains {
    subdomains: Subdomains,
    names: BTreeMap<Vec<u8>, Entry>,
    tables: Vec<(Entry, Maps)>,
    /// Number of entries.
    size: usize,
}

/// One entry of the list.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Its place in the list.
    place: usize,
    /// Written `!entry`: what matches it is not of the list.
    is_excluded: bool,
}

impl Domains {
    /// An empty list.
    #[must_use]
    pub const fn new(subdomains: Subdomains) -> Self {
        Self { subdomains, names: BTreeMap::new(), tables: Vec::new(), size: 0 }
    }

    /// Whether the list has no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Adds a domain; `is_excluded`: what matches it is not of the list.
    pub fn add_name(&mut self, name: &[u8], is_excluded: bool) {
        let entry = self.next_entry(is_excluded);
        self.names.entry(comparable_domain(name)).or_insert(entry);
    }

    /// Adds tables; `is_excluded`: what they have is not of the list.
    pub fn add_tables(&mut self, tables: Maps, is_excluded: bool) {
        let entry = self.next_entry(is_excluded);
        self.tables.push((entry, tables));
    }

    /// Whether `domain` is one of them. `asker`: on whose behalf tables are asked.
    ///
    /// # Errors
    /// [`LookupError`] of a table.
    pub fn contains<'q>(&self, domain: &[u8], asker: impl Into<Asker<'q>>) -> Result<bool, LookupError> {
        let asker = asker.into();
        let named = self.named(domain);
        let tables =
            self.tables.iter().take_while(|(table, _)| named.is_none_or(|name| table.place < name.place));
        for (entry, maps) in tables {
            if self.is_in(maps, domain, asker)? {
                return Ok(!entry.is_excluded);
            }
        }
        Ok(named.is_some_and(|name| !name.is_excluded))
    }

    /// Whether a name of the list says so; no table is asked.
    #[must_use]
    pub fn has_name(&self, domain: &[u8]) -> bool {
        self.named(domain).is_some_and(|name| !name.is_excluded)
    }

    /// Whether a table of the list may say [`LookupError::Pending`].
    #[must_use]
    pub fn may_wait(&self) -> bool {
        self.tables.iter().any(|(_, maps)| maps.may_wait())
    }

    fn next_entry(&mut self, is_excluded: bool) -> Entry {
        let place = self.size;
        self.size += 1;
        Entry { place, is_excluded }
    }

    /// The first name that matches.
    fn named(&self, domain: &[u8]) -> Option<Entry> {
        if self.names.is_empty() || domain.len() > DOMAIN_SIZE_MAX {
            return None;
        }
        let mut memory = [0; DOMAIN_SIZE_MAX];
        let domain = comparable(domain, &mut memory);
        let whole = self.names.get(&*domain);
        let parents = parents(self.subdomains, &domain).filter_map(|parent| self.names.get(parent));
        whole.into_iter().chain(parents).min_by_key(|entry| entry.place).copied()
    }

    fn is_in(&self, maps: &Maps, domain: &[u8], asker: Asker<'_>) -> Result<bool, LookupError> {
        let arena = Bump::new();
        if maps.find(&arena, domain, asker)?.is_some() {
            return Ok(true);
        }
        for parent in parents(self.subdomains, domain) {
            if maps.find_part(&arena, parent, asker)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<Name: AsRef<[u8]>> FromIterator<Name> for Domains {
    /// Domains that match exactly.
    fn from_iter<Names: IntoIterator<Item = Name>>(names: Names) -> Self {
        let mut domains = Self::default();
        names.into_iter().for_each(|name| domains.add_name(name.as_ref(), false));
        domains
    }
}

/// Bytes of a domain at most (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_SIZE_MAX: usize = 255;

/// `domain`, at most [`DOMAIN_SIZE_MAX`] long, as the names of a list are spelled.
fn comparable<'a>(domain: &[u8], memory: &'a mut [u8; DOMAIN_SIZE_MAX]) -> Cow<'a, [u8]> {
    if let Some(lower) = memory.get_mut(..domain.len()).filter(|_| domain.is_ascii()) {
        lower.copy_from_slice(domain);
        lower.make_ascii_lowercase();
        // An A-label may be spelled in ways that only its decoding shows to be the same.
        // No searcher: a domain is shorter than what making one takes.
        if !lower.windows(4).any(|window| window == b"xn--") {
            return Cow::Borrowed(lower);
        }
    }
    comparable_domain(domain).into()
}

/// What else of a list could stand for `domain`, nearest first.
fn parents(subdomains: Subdomains, domain: &[u8]) -> impl Iterator<Item = &[u8]> {
    let skipped = match subdomains {
        Subdomains::Never => None,
        Subdomains::OfEach => Some(1),
        Subdomains::OfDotted => Some(0),
    };
    let searched = if skipped.is_some() { domain } else { b"" };
    let dots = memchr::memchr_iter(b'.', searched).filter(|dot| *dot > 0);
    dots.filter_map(move |dot| domain.get(dot + skipped?..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sharer;
    use crate::lookup::LookupTable;
    use alloc::sync::Arc;

    fn domains(subdomains: Subdomains, names: &[&str]) -> Domains {
        let mut domains = Domains::new(subdomains);
        for name in names {
            match name.strip_prefix('!') {
                Some(name) => domains.add_name(name.as_bytes(), true),
                None => domains.add_name(name.as_bytes(), false),
            }
        }
        domains
    }

    #[test]
    fn subdomains_match_in_lists_of_that_kind() {
        let names = [
            "Example.com",
            ".dotted.example",
            "neg.example",
            "!no.neg.example",
            "late.neg2.example",
            "!neg2.example",
        ];
        // In columns: Never, OfEach, OfDotted. As Postfix 3.7.11 answers.
        for (domain, expected) in [
            ("example.com", [true, true, true]),
            ("EXAMPLE.COM", [true, true, true]),
            ("a.example.com", [false, true, false]),
            ("a.b.Example.com", [false, true, false]),
            ("xexample.com", [false, false, false]),
            ("dotted.example", [false, false, false]),
            ("a.dotted.example", [false, false, true]),
            ("a.b.Dotted.example", [false, false, true]),
            ("no.neg.example", [false, true, false]),
            ("late.neg2.example", [true, true, true]),
            ("early.neg2.example", [false, false, false]),
            ("", [false, false, false]),
        ] {
            for (subdomains, expected) in
                [Subdomains::Never, Subdomains::OfEach, Subdomains::OfDotted].into_iter().zip(expected)
            {
                let list = domains(subdomains, &names);
                assert_eq!(
                    list.contains(domain.as_bytes(), Sharer::default()),
                    Ok(expected),
                    "{domain} {subdomains:?}"
                );
                assert_eq!(list.has_name(domain.as_bytes()), expected, "{domain} {subdomains:?}");
            }
        }
        let list = domains(Subdomains::OfEach, &["!no.neg.example", "neg.example"]);
        assert_eq!(list.contains(b"a.no.neg.example", Sharer::default()), Ok(false));
        assert_eq!(list.contains(b"a.neg.example", Sharer::default()), Ok(true));
        assert!(!list.has_name(&[b'a'; 300]));
    }

    #[test]
    fn internationalised_domains_match_in_any_spelling() {
        let list = domains(Subdomains::OfEach, &["ex\u{e4}mple.com", "xn--bcher-kva.example"]);
        for domain in [
            "ex\u{e4}mple.com",
            "EX\u{c4}MPLE.COM",
            "exa\u{308}mple.com",
            "xn--exmple-cua.com",
            "XN--EXMPLE-CUA.com",
            "sub.Ex\u{c4}mple.com",
            "b\u{fc}cher.example",
            "B\u{dc}CHER.example",
        ] {
            assert!(list.has_name(domain.as_bytes()), "{domain}");
        }
        for domain in ["example.com", "exaemple.com", "xn--exmple-cub.com", "bucher.example"] {
            assert!(!list.has_name(domain.as_bytes()), "{domain}");
        }
        assert!(!list.has_name(b"ex\xe4mple.com"));
    }

    /// Has some domains, and keeps what it was asked for.
    #[derive(Debug)]
    struct Table(&'static [&'static str]);

    impl LookupTable for Table {
        fn look_up<'a>(
            &'a self,
            _: &'a Bump,
            key: &[u8],
            _: Sharer,
        ) -> Result<Option<&'a [u8]>, LookupError> {
            Ok(self.0.iter().any(|name| name.as_bytes() == key).then_some(b"x"))
        }
    }

    #[test]
    fn tables_are_searched_for_parent_domains_like_lists() {
        for (subdomains, expected) in [
            (Subdomains::Never, [true, false, false, false]),
            (Subdomains::OfEach, [true, true, false, false]),
            (Subdomains::OfDotted, [true, false, false, true]),
        ] {
            let mut list = Domains::new(subdomains);
            list.add_tables(Maps::new(alloc::vec![Arc::new(Table(&["tab.example", ".dot.example"]))]), false);
            for (domain, expected) in
                ["tab.example", "a.b.tab.example", "dot.example", "a.dot.example"].into_iter().zip(expected)
            {
                assert_eq!(
                    list.contains(domain.as_bytes(), Sharer::default()),
                    Ok(expected),
                    "{domain} {subdomains:?}"
                );
            }
        }
        let mut list = Domains::new(Subdomains::OfEach);
        list.add_name(b"first.tab.example", false);
        list.add_tables(Maps::new(alloc::vec![Arc::new(Table(&["tab.example"]))]), true);
        list.add_name(b"tab.example", false);
        assert_eq!(list.contains(b"first.tab.example", Sharer::default()), Ok(true));
        assert_eq!(list.contains(b"second.tab.example", Sharer::default()), Ok(false));
    }
}
