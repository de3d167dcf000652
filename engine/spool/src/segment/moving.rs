//! Moves messages out of segments that have few left: chooses them, and lets the copy replace the original.

use mailrace_core::QueueId;
use mailrace_core::record::spool::{Location, RecordHeader, RecordKind};
use mailrace_io::Disk;

use super::batch::Pending;
use super::segments::Segment;
use super::spool::{Draft, Piece as Part, SegmentSpool};
use crate::segment::index::{Entry, State};
use crate::segment::mover::{Answer, Piece, Stage};
use crate::{Refusal, Spool};

impl<D: Disk> SegmentSpool<D> {
    /// Continues to move messages out of segments that have few left, one at a time.
    pub(super) fn advance_moves(&mut self) {
        while let Some((id, answer)) = self.moves.answer() {
            match (answer, self.moves.stage.take()) {
                (Answer::Chain(places), Some(Stage::Finding { id: asked })) if asked == id => {
                    let draft = self.begin(id);
                    self.moves.stage = Some(Stage::Reading { draft, places, record: None });
                    self.moves.read_next();
                }
                (Answer::Record(header, payload), Some(Stage::Reading { draft, places, record: None }))
                    if draft.id == id =>
                {
                    let record = Some((header, payload));
                    self.moves.stage = Some(Stage::Reading { draft, places, record });
                }
                (Answer::Record(_, payload), Some(Stage::Noting { id: asked, place, payload: None }))
                    if asked == id =>
                {
                    self.moves.stage = Some(Stage::Noting { id, place, payload: Some(payload) });
                }
                (Answer::Gone, Some(Stage::Finding { id: asked } | Stage::Noting { id: asked, .. }))
                    if asked == id => {}
                (Answer::Gone, Some(Stage::Reading { draft, .. })) if draft.id == id => self.abandon(draft),
                (_, stage) => self.moves.stage = stage,
            }
        }
        match self.moves.stage.take() {
            Some(Stage::Reading { draft, places, record: Some((header, payload)) }) => {
                self.write_moved(draft, places, header, payload);
            }
            Some(Stage::Noting { id, place, payload: Some(payload) }) => {
                self.write_noted(id, place, payload);
            }
            stage => self.moves.stage = stage,
        }
        if self.moves.stage.is_none() {
            if !self.moves.has_next() {
                self.choose_moves();
            }
            while let Some(piece) = self.moves.next() {
                if self.begin_move(piece) {
                    return;
                }
            }
        }
    }

    /// Requests what is to be moved. Returns false if it is gone or cannot be moved now.
    fn begin_move(&mut self, piece: Piece) -> bool {
        let names = |first: u64, last: u64| {
            let segments = self.segments.table.range(first..=last);
            segments.map(|(sequence, segment)| (*sequence, segment.name.clone(), segment.header)).collect()
        };
        match piece {
            Piece::Message(id) => {
                let entry = self.index.get(id).filter(|_| !self.moves.is_marked(id));
                entry.is_some_and(|entry| {
                    let names = names(entry.first, entry.last);
                    self.moves.find(id, entry.place(), names)
                })
            }
            Piece::Progress(id, place) => {
                let names = names(place.sequence, place.sequence);
                self.counts(id, place) && self.moves.find_progress(id, place, names)
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
    fn write_noted(&mut self, id: QueueId, place: Location, payload: Vec<u8>) {
        if !self.counts(id, place) {
            return;
        }
        if self.put_progress(id, &payload, None) == Err(Refusal::Busy) {
            self.moves.stage = Some(Stage::Noting { id, place, payload: Some(payload) });
        }
    }

    /// Writes a record of a message that is moved; keeps it for later when there is no room.
    fn write_moved(
        &mut self,
        mut draft: Draft,
        places: Vec<Location>,
        header: RecordHeader,
        payload: Vec<u8>,
    ) {
        let entry = match self.index.get(draft.id) {
            // A mark in progress would precede the copy, and so not apply to it.
            Some(entry) if !self.moves.is_marked(draft.id) => entry,
            _ => return self.abandon(draft),
        };
        let is_last = header.kind == RecordKind::Message;
        let (envelope, content) = payload
            .split_at_checked(header.envelope_length as usize)
            .expect("an envelope is part of its payload");
        let is_held = is_last && entry.state == State::Hold;
        let written =
            self.put(&mut draft, &Part { kind: header.kind, is_held, envelope, content: &[content] });
        match written {
            Ok(()) if is_last => {
                let (id, first_batch, entry) = (draft.id, draft.first_batch, draft.entry(entry.state));
                self.moves.stage = Some(Stage::Writing);
                self.moves.copied(id, entry.last);
                self.writer.settles_with_last(Pending::Move { id, entry, first_batch });
            }
            Ok(()) => {
                self.moves.stage = Some(Stage::Reading { draft, places, record: None });
                self.moves.read_next();
            }
            Err(Refusal::Busy) => {
                self.moves.stage = Some(Stage::Reading { draft, places, record: Some((header, payload)) });
            }
            Err(_) => self.abandon(draft),
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
