//! Pass that adds our trace field.

use bumpalo::collections::Vec as ArenaVec;

use super::field_text::{emitted, logical};
use super::output::Output;
use super::rejection::Halt;
use super::{Cleanup, Passes};
use crate::message::header::{Item, find_crlf, next_item};
use crate::message::received::{Host, write_received};

impl Cleanup {
    /// Adds our trace field, which checks may see like any other. `continuation` are lines of the content that continue it.
    pub(super) fn received<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        output: &mut Output<'a>,
        continuation: &[u8],
    ) -> Result<(), Halt> {
        let settings = surroundings.settings;
        let mut raw = ArenaVec::with_capacity_in(320 + continuation.len(), surroundings.arena);
        let host = Host { name: &settings.myhostname, software: &settings.mail_name, zone: &settings.zone };
        write_received(&mut raw, host, surroundings.origin, surroundings.envelope, self.id);
        raw.extend_from_slice_copy(continuation);
        if !continuation.is_empty()
            && let Item::Field(field) = next_item(raw.clone().into_bump_slice(), true)
        {
            let (arena, size_max) = (surroundings.arena, settings.header_size_limit);
            let text = logical(arena, &field, size_max, settings.line_length_limit);
            raw.clear();
            raw.extend_from_slice_copy(emitted(arena, text, size_max));
        }
        self.own_field(surroundings, output, raw.into_bump_slice())
    }
}

/// Lines at the start of the content that begin with a space or TAB.
pub(super) struct Continuation {
    /// Size of these lines in bytes, or of the whole input if it exceeds the limit.
    pub(super) size: usize,
    /// The last line is complete, and no further one follows.
    pub(super) is_whole: bool,
}

/// Returns `None` if more input is needed to decide. Once the input exceeds `size_max`, decides with what is there; with 0,
/// no line is a continuation.
pub(super) fn continuation(input: &[u8], is_whole: bool, size_max: usize) -> Option<Continuation> {
    let mut size = 0;
    if size_max > 0 {
        loop {
            match input.get(size) {
                Some(b' ' | b'\t') => {}
                Some(_) => break,
                None if is_whole => break,
                // Leave the line end unconsumed until the next byte decides whether the field continues.
                None if input.len() > size_max => {
                    return Some(Continuation { size: size.saturating_sub(2), is_whole: false });
                }
                None => return None,
            }
            match input.get(size..).and_then(find_crlf) {
                Some(line) => size += line + 2,
                None if is_whole => size = input.len(),
                None if input.len() > size_max => {
                    // A CR at the end may be the first half of a line end.
                    let size = input.len() - usize::from(input.ends_with(b"\r"));
                    return Some(Continuation { size, is_whole: false });
                }
                None => return None,
            }
        }
    }
    Some(Continuation { size, is_whole: true })
}
