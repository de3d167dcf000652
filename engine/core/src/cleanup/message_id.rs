//! The message-id of the content, for the log.

use super::field::OneField;
use super::field_kind::FieldKind;
use super::{Cleanup, Passes};

/// Octets of a message-id that are kept.
pub(super) const MESSAGE_ID_SIZE_MAX: usize = 160;
/// Octets of `Message-Id:`.
const NAME_SIZE: usize = 11;

impl Cleanup {
    /// The body of the Message-Id field for the log, cut at 160 octets; empty if there was none.
    #[must_use]
    pub fn message_id(&self) -> &[u8] {
        self.message_id.get(..usize::from(self.message_id_size)).unwrap_or_default()
    }

    /// Keeps the body of a Message-Id field.
    pub(super) fn take_message_id<'a>(&mut self, surroundings: &Passes<'_, 'a>, field: &OneField<'_, 'a>) {
        if field.kind == FieldKind::MessageId {
            let text = field.text(surroundings.arena, surroundings.settings);
            self.note_message_id(text.get(NAME_SIZE..).unwrap_or_default());
        }
    }

    pub(super) fn note_message_id(&mut self, body: &[u8]) {
        let body = body.trim_ascii();
        let size = body.len().min(MESSAGE_ID_SIZE_MAX);
        if let (Some(place), Some(kept)) = (self.message_id.get_mut(..size), body.get(..size)) {
            place.copy_from_slice(kept);
        }
        self.message_id_size = u8::try_from(size).unwrap_or(u8::MAX);
    }
}
