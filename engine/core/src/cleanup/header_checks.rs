//! Pass that looks up fields in check tables (header_checks(5)).

use super::checks::{Act, Subject};
use super::field::OneField;
use super::field_text::{emitted, logical};
use super::output::Output;
use super::rejection::Halt;
use super::strip_characters;
use super::{Cleanup, Passes};
use crate::message::header::{Item, next_item};

impl Cleanup {
    /// Applies the action of its entry to a field of the input. Returns false if the action drops the field.
    pub(super) fn header_checks<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        output: &mut Output<'a>,
        field: &mut OneField<'_, 'a>,
    ) -> Result<bool, Halt> {
        let (arena, settings) = (surroundings.arena, surroundings.settings);
        let Some(maps) = settings.checks.of(field.place, field.kind) else { return Ok(true) };
        let text = field.text(arena, settings);
        match self.check(surroundings, maps, Subject::Header, text)? {
            Act::Keep => {}
            Act::Drop => return Ok(false),
            Act::Prepend(text) => {
                self.note_written(text);
                output.write(emitted(arena, text, settings.header_size_limit));
            }
            Act::Replace(text) => field.replace(text),
        }
        Ok(true)
    }

    /// Checks and writes a field that is not part of the input.
    pub(super) fn own_field<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        output: &mut Output<'a>,
        raw: &'a [u8],
    ) -> Result<(), Halt> {
        let settings = surroundings.settings;
        let checks = &settings.checks.header;
        let raw = strip_characters(surroundings.arena, settings, raw);
        self.refuse_characters_of_lines(settings, raw)?;
        if let Item::Field(field) = next_item(raw, true)
            && !checks.is_empty()
        {
            let text =
                logical(surroundings.arena, &field, settings.header_size_limit, settings.line_length_limit);
            match self.check(surroundings, checks, Subject::Header, text)? {
                Act::Keep => {}
                Act::Drop => return Ok(()),
                Act::Replace(text) => {
                    self.note_written(text);
                    output.write(emitted(surroundings.arena, text, settings.header_size_limit));
                    return Ok(());
                }
                Act::Prepend(text) => {
                    self.note_written(text);
                    output.write(emitted(surroundings.arena, text, settings.header_size_limit));
                }
            }
        }
        self.note_written(raw);
        output.write(raw);
        Ok(())
    }
}
