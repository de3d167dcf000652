//! The passes over the envelope: reverse-path, recipients, aliases, duplicates, copies.

use alloc::borrow::Cow;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::Surroundings;
use super::canonical::{AddressClass, complete, envelope_address};
use super::rejection::Halt;
use super::virtual_alias;
use crate::address::quoted;
use crate::case::{eq_ignoring_case, folded};
use crate::envelope::{Notify, QueuedRecipient};
use crate::lookup::{KeyForm, LookupError, Maps};

/// The reverse-path (internal form) after rewriting. This system's own reports have none.
pub(super) fn envelope_sender<'a>(surroundings: &Surroundings<'_, 'a>) -> Result<&'a [u8], LookupError> {
    let mut given = surroundings.envelope.sender.as_slice();
    let completed = complete(surroundings, given);
    let front = completed.get(..MAILER_DAEMON_AT.len());
    let is_daemon = front.is_some_and(|front| front.eq_ignore_ascii_case(MAILER_DAEMON_AT))
        && completed.eq_ignore_ascii_case(complete(surroundings, MAILER_DAEMON));
    if is_daemon {
        given = b"";
    }
    // Tables are asked about the null reverse-path too.
    envelope_address(surroundings, AddressClass::EnvelopeSender, given)
}

const MAILER_DAEMON: &[u8] = b"MAILER-DAEMON";
const MAILER_DAEMON_AT: &[u8] = b"MAILER-DAEMON@";

/// The recipients after all passes, copies included.
///
/// `added`: addresses that checks added (BCC).
pub(super) fn envelope_recipients<'a>(
    surroundings: &Surroundings<'_, 'a>,
    progress: &mut virtual_alias::Progress,
    sender: &'a [u8],
    added: impl Iterator<Item = &'a [u8]>,
) -> Result<ArenaVec<'a, QueuedRecipient<'a>>, Halt> {
    let settings = surroundings.settings;
    let given = &surroundings.envelope.recipients;
    let mut all = Recipients::new(surroundings, progress, given.len());
    if let Some(copy) = bcc(surroundings, &settings.bcc.sender_maps, sender)? {
        all.add_copy(copy)?;
    }
    let mut unanswered = None;
    let given = given.iter().map(|recipient| QueuedRecipient {
        address: &recipient.address,
        original: recipient.original(),
        notify: recipient.notify,
        dsn_original: recipient.dsn_original.as_deref(),
    });
    for recipient in given {
        match all.add_given(recipient) {
            // The questions about the others are asked meanwhile.
            Err(Halt::Pending(ticket)) => unanswered = unanswered.or(Some(ticket)),
            result => result?,
        }
    }
    if let Some(ticket) = unanswered {
        return Err(Halt::Pending(ticket));
    }
    if !settings.bcc.always.is_empty() && !all.recipients.is_empty() {
        all.add_copy(&settings.bcc.always)?;
    }
    for copy in added {
        all.add_copy(copy)?;
    }
    Ok(all.recipients)
}

/// Who gets a copy by a table; the extension of `address` is not kept.
fn bcc<'a>(
    surroundings: &Surroundings<'_, 'a>,
    maps: &'a Maps,
    address: &'a [u8],
) -> Result<Option<&'a [u8]>, LookupError> {
    if maps.is_empty() || address.is_empty() {
        return Ok(None);
    }
    let found = surroundings.lookup().find(maps, address, KeyForm::ExternalFirst)?;
    Ok(found.map(|(copy, _)| copy))
}

/// Recipients without duplicates.
struct Recipients<'c, 's, 'a> {
    surroundings: &'c Surroundings<'s, 'a>,
    progress: &'c mut virtual_alias::Progress,
    recipients: ArenaVec<'a, QueuedRecipient<'a>>,
    /// Places in `recipients`, one more than it is, by hash; empty while there are few.
    places: ArenaVec<'a, u32>,
}

/// So many recipients are compared one by one.
const FEW: usize = 8;

impl<'c, 's, 'a> Recipients<'c, 's, 'a> {
    fn new(
        surroundings: &'c Surroundings<'s, 'a>,
        progress: &'c mut virtual_alias::Progress,
        expected: usize,
    ) -> Self {
        let arena = surroundings.arena;
        let recipients = ArenaVec::with_capacity_in(expected + 1, arena);
        Self { surroundings, progress, recipients, places: ArenaVec::new_in(arena) }
    }

    /// Adds a recipient of the envelope, and who gets a copy because of it.
    fn add_given(&mut self, recipient: QueuedRecipient<'a>) -> Result<(), Halt> {
        let class = AddressClass::EnvelopeRecipient;
        let address = envelope_address(self.surroundings, class, recipient.address)?;
        self.add(QueuedRecipient { address, ..recipient })?;
        match bcc(self.surroundings, &self.surroundings.settings.bcc.recipient_maps, address)? {
            Some(copy) => self.add_copy(copy),
            None => Ok(()),
        }
    }

    fn add(&mut self, recipient: QueuedRecipient<'a>) -> Result<(), Halt> {
        if self.surroundings.settings.virtual_alias.maps.is_empty() {
            self.add_once(recipient);
            return Ok(());
        }
        let addresses = virtual_alias::expand(self.surroundings, self.progress, recipient.address)?;
        let is_expanded = addresses.as_slice() != [recipient.address];
        let notify = if is_expanded { without_success(recipient.notify) } else { recipient.notify };
        for address in addresses {
            self.add_once(QueuedRecipient { address, notify, ..recipient });
        }
        Ok(())
    }

    /// Adds the recipient of a copy, which nobody is told about.
    fn add_copy(&mut self, given: &'a [u8]) -> Result<(), Halt> {
        let address = envelope_address(self.surroundings, AddressClass::EnvelopeRecipient, given)?;
        self.add(QueuedRecipient { address, original: address, notify: Notify::NEVER, dsn_original: None })
    }

    /// Postfix's `duplicate_filter_limit`: beyond it new recipients are not remembered.
    fn add_once(&mut self, recipient: QueuedRecipient<'a>) {
        let settings = self.surroundings.settings;
        let is_whole = settings.enable_original_recipient;
        let limit = settings.duplicate_filter_limit;
        let limit = if limit == 0 { usize::MAX } else { limit };
        if self.recipients.len() < FEW {
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
        self.places = ArenaVec::new_in(self.surroundings.arena);
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

/// An alias was delivered to when it was replaced: nobody reports success again.
fn without_success(notify: Notify) -> Notify {
    if notify == Notify::SUCCESS {
        return Notify::NEVER;
    }
    Notify::from_bits(notify.bits() & !Notify::SUCCESS.bits())
}

/// Whether two recipients are one. `is_whole`: only if they were also given alike (`enable_original_recipient`).
fn is_same(one: &QueuedRecipient<'_>, other: &QueuedRecipient<'_>, is_whole: bool) -> bool {
    eq_ignoring_case(one.address, other.address)
        && (!is_whole
            || eq_ignoring_case(one.original, other.original)
                && one.notify == other.notify
                && has_same_dsn_original(one, other))
}

/// Whether ORCPT is the same; none is what RCPT said, as in Postfix.
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

/// FNV-1a over the addresses of what [`is_same`] compares, with their case folded.
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
