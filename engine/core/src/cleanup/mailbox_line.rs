//! Pass that turns mailbox lines (`From `) into fields.

use bumpalo::collections::Vec as ArenaVec;

use super::field_text::cut_place;
use super::output::Output;
use super::rejection::Halt;
use super::{Cleanup, Passes};
use crate::message::header::find_crlf;

impl Cleanup {
    /// Turns a mailbox line into a field that checks may see.
    pub(super) fn mailbox_field<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        output: &mut Output<'a>,
        line: &'a [u8],
    ) -> Result<(), Halt> {
        let name = b"X-Mailbox-Line: ";
        let mut raw = ArenaVec::with_capacity_in(name.len() + line.len(), surroundings.arena);
        raw.extend_from_slice_copy(name);
        raw.extend_from_slice_copy(line);
        // As in any field, text ends at a NUL and at the size limit.
        let end =
            memchr::memchr(0, &raw).or_else(|| cut_place(&raw, surroundings.settings.header_size_limit));
        if let Some(end) = end {
            raw.truncate(end);
        }
        // Content may end within the line, and missing fields follow it.
        if !raw.ends_with(b"\r\n") {
            raw.extend_from_slice_copy(b"\r\n");
        }
        self.own_field(surroundings, output, raw.into_bump_slice())
    }
}

/// Whether the section begins with a mailbox line: `From `, preceded by any number of `>`.
pub(super) enum MailboxLine {
    /// A complete line; its size in bytes, including the line end.
    Whole(usize),
    Incomplete,
    No,
}

pub(super) fn mailbox_line(input: &[u8], is_whole: bool) -> MailboxLine {
    let quotes = input.iter().take_while(|octet| **octet == b'>').count();
    let rest = input.get(quotes..).unwrap_or_default();
    let is_start = b"From ".starts_with(rest.get(..5.min(rest.len())).unwrap_or_default());
    if !is_start || (is_whole && rest.len() < 5) {
        return MailboxLine::No;
    }
    match find_crlf(rest) {
        Some(end) if rest.len() >= 5 => MailboxLine::Whole(quotes + end + 2),
        None if is_whole => MailboxLine::Whole(input.len()),
        _ => MailboxLine::Incomplete,
    }
}
