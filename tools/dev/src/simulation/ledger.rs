//! Owns what clients and operators were told, and compares it with what the queue holds: the oracle.

use std::collections::{BTreeMap, BTreeSet};

use mailrace_core::QueueId;
use mailrace_core::record::spool::{RECORD_ALIGNMENT, RecordHeader, SEGMENT_HEADER_SIZE, SegmentHeader};
use mailrace_io::sim::{Corruption, SimDisk};
use mailrace_spool::reader::Queue;
use mailrace_spool::{Mark, State};

use super::message::Message;
use super::onlooker::Onlooker;

/// Whether a message is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It must not be: its content never ended, it was refused, it is done, or it was not there at a start.
    Never,
    /// It may be, once: nobody was told.
    Perhaps,
    /// It must be, once: its 250 was sent, or it was there at a start.
    Once,
}

/// All that is known of a message.
#[derive(Debug)]
struct Record {
    message: Message,
    presence: Presence,
    id: Option<QueueId>,
    /// What its state may be.
    may_be_incoming: bool,
    may_be_held: bool,
    /// A mark was asked for and is not settled.
    is_marking: bool,
}

/// All messages of a world.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: Vec<Record>,
    by_id: BTreeMap<QueueId, usize>,
    /// Messages of which the disk damaged a record while it said that all was well.
    affected: BTreeSet<QueueId>,
    /// It damaged something.
    pub(super) is_damaged: bool,
    /// Operations of the disk that had failed when the engine was started.
    pub(super) failures_before: u64,
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
            presence: Presence::Never,
            id: None,
            may_be_incoming: true,
            may_be_held: false,
            is_marking: false,
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
        self.records[number].presence = Presence::Perhaps;
    }

    /// The server's kernel has taken the reply to the message. `failures`: so many operations of the disk have failed in this
    /// world.
    pub(super) fn told(&mut self, number: usize, reply: &str, failures: u64) -> Result<(), String> {
        let record = &mut self.records[number];
        if record.presence == Presence::Never {
            return Err(format!("message {number} was answered before its end: {reply}"));
        }
        if !reply.starts_with("250 ") {
            self.refused += 1;
            // The write that held it failed, and some of it may be on the disk. A mark that takes it out was durable before
            // this was said, unless something else failed too.
            let is_excused = reply.starts_with("451 4.3.0 ") && failures > self.failures_before + 1;
            record.presence = if is_excused { Presence::Perhaps } else { Presence::Never };
            return Ok(());
        }
        let id =
            reply.trim_end().rsplit_once(" queued as ").and_then(|(_, id)| QueueId::parse(id.as_bytes()));
        let id = id.ok_or_else(|| format!("message {number} was accepted without an id: {reply}"))?;
        // One of which nothing is left is free again, should the clock have gone back.
        if let Some(other) = self.by_id.insert(id, number)
            && self.records[other].presence != Presence::Never
        {
            return Err(format!("message {number} was given the id of message {other}, {id}"));
        }
        self.accepted += 1;
        let record = &mut self.records[number];
        record.id = Some(id);
        record.presence = Presence::Once;
        Ok(())
    }

    /// Messages that an operator can mark.
    pub(super) fn markable(&self) -> Vec<usize> {
        let is_markable = |record: &Record| record.presence == Presence::Once && !record.is_marking;
        (0..self.records.len()).filter(|number| is_markable(&self.records[*number])).collect()
    }

    /// A mark is asked for; which message to name.
    pub(super) fn begin_mark(&mut self, number: usize, mark: Mark) -> Option<QueueId> {
        let record = &mut self.records[number];
        record.is_marking = true;
        match mark {
            Mark::Done => record.presence = Presence::Perhaps,
            Mark::Hold => record.may_be_held = true,
            Mark::Release => record.may_be_incoming = true,
        }
        record.id
    }

    /// A mark is settled: durable, failed, or there was no such message.
    pub(super) fn end_mark(
        &mut self,
        number: usize,
        mark: Mark,
        marked: u64,
        failed: u64,
    ) -> Result<(), String> {
        let record = &mut self.records[number];
        record.is_marking = false;
        if marked + failed > 1 {
            return Err(format!("message {number} was marked in {} places", marked + failed));
        }
        if marked + failed == 0 {
            if record.id.is_some_and(|id| self.affected.contains(&id)) {
                return Ok(());
            }
            return Err(format!(
                "message {number} is in the queue, but was not found when it was to be marked"
            ));
        }
        if marked == 1 {
            match mark {
                Mark::Done => {
                    record.presence = Presence::Never;
                    self.done += 1;
                }
                Mark::Hold => record.may_be_incoming = false,
                Mark::Release => record.may_be_held = false,
            }
        }
        Ok(())
    }

    /// Notes which messages were hit by damage that the disk did not tell of.
    pub(super) fn note_damage(&mut self, corruptions: &[Corruption]) {
        for Corruption { octets, from, to, .. } in corruptions {
            self.is_damaged = true;
            let Ok(header) = SegmentHeader::decode(octets) else { continue };
            let is_header_hit = *from < SEGMENT_HEADER_SIZE;
            let mut offset = SEGMENT_HEADER_SIZE;
            while let Some(rest) = octets.get(offset..).filter(|rest| !rest.is_empty()) {
                if let Some(record) = RecordHeader::decode(rest, header.salt, offset as u64) {
                    let is_hit = offset < *to && *from < offset + record.size();
                    if is_header_hit || is_hit {
                        self.affected.insert(record.id);
                    }
                }
                offset += RECORD_ALIGNMENT;
            }
        }
    }

    /// Compares the queue with what was told. From then on it is known what was open.
    pub(super) fn check(&mut self, disk: &SimDisk) -> Result<usize, String> {
        let disk = Onlooker::new(disk);
        let queue = Queue::read(&disk, true).map_err(|error| format!("the queue cannot be read: {error}"))?;
        let mut found = BTreeMap::new();
        for (id, state, size) in queue.ids() {
            let number = self.identify(&queue, id, size)?;
            if let Some((other, _)) = found.insert(number, (id, state)) {
                return Err(format!("message {number} is in the queue twice, as {other} and {id}"));
            }
        }
        for number in 0..self.records.len() {
            self.compare(number, found.get(&number).copied())?;
        }
        Ok(found.len())
    }

    /// Which message that is; an error unless it is whole.
    fn identify(&self, queue: &Queue<'_, Onlooker>, id: QueueId, size: u64) -> Result<usize, String> {
        let mut content = Vec::new();
        queue.content(id, &mut content).map_err(|error| format!("{id} cannot be read: {error}"))?;
        if content.len() as u64 != size {
            return Err(format!("{id} has {} octets, and is said to have {size}", content.len()));
        }
        let (trace_field, rest) = split_trace_field(&content);
        let number = Message::number_of(rest).ok_or_else(|| {
            format!(
                "{id} is a message that nobody sent: {:?}",
                String::from_utf8_lossy(&content[..content.len().min(400)])
            )
        })?;
        let Some(Record { message, .. }) = self.records.get(number) else {
            return Err(format!("{id} is message {number}, which nobody sent"));
        };
        if rest != message.content {
            let place = rest.iter().zip(&message.content).take_while(|(found, sent)| found == sent).count();
            return Err(format!(
                "{id}, message {number}, has other content than was sent: {} octets instead of {}, different from octet \
                 {place} on: {:?} instead of {:?}",
                rest.len(),
                message.content.len(),
                String::from_utf8_lossy(&rest[place..(place + 40).min(rest.len())]),
                String::from_utf8_lossy(&message.content[place..(place + 40).min(message.content.len())]),
            ));
        }
        let is_traced = trace_field.starts_with(b"Received: from ")
            && trace_field.windows(id.text().len()).any(|text| text == id.text());
        if !is_traced {
            return Err(format!("{id}, message {number}, has no trace field of this queue"));
        }
        let entry = queue.entry(id).map_err(|error| format!("{id} has no envelope: {error}"))?;
        let envelope = entry.ok_or_else(|| format!("{id} is there and is not"))?.envelope;
        let recipients = envelope.recipients.iter().map(|recipient| &recipient.address[..]);
        let is_same = envelope.sender == message.sender.as_bytes()
            && recipients.eq(message.recipients.iter().map(String::as_bytes));
        if !is_same {
            return Err(format!("{id}, message {number}, has another envelope than was given"));
        }
        Ok(number)
    }

    fn compare(&mut self, number: usize, found: Option<(QueueId, State)>) -> Result<(), String> {
        let record = &mut self.records[number];
        let known = record.id.or_else(|| found.map(|(id, _)| id));
        let is_affected = known.is_some_and(|id| self.affected.contains(&id));
        let Some((id, state)) = found else {
            if record.presence == Presence::Once && !is_affected {
                return Err(format!(
                    "message {number} is lost: it was accepted as {:?}",
                    record.id.map(|id| id.to_string())
                ));
            }
            record.presence = Presence::Never;
            record.is_marking = false;
            return Ok(());
        };
        if record.id.is_some_and(|told| told != id) {
            return Err(format!(
                "message {number} is there as {id}, and its client was told {:?}",
                record.id
            ));
        }
        if record.presence == Presence::Never && !is_affected {
            return Err(format!(
                "message {number} is there as {id}, and must not be: it was refused, done, not finished, or gone"
            ));
        }
        let may_be = match state {
            State::Incoming => record.may_be_incoming,
            State::Hold => record.may_be_held,
        };
        if !may_be && !is_affected {
            return Err(format!("message {number}, {id}, has the wrong state: {}", state.name()));
        }
        record.may_be_incoming = state == State::Incoming;
        record.may_be_held = state == State::Hold;
        record.presence = Presence::Once;
        record.is_marking = false;
        record.id = Some(id);
        self.by_id.insert(id, number);
        Ok(())
    }
}

/// The first field, and what stands behind it.
fn split_trace_field(content: &[u8]) -> (&[u8], &[u8]) {
    let mut end = 0;
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if end > 0 && !line.starts_with(b"\t") {
            break;
        }
        end += line.len();
    }
    content.split_at(end)
}
