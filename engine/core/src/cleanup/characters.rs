//! Passes that remove bytes from content, or refuse content that contains them.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::Cleanup;
use super::rejection::{Halt, Rejection};
use super::settings::Settings;
use crate::smtp::reply;

/// Removes the bytes of `message_strip_characters` from `input`, but no line ends. Runs before the other passes; the content
/// may be split anywhere.
#[must_use]
pub fn strip_characters<'a>(arena: &'a Bump, settings: &Settings, input: &'a [u8]) -> &'a [u8] {
    let Some(set) = &settings.message_strip_characters else { return input };
    let is_kept = |octet: &u8| is_line_octet(octet) || !set.contains(*octet);
    if input.iter().all(is_kept) {
        return input;
    }
    ArenaVec::from_iter_in(input.iter().copied().filter(is_kept), arena).into_bump_slice()
}

const fn is_line_octet(octet: &u8) -> bool {
    matches!(octet, b'\r' | b'\n')
}

impl Cleanup {
    /// Refuses content with bytes of `message_reject_characters`.
    pub(super) fn refuse_characters(&self, settings: &Settings, text: &[u8]) -> Result<(), Halt> {
        match &settings.message_reject_characters {
            Some(refused)
                if !self.decisions.is_settled && text.iter().any(|octet| refused.contains(*octet)) =>
            {
                Err(Rejection::Improper(&reply::DISALLOWED_CHARACTER).into())
            }
            _ => Ok(()),
        }
    }

    /// Does the same for each line of a field.
    pub(super) fn refuse_characters_of_lines(&self, settings: &Settings, field: &[u8]) -> Result<(), Halt> {
        if settings.message_reject_characters.is_none() {
            return Ok(());
        }
        field.split(is_line_octet).try_for_each(|line| self.refuse_characters(settings, line))
    }
}
