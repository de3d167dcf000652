//! Moves messages out of segments that have few left: chooses them, and lets the copy replace the original.

use mailrace_core::QueueId;
use mailrace_core::record::spool::{Location, Noted, RecordKind};
use mailrace_io::Disk;

use super::batch::Pending;
use super::segments::Segment;
use super::spool::{Draft, Record, SegmentSpool};
use crate::segment::index::{Entry, State};
use crate::segment::moves::{Piece, Stage};
use crate::segment::read::Target;
use crate::{Part, ReadEvent, ReadId, Reader, Refusal, Spool};

impl<D: Disk> SegmentSpool<D> {
    /// Continues to move messages out of segments that have few left, one at a time.
    pub(super) fn advance_moves(&mut self) {
        if self.moves.stage.is_some() {
            self.write_what_was_read();
        }
        while self.moves.stage.is_none() {
            if !self.moves.has_next() {
                self.choose_moves();
            }
            let Some(piece) = self.moves.next() else { return };
            self.begin_move(piece);
        }
    }

    /// Takes what was read for the move in progress, and writes it.
    fn write_what_was_read(&mut self) {
        loop {
            match self.moves.stage.take() {
                Some(Stage::Reading { draft, read, envelope, piece: Some(piece) }) => {
                    self.write_moved(draft, read, envelope, piece);
                    if matches!(self.moves.stage, Some(Stage::Reading { piece: Some(_), .. })) {
                        // There is no room now.
                        return;
                    }
                }
                Some(Stage::Noting { id, place, read, payload: Some(payload) }) => {
                    return self.write_noted(id, place, read, payload);
                }
                stage => self.moves.stage = stage,
            }
            if !self.take_read() {
                return;
            }
        }
    }

    /// Takes the next thing that was read. Returns false if there is none.
    fn take_read(&mut self) -> bool {
        let Some((_, event)) = self.reads.next_event() else { return false };
        let (stage, is_failed) = (self.moves.stage.take(), matches!(event, ReadEvent::Failed(_)));
        match (event, stage) {
            (ReadEvent::Part(part), Some(Stage::Reading { draft, read, mut envelope, .. })) => {
                let piece = match part {
                    Part::Content { octets, is_last } => Some((octets.to_vec(), is_last)),
                    Part::Envelope(octets) => {
                        envelope = octets.to_vec();
                        self.reads.ask(read);
                        None
                    }
                    Part::Progress(_) => None,
                };
                self.moves.stage = Some(Stage::Reading { draft, read, envelope, piece });
            }
            (ReadEvent::Part(Part::Progress(octets)), Some(Stage::Noting { id, place, read, .. })) => {
                let payload = [&[Noted::PROGRESS], octets].concat();
                self.moves.stage = Some(Stage::Noting { id, place, read, payload: Some(payload) });
            }
            // What cannot be read stays where it is.
            (_, Some(Stage::Reading { draft, .. })) => self.abandon(draft),
            (_, Some(Stage::Noting { .. })) => {}
            (_, stage) => self.moves.stage = stage,
        }
        if is_failed {
            self.moves.give_up();
        }
        true
    }

    /// Begins to read what is to be moved, unless it is gone or cannot be moved now.
    fn begin_move(&mut self, piece: Piece) {
        match piece {
            Piece::Message(id) => {
                let Some(entry) = self.index.get(id).filter(|_| !self.moves.is_marked(id)) else { return };
                let target = Target::Message { end: entry.place(), octets: entry.octets, progress: None };
                let source = self.source_of(id, target, entry.first, entry.last);
                let (draft, read) = (self.begin(id), self.reads.begin(source, 0));
                self.moves.stage = Some(Stage::Reading { draft, read, envelope: Vec::new(), piece: None });
            }
            Piece::Progress(id, place) => {
                if self.counts(id, place) {
                    let source = self.source_of(id, Target::Progress(place), place.sequence, place.sequence);
                    let read = self.reads.begin(source, 0);
                    self.moves.stage = Some(Stage::Noting { id, place, read, payload: None });
                }
            }
        }
    }

    /// Whether the mark at `place` has the current state of the message's recipients, and no later one is being written.
    fn counts(&self, id: QueueId, place: Location) -> bool {
        let is_later = |pending: &Pending| matches!(pending, Pending::Progress { id: of, .. } if *of == id);
        self.index.progress(id) == Some(place)
            && !self.writer.batches().flat_map(|batch| &batch.pending).any(is_later)
    }

    /// Writes a copy of a mark about recipients; keeps it for later when there is no room.
    fn write_noted(&mut self, id: QueueId, place: Location, read: ReadId, payload: Vec<u8>) {
        if self.counts(id, place) && self.put_progress(id, &payload, None) == Err(Refusal::Busy) {
            self.moves.stage = Some(Stage::Noting { id, place, read, payload: Some(payload) });
        } else {
            self.reads.forget(read);
        }
    }

    /// Writes a record of a message that is moved; keeps it for later when there is no room.
    fn write_moved(&mut self, mut draft: Draft, read: ReadId, envelope: Vec<u8>, piece: (Vec<u8>, bool)) {
        let (content, is_last) = (&piece.0, piece.1);
        let entry = match self.index.get(draft.id) {
            // A mark in progress would precede the copy, and so not apply to it.
            Some(entry) if !self.moves.is_marked(draft.id) => entry,
            _ => {
                self.reads.forget(read);
                return self.abandon(draft);
            }
        };
        let kind = if is_last { RecordKind::Message } else { RecordKind::Chunk };
        let is_held = is_last && entry.state == State::Hold;
        let front = if is_last { envelope.as_slice() } else { &[] };
        let record = Record { kind, is_held, envelope: front, content: &[content] };
        match self.put(&mut draft, &record) {
            Ok(()) if is_last => {
                self.reads.forget(read);
                let (id, first_batch, entry) = (draft.id, draft.first_batch, draft.entry(entry.state));
                self.moves.stage = Some(Stage::Writing);
                self.moves.copied(id, entry.last);
                self.writer.settles_with_last(Pending::Move { id, entry, first_batch });
            }
            Ok(()) => {
                self.moves.stage = Some(Stage::Reading { draft, read, envelope, piece: None });
                self.reads.ask(read);
            }
            Err(Refusal::Busy) => {
                self.moves.stage = Some(Stage::Reading { draft, read, envelope, piece: Some(piece) });
            }
            Err(_) => {
                self.reads.forget(read);
                self.abandon(draft);
            }
        }
    }

    /// The write of a copy has ended: if it is durable, the index switches to it.
    pub(super) fn settle_move(&mut self, id: QueueId, copy: Entry, is_durable: bool) {
        self.moves.stage = None;
        self.moves.may_begin = true;
        match self.index.get(id) {
            Some(before) if is_durable => {
                // Marks made in the meantime follow the copy.
                self.index.insert(id, Entry { state: before.state, ..copy });
                self.moves.went_over(id, before.last, copy.last);
                self.release(before.first, before.last);
            }
            // The message is done, or the copy is useless.
            _ => self.release(copy.first, copy.last),
        }
    }

    /// Looks for a segment whose messages should be moved.
    fn choose_moves(&mut self) {
        if !std::mem::take(&mut self.moves.may_begin) || self.segments.table.len() <= SEGMENTS_UNMOVED {
            return;
        }
        let is_open = |segment: &Segment<D::File>| {
            segment.is_settled()
                && segment.uses.parts > 0
                && segment.uses.parts * 2 <= segment.uses.parts_tried
        };
        let nearly_empty = self
            .segments
            .table
            .iter()
            .find(|(_, segment)| is_open(segment) && segment.is_nearly_empty())
            .map(|(sequence, _)| *sequence);
        let Some(sequence) = nearly_empty.or_else(|| self.holding_others(is_open)) else { return };
        if let Some(segment) = self.segments.table.get_mut(&sequence) {
            segment.uses.parts_tried = segment.uses.parts;
        }
        let has_part = |entry: &Entry| (entry.first..=entry.last).contains(&sequence);
        let messages = self.index.iter().filter(|(_, entry)| has_part(entry));
        let progress = self.index.all_progress().filter(|(_, place)| place.sequence == sequence);
        let pieces = messages
            .map(|(id, _)| Piece::Message(id))
            .chain(progress.map(|(id, place)| Piece::Progress(id, place)));
        self.moves.choose(pieces.collect());
    }

    /// A segment with messages that keeps other segments without any: those with marks about
    /// it, and those with marks about them. However full it is, moving its messages costs less than keeping them.
    fn holding_others(&self, is_open: impl Fn(&Segment<D::File>) -> bool) -> Option<u64> {
        let held: Vec<&Segment<D::File>> = self
            .segments
            .table
            .values()
            .filter(|segment| segment.is_settled() && segment.uses.parts == 0)
            .collect();
        if held.len() < SEGMENTS_HELD {
            return None;
        }
        let targets = held.iter().flat_map(|segment| segment.uses.marks.iter().copied());
        targets.filter(|target| self.segments.table.get(target).is_some_and(&is_open)).min()
    }
}

/// Number of segments up to which moving is not worthwhile.
const SEGMENTS_UNMOVED: usize = 3;
/// Number of segments without a message from which they are too many.
const SEGMENTS_HELD: usize = 4;
