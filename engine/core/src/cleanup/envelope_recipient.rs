//! Pass over the recipients: completes and maps each, then runs the passes for aliases, duplicates and copies.

use bumpalo::collections::Vec as ArenaVec;

use super::Passes;
use super::auto_bcc::auto_bcc;
use super::canonical::{AddressClass, envelope_address};
use super::recipient_dedupe::Distinct;
use super::rejection::Halt;
use super::virtual_alias;
use crate::envelope::{Notify, QueuedRecipient};

/// Recipients after all passes.
pub(super) struct Outcome<'a> {
    /// Those that are delivered to, including those of copies.
    pub(super) recipients: ArenaVec<'a, QueuedRecipient<'a>>,
    /// Those that virtual aliases have replaced and whose expansion is to be reported, duplicates included.
    pub(super) expanded: ArenaVec<'a, QueuedRecipient<'a>>,
}

/// Returns the recipients after all passes.
///
/// `added` are the addresses that checks added (BCC).
pub(super) fn envelope_recipients<'a>(
    surroundings: &Passes<'_, 'a>,
    progress: &mut virtual_alias::Progress,
    sender: &'a [u8],
    added: impl Iterator<Item = &'a [u8]>,
) -> Result<Outcome<'a>, Halt> {
    let settings = surroundings.settings;
    let given = &surroundings.envelope.recipients;
    let mut all = Recipients::new(surroundings, progress, given.len() + 1);
    if let Some(copy) = auto_bcc(surroundings, &settings.bcc.sender_maps, sender)? {
        all.add_copy(copy)?;
    }
    let mut unanswered = None;
    for recipient in given {
        match all.add_given(recipient.into()) {
            // Meanwhile start the lookups for the other recipients.
            Err(Halt::Pending(ticket)) => unanswered = unanswered.or(Some(ticket)),
            result => result?,
        }
    }
    if let Some(ticket) = unanswered {
        return Err(Halt::Pending(ticket));
    }
    if !settings.bcc.always.is_empty() && !all.distinct.is_empty() {
        all.add_copy(&settings.bcc.always)?;
    }
    for copy in added {
        all.add_copy(copy)?;
    }
    Ok(Outcome { recipients: all.distinct.into_all(), expanded: all.expanded })
}

/// Recipients so far.
struct Recipients<'c, 's, 'a> {
    surroundings: &'c Passes<'s, 'a>,
    progress: &'c mut virtual_alias::Progress,
    distinct: Distinct<'a>,
    /// As in [`Outcome::expanded`].
    expanded: ArenaVec<'a, QueuedRecipient<'a>>,
}

impl<'c, 's, 'a> Recipients<'c, 's, 'a> {
    fn new(
        surroundings: &'c Passes<'s, 'a>,
        progress: &'c mut virtual_alias::Progress,
        expected: usize,
    ) -> Self {
        let distinct = Distinct::new(surroundings.arena, surroundings.settings, expected);
        Self { surroundings, progress, distinct, expanded: ArenaVec::new_in(surroundings.arena) }
    }

    /// Adds a recipient of the envelope, and the recipients of copies that it causes.
    fn add_given(&mut self, recipient: QueuedRecipient<'a>) -> Result<(), Halt> {
        let class = AddressClass::EnvelopeRecipient;
        let address = envelope_address(self.surroundings, class, recipient.address)?;
        self.add(QueuedRecipient { address, ..recipient })?;
        match auto_bcc(self.surroundings, &self.surroundings.settings.bcc.recipient_maps, address)? {
            Some(copy) => self.add_copy(copy),
            None => Ok(()),
        }
    }

    fn add(&mut self, recipient: QueuedRecipient<'a>) -> Result<(), Halt> {
        if self.surroundings.settings.virtual_alias.maps.is_empty() {
            self.distinct.add(recipient);
            return Ok(());
        }
        let addresses = virtual_alias::expand(self.surroundings, self.progress, recipient.address)?;
        let mut notify = recipient.notify;
        if addresses.as_slice() != [recipient.address] && notify.contains(Notify::SUCCESS) {
            self.expanded.push(recipient);
            notify = virtual_alias::without_success(notify);
        }
        for address in addresses {
            self.distinct.add(QueuedRecipient { address, notify, ..recipient });
        }
        Ok(())
    }

    /// Adds the recipient of a copy, for whom no delivery status is reported.
    fn add_copy(&mut self, given: &'a [u8]) -> Result<(), Halt> {
        let address = envelope_address(self.surroundings, AddressClass::EnvelopeRecipient, given)?;
        self.add(QueuedRecipient { address, original: address, notify: Notify::NEVER, dsn_original: None })
    }
}
