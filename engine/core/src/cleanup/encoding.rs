//! The passes that find out whether content is beyond ASCII: by what it says (`detect_8bit_encoding_header`), and by its
//! fields (`smtputf8_autodetect_classes`).

use super::field::OneField;
use super::field_kind::FieldKind;
use super::{Cleanup, Passes};
use crate::envelope::Protocol;

/// Octets of `Content-Transfer-Encoding:`.
const NAME_SIZE: usize = 26;

impl Cleanup {
    /// Notes what a field says about the octets of the body.
    pub(super) fn detect_8bit<'a>(&mut self, surroundings: &Passes<'_, 'a>, field: &OneField<'_, 'a>) {
        let settings = surroundings.settings;
        if !settings.mime.detects_8bit || field.kind != FieldKind::ContentTransferEncoding {
            return;
        }
        let text = field.text(surroundings.arena, settings);
        let (_, encoding) = text.split_at_checked(NAME_SIZE).unwrap_or_default();
        let encoding = encoding.trim_ascii();
        self.is_eight_bit |=
            encoding.eq_ignore_ascii_case(b"8bit") || encoding.eq_ignore_ascii_case(b"binary");
    }

    /// Notes whether a field has UTF-8.
    pub(super) fn detect_utf8(&mut self, surroundings: &Passes<'_, '_>, field: &OneField<'_, '_>) {
        if !self.is_utf8 && detects_utf8(surroundings) {
            let text = field.raw();
            self.is_utf8 = !text.is_ascii() && core::str::from_utf8(text).is_ok();
        }
    }
}

/// Whether UTF-8 makes this message one for SMTPUTF8 (`smtputf8_autodetect_classes`: sendmail).
pub(super) fn detects_utf8(surroundings: &Passes<'_, '_>) -> bool {
    surroundings.settings.detects_smtputf8 && surroundings.origin.protocol == Protocol::Local
}
