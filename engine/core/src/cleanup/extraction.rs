//! The pass that takes recipients from the header section (`sendmail -t`).

use alloc::vec::Vec;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::field_kind::Seen;
use crate::address::{AddressList, write_internal};

/// The recipients that fields named, in internal form as they were given, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Extraction {
    plain: Vec<Vec<u8>>,
    /// Of Resent fields: they count alone if there is any Resent field (RFC 5322 §3.6.6).
    resent: Vec<Vec<u8>>,
}

impl Extraction {
    /// Takes those of a field's body, with so many in all at most.
    pub(super) fn take(
        &mut self,
        arena: &Bump,
        body: &[u8],
        is_resent: bool,
        token_limit: usize,
        limit: usize,
    ) {
        let recipients = if is_resent { &mut self.resent } else { &mut self.plain };
        let list = AddressList::parse(arena, arena.alloc_slice_copy(body), token_limit);
        for tokens in list.addresses() {
            if recipients.len() >= limit {
                break;
            }
            let mut address = ArenaVec::new_in(arena);
            write_internal(tokens, &mut address);
            recipients.push(address.to_vec());
        }
    }

    /// Those that the message goes to.
    pub(super) fn recipients(&self, seen: Seen) -> &[Vec<u8>] {
        if seen.is_resent() { &self.resent } else { &self.plain }
    }
}
