//! Message-ID of the content, for the log.

use super::field::OneField;
use super::field_kind::FieldKind;
use super::{Cleanup, Passes};

/// Maximum size of a kept message-id, in bytes.
pub(super) const MESSAGE_ID_SIZE_MAX: usize = 160;
/// Size of `Message-Id:`, in bytes.
const NAME_SIZE: usize = 11;

impl Cleanup {
    /// Returns the body of the Message-Id field for the log, truncated at 160 bytes; empty without such a field.
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
