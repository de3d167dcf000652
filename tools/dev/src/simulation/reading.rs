//! Owns a thread that reads messages while the workers that own them work, as deliveries do.

use std::collections::BTreeMap;

use mailrace_core::QueueId;
use mailrace_io::sim::{SimIo, World};
use mailrace_io::{Completion, Instant, Io};
use mailrace_spool::{Opener, Part, ReadEvent, ReadId, Reader, Reads, SegmentReader, Source};

use super::ledger::Ledger;
use super::planted::{PlantedDisk, PlantedIo};

/// The reading thread of a life.
pub(super) struct Reading {
    io: PlantedIo,
    reader: SegmentReader<PlantedDisk>,
    /// Messages being read, by tag.
    reads: BTreeMap<u64, Read>,
    next_tag: u64,
    /// It has something to do without a completion.
    is_due: bool,
}

/// A message being read.
struct Read {
    read: ReadId,
    id: QueueId,
    source: Source,
    envelope: Vec<u8>,
    content: Vec<u8>,
}

/// Messages that it reads in a life at most.
const READS_MAX: u64 = 60;

impl Reading {
    pub(super) fn new(io: SimIo, opener: &Opener<PlantedDisk>) -> Self {
        let io = PlantedIo::new(io, None);
        let reader = opener.reader(io.waker());
        Self { io, reader, reads: BTreeMap::new(), next_tag: 0, is_due: false }
    }

    /// Whether it has something to do.
    pub(super) const fn is_due(&self) -> bool {
        self.is_due
    }

    /// When it has something to do if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reader.deadline()
    }

    /// Whether it has read all that it reads in a life.
    pub(super) const fn is_tired(&self) -> bool {
        self.next_tag >= READS_MAX
    }

    /// Begins to read a message.
    pub(super) fn begin(&mut self, id: QueueId, source: Source) {
        let read = self.reader.begin(source.clone(), self.next_tag);
        self.reads
            .insert(self.next_tag, Read { read, id, source, envelope: Vec::new(), content: Vec::new() });
        self.next_tag += 1;
        self.is_due = true;
    }

    /// Does all that there is to do. `source_now`: where a message is by now.
    pub(super) fn step(
        &mut self,
        world: &World,
        ledger: &mut Ledger,
        source_now: impl Fn(QueueId) -> Option<Source>,
    ) -> Result<(), String> {
        self.is_due = false;
        self.reader.advance(&mut self.io);
        let mut completions = Vec::new();
        let now = Some(world.now());
        self.io.wait(now, &mut completions).map_err(|error| error.to_string())?;
        for completion in completions {
            if let Completion::Read { token, buffer, result } = completion {
                self.reader.completed(token, buffer, result);
                self.is_due = true;
            }
        }
        while let Some((tag, event)) = self.reader.next_event() {
            let Some(mut read) = self.reads.remove(&tag) else {
                return Err("a reader says something of a message that it does not read".to_owned());
            };
            let id = read.id;
            match event {
                ReadEvent::Part(part) => {
                    match part {
                        Part::Envelope(octets) => read.envelope = octets.to_vec(),
                        Part::Progress(_) => {}
                        Part::Content { octets, .. } => read.content.extend_from_slice(octets),
                    }
                    self.reader.ask(read.read);
                    self.reads.insert(tag, read);
                    self.is_due = true;
                }
                ReadEvent::Whole => {
                    world.note("a message of {} octets was read", [read.content.len() as u64, 0, 0]);
                    ledger.compare_read(id, &read.envelope, &read.content)?;
                }
                // The disk may fail.
                ReadEvent::Failed(_) => {}
                ReadEvent::Gone | ReadEvent::Damaged(_) => {
                    let has_moved = source_now(id).is_none_or(|now| now != read.source);
                    let is_affected = ledger.is_affected(id, &world.take_corruptions());
                    if !(has_moved || is_affected) {
                        return Err(format!("{id} is where it was, and its reader says {event:?}"));
                    }
                }
            }
        }
        Ok(())
    }
}
