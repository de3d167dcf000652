//! The content of a message on its way through the passes.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::QueueId;
use mailrace_core::cleanup::{self, Cleanup, Halt, Rejection, strip_characters};
use mailrace_core::record::envelope::encode;
use mailrace_core::smtp::reply;

use super::chunks::{Chunks, extend};

/// The content that the spool does not have yet, and what the passes know of the message.
#[derive(Debug)]
pub(super) struct Content {
    cleanup: Cleanup,
    /// The passes do not need the rest of the content.
    is_transparent: bool,
    /// Content that is not cleaned yet.
    raw: Vec<u8>,
    /// Content that is ready for the spool.
    pub(super) clean: Chunks,
}

impl Content {
    pub(super) fn new(id: QueueId, is_local_context: bool) -> Self {
        Self {
            cleanup: Cleanup::new(id, is_local_context),
            is_transparent: false,
            raw: Vec::new(),
            clean: Chunks::default(),
        }
    }

    /// Bytes of memory that the content and the answers of tables about it take.
    pub(super) fn memory(&self) -> usize {
        self.raw.capacity() + self.clean.memory() + self.cleanup.memory()
    }

    /// Number of bytes that are kept.
    pub(super) fn len(&self) -> usize {
        self.raw.len() + self.clean.len()
    }

    /// The message-id, for the log.
    pub(super) fn message_id(&self) -> &[u8] {
        self.cleanup.message_id()
    }

    /// Whether a check ordered to drop the message.
    pub(super) const fn is_discarded(&self) -> bool {
        self.cleanup.decisions().is_discarded
    }

    /// Whether a check ordered to hold the message.
    pub(super) const fn is_held(&self) -> bool {
        self.cleanup.decisions().is_held
    }

    /// Keeps pieces for later.
    pub(super) fn keep(&mut self, settings: &cleanup::Settings, arena: &Bump, pieces: &[&[u8]]) {
        for piece in pieces {
            let piece = strip_characters(arena, settings, piece);
            if self.is_transparent {
                self.clean.push(piece);
            } else {
                extend(&mut self.raw, piece);
            }
        }
    }

    /// Keeps content that the passes have seen.
    pub(super) fn keep_clean(&mut self, content: &[&[u8]]) {
        content.iter().for_each(|slice| self.clean.push(slice));
    }

    /// Cleans what is kept, and `pieces` after that. What need not be kept comes out in `out`, where it is.
    ///
    /// # Errors
    /// [`Halt`]; then everything is kept, and the call can be repeated without pieces.
    pub(super) fn run_passes<'a>(
        &mut self,
        passes: &mut cleanup::Surroundings<'_, 'a>,
        pieces: &[&'a [u8]],
        out: &mut ArenaVec<'a, &'a [u8]>,
        is_whole: bool,
    ) -> Result<(), Halt> {
        if self.clean_in_place(passes, pieces, out, is_whole)? {
            return Ok(());
        }
        self.keep(passes.settings, passes.arena, pieces);
        self.clean_kept(passes.reborrow(), is_whole)
    }

    /// Does the same at the end of the message, and returns the encoded envelope.
    ///
    /// # Errors
    /// [`Halt`]; then what is in `out` is clean, and has to be kept.
    pub(super) fn finish<'a>(
        &mut self,
        passes: &mut cleanup::Surroundings<'_, 'a>,
        pieces: &[&'a [u8]],
        out: &mut ArenaVec<'a, &'a [u8]>,
    ) -> Result<ArenaVec<'a, u8>, Halt> {
        self.run_passes(passes, pieces, out, true)?;
        let mut encoded = ArenaVec::with_capacity_in(256, passes.arena);
        self.encode_envelope(passes.reborrow(), &mut encoded)?;
        Ok(encoded)
    }

    /// Drops all that is kept.
    pub(super) fn clear(&mut self) {
        self.raw = Vec::new();
        self.clean = Chunks::default();
    }

    /// Cleans the content in place and returns true, if the passes have seen everything that they need, or find it in the
    /// first piece and nothing was kept before; else returns false and leaves everything to [`Content::clean_kept`].
    fn clean_in_place<'a>(
        &mut self,
        passes: &mut cleanup::Surroundings<'_, 'a>,
        pieces: &[&'a [u8]],
        content: &mut ArenaVec<'a, &'a [u8]>,
        is_whole: bool,
    ) -> Result<bool, Halt> {
        // What is kept may hold all that the passes need; if so, only what follows it stays where it is.
        let may_end = !self.is_transparent && !pieces.is_empty();
        if may_end && memchr::memmem::find(&self.raw, SECTION_END).is_some() {
            let cleaned = self.clean_kept(passes.reborrow(), false);
            if let Err(halt) = cleaned {
                self.keep(passes.settings, passes.arena, pieces);
                return Err(halt);
            }
        }
        if self.is_transparent {
            let (arena, settings) = (passes.arena, passes.settings);
            content.extend(pieces.iter().map(|piece| strip_characters(arena, settings, piece)));
            return Ok(true);
        }
        let Some((first, rest)) = pieces.split_first() else { return Ok(false) };
        let is_all = is_whole && rest.is_empty();
        let is_first = self.raw.is_empty() && self.clean.is_empty();
        if !is_first || passes.settings.message_strip_characters.is_some() {
            return Ok(false);
        }
        // The header section ends at an empty line in the first piece at the latest.
        if !is_all && memchr::memmem::find(first, SECTION_END).is_none() {
            return Ok(false);
        }
        match self.cleanup.content(passes, first, is_all) {
            Ok(part) if part.is_done || is_all => {
                content.extend_from_slice(&part.output);
                self.is_transparent = true;
                content.push(first.get(part.consumed..).unwrap_or_default());
                content.extend_from_slice(rest);
                Ok(true)
            }
            Ok(part) => {
                part.output.iter().for_each(|slice| self.clean.push(slice));
                extend(&mut self.raw, first.get(part.consumed..).unwrap_or_default());
                rest.iter().for_each(|piece| extend(&mut self.raw, piece));
                self.clean_kept(passes.reborrow(), is_whole).map(|()| true)
            }
            Err(halt) => {
                pieces.iter().for_each(|piece| extend(&mut self.raw, piece));
                Err(halt)
            }
        }
    }

    /// Cleans what is kept of the content.
    fn clean_kept(&mut self, passes: cleanup::Surroundings<'_, '_>, is_whole: bool) -> Result<(), Halt> {
        if self.is_transparent {
            return Ok(());
        }
        let raw = std::mem::take(&mut self.raw);
        let consumed = self.clean_raw(passes, &raw, is_whole);
        let consumed = match consumed {
            Ok(consumed) => consumed,
            Err(halt) => {
                self.raw = raw;
                return Err(halt);
            }
        };
        if self.is_transparent {
            self.clean.push(raw.get(consumed..).unwrap_or_default());
        } else {
            self.raw = raw;
            self.raw.drain(..consumed);
        }
        Ok(())
    }

    /// Cleans `raw` and returns the number of bytes processed.
    fn clean_raw(
        &mut self,
        mut passes: cleanup::Surroundings<'_, '_>,
        raw: &[u8],
        is_whole: bool,
    ) -> Result<usize, Halt> {
        let mut passes = passes.reborrow();
        let part = self.cleanup.content(&mut passes, raw, is_whole)?;
        part.output.iter().for_each(|slice| self.clean.push(slice));
        self.is_transparent = part.is_done || is_whole;
        Ok(part.consumed)
    }

    /// Appends the encoded envelope.
    fn encode_envelope(
        &self,
        mut passes: cleanup::Surroundings<'_, '_>,
        out: &mut ArenaVec<'_, u8>,
    ) -> Result<(), Halt> {
        let mut passes = passes.reborrow();
        let queued = self.cleanup.envelope(&mut passes)?;
        encode(passes.origin, &queued, out).map_err(|_| Rejection::Improper(&reply::ENVELOPE_TOO_LARGE))?;
        Ok(())
    }
}

/// The line end of the last field, and the empty line.
const SECTION_END: &[u8] = b"\r\n\r\n";
