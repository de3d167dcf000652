//! The worker's side of delivery: it tells the dispatcher of messages, and notes what became of them.

use std::collections::{HashMap, VecDeque};

use crossbeam::channel::{Receiver, Sender};
use mailrace_core::QueueId;
use mailrace_delivery::dispatcher::{Answer, Report};
use mailrace_delivery::manager::{Note, Noted};
use mailrace_io::Waker;
use mailrace_spool::{Mark, MarkError, Refusal, Spool, State};

use super::tag::Tag;

/// What a dispatcher asks a worker for.
#[derive(Debug)]
pub enum Request {
    /// Tell of all messages that are not on hold.
    List,
    /// Tell where a message is.
    Find(QueueId),
    /// Note what became of a message.
    Note(QueueId, Note),
    /// Tell whether a message is in the queue: for the dispatcher, which asks because of another one.
    Exists {
        /// The other one.
        about: QueueId,
        /// Which.
        id: QueueId,
    },
    /// Take a report into the queue.
    Report(Box<Report>),
}

/// A worker's connection to a dispatcher on another thread.
#[derive(Debug)]
pub struct Hatch<S> {
    /// The number by which the dispatcher knows the worker.
    pub worker: u16,
    /// What it asks for.
    pub requests: Receiver<Request>,
    /// What the worker tells it.
    pub answers: Sender<Answer<S>>,
    /// Wakes it.
    pub waker: Waker,
    /// Bytes of a message's content, of where it is.
    pub size: fn(&S) -> u64,
}

/// The messages of a worker that are being delivered, as far as the worker is concerned.
#[derive(Debug)]
pub(super) struct Outgoing<S> {
    /// `None`: nothing is delivered.
    hatch: Option<Hatch<S>>,
    /// Messages that have come to the queue, or were released, since the last turn.
    arrived: Vec<QueueId>,
    /// Notes that the spool was not given yet.
    waiting: VecDeque<(Purpose, QueueId, Note)>,
    /// Notes that are not durable yet, by number.
    under_way: HashMap<u64, (Purpose, QueueId)>,
    next: u64,
    /// Reports to take.
    reports: VecDeque<Box<Report>>,
    /// What became of the notes of reports.
    report_notes: VecDeque<(u64, Noted)>,
}

/// Who wants a note.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Dispatcher,
    /// The report with this number.
    Report(u64),
}

impl<S> Outgoing<S> {
    pub(super) fn new() -> Self {
        Self {
            hatch: None,
            arrived: Vec::new(),
            waiting: VecDeque::new(),
            under_way: HashMap::new(),
            next: 0,
            reports: VecDeque::new(),
            report_notes: VecDeque::new(),
        }
    }

    pub(super) fn open(&mut self, hatch: Hatch<S>) {
        self.hatch = Some(hatch);
    }

    /// A message is durable, or was released.
    pub(super) fn arrived(&mut self, id: QueueId) {
        if self.hatch.is_some() {
            self.arrived.push(id);
        }
    }

    /// Whether no note is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty() && self.report_notes.is_empty()
    }

    /// The next report to take.
    pub(super) fn next_report(&mut self) -> Option<Box<Report>> {
        self.reports.pop_front()
    }

    /// Has something noted of a message because of a report. [`Outgoing::next_report_note`] says what became of it.
    pub(super) fn note_for_report(&mut self, number: u64, about: QueueId, note: Note) {
        self.waiting.push_back((Purpose::Report(number), about, note));
    }

    /// The next note of a report that was written, or was not.
    pub(super) fn next_report_note(&mut self) -> Option<(u64, Noted)> {
        self.report_notes.pop_front()
    }

    /// Tells what became of a report.
    pub(super) fn reported(&self, answer: Answer<S>) {
        self.tell([answer]);
    }

    /// A table has answered a question, which may be the dispatcher's. One worker tells it.
    pub(super) fn table_answered(&self) {
        if self.hatch.as_ref().is_some_and(|hatch| hatch.worker == 0) {
            self.tell([Answer::TableAnswered]);
        }
    }

    /// A note is durable, or could not be written.
    pub(super) fn settled(&mut self, number: u64, is_durable: bool) {
        let (purpose, id) = self.under_way.remove(&number).expect("a note settles once");
        let noted = if is_durable { Noted::Durable } else { Noted::Failed };
        self.tell_noted(purpose, id, noted);
    }

    fn tell_noted(&mut self, purpose: Purpose, id: QueueId, noted: Noted) {
        match purpose {
            Purpose::Dispatcher => self.tell([Answer::Noted(id, noted)]),
            Purpose::Report(number) => self.report_notes.push_back((number, noted)),
        }
    }

    /// Does what the dispatcher asks for, and tells it of new messages.
    pub(super) fn advance<P: Spool<Source = S>>(&mut self, spool: &mut P) {
        let Some(Hatch { worker, requests, size, .. }) = &self.hatch else { return };
        let worker = *worker;
        let is_due = |id: &QueueId| spool.place(*id).is_some_and(|place| place.state == State::Incoming);
        let mut answers: Vec<Answer<S>> =
            self.arrived.drain(..).filter(is_due).map(|id| Answer::New { worker, id }).collect();
        while let Ok(request) = requests.try_recv() {
            match request {
                Request::List => {
                    let due = spool.ids().filter(|(_, state)| *state == State::Incoming);
                    answers.extend(due.map(|(id, _)| Answer::New { worker, id }));
                }
                Request::Find(id) => {
                    let source = if is_due(&id) { spool.source(id) } else { None };
                    let found = source.map(|source| {
                        let octets = size(&source);
                        (source, octets)
                    });
                    answers.push(Answer::Found(id, found));
                }
                Request::Note(id, note) => self.waiting.push_back((Purpose::Dispatcher, id, note)),
                Request::Exists { about, id } => {
                    let is_there = spool.place(id).is_some();
                    answers.push(Answer::Exists { about, is_there });
                }
                Request::Report(report) => self.reports.push_back(report),
            }
        }
        self.tell(answers);
        while let Some((purpose, id, note)) = self.waiting.front() {
            let (purpose, id) = (*purpose, *id);
            let tag = Tag::Note(self.next).pack();
            let given = match note {
                Note::Done => spool.mark(id, Mark::Done, tag),
                Note::Progress(progress) => spool.note(id, progress, tag),
            };
            match given {
                Ok(()) => {
                    self.under_way.insert(self.next, (purpose, id));
                    self.next += 1;
                }
                Err(MarkError::Refused(Refusal::Busy)) => break,
                Err(MarkError::NotFound) => self.tell_noted(purpose, id, Noted::Gone),
                Err(MarkError::Refused(_)) => self.tell_noted(purpose, id, Noted::Failed),
            }
            self.waiting.pop_front();
        }
    }

    fn tell(&self, answers: impl IntoIterator<Item = Answer<S>>) {
        let Some(hatch) = &self.hatch else { return };
        let mut has_told = false;
        for answer in answers {
            // A dispatcher that has ended needs to know nothing.
            let _ = hatch.answers.send(answer);
            has_told = true;
        }
        if has_told {
            hatch.waker.wake();
        }
    }
}
