//! Owns a message on its way from the session to the spool.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::cleanup::{self, Cleanup, Rejection};
use mailrace_core::smtp::Verdict;
use mailrace_core::{Envelope, Origin, QueueId};
use mailrace_io::{Disk, Instant};
use mailrace_spool::{Draft, Refusal, SegmentSpool};

/// One message whose content is coming in.
///
/// A message that is whole in one receive goes from there into the spool's batch without a stop, its header
/// section parsed where the kernel put it. Any other is kept here until a chunk's worth is together.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: QueueId,
    cleanup: Cleanup,
    is_header_done: bool,
    /// Octets of the header section that are not cleaned yet.
    raw: Vec<u8>,
    /// Octets that are ready for the spool.
    clean: Vec<u8>,
    /// Taken when the message is committed, or has failed.
    draft: Option<Draft>,
    /// Octets of content after cleanup that the spool has.
    pub(super) size: u64,
    /// Why the message cannot be taken; further content is dropped.
    failure: Option<Verdict>,
    /// When the spool was given the last of it.
    pub(super) committed_at: Option<Instant>,
}

/// What every step needs.
pub(super) struct Surroundings<'a, D: Disk> {
    pub(super) arena: &'a Bump,
    pub(super) settings: &'a cleanup::Settings,
    pub(super) spool: &'a mut SegmentSpool<D>,
}

/// What became of a step towards the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is done.
    Done,
    /// The spool has no room right now: the same call again later, without pieces.
    Wait,
    /// The message cannot be taken, for this reason.
    Failed(Verdict),
}

impl Incoming {
    pub(super) fn new(id: QueueId, draft: Draft, is_local_context: bool) -> Self {
        Self {
            id,
            cleanup: Cleanup::new(id, is_local_context),
            is_header_done: false,
            raw: Vec::new(),
            clean: Vec::new(),
            draft: Some(draft),
            size: 0,
            failure: None,
            committed_at: None,
        }
    }

    /// Octets of memory that the content holds.
    pub(super) fn memory(&self) -> usize {
        self.raw.capacity() + self.clean.capacity()
    }

    /// The message-id of the content, for the log.
    pub(super) fn message_id(&self) -> &[u8] {
        self.cleanup.message_id()
    }

    /// Whether so much is kept that a chunk is due.
    pub(super) fn is_chunk_due(&self, chunk_size: usize) -> bool {
        self.raw.len() + self.clean.len() >= chunk_size
    }

    /// Keeps pieces for later.
    pub(super) fn keep(&mut self, pieces: &[&[u8]]) {
        if self.failure.is_some() {
            return;
        }
        let place = if self.is_header_done { &mut self.clean } else { &mut self.raw };
        pieces.iter().for_each(|piece| place.extend_from_slice(piece));
    }

    /// Gives what is kept to the spool in chunks.
    pub(super) fn flush<D: Disk>(
        &mut self,
        surroundings: &mut Surroundings<'_, D>,
        origin: &Origin,
        envelope: &mut Envelope,
    ) -> Progress {
        if let Err(rejection) = self.clean_kept(surroundings, origin, envelope, false) {
            return self.fail(surroundings.spool, verdict_of_rejection(rejection));
        }
        self.append_clean(surroundings.spool, |_, _| true)
    }

    /// Gives cleaned octets to the spool from the front, for as long as `is_due` says so of those that are left.
    fn append_clean<D: Disk>(
        &mut self,
        spool: &mut SegmentSpool<D>,
        is_due: impl Fn(&SegmentSpool<D>, usize) -> bool,
    ) -> Progress {
        let Some(draft) = self.draft.as_mut() else { return Progress::Done };
        let mut rest = self.clean.as_slice();
        let mut result = Ok(());
        while result.is_ok() && !rest.is_empty() && is_due(spool, rest.len()) {
            let (chunk, behind) = rest.split_at(rest.len().min(spool.piece_size_max()));
            result = spool.append(draft, &[chunk]);
            if result.is_ok() {
                self.size += chunk.len() as u64;
                rest = behind;
            }
        }
        // Nothing is kept in the usual case: no memory either, since the next chunk may be long in coming.
        self.clean = rest.to_vec();
        match result {
            Ok(()) => Progress::Done,
            Err(Refusal::Busy) => Progress::Wait,
            Err(refusal) => self.fail(spool, verdict_of_refusal(&refusal)),
        }
    }

    /// Gives the whole message to the spool, with `pieces` as its last content; `tag` comes back when it is durable.
    pub(super) fn commit<D: Disk>(
        &mut self,
        surroundings: &mut Surroundings<'_, D>,
        origin: &Origin,
        envelope: &mut Envelope,
        pieces: &[&[u8]],
        tag: u64,
    ) -> Progress {
        if let Some(verdict) = self.failure {
            return Progress::Failed(verdict);
        }
        #[expect(clippy::needless_late_init, reason = "it has to outlive what borrows from it")]
        let clean;
        let mut content = ArenaVec::with_capacity_in(pieces.len() + 16, surroundings.arena);
        match self.clean_in_place(surroundings, origin, envelope, pieces, &mut content) {
            Ok(true) if surroundings.spool.fits(origin, envelope, size_of_all(&content)) => {}
            Ok(true) => {
                content.iter().for_each(|slice| self.clean.extend_from_slice(slice));
                content.clear();
            }
            Ok(false) => {
                self.keep(pieces);
                if let Err(rejection) = self.clean_kept(surroundings, origin, envelope, true) {
                    return self.fail(surroundings.spool, verdict_of_rejection(rejection));
                }
            }
            Err(rejection) => return self.fail(surroundings.spool, verdict_of_rejection(rejection)),
        }
        if content.is_empty() {
            let progress =
                self.append_clean(surroundings.spool, |spool, size| !spool.fits(origin, envelope, size));
            if progress != Progress::Done {
                return progress;
            }
        }
        let Some(draft) = self.draft.take() else { return Progress::Failed(Verdict::QueueWriteFailed) };
        clean = std::mem::take(&mut self.clean);
        content.push(&clean);
        match surroundings.spool.commit(draft, origin, envelope, &content, tag) {
            Ok(()) => {
                self.size += size_of_all(&content) as u64;
                Progress::Done
            }
            Err((draft, Refusal::Busy)) => {
                // What is cleaned stays so: the passes have seen it.
                self.clean = content.concat();
                self.draft = Some(draft);
                Progress::Wait
            }
            Err((draft, refusal)) => {
                self.draft = Some(draft);
                self.fail(surroundings.spool, verdict_of_refusal(&refusal))
            }
        }
    }

    /// Gives up on the message for want of memory; its client is told at the end of the content (452 4.3.1).
    pub(super) fn shed<D: Disk>(&mut self, spool: &mut SegmentSpool<D>) {
        self.fail(spool, Verdict::StorageFull);
    }

    /// Drops the message; the spool forgets its chunks.
    pub(super) fn abandon<D: Disk>(&mut self, spool: &mut SegmentSpool<D>) {
        if let Some(draft) = self.draft.take() {
            spool.abandon(draft);
        }
    }

    /// Cleans the header section where it is and returns true, if all of it is in the first piece and nothing was
    /// kept before; else does nothing.
    fn clean_in_place<'a, D: Disk>(
        &mut self,
        surroundings: &Surroundings<'a, D>,
        origin: &Origin,
        envelope: &mut Envelope,
        pieces: &[&'a [u8]],
        content: &mut ArenaVec<'a, &'a [u8]>,
    ) -> Result<bool, Rejection> {
        let Some((first, rest)) = pieces.split_first() else { return Ok(false) };
        if self.is_header_done || !self.raw.is_empty() || !self.clean.is_empty() {
            return Ok(false);
        }
        // With an empty line in the first piece the section ends there at the latest.
        if !rest.is_empty() && memchr::memmem::find(first, b"\r\n\r\n").is_none() {
            return Ok(false);
        }
        let (arena, settings) = (surroundings.arena, surroundings.settings);
        let section =
            self.cleanup.header_section(arena, settings, origin, envelope, first, rest.is_empty())?;
        content.extend_from_slice(&section.output);
        assert!(section.is_done, "a header section ends at its empty line");
        self.is_header_done = true;
        content.push(first.get(section.consumed..).unwrap_or_default());
        content.extend_from_slice(rest);
        Ok(true)
    }

    /// Cleans what is kept of the header section.
    fn clean_kept<D: Disk>(
        &mut self,
        surroundings: &Surroundings<'_, D>,
        origin: &Origin,
        envelope: &mut Envelope,
        is_whole: bool,
    ) -> Result<(), Rejection> {
        if self.is_header_done {
            return Ok(());
        }
        let (arena, settings) = (surroundings.arena, surroundings.settings);
        let mut raw = std::mem::take(&mut self.raw);
        let section = self.cleanup.header_section(arena, settings, origin, envelope, &raw, is_whole)?;
        section.output.iter().for_each(|slice| self.clean.extend_from_slice(slice));
        self.is_header_done = section.is_done;
        let consumed = section.consumed;
        drop(section);
        if self.is_header_done {
            self.clean.extend_from_slice(raw.get(consumed..).unwrap_or_default());
        } else {
            raw.drain(..consumed);
            self.raw = raw;
        }
        Ok(())
    }

    fn fail<D: Disk>(&mut self, spool: &mut SegmentSpool<D>, verdict: Verdict) -> Progress {
        self.failure = Some(verdict);
        self.raw = Vec::new();
        self.clean = Vec::new();
        if let Some(draft) = self.draft.take() {
            spool.abandon(draft);
        }
        Progress::Failed(verdict)
    }
}

/// What the client is told when cleanup does not let a message in.
fn verdict_of_rejection(rejection: Rejection) -> Verdict {
    match rejection {
        Rejection::TooManyHops => Verdict::TooManyHops,
    }
}

/// What the client is told when the spool does not take a message.
fn verdict_of_refusal(refusal: &Refusal) -> Verdict {
    match refusal {
        Refusal::Full => Verdict::StorageFull,
        _ => Verdict::QueueWriteFailed,
    }
}

fn size_of_all(content: &[&[u8]]) -> usize {
    content.iter().map(|slice| slice.len()).sum()
}
