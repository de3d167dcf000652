//! Passes that detect non-ASCII content: by its declared encoding (`detect_8bit_encoding_header`), and by UTF-8 in header
//! fields (`smtputf8_autodetect_classes`).

use super::field::OneField;
use super::field_kind::FieldKind;
use super::{Cleanup, Passes};
use crate::envelope::Protocol;

/// Size of `Content-Transfer-Encoding:`, in bytes.
const NAME_SIZE: usize = 26;

impl Cleanup {
    /// Records whether a field declares an 8-bit body.
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

    /// Records whether a field contains UTF-8.
    pub(super) fn detect_utf8(&mut self, surroundings: &Passes<'_, '_>, field: &OneField<'_, '_>) {
        if !self.is_utf8 && detects_utf8(surroundings) {
            let text = field.raw();
            self.is_utf8 = !text.is_ascii() && core::str::from_utf8(text).is_ok();
        }
    }

    /// Records whether a field that enters the queue is ASCII. As in Postfix, fields of parts count, and dropped ones do not.
    pub(super) const fn note_written(&mut self, field: &[u8]) {
        self.is_header_ascii &= field.is_ascii();
    }
}

/// Returns whether UTF-8 in this message makes it require SMTPUTF8 (`smtputf8_autodetect_classes`: sendmail).
pub(super) fn detects_utf8(surroundings: &Passes<'_, '_>) -> bool {
    surroundings.settings.detects_smtputf8 && surroundings.origin.protocol == Protocol::Local
}
