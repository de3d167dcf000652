//! Walks through the content: finds the next item and runs the passes for it.

use super::field::OneField;
use super::field_text::{cut_place, rest_of_cut_field};
use super::mailbox_line::{MailboxLine, mailbox_line};
use super::output::Output;
use super::received::continuation;
use super::rejection::{Halt, Rejection};
use super::{Cleanup, Part, Passes};
use crate::message::header::{Field, Item, field_name, next_item};
use crate::message::mime::Place;

/// Position in the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has been cleaned yet.
    Start,
    /// Before the first field, where mailbox lines (`From `) may occur.
    Top,
    /// Between fields of a header section, or lines of a body.
    Lines,
    /// Inside a field whose rest is cut off.
    Cut,
    /// The rest of the content passes through.
    Done,
}

/// Content of the current call, and the progress of the passes.
struct Walk<'a> {
    input: &'a [u8],
    /// The input ends the content.
    is_whole: bool,
    /// Number of input bytes consumed.
    at: usize,
    output: Output<'a>,
}

/// Whether to continue with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    On,
    /// No complete field or line is left.
    Stop,
    /// The rest of the content passes through unchanged.
    Done,
}

impl<'a> Walk<'a> {
    fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }
}

impl Cleanup {
    pub(super) fn content_at_once<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        input: &'a [u8],
        is_whole: bool,
    ) -> Result<Part<'a>, Halt> {
        let mut result = self.advance(surroundings, input, is_whole);
        if let Err(Halt::Rejected(_)) = result {
            // Errors of the envelope take precedence.
            match self.envelope_passes(surroundings) {
                Err(Halt::Rejected(Rejection::NoRecipients)) | Ok(_) => {}
                Err(halt) => result = Err(halt),
            }
        }
        result
    }

    fn advance<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        input: &'a [u8],
        is_whole: bool,
    ) -> Result<Part<'a>, Halt> {
        let output = Output::new(surroundings.arena, input);
        let mut walk = Walk { input, is_whole, at: 0, output };
        loop {
            let go = match self.phase {
                Phase::Start => self.start(surroundings, &mut walk)?,
                Phase::Top => self.top(surroundings, &mut walk)?,
                Phase::Lines if self.structure.place() == Place::Body => {
                    self.body(surroundings, &mut walk)?
                }
                Phase::Lines => self.header_item(surroundings, &mut walk)?,
                Phase::Cut => self.skip_cut_field(&mut walk),
                Phase::Done => {
                    walk.output.keep(walk.at, input.len());
                    walk.at = input.len();
                    Go::Done
                }
            };
            if go != Go::On {
                return Ok(walk.output.part(walk.at, go == Go::Done));
            }
        }
    }

    /// Writes the trace field and its continuation lines before everything else.
    fn start<'a>(&mut self, surroundings: &mut Passes<'_, 'a>, walk: &mut Walk<'a>) -> Result<Go, Halt> {
        let settings = surroundings.settings;
        let is_raw = surroundings.envelope.content.has_raw_start;
        let size_max = if is_raw { settings.cut_field_size() } else { 0 };
        let Some(continuation) = continuation(walk.input, walk.is_whole, size_max) else {
            return Ok(Go::Stop);
        };
        self.is_structure_followed = settings.follows_structure(surroundings.envelope);
        let lines = walk.input.get(..continuation.size).unwrap_or_default();
        self.received(surroundings, &mut walk.output, lines)?;
        walk.at = continuation.size;
        self.phase = match continuation.is_whole {
            false => Phase::Cut,
            true if is_raw => Phase::Lines,
            true => Phase::Top,
        };
        Ok(Go::On)
    }

    fn skip_cut_field(&mut self, walk: &mut Walk<'_>) -> Go {
        let skipped = rest_of_cut_field(walk.rest(), walk.is_whole);
        walk.at += skipped.octets;
        if !skipped.is_over {
            return Go::Stop;
        }
        self.phase = Phase::Lines;
        Go::On
    }

    fn top<'a>(&mut self, surroundings: &mut Passes<'_, 'a>, walk: &mut Walk<'a>) -> Result<Go, Halt> {
        let limit = surroundings.settings.header_size_limit;
        let rest = walk.rest();
        match mailbox_line(rest, walk.is_whole) {
            // A longer line is not treated as a mailbox line, however the input is split.
            MailboxLine::Whole(size) if size <= limit => {
                let line = rest.get(..size).unwrap_or_default();
                self.mailbox_field(surroundings, &mut walk.output, line)?;
                walk.at += size;
                Ok(Go::On)
            }
            MailboxLine::Incomplete if rest.len() <= limit => Ok(Go::Stop),
            // The first field ends the mailbox lines.
            MailboxLine::Whole(_) | MailboxLine::Incomplete | MailboxLine::No => {
                self.header_item(surroundings, walk)
            }
        }
    }

    fn body<'a>(&mut self, surroundings: &mut Passes<'_, 'a>, walk: &mut Walk<'a>) -> Result<Go, Halt> {
        if self.is_body_transparent(surroundings.settings) {
            self.phase = Phase::Done;
            return Ok(Go::Done);
        }
        let is_over =
            self.body_lines(surroundings, &mut walk.output, walk.input, &mut walk.at, walk.is_whole)?;
        Ok(if is_over { Go::On } else { Go::Stop })
    }

    /// Handles a field, or the end of the header section with or without an empty line.
    fn header_item<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        walk: &mut Walk<'a>,
    ) -> Result<Go, Halt> {
        let settings = surroundings.settings;
        match &next_item_with(walk.rest(), walk.is_whole, settings.line_length_limit) {
            Item::Field(field) => {
                self.phase = Phase::Lines;
                let one = OneField::new(field, walk.at, self.structure.place());
                self.field_passes(surroundings, &mut walk.output, one)?;
                walk.at += field.raw.len();
            }
            Item::End(size) => {
                self.phase = Phase::Lines;
                self.end_passes(surroundings, &mut walk.output, true)?;
                walk.output.keep(walk.at, walk.at + size);
                walk.at += size;
                self.body.begin_segment(true);
            }
            Item::Body => {
                self.phase = Phase::Lines;
                let is_primary = self.structure.place() == Place::Primary;
                self.end_passes(surroundings, &mut walk.output, false)?;
                if is_primary {
                    // The body begins without an empty line, so add one.
                    walk.output.write(b"\r\n");
                }
                self.body.begin_segment(false);
            }
            Item::Incomplete => return self.endless_field(surroundings, walk),
        }
        Ok(Go::On)
    }

    /// Waits for more input if a field is incomplete. Writes the front of an endless field and skips its rest.
    fn endless_field<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        walk: &mut Walk<'a>,
    ) -> Result<Go, Halt> {
        let rest = walk.rest();
        // A CR at the end of the input may be the first half of a line end.
        let seen = rest.strip_suffix(b"\r").unwrap_or(rest);
        let size_max = surroundings.settings.cut_field_size();
        let (Some(_), Some((name_size, colon))) = (cut_place(seen, size_max), field_name(rest)) else {
            return Ok(Go::Stop);
        };
        let has_nul = memchr::memchr(0, rest).is_some();
        let field = Field { raw: rest, name_size, colon, is_folded: true, has_nul };
        let one = OneField::new(&field, walk.at, self.structure.place());
        self.field_passes(surroundings, &mut walk.output, one)?;
        walk.at += name_size;
        self.phase = Phase::Cut;
        Ok(Go::On)
    }
}

/// Like [`next_item`], but the colon of a field must be within the first `name_size_max` bytes.
#[inline(always)]
fn next_item_with(input: &[u8], is_whole: bool, name_size_max: usize) -> Item<'_> {
    match next_item(input, is_whole) {
        Item::Field(field) if field.colon >= name_size_max => Item::Body,
        Item::Incomplete if input.get(..name_size_max).is_some_and(|front| field_name(front).is_none()) => {
            Item::Body
        }
        item => item,
    }
}
