//! Tables of recipients (`transport_maps`) and of senders.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::address::{Subdomains, quoted, split_domain};
use mailrace_core::lookup::{AddressLookup, Asker, KeyForm, LookupError, Maps, split_extension};

use super::{Resolver, Step};

/// Tables of recipients and of senders.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResolverTables {
    /// `transport_maps`
    pub(crate) transport: Maps,
    /// How `transport_maps` are searched for parents of a domain (`parent_domain_matches_subdomains`).
    pub(crate) transport_parents: Subdomains,
    /// `sender_dependent_relayhost_maps`
    pub(crate) sender_relayhost: Maps,
    /// `sender_dependent_default_transport_maps`
    pub(crate) sender_transport: Maps,
    /// `empty_address_relayhost_maps_lookup_key`
    pub(crate) null_relayhost_key: Vec<u8>,
    /// `empty_address_default_transport_maps_lookup_key`
    pub(crate) null_transport_key: Vec<u8>,
}

/// A key, and the value that a table has for it.
type Match<'a> = (&'a [u8], &'a [u8]);

impl ResolverTables {
    /// Returns what `transport_maps` have for an address (internal form) in `domain`. The keys are the address as written and
    /// without its extension, the domain, its parents, and `*`; tables of patterns are searched for the address only.
    pub(super) fn transport<'a>(
        &'a self,
        arena: &'a Bump,
        address: &[u8],
        domain: &[u8],
        recipient_delimiter: &[u8],
        asker: Asker<'_>,
    ) -> Result<Option<Match<'a>>, LookupError> {
        let maps = &self.transport;
        if maps.is_empty() {
            return Ok(None);
        }
        let address: &[u8] = arena.alloc_slice_copy(address);
        let whole: &[u8] = quoted(arena, address);
        if let Some(value) = maps.find(arena, whole, asker)? {
            return Ok(Some((whole, value)));
        }
        let (mailbox, _) = split_domain(address);
        let (user, extension) = split_extension(mailbox, recipient_delimiter);
        if !extension.is_empty() {
            let mut bare = ArenaVec::with_capacity_in(address.len(), arena);
            bare.extend_from_slice_copy(user);
            bare.extend_from_slice_copy(address.get(mailbox.len()..).unwrap_or_default());
            let bare: &[u8] = quoted(arena, bare.into_bump_slice());
            if let Some(value) = maps.find_part(arena, bare, asker)? {
                return Ok(Some((bare, value)));
            }
        }
        let domain: &[u8] = arena.alloc_slice_copy(domain);
        let parents = parents(self.transport_parents, domain);
        for key in std::iter::once(domain).chain(parents).chain(std::iter::once(&b"*"[..])) {
            if let Some(value) = maps.find_part(arena, key, asker)? {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }
}

/// Iterates over the keys of what a domain is below, nearest first.
fn parents(subdomains: Subdomains, domain: &[u8]) -> impl Iterator<Item = &[u8]> {
    let skipped = usize::from(subdomains == Subdomains::OfEach);
    let dots = domain.iter().enumerate().skip(1).filter(|(_, octet)| **octet == b'.');
    dots.filter_map(move |(dot, _)| domain.get(dot + skipped..))
}

impl Resolver {
    /// Returns what the tables of a parameter have for a sender, which comes with the key of the null sender. `DUNNO` and an
    /// empty value are none.
    pub(super) fn sender_value<'a>(
        &'a self,
        arena: &'a Bump,
        (parameter, maps): (&'static str, &'a Maps),
        (sender, null_key): (&[u8], &[u8]),
        asker: Asker<'_>,
        observe: &mut dyn FnMut(Step<'_>),
    ) -> Result<Option<&'a [u8]>, LookupError> {
        if maps.is_empty() {
            return Ok(None);
        }
        let key = if sender.is_empty() { null_key } else { sender };
        let value = if sender.is_empty() {
            maps.find(arena, null_key, asker)?
        } else {
            let lookup = AddressLookup {
                arena,
                rewriting: &self.rewriting,
                destinations: &self.destinations,
                recipient_delimiter: &self.recipient_delimiter,
                asker,
            };
            let sender: &[u8] = arena.alloc_slice_copy(sender);
            lookup.find(maps, sender, KeyForm::ExternalFirst)?.map(|(value, _)| value)
        };
        let Some(value) = value else { return Ok(None) };
        observe(Step::Found { parameter, key, value });
        let value = value.trim_ascii();
        Ok(Some(value).filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"DUNNO")))
    }
}
