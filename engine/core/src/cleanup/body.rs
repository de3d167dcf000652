//! Passes over body lines.

use super::checks::{Act, Subject};
use super::field_kind::FieldKind;
use super::output::Output;
use super::rejection::{Halt, Rejection};
use super::settings::{Checks, Settings};
use super::{Cleanup, Passes};
use crate::lookup::Maps;
use crate::message::header::find_crlf;
use crate::message::mime::Place;
use crate::smtp::reply;

/// Progress within the current body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Number of bytes of the segment, a line end counted as one.
    offset: usize,
    /// The current line began in an earlier record.
    is_continued: bool,
}

impl Progress {
    /// Starts a body. `with_empty_line`: the line that ended the header section counts as its first line.
    pub(super) fn begin_segment(&mut self, with_empty_line: bool) {
        *self = Self { offset: usize::from(with_empty_line), is_continued: false };
    }
}

impl Checks {
    /// Returns whether there is any table.
    pub(super) const fn is_any(&self) -> bool {
        !(self.header.is_empty()
            && self.mime_header.is_empty()
            && self.nested_header.is_empty()
            && self.body.is_empty())
    }

    /// Returns the tables for a field, or `None` if there are none.
    pub(super) fn of(&self, place: Place, kind: FieldKind) -> Option<&Maps> {
        let maps = match place {
            _ if kind.is_mime() => &self.mime_header,
            Place::Primary => &self.header,
            Place::Nested => &self.nested_header,
            Place::Multipart | Place::Body => &self.mime_header,
        };
        (!maps.is_empty()).then_some(maps)
    }
}

impl Cleanup {
    /// Returns whether no pass needs to see the rest of the body.
    pub(super) fn is_body_transparent(&self, settings: &Settings) -> bool {
        let is_checked = !self.decisions.is_settled;
        let looks_at_lines = is_checked
            && (!settings.checks.body.is_empty()
                || settings.mime.strict_8bit_body && self.is_structure_followed
                || settings.message_reject_characters.is_some());
        let looks_for_parts = self.is_structure_followed && !self.structure.is_flat();
        !(looks_at_lines || looks_for_parts)
    }

    /// Runs the passes over body lines, starting at `at`. Returns false if the input is used up or its last line is
    /// incomplete. Returns true if the next input is not a body line or no work is left.
    pub(super) fn body_lines<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        output: &mut Output<'a>,
        input: &'a [u8],
        at: &mut usize,
        is_whole: bool,
    ) -> Result<bool, Halt> {
        let settings = surroundings.settings;
        while !self.is_body_transparent(settings) {
            if self.structure.place() != Place::Body {
                return Ok(true);
            }
            if !self.looks_at_lines(settings) {
                self.skip_to_boundary(output, input, at);
            }
            let rest = input.get(*at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(false);
            }
            let Some(record) = next_record(rest, settings.line_length_limit, is_whole) else {
                return Ok(false);
            };
            self.body_record(surroundings, output, record, *at)?;
            *at += record.size;
        }
        Ok(true)
    }

    /// Returns whether a pass needs every line, not only boundaries.
    fn looks_at_lines(&self, settings: &Settings) -> bool {
        let limit = settings.checks.body_size_limit;
        let has_body_checks = !settings.checks.body.is_empty() && (limit == 0 || self.body.offset < limit);
        !self.decisions.is_settled
            && (has_body_checks
                || settings.mime.strict_8bit_body
                    && self.is_structure_followed
                    && self.structure.is_seven_bit()
                || settings.message_reject_characters.is_some())
    }

    /// Keeps all input before the next line that can be a boundary.
    fn skip_to_boundary(&mut self, output: &mut Output<'_>, input: &[u8], at: &mut usize) {
        let rest = input.get(*at..).unwrap_or_default();
        if !self.body.is_continued && (rest.starts_with(b"--") || rest == b"-") {
            return;
        }
        // Leave a line end at the end of the input unconsumed: a boundary may follow it.
        let end = match memchr::memmem::find(rest, b"\r\n--") {
            Some(found) => found + 2,
            None => match memchr::memrchr(b'\n', rest) {
                Some(feed) if feed + 3 >= rest.len() => feed + 1,
                _ => rest.len() - usize::from(rest.ends_with(b"\r")),
            },
        };
        let skipped = rest.get(..end).unwrap_or_default();
        self.body.offset += end;
        // A bare line feed ends no line, wherever the input is cut.
        if !skipped.is_empty() {
            self.body.is_continued = !skipped.ends_with(b"\r\n");
        }
        output.keep(*at, *at + end);
        *at += end;
    }

    fn body_record<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        output: &mut Output<'a>,
        record: Record<'a>,
        at: usize,
    ) -> Result<(), Halt> {
        let settings = surroundings.settings;
        let is_checked = !self.decisions.is_settled;
        let is_continued = core::mem::replace(&mut self.body.is_continued, !record.is_end);
        let text = record.text;
        self.refuse_characters(settings, text)?;
        if settings.mime.strict_8bit_body
            && is_checked
            && self.is_structure_followed
            && self.structure.is_seven_bit()
            && !text.is_ascii()
        {
            return Err(Rejection::Improper(&reply::EIGHT_BIT_BODY).into());
        }
        if self.is_structure_followed && !is_continued {
            self.structure.line(text);
        }
        let offset = self.body.offset;
        self.body.offset += text.len() + 1;
        let limit = settings.checks.body_size_limit;
        if limit == 0 || offset < limit {
            let end = memchr::memchr(0, text).unwrap_or(text.len());
            let key = text.get(..end).unwrap_or_default();
            match self.check(surroundings, &settings.checks.body, Subject::Body, key)? {
                Act::Keep => {}
                Act::Drop => return Ok(()),
                Act::Replace(line) => {
                    output.write(line);
                    output.write(if record.is_end { b"\r\n" } else { b"" });
                    return Ok(());
                }
                Act::Prepend(line) => {
                    output.write(line);
                    output.write(b"\r\n");
                }
            }
        }
        output.keep(at, at + record.size);
        Ok(())
    }
}

/// A line, or a piece of a line that exceeds the line length limit.
#[derive(Clone, Copy)]
struct Record<'a> {
    text: &'a [u8],
    /// Size in bytes, including the line end.
    size: usize,
    /// This record ends the line.
    is_end: bool,
}

/// Returns the record at the start of `input`, or `None` if it is incomplete.
fn next_record(input: &[u8], size_max: usize, is_whole: bool) -> Option<Record<'_>> {
    let front = input.get(..(size_max + 1).min(input.len()))?;
    if let Some(end) = find_crlf(front) {
        return Some(Record { text: input.get(..end)?, size: end + 2, is_end: true });
    }
    if input.len() > size_max {
        return Some(Record { text: input.get(..size_max)?, size: size_max, is_end: false });
    }
    is_whole.then_some(Record { text: input, size: input.len(), is_end: true })
}
