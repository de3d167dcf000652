//! A message on its way from the session to the spool.

use std::time::Duration;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::cleanup::{self, Cleanup, Halt, Rejection, strip_characters};
use mailrace_core::lookup::Ticket;
use mailrace_core::record::envelope::encode;
use mailrace_core::smtp::{Verdict, reply};
use mailrace_core::{Envelope, Origin, QueueId};
use mailrace_io::Instant;
use mailrace_spool::{Refusal, Spool, State};

use super::chunks::{Chunks, extend};

/// One message whose content is being received.
///
/// A message that is complete in one receive goes straight from there into the spool's batch, its header
/// section parsed where the kernel put it. Any other is kept here until there is enough for a chunk.
#[derive(Debug)]
pub(super) struct Incoming<D> {
    pub(super) id: QueueId,
    cleanup: Cleanup,
    /// The passes do not need the rest of the content.
    is_transparent: bool,
    /// Content that is not cleaned yet.
    raw: Vec<u8>,
    /// Content that is ready for the spool.
    clean: Chunks,
    /// Taken when the message is committed, or has failed.
    draft: Option<D>,
    /// Bytes of content after cleanup that the spool has.
    pub(super) size: u64,
    /// Reason why the message is refused; further content is dropped.
    failure: Option<Verdict>,
    /// The reason was lack of memory.
    was_shed: bool,
    /// Cost of reading it; charged to the client if the message is not accepted.
    pub(super) cost: Duration,
    /// All of its content has arrived.
    is_whole: bool,
    waits_for: WaitsFor,
    /// Time that it has waited for answers of tables.
    waited: Duration,
}

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// More of its content.
    Content,
    /// Room in the spool.
    Room,
    /// The answer of a table, which was asked at this time.
    Answer(Instant),
    /// Durability: the spool has had all of it since this time.
    Durability(Instant),
}

/// Parameters of every step.
pub(super) struct Surroundings<'a, S: Spool> {
    pub(super) arena: &'a Bump,
    pub(super) settings: &'a cleanup::Settings,
    pub(super) spool: &'a mut S,
    pub(super) observer: &'a mut dyn cleanup::Observer,
}

/// Outcome of a step towards the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is done.
    Done,
    /// The spool has no room now: repeat the call later, without pieces.
    Wait,
    /// A table has not answered this question yet: repeat the call after its answer, without pieces.
    Ask(Ticket),
    /// The message was accepted and dropped because of a check.
    Discarded,
    /// The message is refused for this reason.
    Failed(Verdict),
}

impl<D> Incoming<D> {
    pub(super) fn new(id: QueueId, draft: D, is_local_context: bool) -> Self {
        Self {
            id,
            cleanup: Cleanup::new(id, is_local_context),
            is_transparent: false,
            raw: Vec::new(),
            clean: Chunks::default(),
            draft: Some(draft),
            size: 0,
            failure: None,
            was_shed: false,
            cost: Duration::ZERO,
            is_whole: false,
            waits_for: WaitsFor::Content,
            waited: Duration::ZERO,
        }
    }

    /// Bytes of memory that the content and the answers of tables about it take.
    pub(super) fn memory(&self) -> usize {
        self.raw.capacity() + self.clean.memory() + self.cleanup.memory()
    }

    /// Bytes that the spool holds of it and cannot free before it ends; none after it is committed or abandoned.
    pub(super) fn content_in_spool(&self) -> u64 {
        if self.draft.is_some() { self.size } else { 0 }
    }

    /// The message-id of the content, for the log.
    pub(super) fn message_id(&self) -> &[u8] {
        self.cleanup.message_id()
    }

    /// Whether a check ordered to drop it.
    pub(super) const fn is_discarded(&self) -> bool {
        self.cleanup.decisions().is_discarded
    }

    /// Whether enough is kept for a chunk.
    pub(super) fn is_chunk_due(&self, chunk_size: usize) -> bool {
        self.raw.len() + self.clean.len() >= chunk_size
    }

    /// Keeps pieces for later.
    pub(super) fn keep(&mut self, settings: &cleanup::Settings, arena: &Bump, pieces: &[&[u8]]) {
        if self.failure.is_some() {
            return;
        }
        for piece in pieces {
            let piece = strip_characters(arena, settings, piece);
            if self.is_transparent {
                self.clean.push(piece);
            } else {
                extend(&mut self.raw, piece);
            }
        }
    }

    /// Gives what is kept, and `pieces` after that, to the spool in chunks.
    pub(super) fn flush<S: Spool<Draft = D>>(
        &mut self,
        surroundings: &mut Surroundings<'_, S>,
        origin: &Origin,
        envelope: &Envelope,
        pieces: &[&[u8]],
    ) -> Progress {
        if self.failure.is_some() {
            return Progress::Done;
        }
        let Surroundings { arena, settings, spool, observer } = surroundings;
        let (arena, settings, spool): (&Bump, &cleanup::Settings, &mut S) = (arena, settings, spool);
        let mut passes =
            cleanup::Surroundings { arena, settings, origin, envelope, observer: &mut **observer };
        let mut content = ArenaVec::with_capacity_in(pieces.len() + 16, arena);
        let mut cleaned = self.clean_in_place(&mut passes, pieces, &mut content, false);
        if cleaned == Ok(false) {
            self.keep(settings, arena, pieces);
            cleaned = self.clean_kept(passes, false).map(|()| true);
        }
        match cleaned {
            Ok(_) => self.append_all(arena, spool, &content),
            Err(halt) => self.halted(spool, &halt),
        }
    }

    /// Gives all cleaned content to the spool: what is kept, and `content` after it. Of the latter, what finds no room is
    /// kept.
    fn append_all<S: Spool<Draft = D>>(
        &mut self,
        arena: &Bump,
        spool: &mut S,
        content: &[&[u8]],
    ) -> Progress {
        let is_one_piece = size_of_all(content) <= spool.piece_size_max();
        let in_place = if is_one_piece { content } else { &[] };
        if !is_one_piece {
            self.keep_clean(content);
        }
        let mut progress = self.append_clean(arena, spool, |_, _| true);
        if progress == Progress::Done
            && !in_place.is_empty()
            && let Some(draft) = self.draft.as_mut()
        {
            progress = match spool.append(draft, in_place) {
                Ok(()) => {
                    self.size += size_of_all(in_place) as u64;
                    Progress::Done
                }
                Err(Refusal::Busy) => Progress::Wait,
                Err(refusal) => self.fail(spool, verdict_of_refusal(&refusal)),
            };
        }
        if progress == Progress::Wait {
            self.keep_clean(in_place);
        }
        progress
    }

    fn keep_clean(&mut self, content: &[&[u8]]) {
        content.iter().for_each(|slice| self.clean.push(slice));
    }

    /// Gives cleaned content to the spool from the front, while `is_due` holds for the number of bytes left.
    fn append_clean<S: Spool<Draft = D>>(
        &mut self,
        arena: &Bump,
        spool: &mut S,
        is_due: impl Fn(&S, usize) -> bool,
    ) -> Progress {
        let Some(draft) = self.draft.as_mut() else { return Progress::Done };
        while !self.clean.is_empty() && is_due(spool, self.clean.len()) {
            let piece = ArenaVec::from_iter_in(self.clean.front(spool.piece_size_max()), arena);
            match spool.append(draft, &piece) {
                Ok(()) => {
                    let size = size_of_all(&piece);
                    self.size += size as u64;
                    drop(piece);
                    self.clean.consume(size);
                }
                Err(Refusal::Busy) => return Progress::Wait,
                Err(refusal) => {
                    drop(piece);
                    return self.fail(spool, verdict_of_refusal(&refusal));
                }
            }
        }
        Progress::Done
    }

    /// Commits the message to the spool, with `pieces` as its last content; `tag` comes back when it is durable.
    pub(super) fn commit<S: Spool<Draft = D>>(
        &mut self,
        surroundings: &mut Surroundings<'_, S>,
        origin: &Origin,
        envelope: &Envelope,
        pieces: &[&[u8]],
        tag: u64,
    ) -> Progress {
        if let Some(verdict) = &self.failure {
            return Progress::Failed(verdict.clone());
        }
        #[expect(clippy::needless_late_init, reason = "it has to outlive what borrows from it")]
        let clean;
        let Surroundings { arena, settings, spool, observer } = surroundings;
        let (arena, settings, spool): (&Bump, &cleanup::Settings, &mut S) = (arena, settings, spool);
        let mut passes =
            cleanup::Surroundings { arena, settings, origin, envelope, observer: &mut **observer };
        let mut content = ArenaVec::with_capacity_in(pieces.len() + 16, arena);
        let mut cleaned = self.clean_in_place(&mut passes, pieces, &mut content, true);
        if cleaned == Ok(false) {
            self.keep(settings, arena, pieces);
            cleaned = self.clean_kept(passes.reborrow(), true).map(|()| true);
        }
        let mut encoded = ArenaVec::with_capacity_in(256, arena);
        match cleaned.and_then(|_| self.encode_envelope(passes.reborrow(), &mut encoded)) {
            Ok(()) => {}
            Err(halt) => {
                self.keep_clean(&content);
                return self.halted(spool, &halt);
            }
        }
        if self.is_discarded() {
            self.abandon(spool);
            return Progress::Discarded;
        }
        let encoded: &[u8] = &encoded;
        if !content.is_empty() && !spool.fits(encoded, self.clean.len() + size_of_all(&content)) {
            self.keep_clean(&content);
            content.clear();
        }
        if content.is_empty() {
            let progress = self.append_clean(arena, spool, |spool, size| !spool.fits(encoded, size));
            if progress != Progress::Done {
                return progress;
            }
        }
        let Some(draft) = self.draft.take() else { return Progress::Failed(Verdict::QueueWriteFailed) };
        clean = std::mem::take(&mut self.clean);
        let mut all = ArenaVec::from_iter_in(clean.slices(), arena);
        all.extend_from_slice(&content);
        let state = if self.cleanup.decisions().is_held { State::Hold } else { State::Incoming };
        match spool.commit(draft, state, encoded, &all, tag) {
            Ok(()) => {
                self.size += size_of_all(&all) as u64;
                Progress::Done
            }
            Err((draft, Refusal::Busy)) => {
                // Cleaned content is kept as such, because the passes have seen it.
                drop(all);
                self.clean = clean;
                self.keep_clean(&content);
                self.draft = Some(draft);
                Progress::Wait
            }
            Err((draft, refusal)) => {
                self.draft = Some(draft);
                self.fail(spool, verdict_of_refusal(&refusal))
            }
        }
    }

    /// Drops the message for lack of memory; its client gets 452 4.3.1 at the end of the content.
    pub(super) fn shed<S: Spool<Draft = D>>(&mut self, spool: &mut S) {
        self.fail(spool, Verdict::StorageFull);
        self.was_shed = true;
    }

    /// Whether it was dropped for lack of memory.
    pub(super) const fn was_shed(&self) -> bool {
        self.was_shed
    }

    /// All of its content has arrived.
    pub(super) const fn end(&mut self) {
        self.is_whole = true;
    }

    /// Whether all of its content has arrived, so that its source waits for the verdict.
    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether it has to wait, although the spool does not have all of it.
    pub(super) const fn is_stuck(&self) -> bool {
        matches!(self.waits_for, WaitsFor::Room | WaitsFor::Answer(_))
    }

    /// Whether it waits for room in the spool.
    pub(super) fn waits_for_room(&self) -> bool {
        self.waits_for == WaitsFor::Room
    }

    /// Whether the spool has all of it.
    pub(super) const fn is_settling(&self) -> bool {
        matches!(self.waits_for, WaitsFor::Durability(_))
    }

    /// How long the spool has had all of it.
    pub(super) fn latency(&self, now: Instant) -> Duration {
        match self.waits_for {
            WaitsFor::Durability(since) => now.since(since),
            WaitsFor::Content | WaitsFor::Room | WaitsFor::Answer(_) => Duration::ZERO,
        }
    }

    /// Starts to wait for this.
    pub(super) fn wait_for(&mut self, what: WaitsFor) {
        // A message that is twice in the line for room would be committed twice.
        assert!(self.waits_for == WaitsFor::Content, "a message waits for one thing");
        self.waits_for = what;
    }

    /// Ends the wait.
    pub(super) fn go_on(&mut self, now: Instant) {
        assert!(!self.is_settling(), "what the spool has is not given to it again");
        if let WaitsFor::Answer(since) = std::mem::replace(&mut self.waits_for, WaitsFor::Content) {
            self.waited += now.since(since);
        }
    }

    /// Whether it may wait for one more answer of a table.
    pub(super) fn may_ask(&self) -> bool {
        self.waited <= ANSWER_PATIENCE
    }

    /// Drops the message because tables do not answer.
    pub(super) fn give_up_asking<S: Spool<Draft = D>>(&mut self, spool: &mut S) -> Verdict {
        self.fail(spool, Verdict::QueueWriteFailed);
        Verdict::QueueWriteFailed
    }

    /// Drops the message; the spool forgets its chunks.
    pub(super) fn abandon<S: Spool<Draft = D>>(&mut self, spool: &mut S) {
        if let Some(draft) = self.draft.take() {
            spool.abandon(draft);
        }
    }

    /// Cleans the content in place and returns true, if the passes have seen everything that they need, or find it in the
    /// first piece and nothing was kept before; else returns false and leaves everything to [`Incoming::clean_kept`].
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

    fn halted<S: Spool<Draft = D>>(&mut self, spool: &mut S, halt: &Halt) -> Progress {
        match halt {
            Halt::Pending(ticket) => Progress::Ask(*ticket),
            Halt::Rejected(rejection) => {
                let (reason, reply) = (rejection.reason(), rejection.reply());
                self.fail(spool, Verdict::Refused { reason, reply })
            }
        }
    }

    fn fail<S: Spool<Draft = D>>(&mut self, spool: &mut S, verdict: Verdict) -> Progress {
        self.failure = Some(verdict.clone());
        self.raw = Vec::new();
        self.clean = Chunks::default();
        if let Some(draft) = self.draft.take() {
            spool.abandon(draft);
        }
        Progress::Failed(verdict)
    }
}

/// Returns the verdict about a message that the spool refuses.
fn verdict_of_refusal(refusal: &Refusal) -> Verdict {
    match refusal {
        Refusal::Full => Verdict::StorageFull,
        // Pieces of content always fit, so this is the envelope.
        Refusal::TooLarge => {
            Verdict::Refused { reason: "too_many_recipients", reply: reply::ENVELOPE_TOO_LARGE.line() }
        }
        Refusal::Busy | Refusal::Failed => Verdict::QueueWriteFailed,
    }
}

/// The line end of the last field, and the empty line.
const SECTION_END: &[u8] = b"\r\n\r\n";

fn size_of_all(content: &[&[u8]]) -> usize {
    content.iter().map(|slice| slice.len()).sum()
}

/// Longest total time of lookups for one message; then its client gets 451 4.3.0.
const ANSWER_PATIENCE: Duration = Duration::from_secs(100);
