//! Pass that tracks the MIME structure of content (RFC 2045).

use super::field::OneField;
use super::field_kind::FieldKind;
use super::rejection::{Halt, Rejection};
use super::settings::Settings;
use super::{Cleanup, Passes};
use crate::envelope::{BodyType, Envelope};
use crate::smtp::reply;

impl Settings {
    /// Returns whether any pass needs the structure of the content. Fields of parts are treated like any other, as in
    /// Postfix. Binary content, which Postfix does not accept, is not parsed unless a pass searches it.
    pub(super) const fn follows_structure(&self, envelope: &Envelope) -> bool {
        let is_binary = matches!(envelope.body, BodyType::BinaryMime);
        !self.mime.is_disabled && (!is_binary || self.checks.is_any() || self.is_structure_judged())
    }

    /// Returns whether content may be refused because of its structure.
    const fn is_structure_judged(&self) -> bool {
        let mime = &self.mime;
        mime.strict_encoding_domain || mime.strict_7bit_headers || mime.strict_8bit_body
    }
}

impl Cleanup {
    /// Records what a field declares about the structure.
    pub(super) fn note_structure(
        &mut self,
        surroundings: &Passes<'_, '_>,
        field: &OneField<'_, '_>,
    ) -> Result<(), Halt> {
        if !self.is_structure_followed {
            return Ok(());
        }
        let (settings, kind, field) = (surroundings.settings, field.kind, field.given);
        let is_judged = !self.decisions.is_settled;
        if settings.mime.strict_7bit_headers && is_judged && !field.raw.is_ascii() {
            return Err(Rejection::Improper(&reply::EIGHT_BIT_HEADER).into());
        }
        match kind {
            FieldKind::ContentType => {
                let mime = &settings.mime;
                let opened =
                    self.structure.content_type(field.body(), mime.nesting_limit, mime.boundary_length_limit);
                let checks = &settings.checks;
                let is_refused = settings.is_structure_judged()
                    || !(checks.header.is_empty()
                        && checks.mime_header.is_empty()
                        && checks.nested_header.is_empty());
                if opened.is_err() && is_refused && is_judged {
                    return Err(Rejection::Improper(&reply::MIME_NESTING).into());
                }
            }
            FieldKind::ContentTransferEncoding => self.structure.content_transfer_encoding(field.body()),
            _ => {}
        }
        Ok(())
    }

    /// Ends a header section; `is_clean`: with an empty line.
    pub(super) fn end_of_header_section(&mut self, settings: &Settings, is_clean: bool) -> Result<(), Halt> {
        if self.is_structure_followed
            && settings.mime.strict_encoding_domain
            && !self.decisions.is_settled
            && self.structure.is_encoding_improper()
        {
            return Err(Rejection::Improper(&reply::MIME_ENCODING).into());
        }
        self.structure.end_of_header_section(is_clean);
        Ok(())
    }
}
