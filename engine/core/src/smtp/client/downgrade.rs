//! Conversion of content to 7 bits, for servers that do not offer 8BITMIME (RFC 6152 §3).
//!
//! As in Postfix, the declared encoding decides, not the bytes. A leaf that declares 8bit or binary becomes quoted-printable,
//! whatever it contains. Everything else stays unchanged, even bytes above 127 that are undeclared or in fields. The new
//! Content-Transfer-Encoding is the last field of its header section, and the old one is removed. No other field is added, and
//! none is changed, except that spaces before a colon are removed.
//!
//! | type of a part that declares 8bit or binary | becomes |
//! |---|---|
//! | multipart, message/rfc822 | 7bit; what it contains is converted by its own declarations |
//! | any other, or none | quoted-printable |
//!
//! Postfix encodes the other message types, but labels them 7bit, which makes a delivery report unreadable. Here their label
//! says what they are.

use alloc::vec::Vec;

use crate::message::header::{Item, field_name, find_crlf, next_item};
use crate::message::mime::{Place, Structure, TooDeep};
use crate::message::quoted_printable::QuotedPrintable;

/// Limit of nested multiparts, as Postfix's `mime_nesting_limit` has by default.
pub const NESTING_MAX: usize = 100;

/// Bytes of a boundary that count, as Postfix's `mime_boundary_length_limit` has by default.
const BOUNDARY_SIZE_MAX: usize = 2048;

/// Bytes of a Content-Type or Content-Transfer-Encoding field that count, as Postfix's `header_size_limit` has by default.
const FIELD_SIZE_MAX: usize = 102_400;

/// Bytes at the start of a line that decide what it is, as Postfix's `line_length_limit` has by default.
const LINE_START_MAX: usize = 2048;

/// Converts one message, which comes in pieces that are cut anywhere.
///
/// Whatever the message is, this holds at most one field of 100 KiB, boundaries of 200 KiB, and 2 KiB of a line; while it
/// converts a piece, also a copy of that piece.
#[derive(Clone, Debug)]
pub struct Downgrade {
    structure: Structure,
    field: Field,
    /// The current field with its line ends, if its value counts.
    field_text: Vec<u8>,
    line: Line,
    encoder: QuotedPrintable,
    /// The start of a line that does not yet say what the line is, or a CR that may be the first half of a line end.
    held: Vec<u8>,
}

/// The field that the current line belongs to, or the line before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    None,
    ContentType,
    ContentTransferEncoding,
    Other,
}

/// The current line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Its first byte has not been taken.
    Start,
    /// Is copied.
    Kept,
    /// Belongs to a body that is converted.
    Encoded,
    /// Belongs to a field that is written or removed when it is complete.
    Withheld,
}

impl Downgrade {
    /// Before the first byte of the message.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            structure: Structure::new(),
            field: Field::None,
            field_text: Vec::new(),
            line: Line::Start,
            encoder: QuotedPrintable::new(),
            held: Vec::new(),
        }
    }

    /// Converts the next piece of content, whose line ends are CRLF, and appends it to `out`.
    ///
    /// # Errors
    /// [`TooDeep`]: multiparts are nested more deeply than [`NESTING_MAX`]. The message cannot be converted; it fails with
    /// status 5.6.0 and the text of the error. The caller must close the connection instead of ending the content.
    pub fn append(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), TooDeep> {
        if self.held.is_empty() {
            let rest = self.convert(piece, false, out)?;
            self.held.extend_from_slice(rest);
            return Ok(());
        }
        let mut input = core::mem::take(&mut self.held);
        input.extend_from_slice(piece);
        let rest_size = self.convert(&input, false, out)?.len();
        input.drain(..input.len() - rest_size);
        self.held = input;
        Ok(())
    }

    /// Converts the rest at the end of the content. A last line without a line end gets one.
    ///
    /// # Errors
    /// [`TooDeep`], as in [`Downgrade::append`].
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), TooDeep> {
        let held = core::mem::take(&mut self.held);
        self.convert(&held, true, out)?;
        if self.line != Line::Start {
            self.end_line(out);
        }
        if self.structure.place() != Place::Body {
            self.end_field(out)?;
            self.end_header_section(true, out);
        }
        Ok(())
    }

    /// Converts `input` and returns the rest of it that has to be passed again, followed by more input. `is_whole`: the
    /// content ends with it, and no rest is left.
    fn convert<'a>(
        &mut self,
        mut input: &'a [u8],
        is_whole: bool,
        out: &mut Vec<u8>,
    ) -> Result<&'a [u8], TooDeep> {
        while !input.is_empty() {
            if self.line == Line::Start {
                let taken = match self.structure.place() {
                    Place::Body => self.begin_body_line(input, is_whole),
                    _ => self.begin_header_line(input, is_whole, out)?,
                };
                let Some(taken) = taken else { return Ok(input) };
                input = input.get(taken..).unwrap_or_default();
                continue;
            }
            let Some(end) = find_crlf(input) else {
                // A CR at the end may be the first half of a line end.
                let size = input.len() - usize::from(!is_whole && input.ends_with(b"\r"));
                let (text, rest) = input.split_at_checked(size).unwrap_or((input, b""));
                self.take_text(text, out);
                return Ok(rest);
            };
            self.take_text(input.get(..end).unwrap_or_default(), out);
            self.end_line(out);
            input = input.get(end + 2..).unwrap_or_default();
        }
        Ok(input)
    }

    /// Classifies the line of a header section at the start of `input`. Converts the name of a field, or the empty line that
    /// ends the section. Returns the number of bytes converted, or `None` if the line is too incomplete to tell.
    fn begin_header_line(
        &mut self,
        input: &[u8],
        is_whole: bool,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, TooDeep> {
        if self.field != Field::None {
            if matches!(input.first(), Some(b' ' | b'\t')) {
                self.line = self.field.line();
                return Ok(Some(0));
            }
            self.end_field(out)?;
        }
        let start = input.get(..LINE_START_MAX).unwrap_or(input);
        if let Some((name_size, colon)) = field_name(start) {
            let name = start.get(..name_size).unwrap_or_default();
            self.field = Field::of(name);
            self.line = self.field.line();
            self.take_text(name, out);
            self.take_text(b":", out);
            return Ok(Some(colon + 1));
        }
        match next_item(input, is_whole) {
            Item::End(size) => {
                self.end_header_section(true, out);
                out.extend_from_slice(b"\r\n");
                Ok(Some(size))
            }
            Item::Incomplete if input.len() < LINE_START_MAX => Ok(None),
            Item::Body | Item::Incomplete | Item::Field(_) => {
                let is_primary = self.structure.place() == Place::Primary;
                self.end_header_section(false, out);
                if is_primary {
                    out.extend_from_slice(b"\r\n");
                }
                Ok(Some(0))
            }
        }
    }

    /// Classifies the line of a body at the start of `input`. Returns 0, or `None` if it may become a boundary.
    fn begin_body_line(&mut self, input: &[u8], is_whole: bool) -> Option<usize> {
        let can_be_boundary = input.starts_with(b"--") || input == b"-";
        if can_be_boundary && !self.structure.is_flat() {
            let start = input.get(..LINE_START_MAX).unwrap_or(input);
            match find_crlf(start) {
                Some(end) => self.structure.line(start.get(..end).unwrap_or_default()),
                None if !is_whole && input.len() <= LINE_START_MAX => return None,
                None => self.structure.line(start),
            };
        }
        let is_encoded = self.structure.place() == Place::Body && self.structure.exceeds_seven_bits();
        self.line = if is_encoded { Line::Encoded } else { Line::Kept };
        Some(0)
    }

    /// Converts a piece of the current line.
    fn take_text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match self.line {
            Line::Kept => out.extend_from_slice(text),
            Line::Encoded => self.encoder.append(text, out),
            Line::Start | Line::Withheld => {}
        }
        if self.field.has_meaning() {
            let room = FIELD_SIZE_MAX - self.field_text.len();
            self.field_text.extend_from_slice(text.get(..room).unwrap_or(text));
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        match self.line {
            Line::Encoded => self.encoder.end_line(out),
            _ => self.take_text(b"\r\n", out),
        }
        self.line = Line::Start;
    }

    /// Ends a field: records what it says of the structure, and writes it if it was withheld and stays.
    fn end_field(&mut self, out: &mut Vec<u8>) -> Result<(), TooDeep> {
        let field = core::mem::replace(&mut self.field, Field::None);
        let text = core::mem::take(&mut self.field_text);
        let colon = memchr::memchr(b':', &text).unwrap_or(text.len());
        let body = text.get(colon + 1..).unwrap_or_default();
        match field {
            Field::None | Field::Other => {}
            Field::ContentType => self.structure.content_type(body, NESTING_MAX, BOUNDARY_SIZE_MAX)?,
            Field::ContentTransferEncoding => {
                self.structure.content_transfer_encoding(body);
                if !self.structure.exceeds_seven_bits() {
                    let text = text.strip_suffix(b"\r\n").unwrap_or(&text);
                    out.extend_from_slice(text);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        Ok(())
    }

    /// Ends a header section with the field that says how the part is encoded now. `is_clean`: an empty line follows.
    fn end_header_section(&mut self, is_clean: bool, out: &mut Vec<u8>) {
        if !self.structure.exceeds_seven_bits() {
            self.structure.end_of_header_section(is_clean);
        } else if self.structure.has_parts() {
            out.extend_from_slice(b"Content-Transfer-Encoding: 7bit\r\n");
            self.structure.end_of_header_section(is_clean);
        } else {
            out.extend_from_slice(b"Content-Transfer-Encoding: quoted-printable\r\n");
            self.structure.begin_leaf();
        }
    }
}

impl Default for Downgrade {
    fn default() -> Self {
        Self::new()
    }
}

impl Field {
    fn of(name: &[u8]) -> Self {
        if name.eq_ignore_ascii_case(b"Content-Type") {
            Self::ContentType
        } else if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") {
            Self::ContentTransferEncoding
        } else {
            Self::Other
        }
    }

    const fn line(self) -> Line {
        match self {
            Self::ContentTransferEncoding => Line::Withheld,
            _ => Line::Kept,
        }
    }

    const fn has_meaning(self) -> bool {
        matches!(self, Self::ContentType | Self::ContentTransferEncoding)
    }
}

#[cfg(test)]
mod tests;
