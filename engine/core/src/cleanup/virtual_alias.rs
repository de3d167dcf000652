//! The pass that replaces recipients: virtual aliases (virtual(5)).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use bumpalo::collections::Vec as ArenaVec;

use super::Passes;
use super::rejection::{Halt, Rejection};
use crate::address::quoted;
use crate::envelope::Notify;
use crate::lookup::{Extension, LookupError, Ticket};

/// What is known of a message's aliases while its tables are asked: a chain of them is not walked again from its start
/// with each answer, and it is seen how much was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The one address that an address stands for, or none if no table has it.
    known: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    newest: Option<Ticket>,
    questions: usize,
}

/// Addresses that are remembered; the tables remember all.
const KNOWN_MAX: usize = 10_000;
/// Questions for each recipient beside those for the message: its address, with and without extension and domain.
const QUESTIONS_EACH: usize = 20;

type Results<'a> = Option<ArenaVec<'a, &'a [u8]>>;

impl Progress {
    /// What the tables have for an address.
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

    /// Counts a question that was asked, unless it was counted before.
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

/// The recipients that `address` (internal form) stands for: itself if no table has it.
///
/// Each result is asked for in its turn, in its place; further ones come after the others. An address that stands
/// for itself among others is not asked for again. While a question has no answer, those about the others are asked.
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

/// An alias was delivered to when it was replaced: success is not reported again.
pub(super) fn without_success(notify: Notify) -> Notify {
    if notify == Notify::SUCCESS {
        return Notify::NEVER;
    }
    Notify::from_bits(notify.bits() & !Notify::SUCCESS.bits())
}
