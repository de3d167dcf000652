//! Owns what clients and operators were told, and compares it with what the queue holds: the oracle.

use std::collections::{BTreeMap, BTreeSet};

use mailrace_core::QueueId;
use mailrace_io::sim::{Corruption, SimDisk};
use mailrace_postmark::{Outcome, Presence, Standing};
use mailrace_spool::reader::Queue;
use mailrace_spool::{Holding, Mark, State};

use super::evidence;
use super::message::Message;
use super::onlooker::Onlooker;
use crate::queue_reader::{self, Counted, Damage, Envelope, Gone, Marked, Reading, id_text};

/// All that is known of a message.
#[derive(Debug)]
struct Record {
    message: Message,
    /// What may be found of it.
    standing: Standing,
    id: Option<u64>,
    /// Generation of tables when it was answered.
    generation: Option<u64>,
    /// Life of the engine in which it was in the queue last.
    life: u64,
}

/// Marks of a message that are under way at once at most.
const MARKS_MAX: usize = 3;

/// All messages of a world.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: Vec<Record>,
    by_id: BTreeMap<u64, usize>,
    /// Messages of which the disk damaged a record while it said that all was well.
    affected: BTreeSet<u64>,
    /// It damaged something.
    pub(super) is_damaged: bool,
    /// Lives so far.
    life: u64,
    /// The manifest was hit since it was looked at last.
    is_manifest_hit: bool,
    /// What the manifest counted then.
    counted: Counted,
    /// Operations of the disk that had failed when the engine was started.
    pub(super) failures_before: u64,
    /// Of the tables that the engine has now.
    pub(super) generation: u64,
    /// Messages of which the queue held more than one copy when it was looked at.
    pub(super) moved: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) done: u64,
}

impl Ledger {
    /// Keeps a message that is about to be sent; returns its number.
    pub(super) fn begin(&mut self, message: impl FnOnce(usize) -> Message) -> usize {
        let number = self.records.len();
        self.records.push(Record {
            message: message(number),
            standing: Standing::default(),
            id: None,
            generation: None,
            life: 0,
        });
        number
    }

    pub(super) fn message(&self, number: usize) -> &Message {
        &self.records[number].message
    }

    pub(super) fn message_mut(&mut self, number: usize) -> &mut Message {
        &mut self.records[number].message
    }

    /// All of the message has left its client.
    pub(super) fn sent(&mut self, number: usize) {
        self.records[number].standing.offered();
    }

    /// The server's kernel has taken the reply to the message. `failures`: number of disk operations that have failed in this
    /// world.
    pub(super) fn told(&mut self, number: usize, reply: &str, failures: u64) -> Result<(), String> {
        let record = &mut self.records[number];
        if record.standing.presence() == Presence::Never {
            return Err(format!("message {number} was answered before its end: {reply}"));
        }
        if !reply.starts_with("250 ") {
            self.put_off(number, reply, failures);
            return Ok(());
        }
        let id = reply.rsplit_once(" queued as ").and_then(|(_, id)| queue_reader::id_number(id));
        let id = id.ok_or_else(|| format!("message {number} was accepted without an id: {reply}"))?;
        // One of which nothing is left is free again, should the clock have gone back.
        if let Some(other) = self.by_id.insert(id, number)
            && self.records[other].standing.presence() != Presence::Never
        {
            return Err(format!("message {number} was given the id of message {other}, {}", id_text(id)));
        }
        self.accepted += 1;
        let record = &mut self.records[number];
        record.generation = Some(self.generation);
        (record.id, record.life) = (Some(id), self.life);
        record.standing.accepted();
        Ok(())
    }

    /// Messages that an operator can mark.
    pub(super) fn markable(&self) -> Vec<usize> {
        (0..self.records.len()).filter(|number| self.is_markable(*number)).collect()
    }

    /// The number of the message with this id, if an operator can mark it.
    pub(super) fn markable_with(&self, id: QueueId) -> Option<usize> {
        self.by_id.get(&id.number()).copied().filter(|number| self.is_markable(*number))
    }

    pub(super) fn is_markable(&self, number: usize) -> bool {
        let record = &self.records[number];
        let standing = &record.standing;
        let is_there =
            standing.presence() == Presence::Once || standing.open_marks().any(|mark| mark == Mark::Done);
        is_there && standing.open_marks().count() < MARKS_MAX && record.id.is_some()
    }

    /// A message that was submitted on this machine is in the queue; under which id is not told.
    pub(super) fn submitted(&mut self, number: usize) {
        self.accepted += 1;
        let record = &mut self.records[number];
        record.standing.accepted();
        record.generation = Some(self.generation);
    }

    /// One was not taken. What a refusal leaves in the queue: the write that held a message failed, and some of it may be
    /// on the disk. A mark that takes it out was durable before this was said, unless something else failed too.
    pub(super) fn put_off(&mut self, number: usize, reply: &str, failures: u64) {
        self.refused += 1;
        let may_be_there = reply.starts_with("451 4.3.0 ") && failures > self.failures_before + 1;
        self.records[number].standing.refused(may_be_there);
    }

    /// Whether nothing of it can be in the queue.
    pub(super) fn is_gone(&self, number: usize) -> bool {
        self.records[number].standing.presence() == Presence::Never
    }

    /// Those to which a mark would make a difference, as the last look at the queue had it.
    pub(super) fn markable_by(&self, mark: Mark) -> Vec<usize> {
        let makes_difference = |number: &usize| match mark {
            Mark::Done => true,
            Mark::Hold => self.records[*number].standing.states_before_marks().incoming,
            Mark::Release => self.records[*number].standing.states_before_marks().held,
        };
        self.markable().into_iter().filter(makes_difference).collect()
    }

    /// A mark of all messages is settled.
    pub(super) fn end_marks(
        &mut self,
        numbers: &[(usize, usize)],
        marked: u64,
        failed: u64,
    ) -> Result<(), String> {
        if marked + failed != numbers.len() as u64 && !self.is_damaged {
            let count = numbers.len();
            return Err(format!("{marked} messages were marked, {failed} were not, and there are {count}"));
        }
        // Of which it failed is not told.
        let is_certain = failed == 0 && marked == numbers.len() as u64;
        for message in numbers {
            self.end_mark(*message, u64::from(is_certain), u64::from(!is_certain))?;
        }
        Ok(())
    }

    /// A mark is asked for; which message to name, and the mark's place among those of the message.
    pub(super) fn begin_mark(&mut self, number: usize, mark: Mark) -> Option<(QueueId, usize)> {
        let record = &mut self.records[number];
        let id = record.id?;
        Some((QueueId::from_number(id), record.standing.begin_mark(mark)))
    }

    /// A mark is settled: durable, failed, or there was no such message.
    pub(super) fn end_mark(
        &mut self,
        (number, place): (usize, usize),
        marked: u64,
        failed: u64,
    ) -> Result<(), String> {
        let record = &mut self.records[number];
        if marked + failed > 1 {
            return Err(format!("message {number} was marked in {} places", marked + failed));
        }
        let is_done = record.standing.is_done_before(place);
        let is_affected = record.id.is_some_and(|id| self.affected.contains(&id));
        if marked + failed == 0 && !is_done && !is_affected {
            return Err(format!(
                "message {number} is in the queue, but a request to mark it did not find it"
            ));
        }
        let outcome = match (marked, failed) {
            (0, 0) => Outcome::Unfound,
            (0, _) => Outcome::Failed,
            _ => Outcome::Durable,
        };
        self.done += u64::from(record.standing.settle(place, outcome));
        Ok(())
    }

    /// Whether a later message may have this one's id: it has gone in an earlier life, and the clock may have gone back.
    fn is_id_free(&self, number: usize) -> bool {
        let record = &self.records[number];
        record.standing.presence() == Presence::Never && record.life < self.life
    }

    /// Compares what workers have in memory with what was told, when nothing is under way.
    pub(super) fn compare_memory(&self, messages: &[(QueueId, State)]) -> Result<(), String> {
        let mut seen: BTreeMap<u64, bool> = BTreeMap::new();
        for (id, state) in messages {
            if seen.insert(id.number(), *state == State::Hold).is_some() {
                return Err(format!("{id} is in the index of two workers, or twice in that of one"));
            }
        }
        for (number, record) in self.records.iter().enumerate() {
            let Some(id) = record.id.filter(|id| !self.affected.contains(id)) else { continue };
            if self.is_id_free(number) || self.by_id.get(&id) != Some(&number) {
                continue;
            }
            let is_held = seen.get(&id).copied();
            if !record.standing.allows(is_held) {
                return Err(format!(
                    "the engine's index has message {number}, {}, as {}; expected {:?}, as {:?}",
                    id_text(id),
                    match is_held {
                        None => "gone",
                        Some(true) => "held",
                        Some(false) => "not held",
                    },
                    record.standing.presence(),
                    record.standing.states(),
                ));
            }
        }
        Ok(())
    }

    /// The id of a message that has one.
    pub(super) fn id_of(&self, number: usize) -> Option<QueueId> {
        self.records[number].id.map(QueueId::from_number)
    }

    /// A reader has read a message.
    pub(super) fn compare_read(&self, id: QueueId, envelope: &[u8], content: &[u8]) -> Result<(), String> {
        let envelope = Envelope::read(envelope).ok_or_else(|| format!("{id} was read with no envelope"))?;
        self.identify_content(id.number(), content, &envelope).map(drop)
    }

    /// Whether the disk damaged a record of a message while it said that all was well.
    pub(super) fn is_affected(&mut self, id: QueueId, corruptions: &[Corruption]) -> bool {
        self.note_damage(corruptions);
        self.affected.contains(&id.number())
    }

    /// Notes which messages were hit by damage that the disk did not tell of.
    pub(super) fn note_damage(&mut self, corruptions: &[Corruption]) {
        for Corruption { octets, from, to, .. } in corruptions {
            self.is_damaged = true;
            self.is_manifest_hit |= queue_reader::is_manifest(octets);
            let is_header_hit = *from < queue_reader::HEADER_SIZE;
            for (start, end, id) in queue_reader::record_headers(octets) {
                if is_header_hit || (start < *to && *from < end) {
                    self.affected.insert(id);
                }
            }
        }
    }

    /// Compares the queue with what was told. From then on it is known what was open.
    pub(super) fn check(&mut self, disk: &SimDisk) -> Result<Account, String> {
        let disk = Onlooker::new(disk);
        let reading =
            queue_reader::read(&disk).map_err(|error| format!("the queue cannot be read: {error}"))?;
        self.life += 1;
        self.moved += reading.moved as u64;
        let mut found = BTreeMap::new();
        for (id, message) in &reading.messages {
            let number = self.identify(&reading, &disk, *id)?;
            if let Some((other, _)) = found.insert(number, (*id, message.is_held)) {
                let (other, id) = (id_text(other), id_text(*id));
                return Err(format!("message {number} is in the queue twice, as {other} and {id}"));
            }
        }
        self.ask_engine(&disk, &reading)?;
        for number in 0..self.records.len() {
            self.compare(number, found.get(&number).copied())?;
        }
        let gone = if self.is_manifest_hit { Vec::new() } else { reading.gone_since(&self.counted) };
        self.is_manifest_hit = false;
        self.counted = reading.counted();
        Ok(Account { messages: found.len(), damage: reading.damage, gone })
    }

    /// Reads the queue, after noting what the disk has corrupted.
    fn look(&mut self, disk: &Onlooker, corruptions: &[Corruption]) -> Result<Reading, String> {
        self.note_damage(corruptions);
        queue_reader::read(disk).map_err(|error| format!("the queue cannot be read: {error}"))
    }

    /// An engine has ended as it should: notes what its manifest counts.
    pub(super) fn note_counted(&mut self, disk: &SimDisk, corruptions: &[Corruption]) -> Result<(), String> {
        let reading = self.look(&Onlooker::new(disk), corruptions)?;
        self.counted.add(reading.counted());
        Ok(())
    }

    /// A life is over: no segment with a mark would have been emptied before the record that the mark is about.
    pub(super) fn check_marks(
        &mut self,
        disk: &SimDisk,
        corruptions: &[Corruption],
        holdings: &[Holding],
    ) -> Result<(), String> {
        let reading = self.look(&Onlooker::new(disk), corruptions)?;
        self.compare_marks(&reading, holdings)
    }

    /// Each mark that counts stays for as long as the record that it is about. That it was emptied too early shows only much
    /// later, and only if the record's segment stays still longer: so each is asked for what it holds.
    fn compare_marks(&self, reading: &Reading, holdings: &[Holding]) -> Result<(), String> {
        let held: BTreeMap<u64, &[u64]> =
            holdings.iter().map(|holding| (holding.sequence, holding.marks_about.as_slice())).collect();
        for Marked { id, segment, marks } in reading.marked() {
            let holds = |mark: &u64| held.get(mark).is_some_and(|about| about.contains(&segment));
            // What was given back is emptied in the order in which it was.
            let is_safe = !held.contains_key(&segment) || marks.iter().any(holds);
            if !is_safe && !self.affected.contains(&id) {
                return Err(format!(
                    "a mark of {} may be emptied before the record that it is about: segment {segment} has that, segments \
                     {marks:?} the marks, and none of them stays for the sake of it",
                    id_text(id)
                ));
            }
        }
        Ok(())
    }

    /// Looks at the queue beside a running engine: what was told holds for a reader, too.
    pub(super) fn glance(
        &mut self,
        disk: &SimDisk,
        corruptions: &[Corruption],
        holdings: &[Holding],
    ) -> Result<(), String> {
        let disk = Onlooker::new(disk);
        let reading = self.look(&disk, corruptions)?;
        self.compare_marks(&reading, holdings)?;
        let mut found = BTreeMap::new();
        for (id, message) in &reading.messages {
            let number = match self.by_id.get(id).filter(|number| !self.is_id_free(**number)) {
                Some(number) => *number,
                None => self.identify(&reading, &disk, *id)?,
            };
            found.insert(number, (*id, message.is_held));
        }
        for (number, record) in self.records.iter().enumerate() {
            let seen = found.get(&number).copied();
            let id = record.id.or_else(|| seen.map(|(id, _)| id));
            // Of one that was submitted here the id may not be known.
            if id.map_or(self.is_damaged, |id| self.affected.contains(&id)) {
                continue;
            }
            if !record.standing.allows(seen.map(|(_, is_held)| is_held)) {
                let presence = record.standing.presence();
                return Err(format!(
                    "a reader that runs beside the engine sees message {number} as {seen:?}; expected {presence:?}"
                ));
            }
        }
        Ok(())
    }

    /// The engine's own reader sees the same; of some messages it is asked for everything.
    fn ask_engine(&self, disk: &Onlooker, reading: &Reading) -> Result<(), String> {
        let queue = Queue::read(disk, true).map_err(|error| format!("the queue cannot be read: {error}"))?;
        let held = |state| state == State::Hold;
        let theirs: BTreeMap<u64, (bool, u64)> =
            queue.ids().map(|(id, state, size)| (id.number(), (held(state), size))).collect();
        let ours: BTreeMap<u64, (bool, u64)> =
            reading.messages.iter().map(|(id, found)| (*id, (found.is_held, found.size))).collect();
        if theirs != ours {
            return Err(format!(
                "two readers see different queues: the engine's {theirs:?}, the other {ours:?}"
            ));
        }
        for id in ours.keys().filter(|id| **id % 8 == 0).map(|id| QueueId::from_number(*id)) {
            let mut content = Vec::new();
            queue.content(id, &mut content).map_err(|error| format!("{id} cannot be read: {error}"))?;
            let entry = queue.entry(id).map_err(|error| format!("{id} has no envelope: {error}"))?;
            let message = reading.message(disk, id.number()).map_err(|error| format!("{id}: {error}"))?;
            let recipients = entry.map_or(0, |entry| entry.envelope.recipients.len());
            if content != message.content || recipients != message.envelope.recipients.len() {
                return Err(format!("two readers see different messages in {id}"));
            }
        }
        Ok(())
    }

    /// Which message that is; an error unless it is whole.
    fn identify(&self, reading: &Reading, disk: &Onlooker, id: u64) -> Result<usize, String> {
        let text = id_text(id);
        let found = reading.message(disk, id).map_err(|error| format!("{text} cannot be read: {error}"))?;
        self.identify_content(id, &found.content, &found.envelope)
    }

    /// Which message has this content and this envelope.
    fn identify_content(&self, id: u64, content: &[u8], envelope: &Envelope) -> Result<usize, String> {
        let text = id_text(id);
        let (trace_field, rest) = evidence::split_trace_field(content);
        let number = Message::number_of(rest).ok_or_else(|| {
            let front = String::from_utf8_lossy(&content[..content.len().min(400)]).into_owned();
            format!("{text} is a message that no client sent: {front:?}")
        })?;
        let Some(record) = self.records.get(number) else {
            return Err(format!("{text} is message {number}, which no client sent"));
        };
        let generations = record.message.generation..=record.generation.unwrap_or(self.generation);
        let compared = evidence::compare_content(&record.message, rest)
            .and_then(|()| evidence::compare_envelope(&record.message, envelope, generations))
            .and_then(|()| evidence::compare_trace_field(&record.message, trace_field, &text));
        compared.map_err(|what| format!("{text}, message {number}, {what}"))?;
        Ok(number)
    }

    fn compare(&mut self, number: usize, found: Option<(u64, bool)>) -> Result<(), String> {
        let record = &mut self.records[number];
        let known = record.id.or_else(|| found.map(|(id, _)| id));
        // Of one that was submitted here the id may not be known.
        let is_affected = known.map_or(self.is_damaged, |id| self.affected.contains(&id));
        let Some((id, is_held)) = found else {
            if record.standing.presence() == Presence::Once && !is_affected {
                return Err(format!(
                    "message {number} is lost: it was accepted as {:?}",
                    record.id.map(id_text)
                ));
            }
            record.standing.found(None);
            return Ok(());
        };
        let text = id_text(id);
        if record.id.is_some_and(|told| told != id) {
            return Err(format!(
                "message {number} is present as {text}, but its client got {:?}",
                record.id.map(id_text)
            ));
        }
        if record.standing.presence() == Presence::Never && !is_affected {
            return Err(format!(
                "message {number} is present as {text}, but was refused, done, unfinished, or missing before"
            ));
        }
        if !record.standing.states().allow(is_held) && !is_affected {
            let state = if is_held { "held" } else { "not held" };
            return Err(format!("message {number}, {text}, has the wrong state: it is {state}"));
        }
        record.standing.found(Some(is_held));
        (record.id, record.life) = (Some(id), self.life);
        self.by_id.insert(id, number);
        Ok(())
    }
}

/// What a look at the queue found.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) messages: usize,
    pub(super) damage: Vec<Damage>,
    /// Records that the manifest counted, and that are not there.
    pub(super) gone: Vec<Gone>,
}
