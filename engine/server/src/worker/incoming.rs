//! A message on its way from the session to the spool.

use std::time::Duration;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::cleanup::{self, Halt};
use mailrace_core::lookup::Ticket;
use mailrace_core::smtp::{Verdict, reply};
use mailrace_core::{Envelope, Origin, QueueId};
use mailrace_spool::{Refusal, Spool, State};

use super::content::Content;
use super::waiting::Waiting;

/// One message whose content is being received.
///
/// A message that is complete in one receive goes straight from there into the spool's batch, its header
/// section parsed where the kernel put it. Any other is kept here until there is enough for a chunk.
#[derive(Debug)]
pub(super) struct Incoming<D> {
    pub(super) id: QueueId,
    content: Content,
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
    pub(super) waiting: Waiting,
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
            content: Content::new(id, is_local_context),
            draft: Some(draft),
            size: 0,
            failure: None,
            was_shed: false,
            cost: Duration::ZERO,
            is_whole: false,
            waiting: Waiting::new(),
        }
    }

    /// Bytes of memory that the content and the answers of tables about it take.
    pub(super) fn memory(&self) -> usize {
        self.content.memory()
    }

    /// Bytes that the spool holds of it and cannot free before it ends; none after it is committed or abandoned.
    pub(super) fn content_in_spool(&self) -> u64 {
        if self.draft.is_some() { self.size } else { 0 }
    }

    /// The message-id of the content, for the log.
    pub(super) fn message_id(&self) -> &[u8] {
        self.content.message_id()
    }

    /// Whether a check ordered to drop it.
    pub(super) const fn is_discarded(&self) -> bool {
        self.content.is_discarded()
    }

    /// Whether enough is kept for a chunk.
    pub(super) fn is_chunk_due(&self, chunk_size: usize) -> bool {
        self.content.len() >= chunk_size
    }

    /// Keeps pieces for later.
    pub(super) fn keep(&mut self, settings: &cleanup::Settings, arena: &Bump, pieces: &[&[u8]]) {
        if self.failure.is_none() {
            self.content.keep(settings, arena, pieces);
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
        match self.content.run_passes(&mut passes, pieces, &mut content, false) {
            Ok(()) => self.append_all(arena, spool, &content),
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
            self.content.keep_clean(content);
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
            self.content.keep_clean(in_place);
        }
        progress
    }

    /// Gives cleaned content to the spool from the front, while `is_due` holds for the number of bytes left.
    fn append_clean<S: Spool<Draft = D>>(
        &mut self,
        arena: &Bump,
        spool: &mut S,
        is_due: impl Fn(&S, usize) -> bool,
    ) -> Progress {
        let Some(draft) = self.draft.as_mut() else { return Progress::Done };
        while !self.content.clean.is_empty() && is_due(spool, self.content.clean.len()) {
            let piece = ArenaVec::from_iter_in(self.content.clean.front(spool.piece_size_max()), arena);
            match spool.append(draft, &piece) {
                Ok(()) => {
                    let size = size_of_all(&piece);
                    self.size += size as u64;
                    drop(piece);
                    self.content.clean.consume(size);
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
        let Surroundings { arena, settings, spool, observer } = surroundings;
        let (arena, settings, spool): (&Bump, &cleanup::Settings, &mut S) = (arena, settings, spool);
        let mut passes =
            cleanup::Surroundings { arena, settings, origin, envelope, observer: &mut **observer };
        let mut content = ArenaVec::with_capacity_in(pieces.len() + 16, arena);
        let encoded = match self.content.finish(&mut passes, pieces, &mut content) {
            Ok(encoded) => encoded,
            Err(halt) => {
                self.content.keep_clean(&content);
                return self.halted(spool, &halt);
            }
        };
        if self.is_discarded() {
            self.abandon(spool);
            return Progress::Discarded;
        }
        if !content.is_empty() && !spool.fits(&encoded, self.content.clean.len() + size_of_all(&content)) {
            self.content.keep_clean(&content);
            content.clear();
        }
        if content.is_empty() {
            let progress = self.append_clean(arena, spool, |spool, size| !spool.fits(&encoded, size));
            if progress != Progress::Done {
                return progress;
            }
        }
        self.commit_rest(arena, spool, &encoded, &content, tag)
    }

    /// Commits the message to the spool with the rest of it: what is kept, and `content` after it.
    fn commit_rest<S: Spool<Draft = D>>(
        &mut self,
        arena: &Bump,
        spool: &mut S,
        encoded: &[u8],
        content: &[&[u8]],
        tag: u64,
    ) -> Progress {
        let Some(draft) = self.draft.take() else { return Progress::Failed(Verdict::QueueWriteFailed) };
        let clean = std::mem::take(&mut self.content.clean);
        let mut all = ArenaVec::from_iter_in(clean.slices(), arena);
        all.extend_from_slice(content);
        let state = if self.content.is_held() { State::Hold } else { State::Incoming };
        match spool.commit(draft, state, encoded, &all, tag) {
            Ok(()) => {
                self.size += size_of_all(&all) as u64;
                Progress::Done
            }
            Err((draft, Refusal::Busy)) => {
                // Cleaned content is kept as such, because the passes have seen it.
                drop(all);
                self.content.clean = clean;
                self.content.keep_clean(content);
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
        self.content.clear();
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

fn size_of_all(content: &[&[u8]]) -> usize {
    content.iter().map(|slice| slice.len()).sum()
}
