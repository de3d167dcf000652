//! The pass that replaces recipients: virtual aliases (virtual(5)).

use bumpalo::collections::Vec as ArenaVec;

use super::Surroundings;
use super::rejection::{Halt, Rejection};
use crate::address::quoted;
use crate::lookup::Extension;

/// The recipients that `address` (internal form) stands for: itself if no table has it.
///
/// Each result is asked for in its turn, in its place; further ones come behind the others. An address that stands
/// for itself among others is not asked for again.
pub(super) fn expand<'a>(
    surroundings: &Surroundings<'_, 'a>,
    address: &'a [u8],
) -> Result<ArenaVec<'a, &'a [u8]>, Halt> {
    let arena = surroundings.arena;
    let settings = &surroundings.settings.virtual_alias;
    let extension = if settings.propagates_extension { Extension::Propagate } else { Extension::Drop };
    let mut addresses = ArenaVec::new_in(arena);
    addresses.push(address);
    let mut final_ones: ArenaVec<'a, &'a [u8]> = ArenaVec::new_in(arena);
    let mut index = 0;
    while let Some(mut current) = addresses.get(index).copied() {
        if addresses.len() > settings.expansion_limit {
            return Err(Rejection::AliasExpansion.into());
        }
        let mut rounds = 0;
        while !final_ones.iter().any(|known| known.eq_ignore_ascii_case(current)) {
            if rounds >= settings.recursion_limit {
                return Err(Rejection::AliasExpansion.into());
            }
            rounds += 1;
            let Some(results) = surroundings.lookup().map(&settings.maps, current, extension)? else { break };
            let asked = current;
            for (place, result) in results.iter().copied().enumerate() {
                if quoted(arena, result).len() > settings.address_length_limit {
                    return Err(Rejection::AliasExpansion.into());
                }
                if place == 0 {
                    current = result;
                } else {
                    addresses.push(result);
                }
                if result.eq_ignore_ascii_case(asked) {
                    final_ones.push(asked);
                }
            }
        }
        if let Some(place) = addresses.get_mut(index) {
            *place = current;
        }
        index += 1;
    }
    Ok(addresses)
}
