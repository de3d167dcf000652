//! The pass that refuses a message that loops.

use super::Cleanup;
use super::field::OneField;
use super::field_kind::FieldKind;
use super::rejection::{Halt, Rejection};
use super::settings::Settings;

impl Cleanup {
    /// Counts a field as it came, whatever checks make of it, and in any section.
    pub(super) fn count_hop(&mut self, field: &OneField<'_, '_>) {
        self.hops += u32::from(field.kind == FieldKind::Received);
    }

    /// Refuses the message when a field of it is one too many.
    pub(super) fn hop_count(&self, settings: &Settings, field: &OneField<'_, '_>) -> Result<(), Halt> {
        if field.kind == FieldKind::Received && self.hops >= settings.hopcount_limit {
            return Err(Rejection::TooManyHops.into());
        }
        Ok(())
    }
}
