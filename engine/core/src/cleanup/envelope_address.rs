//! The passes over the envelope's addresses: each gets a domain.

use crate::cleanup::Settings;
use crate::envelope::Envelope;

/// Completes the reverse-path; the null reverse-path stays.
pub(super) fn envelope_sender(settings: &Settings, envelope: &mut Envelope) {
    if is_to_complete(settings, &envelope.sender) {
        complete(settings, &mut envelope.sender);
    }
}

/// Completes the recipients and keeps what was first given.
pub(super) fn envelope_recipient(settings: &Settings, envelope: &mut Envelope) {
    for recipient in &mut envelope.recipients {
        if is_to_complete(settings, &recipient.address) {
            if recipient.original.is_none() {
                recipient.original = Some(recipient.address.as_slice().into());
            }
            complete(settings, &mut recipient.address);
        }
    }
}

fn is_to_complete(settings: &Settings, address: &[u8]) -> bool {
    settings.append_at_myorigin && !address.is_empty() && memchr::memchr(b'@', address).is_none()
}

fn complete(settings: &Settings, address: &mut alloc::vec::Vec<u8>) {
    address.push(b'@');
    address.extend_from_slice(&settings.myorigin);
}
