//! Passes that rewrite one address to one address: canonical tables and masquerading (`masquerade_domains`).

use bumpalo::collections::Vec as ArenaVec;

use super::Passes;
use super::settings::{Canonical, Classes, Masquerade};
use crate::address::{Rewriting, is_complete, quoted, respelled, rewrite, unquoted};
use crate::lookup::{AddressLookup, Extension, LookupError};

/// Maximum number of times that a canonical table is searched for its own result.
const CANONICAL_ROUNDS_MAX: usize = 10;

/// Where an address occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressClass {
    EnvelopeSender,
    EnvelopeRecipient,
    HeaderSender,
    HeaderRecipient,
}

impl Classes {
    const fn has(self, class: AddressClass) -> bool {
        match class {
            AddressClass::EnvelopeSender => self.envelope_sender,
            AddressClass::EnvelopeRecipient => self.envelope_recipient,
            AddressClass::HeaderSender => self.header_sender,
            AddressClass::HeaderRecipient => self.header_recipient,
        }
    }
}

/// Applies the canonical tables and masquerading to `address` (external form). Returns the same slice if nothing changes.
pub(super) fn map_address<'a>(
    surroundings: &Passes<'_, 'a>,
    class: AddressClass,
    address: &'a [u8],
) -> Result<&'a [u8], LookupError> {
    let settings = surroundings.settings;
    let own = match class {
        AddressClass::EnvelopeSender | AddressClass::HeaderSender => &settings.sender_canonical,
        AddressClass::EnvelopeRecipient | AddressClass::HeaderRecipient => &settings.recipient_canonical,
    };
    // In a header field, each step parses the result of the previous one as field text.
    let is_of_field = matches!(class, AddressClass::HeaderSender | AddressClass::HeaderRecipient);
    let spelled =
        |address: &'a [u8]| if is_of_field { respelled(surroundings.arena, address) } else { address };
    let mut address = address;
    for canonical in [own, &settings.canonical] {
        if !canonical.maps.is_empty() && canonical.classes.has(class) {
            address = self::canonical(surroundings, canonical, spelled(address))?;
        }
    }
    if settings.masquerade.classes.has(class) {
        address = masquerade(surroundings, &settings.masquerade, spelled(address));
    }
    Ok(address)
}

/// Completes and then maps an envelope address (internal form).
pub(super) fn envelope_address<'a>(
    surroundings: &Passes<'_, 'a>,
    class: AddressClass,
    address: &'a [u8],
) -> Result<&'a [u8], LookupError> {
    let arena = surroundings.arena;
    let completed = if is_complete(address) {
        // The common case: neither rules nor quoting change the address.
        address
    } else {
        quoted(arena, complete(surroundings, address))
    };
    Ok(unquoted(arena, map_address(surroundings, class, completed)?))
}

/// Completes an address from an envelope or a check (internal form) with our own domain.
pub(super) fn complete<'a>(surroundings: &Passes<'_, 'a>, address: &'a [u8]) -> &'a [u8] {
    if address.is_empty() || is_complete(address) {
        return address;
    }
    let Rewriting { rules, local, .. } = surroundings.settings.rewriting.as_ref();
    let arena = surroundings.arena;
    unquoted(arena, rewrite(arena, rules, local, quoted(arena, address)))
}

impl<'a> Passes<'_, 'a> {
    /// Returns what address lookups need.
    pub(super) fn lookup(&self) -> AddressLookup<'_, 'a> {
        AddressLookup {
            arena: self.arena,
            rewriting: &self.settings.rewriting,
            destinations: &self.settings.destinations,
            recipient_delimiter: &self.settings.recipient_delimiter,
            asker: self.asker(),
        }
    }
}

/// Searches the tables for each result again, until there is none or it equals its key. Stops without an error after
/// [`CANONICAL_ROUNDS_MAX`] rounds.
fn canonical<'a>(
    surroundings: &Passes<'_, 'a>,
    canonical: &'a Canonical,
    address: &'a [u8],
) -> Result<&'a [u8], LookupError> {
    let arena = surroundings.arena;
    let extension = if surroundings.settings.propagates_canonical_extension {
        Extension::Propagate
    } else {
        Extension::Drop
    };
    let mut address = address;
    for _ in 0..CANONICAL_ROUNDS_MAX {
        let results = surroundings.lookup().map(&canonical.maps, unquoted(arena, address), extension)?;
        let Some(first) = results.as_ref().and_then(|results| results.first()) else { break };
        let mapped = quoted(arena, first);
        let is_itself = mapped.eq_ignore_ascii_case(address);
        address = mapped;
        if is_itself {
            break;
        }
    }
    Ok(address)
}

/// Rewrites `user@host.domain` to `user@domain` if the domain is masqueraded.
fn masquerade<'a>(surroundings: &Passes<'_, 'a>, masquerade: &Masquerade, address: &'a [u8]) -> &'a [u8] {
    let Some(at) = memchr::memrchr(b'@', address) else { return address };
    let (local, domain) = address.split_at_checked(at).unwrap_or_default();
    let domain = domain.get(1..).unwrap_or_default();
    if masquerade.exceptions.iter().any(|exception| local.eq_ignore_ascii_case(exception)) {
        return address;
    }
    for (is_left_alone, hiding) in &masquerade.domains {
        let Some(front) = domain.len().checked_sub(hiding.len()) else { continue };
        let (host, parent) = domain.split_at_checked(front).unwrap_or_default();
        if !parent.eq_ignore_ascii_case(hiding) || !(host.is_empty() || host.ends_with(b".")) {
            continue;
        }
        if host.is_empty() || *is_left_alone {
            return address;
        }
        let mut hidden = ArenaVec::with_capacity_in(local.len() + 1 + hiding.len(), surroundings.arena);
        [local, b"@", hiding].into_iter().for_each(|part| hidden.extend_from_slice_copy(part));
        return hidden.into_bump_slice();
    }
    address
}
