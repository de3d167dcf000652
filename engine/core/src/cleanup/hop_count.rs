//! Pass that refuses a looping message.

use super::Cleanup;
use super::field::OneField;
use super::field_kind::FieldKind;
use super::rejection::{Halt, Rejection};
use super::settings::Settings;

impl Cleanup {
    /// Counts a field as received, whatever checks do with it, in any header section.
    pub(super) fn count_hop(&mut self, field: &OneField<'_, '_>) {
        self.hops += u32::from(field.kind == FieldKind::Received);
    }

    /// Refuses the message if this field exceeds the hop count limit.
    pub(super) fn hop_count(&self, settings: &Settings, field: &OneField<'_, '_>) -> Result<(), Halt> {
        if field.kind == FieldKind::Received && self.hops >= settings.hopcount_limit {
            return Err(Rejection::TooManyHops.into());
        }
        Ok(())
    }
}
