//! Pass that rewrites the addresses of a field.

use bumpalo::collections::Vec as ArenaVec;

use super::canonical::{AddressClass, map_address};
use super::field::OneField;
use super::field_kind::Party;
use super::field_text::{emitted, fold};
use super::settings::Settings;
use super::{Cleanup, Passes};
use crate::address::{AddressList, Part, RewriteContext, plain_addresses, rewrite, scan, write_tokens};
use crate::lookup::LookupError;

impl Cleanup {
    /// Returns the field with its addresses rewritten, as stored in the queue, or `None` if no address changes.
    pub(super) fn header_rewrite<'a>(
        &self,
        surroundings: &Passes<'_, 'a>,
        field: &OneField<'_, 'a>,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let settings = surroundings.settings;
        let (Some(party), Some(context)) = (field.kind.party(), self.context(settings)) else {
            return Ok(None);
        };
        let text = field.text(surroundings.arena, settings);
        header_rewrite(surroundings, context, party, text, field.name().len())
    }

    /// Returns the domains that complete the addresses in this message's header section, or `None` if they stay as they are.
    pub(super) fn context<'a>(&self, settings: &'a Settings) -> Option<&'a RewriteContext> {
        let rewriting = settings.rewriting.as_ref();
        if self.is_local_context { Some(&rewriting.local) } else { rewriting.remote.as_ref() }
    }
}

/// Returns the field with all its addresses rewritten, as stored in the queue, or `None` if none changes.
///
/// `logical` is the field as one text; `name_size` is the number of bytes before the colon.
fn header_rewrite<'a>(
    surroundings: &Passes<'_, 'a>,
    context: &'a RewriteContext,
    party: Party,
    logical: &'a [u8],
    name_size: usize,
) -> Result<Option<&'a [u8]>, LookupError> {
    let (arena, settings) = (surroundings.arena, surroundings.settings);
    let class = match party {
        Party::Sender => AddressClass::HeaderSender,
        Party::Recipient => AddressClass::HeaderRecipient,
    };
    let (name, body) = logical.split_at_checked(name_size).unwrap_or((logical, b""));
    let body = body.get(1..).unwrap_or_default();
    // A field this short cannot exceed the token limit.
    if body.len() <= settings.header_address_token_limit
        && let Some(addresses) = plain_addresses(arena, body)
    {
        // The common case: the field needs parsing only if a table has one of its addresses.
        let mut is_changed = false;
        for address in addresses {
            is_changed |= map_address(surroundings, class, address)? != address;
        }
        if !is_changed {
            return Ok(None);
        }
    }
    let mut list = AddressList::parse(arena, body, settings.header_address_token_limit);
    let mut is_changed = false;
    for part in &mut list.parts {
        let Part::Address(tokens) = part else { continue };
        let mut external = ArenaVec::with_capacity_in(64, arena);
        write_tokens(tokens, &mut external);
        let external: &'a [u8] = external.into_bump_slice();
        let complete = rewrite(arena, &settings.rewriting.rules, context, external);
        let mapped = map_address(surroundings, class, complete)?;
        // Compare after each step, because the second may restore what the first has changed.
        is_changed |= complete != external || mapped != complete;
        tokens.clear();
        scan(arena, mapped, usize::MAX, tokens);
    }
    if !is_changed {
        return Ok(None);
    }
    let mut text = ArenaVec::with_capacity_in(logical.len() * 2, arena);
    text.extend_from_slice_copy(name);
    text.extend_from_slice_copy(b": ");
    list.write(arena, &mut text);
    fold(&mut text);
    Ok(Some(emitted(arena, &text, settings.header_size_limit)))
}
