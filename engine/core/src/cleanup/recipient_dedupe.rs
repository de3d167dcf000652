//! Pass that removes duplicate recipients.

use alloc::borrow::Cow;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::Settings;
use crate::address::quoted;
use crate::case::{eq_ignoring_case, folded};
use crate::envelope::QueuedRecipient;

/// Recipients without duplicates.
pub(super) struct Distinct<'a> {
    arena: &'a Bump,
    settings: &'a Settings,
    recipients: ArenaVec<'a, QueuedRecipient<'a>>,
    /// Hash table of indices into `recipients`, plus one; empty while there are few recipients.
    places: ArenaVec<'a, u32>,
}

/// Maximum number of recipients that are searched linearly.
const LINEAR_SEARCH_MAX: usize = 8;

impl<'a> Distinct<'a> {
    /// Creates an empty list with capacity for `expected` recipients.
    pub(super) fn new(arena: &'a Bump, settings: &'a Settings, expected: usize) -> Self {
        let recipients = ArenaVec::with_capacity_in(expected, arena);
        Self { arena, settings, recipients, places: ArenaVec::new_in(arena) }
    }

    /// Returns whether there are no recipients.
    pub(super) fn is_empty(&self) -> bool {
        self.recipients.is_empty()
    }

    /// Returns all recipients.
    pub(super) fn into_all(self) -> ArenaVec<'a, QueuedRecipient<'a>> {
        self.recipients
    }

    /// Adds a recipient unless it is a duplicate. Beyond `duplicate_filter_limit` new recipients are not remembered, as in
    /// Postfix.
    pub(super) fn add(&mut self, recipient: QueuedRecipient<'a>) {
        let settings = self.settings;
        let is_whole = settings.enable_original_recipient;
        let limit = settings.duplicate_filter_limit;
        let limit = if limit == 0 { usize::MAX } else { limit };
        if self.recipients.len() < LINEAR_SEARCH_MAX {
            let known = self.recipients.iter().take(limit);
            if !known.into_iter().any(|known| is_same(known, &recipient, is_whole)) {
                self.recipients.push(recipient);
            }
            return;
        }
        if self.places.len() < self.recipients.len().min(limit) * 2 {
            self.grow(is_whole, limit);
        }
        let mask = self.places.len() - 1;
        let mut slot = hash(&recipient, is_whole) & mask;
        while let Some(place) = self.places.get(slot).copied().filter(|place| *place != 0) {
            let known = self.recipients.get(place as usize - 1);
            if known.is_some_and(|known| is_same(known, &recipient, is_whole)) {
                return;
            }
            slot = (slot + 1) & mask;
        }
        if self.recipients.len() < limit {
            self.remember(slot, self.recipients.len());
        }
        self.recipients.push(recipient);
    }

    fn grow(&mut self, is_whole: bool, limit: usize) {
        let size = (self.recipients.len() * 4).next_power_of_two();
        self.places = ArenaVec::new_in(self.arena);
        self.places.resize(size, 0);
        for index in 0..self.recipients.len().min(limit) {
            let Some(recipient) = self.recipients.get(index) else { break };
            let mut slot = hash(recipient, is_whole) & (size - 1);
            while self.places.get(slot).is_some_and(|place| *place != 0) {
                slot = (slot + 1) & (size - 1);
            }
            self.remember(slot, index);
        }
    }

    fn remember(&mut self, slot: usize, index: usize) {
        if let (Some(place), Ok(index)) = (self.places.get_mut(slot), u32::try_from(index + 1)) {
            *place = index;
        }
    }
}

/// Returns whether two recipients are the same. `is_whole`: also compares the original recipients
/// (`enable_original_recipient`).
fn is_same(one: &QueuedRecipient<'_>, other: &QueuedRecipient<'_>, is_whole: bool) -> bool {
    eq_ignoring_case(one.address, other.address)
        && (!is_whole
            || eq_ignoring_case(one.original, other.original)
                && one.notify == other.notify
                && has_same_dsn_original(one, other))
}

/// Returns whether the ORCPT values are the same. Without ORCPT the address of RCPT counts, as in Postfix.
fn has_same_dsn_original(one: &QueuedRecipient<'_>, other: &QueuedRecipient<'_>) -> bool {
    let is_given = |given: &[u8], recipient: &QueuedRecipient<'_>| {
        let arena = Bump::new();
        let prefix = b"rfc822;";
        given.split_at_checked(prefix.len()).is_some_and(|(kind, address)| {
            kind.eq_ignore_ascii_case(prefix) && eq_ignoring_case(address, quoted(&arena, recipient.original))
        })
    };
    match (one.dsn_original, other.dsn_original) {
        (None, None) => true,
        (Some(given), None) => is_given(given, other),
        (None, Some(given)) => is_given(given, one),
        (Some(one), Some(other)) => eq_ignoring_case(one, other),
    }
}

/// Hashes the case-folded addresses that [`is_same`] compares, with FNV-1a.
fn hash(recipient: &QueuedRecipient<'_>, is_whole: bool) -> usize {
    let original: &[u8] = if is_whole { recipient.original } else { b"" };
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in [recipient.address, b"\n", original] {
        let text = if text.is_ascii() { Cow::Borrowed(text) } else { folded(text) };
        for octet in text.iter() {
            hash = (hash ^ u64::from(octet.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
        }
    }
    usize::try_from(hash >> 32).unwrap_or_default()
}
