//! Takes messages into the queue: any number at once, from any source.
//!
//! A source keeps its message and gives it in parts. Each part passes the cleanup passes and goes to the spool; the
//! intake queues messages that find no space or wait for a table's answer, and names their source when they can be
//! retried. `Incoming` records what its message waits for.

use std::collections::HashMap;

use bumpalo::Bump;
use mailrace_core::lookup::Ticket;
use mailrace_core::smtp::Verdict;
use mailrace_core::{Envelope, Origin, Timestamp, cleanup};
use mailrace_io::Instant;
use mailrace_spool::Spool;

use super::incoming::{Incoming, Progress, Surroundings, WaitsFor};
use super::line::Line;
use super::tag::{Source, Tag};
use super::telemetry::{CheckLog, Telemetry};

/// Messages on their way into the queue.
pub(super) struct Intake<S: Spool> {
    spool: S,
    /// Whole messages that wait for room in the spool.
    ends: Line<Source>,
    /// Others of which a chunk waits for it.
    chunks: Line<Source>,
    /// Whose turn it is at the spool: if it finds too little room it stays the first.
    turn: Option<Source>,
    /// Who waits for the answers of lookup tables.
    asking: HashMap<Ticket, Vec<Source>>,
    arena: Bump,
}

/// Whose message it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'s> {
    /// Where it comes from.
    pub(super) source: Source,
    /// The network and the client, among others that wait.
    pub(super) names: (u32, u32),
    pub(super) origin: &'s Origin,
    pub(super) envelope: &'s Envelope,
}

/// What a step needs of the worker.
pub(super) struct Work<'w> {
    pub(super) settings: &'w cleanup::Settings,
    pub(super) telemetry: &'w mut Telemetry,
    pub(super) now: Instant,
    /// Memory is short, so that whatever makes room comes first.
    pub(super) is_pressed: bool,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// What came has been taken. If it was the last of it, the spool says when the message is durable.
    Taken,
    /// It waits for room in the spool.
    Waits,
    /// It waits for this answer of a table; its source has to put itself down for it ([`Intake::ask`]).
    Asks(Ticket),
    /// It was taken and dropped, by order of a check.
    Discarded,
    /// It cannot be taken, for this reason.
    Failed(Verdict),
}

/// What messages wait in different lines with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The end of a message.
    End,
    /// A chunk of one that goes on.
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

    /// A message that begins.
    pub(super) fn begin(&mut self, wall: Timestamp, is_local_context: bool) -> Incoming<S::Draft> {
        let id = self.spool.next_id(wall);
        Incoming::new(id, self.spool.begin(id), is_local_context)
    }

    /// Gives the spool what is kept of a message that goes on, when it is its turn.
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
        let progress = self.clean(sender, message, &arena, work, |message, surroundings| {
            message.flush(surroundings, sender.origin, sender.envelope)
        });
        self.take_arena_back(arena);
        self.advanced(progress, sender, message, has_turn, work.now)
    }

    /// Commits a message of which these are the last pieces, when it is its turn.
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

    /// Forgets a message; the spool frees what it has of it.
    pub(super) fn abandon(&mut self, message: &mut Incoming<S::Draft>) {
        message.abandon(&mut self.spool);
    }

    /// Gives up on a message for want of memory.
    pub(super) fn shed(&mut self, message: &mut Incoming<S::Draft>) {
        message.shed(&mut self.spool);
    }

    /// Takes the message that is to be tried again, if the spool has room for such a part.
    pub(super) fn next(&mut self, part: Part, is_pressed: bool) -> Option<Source> {
        self.turn = if self.has_room(part, is_pressed) { self.line(part).pop() } else { None };
        self.turn
    }

    /// Whether the message whose turn it was has found less room than it needs: it stays the first, or those that need less
    /// would overtake it for ever.
    pub(super) fn is_blocked(&mut self, part: Part) -> bool {
        self.line(part).has_first()
    }

    /// Puts a source down for an answer. `is_there`: whether a source still has anything to wait with.
    pub(super) fn ask(&mut self, ticket: Ticket, source: Source, is_there: impl Fn(Source) -> bool) {
        let asking = self.asking.entry(ticket).or_default();
        if asking.len() == asking.capacity() {
            // Clients that come, ask and go must not make it grow for as long as the table is silent.
            asking.retain(|source| is_there(*source));
        }
        asking.push(source);
    }

    /// Takes those that this answer was missing for.
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
                    message.wait_for(WaitsFor::Durability(now));
                }
                Advance::Taken
            }
            Progress::Wait => self.wait_for_room(sender, message, has_turn),
            Progress::Ask(ticket) if message.may_ask() => {
                message.wait_for(WaitsFor::Answer(now));
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
        message.wait_for(WaitsFor::Room);
        let line = self.line(if message.is_whole() { Part::End } else { Part::Chunk });
        if has_turn {
            line.push_first(sender.source);
        } else {
            line.push(sender.names, sender.source);
        }
        Advance::Waits
    }
}

/// Octets of an arena that is kept; more is given back.
const ARENA_SIZE_KEPT: usize = 2 << 20;
