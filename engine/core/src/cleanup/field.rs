//! One field on its way through the passes.

use bumpalo::Bump;

use super::Settings;
use super::field_kind::FieldKind;
use super::field_text::{cut_place, emitted, logical};
use super::output::Output;
use crate::message::header::{Field, field_name};
use crate::message::mime::Place;

/// A field of the input, and what a check has replaced it with.
pub(super) struct OneField<'f, 'a> {
    pub(super) given: &'f Field<'a>,
    /// Where it begins in the input.
    at: usize,
    /// The section that it is in.
    pub(super) place: Place,
    /// What it is now.
    pub(super) kind: FieldKind,
    /// Its text, and octets of its name.
    replaced: Option<(&'a [u8], usize)>,
}

impl<'f, 'a> OneField<'f, 'a> {
    pub(super) fn new(given: &'f Field<'a>, at: usize, place: Place) -> Self {
        Self { given, at, place, kind: FieldKind::of(given.name()), replaced: None }
    }

    /// From now on its text is this.
    pub(super) fn replace(&mut self, text: &'a [u8]) {
        let name_size = field_name(text).map_or(0, |(name_size, _)| name_size);
        self.kind = FieldKind::of(text.get(..name_size).unwrap_or_default());
        self.replaced = Some((text, name_size));
    }

    /// Whether it is one of the message itself, and not of MIME.
    pub(super) fn is_of_message(&self) -> bool {
        self.place == Place::Primary && !self.kind.is_mime()
    }

    /// The field as one text.
    pub(super) fn text(&self, arena: &'a Bump, settings: &Settings) -> &'a [u8] {
        match self.replaced {
            Some((text, _)) => text,
            None => logical(arena, self.given, settings.header_size_limit, settings.line_length_limit),
        }
    }

    /// The field as it came or was replaced.
    pub(super) fn raw(&self) -> &'a [u8] {
        self.replaced.map_or(self.given.raw, |(text, _)| text)
    }

    pub(super) fn name(&self) -> &'a [u8] {
        match self.replaced {
            Some((text, name_size)) => text.get(..name_size).unwrap_or_default(),
            None => self.given.name(),
        }
    }

    /// Writes the field as the passes left it.
    pub(super) fn emit(&self, arena: &'a Bump, settings: &Settings, output: &mut Output<'a>) {
        let size_max = settings.header_size_limit;
        match self.replaced {
            Some((text, _)) => output.write(emitted(arena, text, size_max)),
            // Where it is cut depends on what is left of it.
            None if self.given.colon != self.given.name_size || self.given.has_nul => {
                output.write(emitted(arena, self.text(arena, settings), size_max));
            }
            None => keep_field(output, self.given, self.at, size_max),
        }
    }
}

/// A field that nothing changed.
fn keep_field(output: &mut Output<'_>, field: &Field<'_>, at: usize, size_max: usize) {
    let end = cut_place(field.raw, size_max).unwrap_or(field.raw.len());
    output.keep(at, at + end);
    if !field.raw.get(..end).unwrap_or_default().ends_with(b"\r\n") {
        output.write(b"\r\n");
    }
}
