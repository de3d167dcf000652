//! Reads messages that are moved out of an old segment: the worker requests one record after another.
//!
//! Reading blocks, so it has its own thread. The worker writes the records as a copy of the message to the
//! segment that it fills. When that is durable, the index switches to the copy, and the old segment has one message
//! less. Until then, and after any failure, the message stays where it was.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crossbeam::channel::{self, Receiver, Sender};
use mailrace_core::QueueId;
use mailrace_core::record::spool::{
    Location, RECORD_HEADER_SIZE, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader, checksum,
};
use mailrace_io::{Disk, FileKind};

use crate::Shared;
use crate::segment::spool::Draft;

/// The segments that hold a message: sequence, path, header.
type Names = Vec<(u64, String, SegmentHeader)>;

/// A worker's question.
#[derive(Debug)]
pub(crate) enum Question {
    /// Where are the records of the message whose last one is at `end`?
    Chain { id: QueueId, end: Location, names: Names },
    /// What is the record at `place`, a piece of the message or a mark?
    Record { id: QueueId, place: Location, names: Names },
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub(crate) enum Answer {
    /// The last record comes first.
    Chain(Vec<Location>),
    Record(RecordHeader, Vec<u8>),
    /// It is missing or damaged.
    Gone,
}

/// Reads for workers.
#[derive(Debug)]
pub struct Mover<D: Disk> {
    disk: D,
    shared: Arc<Shared>,
    questions: Receiver<(Question, Sender<(QueueId, Answer)>)>,
}

impl<D: Disk> Mover<D> {
    pub(crate) const fn new(
        disk: D,
        shared: Arc<Shared>,
        questions: Receiver<(Question, Sender<(QueueId, Answer)>)>,
    ) -> Self {
        Self { disk, shared, questions }
    }

    /// Answers until all workers are gone.
    pub fn run(self) {
        while let Ok((question, asker)) = self.questions.recv() {
            self.answer(&question, &asker);
        }
    }

    /// Answers all questions asked so far, without waiting.
    pub fn step(&self) {
        while let Ok((question, asker)) = self.questions.try_recv() {
            self.answer(&question, &asker);
        }
    }

    fn answer(&self, question: &Question, asker: &Sender<(QueueId, Answer)>) {
        let (id, answer) = match question {
            Question::Chain { id, end, names } => (*id, self.chain(*id, *end, names).map(Answer::Chain)),
            Question::Record { id, place, names } => {
                let record = self.record(*id, *place, names);
                (*id, record.map(|(header, payload)| Answer::Record(header, payload)))
            }
        };
        // A worker that has ended needs no answer.
        let _ = asker.send((id, answer.unwrap_or(Answer::Gone)));
        self.shared.wake();
    }

    fn chain(&self, id: QueueId, end: Location, names: &Names) -> Option<Vec<Location>> {
        let mut chain = vec![end];
        let mut header = self.part(id, end, names)?;
        while let Some(place) = header.previous {
            chain.push(place);
            header = self.part(id, place, names)?;
        }
        Some(chain)
    }

    fn part(&self, id: QueueId, place: Location, names: &Names) -> Option<RecordHeader> {
        let (_, header, _) = self.header(id, place, names)?;
        (header.kind != RecordKind::Mark).then_some(header)
    }

    fn header(&self, id: QueueId, place: Location, names: &Names) -> Option<(D::File, RecordHeader, u64)> {
        let (_, path, use_of) = names.iter().find(|(sequence, ..)| *sequence == place.sequence)?;
        let file = self.disk.open(path, FileKind::Read).ok()?;
        let mut block = vec![0; SEGMENT_HEADER_SIZE];
        self.disk.read_at(&file, &mut block, 0).ok()?;
        if SegmentHeader::decode(&block) != Ok(*use_of) {
            return None;
        }
        let mut head = [0; RECORD_HEADER_SIZE];
        self.disk.read_at(&file, &mut head, u64::from(place.offset)).ok()?;
        let header = RecordHeader::decode(&head, use_of.salt, u64::from(place.offset))?;
        (header.id == id).then_some((file, header, use_of.salt))
    }

    fn record(&self, id: QueueId, place: Location, names: &Names) -> Option<(RecordHeader, Vec<u8>)> {
        let (file, header, salt) = self.header(id, place, names)?;
        let mut payload = vec![0; header.length as usize];
        let offset = u64::from(place.offset) + RECORD_HEADER_SIZE as u64;
        let count = self.disk.read_at(&file, &mut payload, offset).ok()?;
        let is_whole = count == payload.len() && checksum(&payload, salt) == header.payload_checksum;
        is_whole.then_some((header, payload))
    }
}

/// Stage of the move in progress.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its chain was requested.
    Finding { id: QueueId },
    /// Its records arrive; those at `places` are missing, the next one last.
    Reading { draft: Draft, places: Vec<Location>, record: Option<(RecordHeader, Vec<u8>)> },
    /// All of it is written, but not durable yet.
    Writing,
    /// The mark at `place`, with the state of its recipients, was requested.
    Noting { id: QueueId, place: Location, payload: Option<Vec<u8>> },
}

/// What is moved out of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A message with a part in it.
    Message(QueueId),
    /// A mark in it, which says what became of a message's recipients.
    Progress(QueueId, Location),
}

/// A worker's moves.
#[derive(Debug)]
pub(crate) struct Moves {
    questions: Sender<(Question, Sender<(QueueId, Answer)>)>,
    asker: Sender<(QueueId, Answer)>,
    answers: Receiver<(QueueId, Answer)>,
    names: Names,
    pub(crate) stage: Option<Stage>,
    chosen: Vec<Piece>,
    /// A segment may have become worth moving.
    pub(crate) may_begin: bool,
    /// Sequences of segments with an earlier last record of a message that was moved: a mark that it is done must
    /// stay for as long as one of them does.
    copies: HashMap<QueueId, Vec<u64>>,
    /// Marks in progress; those that say `done` also after they failed.
    marks: HashMap<QueueId, Marks>,
}

/// Marks of one message that are in progress.
#[derive(Debug, Default)]
struct Marks {
    open: u32,
    /// Order of the one that was started last.
    begun: u64,
    /// Order of the latest one that is durable.
    durable: u64,
}

impl Moves {
    pub(crate) fn new(
        questions: Sender<(Question, Sender<(QueueId, Answer)>)>,
        copies: HashMap<QueueId, Vec<u64>>,
    ) -> Self {
        let (asker, answers) = channel::unbounded();
        Self {
            questions,
            asker,
            answers,
            names: Vec::new(),
            stage: None,
            chosen: Vec::new(),
            may_begin: true,
            copies,
            marks: HashMap::new(),
        }
    }

    pub(crate) fn answer(&self) -> Option<(QueueId, Answer)> {
        self.answers.try_recv().ok()
    }

    /// Counts a mark as in progress; returns its place in the order of the message's marks.
    pub(crate) fn mark_begins(&mut self, id: QueueId) -> u64 {
        let marks = self.marks.entry(id).or_default();
        marks.open += 1;
        marks.begun += 1;
        marks.begun
    }

    /// Whether no later mark of the message was durable before this one. Writes end in any order, and the next start takes
    /// the mark that was written last.
    pub(crate) fn is_latest(&mut self, id: QueueId, order: u64) -> bool {
        let Some(marks) = self.marks.get_mut(&id) else { return false };
        let is_latest = order > marks.durable;
        marks.durable = marks.durable.max(order);
        is_latest
    }

    pub(crate) fn mark_ends(&mut self, id: QueueId) {
        if let Entry::Occupied(mut marks) = self.marks.entry(id) {
            marks.get_mut().open -= 1;
            if marks.get().open == 0 {
                marks.remove();
            }
        }
    }

    /// Whether a mark of the message is in progress, or may be on the disk.
    pub(crate) fn is_marked(&self, id: QueueId) -> bool {
        self.marks.contains_key(&id)
    }

    pub(crate) fn choose(&mut self, pieces: Vec<Piece>) {
        self.chosen = pieces;
    }

    /// Whether chosen pieces are left.
    pub(crate) const fn has_next(&self) -> bool {
        !self.chosen.is_empty()
    }

    pub(crate) fn next(&mut self) -> Option<Piece> {
        self.chosen.pop()
    }

    /// Requests a message's chain. Returns false if there is no reader.
    pub(crate) fn find(&mut self, id: QueueId, end: Location, names: Names) -> bool {
        self.names.clone_from(&names);
        self.ask(Stage::Finding { id }, Question::Chain { id, end, names })
    }

    /// Requests the mark with the state of a message's recipients. Returns false if there is no reader.
    pub(crate) fn find_progress(&mut self, id: QueueId, place: Location, names: Names) -> bool {
        self.ask(Stage::Noting { id, place, payload: None }, Question::Record { id, place, names })
    }

    fn ask(&mut self, stage: Stage, question: Question) -> bool {
        let is_asked = self.questions.send((question, self.asker.clone())).is_ok();
        if is_asked {
            self.stage = Some(stage);
        } else {
            self.chosen.clear();
        }
        is_asked
    }

    /// Requests the next record of the message that is being read.
    pub(crate) fn read_next(&mut self) {
        let Some(Stage::Reading { draft, places, .. }) = self.stage.as_mut() else { return };
        if let Some(place) = places.pop() {
            let question = Question::Record { id: draft.id(), place, names: self.names.clone() };
            // Without a reader the move stops, and the message stays where it is.
            let _ = self.questions.send((question, self.asker.clone()));
        }
    }

    /// Segments with other last records of the message than the one that counts.
    pub(crate) fn copies_of(&self, id: QueueId) -> impl Iterator<Item = u64> + '_ {
        self.copies.get(&id).into_iter().flatten().copied()
    }

    /// A copy of the message is being written there.
    pub(crate) fn copied(&mut self, id: QueueId, sequence: u64) {
        self.copies.entry(id).or_default().push(sequence);
    }

    /// Its copy counts from now on.
    pub(crate) fn went_over(&mut self, id: QueueId, before: u64, now: u64) {
        let copies = self.copies.entry(id).or_default();
        copies.retain(|sequence| *sequence != now);
        copies.push(before);
    }

    pub(crate) fn forget(&mut self, id: QueueId) {
        self.copies.remove(&id);
        self.marks.remove(&id);
    }

    pub(crate) fn segment_freed(&mut self, freed: u64) {
        self.copies.retain(|_, copies| {
            copies.retain(|sequence| *sequence != freed);
            !copies.is_empty()
        });
    }
}
