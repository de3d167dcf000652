//! What an operator does while an engine is at work: marks messages, reads the queue, reloads.

use std::sync::Arc;

use mailrace::worker::{Answer, Control, Marked, Selection};
use mailrace_core::QueueId;
use mailrace_spool::{Mark, Store};

use super::{Life, Seat};
use crate::simulation::ledger::Ledger;

/// A mark that was asked for.
pub(super) struct Job {
    /// Those that were named, or all to which it makes a difference: number of the message, and of its mark.
    messages: Vec<(usize, usize)>,
    /// The ids of those that were named.
    ids: Option<Arc<[QueueId]>>,
    /// Workers that have not answered.
    unanswered: usize,
    marked: Marked,
}

/// Of the turns of operators who read the queue, how many they do that in.
const READS_SHARE: u64 = 150;
/// Of the turns of operators, in how many a message is read.
const READING_SHARE: u64 = 4;
/// Of the requests for a mark, how many name several messages.
const NAMED_SHARE: u64 = 5;
/// Of a worker's turns while a message is moved, in how many an operator marks it.
const MOVING_SHARE: u64 = 8;
/// Of the turns at a message that stays, how many end it.
const STAY_SHARE: u64 = 500;

impl Life<'_> {
    /// Asks for marks of some messages, or of all, as a command does that runs alone.
    pub(in crate::simulation) fn command(&mut self, ledger: &mut Ledger) {
        let markable = ledger.markable();
        let mark = *self.random.pick(&[Mark::Done, Mark::Hold, Mark::Release]);
        if self.random.one_in(3) && mark != Mark::Done {
            return self.ask_all(ledger, mark);
        }
        for number in markable {
            if self.random.one_in(3) {
                self.ask(ledger, number, mark);
            }
        }
    }

    /// Asks for a mark of all messages, in a last effort to empty the queue.
    pub(in crate::simulation) fn mark_all(&mut self, ledger: &mut Ledger) {
        for number in ledger.markable() {
            self.ask(ledger, number, Mark::Done);
        }
    }

    /// No operator does anything any more.
    pub(in crate::simulation) fn dismiss_operator(&mut self) {
        self.has_operator = false;
        self.tables.calm();
    }

    /// Switches to other settings: tables of another generation, and another bound of memory.
    fn reload(&mut self, ledger: &mut Ledger) {
        ledger.generation += 1;
        self.world.note("settings are reloaded, generation {}", [ledger.generation, 0, 0]);
        let mut settings = self.tables.settings(self.plan, ledger.generation);
        settings.content_memory =
            usize::try_from(self.random.magnitude(8_000, 1 << 20)).unwrap_or(usize::MAX);
        let settings = Arc::new(settings);
        self.tell_all(|| Control::Reload(Arc::clone(&settings)));
    }

    /// A command reads the queue beside the engine.
    fn glance(&self, ledger: &mut Ledger) -> Result<(), String> {
        let were_off = self.world.set_faults_off(true);
        let corruptions = self.world.take_corruptions();
        let result = ledger.glance(&self.world.disk(), &corruptions, &self.holdings());
        self.world.set_faults_off(were_off);
        result
    }

    /// Has a message read that an operator may mark at the same time.
    fn read_some(&mut self, ledger: &Ledger) {
        if self.reading.is_tired() || !self.random.one_in(READING_SHARE) {
            return;
        }
        let markable = ledger.markable();
        if markable.is_empty() {
            return;
        }
        let number = *self.random.pick(&markable);
        let source = |id| self.workers().find_map(|worker| worker.spool().source(id));
        if let Some(id) = ledger.id_of(number)
            && let Some(source) = source(id)
        {
            self.reading.begin(id, source);
        }
    }

    /// Takes a turn: reads the queue, reloads, and marks a message: mostly as done, as its delivery would.
    pub(super) fn operate(&mut self, ledger: &mut Ledger) -> Result<(), String> {
        self.read_some(ledger);
        if self.plan.has_readers && self.random.one_in(READS_SHARE) {
            self.glance(ledger)?;
        }
        if self.reloads_left > 0 && self.random.below(1000) < self.plan.reloads {
            self.reloads_left -= 1;
            self.reload(ledger);
        }
        let markable = ledger.markable();
        if markable.is_empty() || self.marks_left == 0 {
            return Ok(());
        }
        self.marks_left -= 1;
        // Where segments are to empty, one message in nine stays for long: by then it was moved, mostly.
        let stays = |number: usize| self.plan.is_sparse && number.is_multiple_of(9);
        let repeats = if self.plan.is_sparse { 4 } else { 1 };
        for _ in 0..repeats {
            let number = *self.random.pick(&markable);
            let mark = match self.random.below(8) {
                0 => Mark::Hold,
                1 => Mark::Release,
                _ if stays(number) && !self.random.one_in(STAY_SHARE) => continue,
                _ => Mark::Done,
            };
            // Some are named in one request.
            let mut numbers = vec![number];
            if self.random.one_in(NAMED_SHARE) {
                for _ in 0..self.random.between(1, 6) {
                    let other = *self.random.pick(&markable);
                    if !(numbers.contains(&other) || mark == Mark::Done && stays(other)) {
                        numbers.push(other);
                    }
                }
            }
            numbers.retain(|number| ledger.is_markable(*number));
            self.ask_about(ledger, &numbers, mark);
            // A second one comes while the first is under way.
            if self.random.one_in(3) && ledger.is_markable(number) {
                let marks = [Mark::Hold, Mark::Release, mark];
                let mark = *self.random.pick(&marks);
                self.ask(ledger, number, mark);
            }
        }
        Ok(())
    }

    fn ask(&mut self, ledger: &mut Ledger, number: usize, mark: Mark) {
        self.ask_about(ledger, &[number], mark);
    }

    /// Asks for a mark of these messages, in one request.
    fn ask_about(&mut self, ledger: &mut Ledger, numbers: &[usize], mark: Mark) {
        let (mut ids, mut messages) = (Vec::new(), Vec::new());
        for number in numbers {
            let Some((id, place)) = ledger.begin_mark(*number, mark) else { continue };
            self.world.note("message {} is to be marked", [*number as u64, 0, 0]);
            ids.push(id);
            messages.push((*number, place));
        }
        if !ids.is_empty() {
            self.send_mark(mark, &Selection::These(ids.into()), messages);
        }
    }

    /// Marks the message that a worker is moving, now and then.
    pub(super) fn mark_moving(&mut self, worker: usize, ledger: &mut Ledger) {
        if !(self.plan.marks_moving && self.has_operator) || self.marks_left == 0 {
            return;
        }
        let moving = self.seats[worker].worker.as_ref().and_then(|worker| worker.spool().moving());
        if let Some(number) = moving.and_then(|id| ledger.markable_with(id))
            && self.random.one_in(MOVING_SHARE)
        {
            self.marks_left -= 1;
            let mark = *self.random.pick(&[Mark::Done, Mark::Hold, Mark::Release]);
            self.ask(ledger, number, mark);
        }
    }

    /// While no message is coming in.
    fn ask_all(&mut self, ledger: &mut Ledger, mark: Mark) {
        let numbers = ledger.markable_by(mark);
        self.world.note("{} messages are to be marked", [numbers.len() as u64, 0, 0]);
        let begin = |number| ledger.begin_mark(number, mark).map(|(_, place)| (number, place));
        let messages = numbers.into_iter().filter_map(begin).collect();
        self.send_mark(mark, &Selection::All, messages);
    }

    fn send_mark(&mut self, mark: Mark, selection: &Selection, messages: Vec<(usize, usize)>) {
        let job = self.jobs.len();
        let seats: Vec<&Seat> = self.seats.iter().filter(|seat| seat.worker.is_some()).collect();
        for seat in &seats {
            let answer = self.answer.clone();
            let answer = Answer::new(move |marked| {
                let _ = answer.send((job, marked));
            });
            let selection = selection.clone();
            let _ = seat.controls.send(Control::Mark { mark, selection, answer });
            seat.waker.wake();
        }
        let unanswered = seats.len();
        let ids = match selection {
            Selection::These(ids) => Some(Arc::clone(ids)),
            Selection::All => None,
        };
        self.jobs.push(Job { messages, ids, unanswered, marked: Marked::default() });
    }

    pub(super) fn take_answers(&mut self, ledger: &mut Ledger) -> Result<(), String> {
        while let Ok((index, marked)) = self.answers.try_recv() {
            let job = &mut self.jobs[index];
            job.unanswered -= 1;
            job.marked.add(marked);
            if job.unanswered == 0 {
                let Marked { messages, failures, ref outcomes } = job.marked;
                let Some(ids) = &job.ids else {
                    self.world.note("messages are marked: {} done, {} failed", [messages, failures, 0]);
                    ledger.end_marks(&job.messages, messages, failures)?;
                    continue;
                };
                if outcomes.len() as u64 != messages + failures {
                    return Err(format!(
                        "{messages} messages were marked, {failures} were not, but the outcomes are {outcomes:?}"
                    ));
                }
                for (message, id) in job.messages.iter().zip(ids.iter()) {
                    let said = |outcome: bool| {
                        outcomes.iter().filter(|(of, is_durable)| of == id && *is_durable == outcome).count()
                            as u64
                    };
                    let (marked, failed) = (said(true), said(false));
                    self.world
                        .note("message {} is marked: {} done, {} failed", [message.0 as u64, marked, failed]);
                    ledger.end_mark(*message, marked, failed)?;
                }
            }
        }
        if self.jobs.iter().all(|job| job.unanswered == 0) {
            self.jobs.clear();
        }
        Ok(())
    }
}
