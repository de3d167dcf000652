//! Takes messages into the queue: any number at once, from any source.
//!
//! A source keeps its message and gives it in parts. Each part passes the cleanup passes and goes to the spool; the
//! intake queues messages that find no space or wait for a table's answer, and names their source when they can be
//! retried. `Waiting` records what a message waits for.

use std::collections::HashMap;

use bumpalo::Bump;
use mailrace_core::lookup::Ticket;
use mailrace_core::smtp::Verdict;
use mailrace_core::{Envelope, Origin, Timestamp, cleanup};
use mailrace_io::{Instant, SOME};
use mailrace_spool::Spool;

use super::incoming::{Incoming, Progress, Surroundings};
use super::line::Line;
use super::tag::{Source, Tag};
use super::telemetry::{CheckLog, Telemetry};
use super::waiting::WaitsFor;

/// Messages on their way into the queue.
pub(super) struct Intake<S: Spool> {
    spool: S,
    /// Whole messages that wait for room in the spool.
    ends: Line<Source>,
    /// Messages with a chunk that waits for room.
    chunks: Line<Source>,
    /// Message whose turn it is at the spool; if it finds too little room, it stays the first.
    turn: Option<Source>,
    /// Sources that wait for answers of lookup tables.
    asking: HashMap<Ticket, Vec<Source>>,
    arena: Bump,
}

/// Sender of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'s> {
    /// Its source.
    pub(super) source: Source,
    /// The network and the client, among others that wait.
    pub(super) names: (u32, u32),
    pub(super) origin: &'s Origin,
    pub(super) envelope: &'s Envelope,
}

/// Parts of the worker that a step needs.
pub(super) struct Work<'w> {
    pub(super) settings: &'w cleanup::Settings,
    pub(super) telemetry: &'w mut Telemetry,
    pub(super) now: Instant,
    /// Memory is short, so messages that make room come first.
    pub(super) is_pressed: bool,
}

/// Outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// The content was taken. If it was the last of it, the spool will report when the message is durable.
    Taken,
    /// It waits for room in the spool.
    Waits,
    /// It waits for this answer of a table; its source must register for it ([`Intake::ask`]).
    Asks(Ticket),
    /// It was accepted and dropped because of a check.
    Discarded,
    /// It is refused for this reason.
    Failed(Verdict),
}

/// Parts of messages, which wait in different lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The end of a message.
    End,
    /// A chunk of an unfinished one.
    Chunk,
}

impl<S: Spool> Intake<S> {
    pub(super) fn new(spool: S) -> Self {
        Self {
            spool,
            ends: Line::default(),
            chunks: Line::default(),
            turn: None,
            asking: HashMap::new(),
            arena: Bump::new(),
        }
    }

    pub(super) const fn spool(&self) -> &S {
        &self.spool
    }

    pub(super) const fn spool_mut(&mut self) -> &mut S {
        &mut self.spool
    }

    /// Starts a message.
    pub(super) fn begin(&mut self, wall: Timestamp, is_local_context: bool) -> Incoming<S::Draft> {
        let id = self.spool.next_id(wall);
        Incoming::new(id, self.spool.begin(id), is_local_context)
    }

    /// Gives the spool the kept content of an unfinished message, when it is its turn.
    pub(super) fn append(
        &mut self,
        sender: &Sender<'_>,
        message: &mut Incoming<S::Draft>,
        work: &mut Work<'_>,
    ) -> Advance {
        let has_turn = self.takes_turn(sender.source);
        if !(has_turn || self.chunks.is_empty()) || !self.has_room(Part::Chunk, work.is_pressed) {
            return self.wait_for_room(sender, message, has_turn);
        }
        let arena = self.lend_arena();
        let advance = self.flush(sender, message, &[], &arena, has_turn, work);
        self.take_arena_back(arena);
        advance
    }

    /// Takes pieces of an unfinished message: many bytes go straight to the spool, if it has room now; few are kept.
    pub(super) fn take(
        &mut self,
        sender: &Sender<'_>,
        message: &mut Incoming<S::Draft>,
        pieces: &[&[u8]],
        arena: &Bump,
        work: &mut Work<'_>,
    ) -> Advance {
        let size: usize = pieces.iter().map(|piece| piece.len()).sum();
        if size <= PIECES_SIZE_KEPT || !self.chunks.is_empty() || !self.has_room(Part::Chunk, work.is_pressed)
        {
            message.keep(work.settings, arena, pieces);
            return Advance::Taken;
        }
        self.flush(sender, message, pieces, arena, false, work)
    }

    /// Gives the spool what is kept of an unfinished message, and these pieces.
    fn flush(
        &mut self,
        sender: &Sender<'_>,
        message: &mut Incoming<S::Draft>,
        pieces: &[&[u8]],
        arena: &Bump,
        has_turn: bool,
        work: &mut Work<'_>,
    ) -> Advance {
        let progress = self.clean(sender, message, arena, work, |message, surroundings| {
            message.flush(surroundings, sender.origin, sender.envelope, pieces)
        });
        self.advanced(progress, sender, message, has_turn, work.now)
    }

    /// Commits a message with these last pieces, when it is its turn.
    pub(super) fn commit(
        &mut self,
        sender: &Sender<'_>,
        message: &mut Incoming<S::Draft>,
        pieces: &[&[u8]],
        arena: &Bump,
        work: &mut Work<'_>,
    ) -> Advance {
        message.end();
        let has_turn = self.takes_turn(sender.source);
        if !(has_turn || self.ends.is_empty()) {
            message.keep(work.settings, arena, pieces);
            return self.wait_for_room(sender, message, has_turn);
        }
        let tag = Tag::Message(sender.source).pack();
        let progress = self.clean(sender, message, arena, work, |message, surroundings| {
            message.commit(surroundings, sender.origin, sender.envelope, pieces, tag)
        });
        self.advanced(progress, sender, message, has_turn, work.now)
    }

    /// Abandons a message; the spool frees its content.
    pub(super) fn abandon(&mut self, message: &mut Incoming<S::Draft>) {
        message.abandon(&mut self.spool);
    }

    /// Drops a message for lack of memory.
    pub(super) fn shed(&mut self, message: &mut Incoming<S::Draft>) {
        message.shed(&mut self.spool);
    }

    /// Takes the next message to retry, if the spool has room for such a part.
    pub(super) fn next(&mut self, part: Part, is_pressed: bool) -> Option<Source> {
        self.turn = if self.has_room(part, is_pressed) { self.line(part).pop() } else { None };
        self.turn
    }

    /// Whether the message whose turn it was found too little room. It then stays the first, because smaller ones
    /// would overtake it forever.
    pub(super) fn is_blocked(&mut self, part: Part) -> bool {
        self.line(part).has_first()
    }

    /// Registers a source for an answer. `is_there`: whether a source still waits.
    pub(super) fn ask(&mut self, ticket: Ticket, source: Source, is_there: impl Fn(Source) -> bool) {
        let asking = self.asking.entry(ticket).or_default();
        if asking.len() == asking.capacity() {
            // Clients that connect, ask and leave must not make it grow while the table is silent.
            asking.retain(|source| is_there(*source));
        }
        asking.push(source);
    }

    /// Takes the sources that waited for this answer.
    pub(super) fn answered(&mut self, ticket: Ticket) -> Vec<Source> {
        self.asking.remove(&ticket).unwrap_or_default()
    }

    /// Number of messages that wait for room, and of answers that any waits for.
    pub(super) fn waiting(&self) -> usize {
        self.ends.len() + self.chunks.len() + self.asking.len()
    }

    /// Number of messages of which this part waits for room.
    #[cfg(test)]
    pub(super) const fn in_line(&self, part: Part) -> usize {
        match part {
            Part::End => self.ends.len(),
            Part::Chunk => self.chunks.len(),
        }
    }

    /// The arena, for as long as pieces of messages are looked at.
    pub(super) fn lend_arena(&mut self) -> Bump {
        std::mem::take(&mut self.arena)
    }

    /// Keeps the arena for the next message, unless this one needed uncommonly much of it.
    pub(super) fn take_arena_back(&mut self, mut arena: Bump) {
        if arena.allocated_bytes() <= ARENA_SIZE_KEPT {
            arena.reset();
            self.arena = arena;
        }
    }

    const fn line(&mut self, part: Part) -> &mut Line<Source> {
        match part {
            Part::End => &mut self.ends,
            Part::Chunk => &mut self.chunks,
        }
    }

    fn has_room(&self, part: Part, is_pressed: bool) -> bool {
        match part {
            Part::Chunk if !is_pressed => self.spool.has_room_for_chunks(),
            Part::End | Part::Chunk => self.spool.has_room(),
        }
    }

    /// Whether it is this one's turn at the spool; a turn is good for one attempt.
    fn takes_turn(&mut self, source: Source) -> bool {
        self.turn.take_if(|turn| *turn == source).is_some()
    }

    /// Does a step with what the passes need.
    fn clean(
        &mut self,
        sender: &Sender<'_>,
        message: &mut Incoming<S::Draft>,
        arena: &Bump,
        work: &mut Work<'_>,
        step: impl FnOnce(&mut Incoming<S::Draft>, &mut Surroundings<'_, S>) -> Progress,
    ) -> Progress {
        let (id, sharer) = (message.id, sender.origin.sharer());
        let mut observer = CheckLog { telemetry: &mut *work.telemetry, id, sharer };
        let settings = work.settings;
        step(message, &mut Surroundings { arena, settings, spool: &mut self.spool, observer: &mut observer })
    }

    fn advanced(
        &mut self,
        progress: Progress,
        sender: &Sender<'_>,
        message: &mut Incoming<S::Draft>,
        has_turn: bool,
        now: Instant,
    ) -> Advance {
        match progress {
            Progress::Done => {
                if message.is_whole() {
                    message.waiting.start(WaitsFor::Durability(now));
                }
                Advance::Taken
            }
            Progress::Wait => self.wait_for_room(sender, message, has_turn),
            Progress::Ask(ticket) if message.waiting.may_ask() => {
                message.waiting.start(WaitsFor::Answer(now));
                Advance::Asks(ticket)
            }
            Progress::Ask(_) => Advance::Failed(message.give_up_asking(&mut self.spool)),
            Progress::Discarded => Advance::Discarded,
            Progress::Failed(verdict) => Advance::Failed(verdict),
        }
    }

    fn wait_for_room(
        &mut self,
        sender: &Sender<'_>,
        message: &mut Incoming<S::Draft>,
        has_turn: bool,
    ) -> Advance {
        message.waiting.start(WaitsFor::Room);
        let line = self.line(if message.is_whole() { Part::End } else { Part::Chunk });
        if has_turn {
            line.push_first(sender.source);
        } else {
            line.push(sender.names, sender.source);
        }
        Advance::Waits
    }
}

/// Most bytes that arrive together and are kept; more make a chunk of their own. So few are cheaper to copy once more than to
/// have a record each, and a client that has yet to show that it sends mail never brings more at once.
const PIECES_SIZE_KEPT: usize = SOME as usize;
/// Largest arena that is kept, in bytes; a larger one is freed.
const ARENA_SIZE_KEPT: usize = 2 << 20;
