//! A header field on its way through the passes.

use bumpalo::Bump;

use super::Settings;
use super::field_kind::FieldKind;
use super::field_text::{cut_place, emitted, logical};
use super::output::Output;
use crate::message::header::{Field, field_name};
use crate::message::mime::Place;

/// A field of the input, and its replacement by a check.
pub(super) struct OneField<'f, 'a> {
    pub(super) given: &'f Field<'a>,
    /// Offset in the input.
    at: usize,
    /// Header section that contains it.
    pub(super) place: Place,
    /// Current kind.
    pub(super) kind: FieldKind,
    /// Replacement text, and the size of its name in bytes.
    replaced: Option<(&'a [u8], usize)>,
}

impl<'f, 'a> OneField<'f, 'a> {
    pub(super) fn new(given: &'f Field<'a>, at: usize, place: Place) -> Self {
        Self { given, at, place, kind: FieldKind::of(given.name()), replaced: None }
    }

    /// Replaces the text of the field.
    pub(super) fn replace(&mut self, text: &'a [u8]) {
        let name_size = field_name(text).map_or(0, |(name_size, _)| name_size);
        self.kind = FieldKind::of(text.get(..name_size).unwrap_or_default());
        self.replaced = Some((text, name_size));
    }

    /// Returns whether the field belongs to the message header section and is not a MIME field.
    pub(super) fn is_of_message(&self) -> bool {
        self.place == Place::Primary && !self.kind.is_mime()
    }

    /// Returns the field as one text.
    pub(super) fn text(&self, arena: &'a Bump, settings: &Settings) -> &'a [u8] {
        match self.replaced {
            Some((text, _)) => text,
            None => logical(arena, self.given, settings.header_size_limit, settings.line_length_limit),
        }
    }

    /// Returns the field as received or replaced.
    pub(super) fn raw(&self) -> &'a [u8] {
        self.replaced.map_or(self.given.raw, |(text, _)| text)
    }

    pub(super) fn name(&self) -> &'a [u8] {
        match self.replaced {
            Some((text, name_size)) => text.get(..name_size).unwrap_or_default(),
            None => self.given.name(),
        }
    }

    /// Writes the field after all passes.
    pub(super) fn emit(&self, arena: &'a Bump, settings: &Settings, output: &mut Output<'a>) {
        let size_max = settings.header_size_limit;
        match self.replaced {
            Some((text, _)) => output.write(emitted(arena, text, size_max)),
            // The place where the field is cut depends on what remains of it.
            None if self.given.colon != self.given.name_size || self.given.has_nul => {
                output.write(emitted(arena, self.text(arena, settings), size_max));
            }
            None => keep_field(output, self.given, self.at, size_max),
        }
    }
}

/// Keeps a field that no pass changed.
fn keep_field(output: &mut Output<'_>, field: &Field<'_>, at: usize, size_max: usize) {
    let end = cut_place(field.raw, size_max).unwrap_or(field.raw.len());
    output.keep(at, at + end);
    if !field.raw.get(..end).unwrap_or_default().ends_with(b"\r\n") {
        output.write(b"\r\n");
    }
}
