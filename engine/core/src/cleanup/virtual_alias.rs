//! Pass that expands virtual aliases (virtual(5)).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use bumpalo::collections::Vec as ArenaVec;

use super::Passes;
use super::rejection::{Halt, Rejection};
use crate::address::quoted;
use crate::envelope::Notify;
use crate::lookup::{Extension, LookupError, Ticket};

/// Progress of alias expansion across calls, so that an answer does not restart the walk of an alias chain, and the number
/// of lookups is bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The single address that an address expands to, or `None` if no table has it.
    known: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    newest: Option<Ticket>,
    questions: usize,
}

/// Maximum number of remembered addresses. Beyond it, the answers that the transaction keeps are used.
const KNOWN_MAX: usize = 10_000;
/// Number of lookups per recipient, in addition to those per message: its address, with and without extension and domain.
const QUESTIONS_EACH: usize = 20;

type Results<'a> = Option<ArenaVec<'a, &'a [u8]>>;

impl Progress {
    /// Looks up an address in the tables.
    fn find<'a>(
        &mut self,
        surroundings: &Passes<'_, 'a>,
        address: &'a [u8],
    ) -> Result<Results<'a>, LookupError> {
        let arena = surroundings.arena;
        let settings = &surroundings.settings.virtual_alias;
        let extension = if settings.propagates_extension { Extension::Propagate } else { Extension::Drop };
        if settings.maps.may_wait()
            && let Some(known) = self.known.get(address)
        {
            return Ok(known.as_deref().map(|known| {
                let mut results = ArenaVec::new_in(arena);
                results.push(&*arena.alloc_slice_copy(known));
                results
            }));
        }
        let results = surroundings.lookup().map(&settings.maps, address, extension)?;
        if settings.maps.may_wait() && self.known.len() < KNOWN_MAX {
            match results.as_deref() {
                None => drop(self.known.insert(address.into(), None)),
                Some([result]) => drop(self.known.insert(address.into(), Some((*result).into()))),
                Some(_) => {}
            }
        }
        Ok(results)
    }

    /// Counts a lookup, unless it was counted before.
    fn count(&mut self, surroundings: &Passes<'_, '_>, ticket: Ticket) -> Result<(), Halt> {
        if self.newest.is_none_or(|newest| ticket > newest) {
            self.newest = Some(ticket);
            self.questions += 1;
        }
        let recipients = surroundings.envelope.recipients.len();
        let limit = surroundings.settings.virtual_alias.question_limit;
        if self.questions > limit.saturating_add(recipients.saturating_mul(QUESTIONS_EACH)) {
            return Err(Rejection::AliasExpansion.into());
        }
        Ok(())
    }
}

/// Returns the recipients that `address` (internal form) expands to, or the address itself if no table has it.
///
/// Expands each result in turn: the first replaces its alias, further ones are appended. An address that is among its own
/// results is not expanded again. While a lookup is pending, the lookups for other addresses are started.
pub(super) fn expand<'a>(
    surroundings: &Passes<'_, 'a>,
    progress: &mut Progress,
    address: &'a [u8],
) -> Result<ArenaVec<'a, &'a [u8]>, Halt> {
    let arena = surroundings.arena;
    let settings = &surroundings.settings.virtual_alias;
    let mut unanswered = None;
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
            let results = match progress.find(surroundings, current) {
                Ok(Some(results)) => results,
                Ok(None) => break,
                Err(LookupError::Pending(ticket)) => {
                    progress.count(surroundings, ticket)?;
                    unanswered = unanswered.or(Some(ticket));
                    break;
                }
                Err(error) => return Err(error.into()),
            };
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
    unanswered.map_or(Ok(addresses), |ticket| Err(Halt::Pending(ticket)))
}

/// Removes SUCCESS: the expansion of the alias is reported instead (RFC 3461 §5.2.7.3).
pub(super) fn without_success(notify: Notify) -> Notify {
    if notify == Notify::SUCCESS {
        return Notify::NEVER;
    }
    Notify::from_bits(notify.bits() & !Notify::SUCCESS.bits())
}
