mod conforming;
mod copies;
mod damage;
mod deeds;
mod failures;
mod lives;
mod manifest;
mod messages;
mod octets;
mod progress;
mod reader;
mod records;
mod reuse;
mod scan;
mod sharing;
mod walk;

use std::collections::{BTreeMap, VecDeque};

use bumpalo::Bump;
use mailrace_core::envelope::Recipient;
use mailrace_core::record::envelope;
use mailrace_core::{Envelope, Origin, QueueId, QueuedEnvelope, Timestamp};
use mailrace_io::sim::{SimDisk, SimIo, World};
use mailrace_io::{Completion, Disk, FileKind, Instant, Io, Waker};
use proptest::prelude::*;

use crate::reader::Queue;
use crate::{
    Damage, DamageKind, Mark, MarkError, OpenError, Opener, RecoveryReport, Refusal, SegmentKeeper,
    SegmentReader, SegmentSpool, Settings, Spool, SpoolError, State, Store, Stranger, Writes, open,
};

/// Small enough that a few messages fill it.
const SETTINGS: Settings = Settings {
    segment_size: 64 << 10,
    spare_segments: 2,
    kept_segments: 2,
    block_size: 16 << 10,
    blocks: 4,
    writes_in_flight: 2,
    queue_minfree: 0,
    message_size_limit: 1 << 20,
};

/// One worker's life on a disk.
struct Life {
    disk: SimDisk,
    io: SimIo,
    spool: SegmentSpool<SimDisk>,
    keeper: SegmentKeeper<SimDisk>,
    opener: Opener<SimDisk>,
    /// On another thread.
    reader: SegmentReader<SimDisk>,
    reader_io: SimIo,
    report: RecoveryReport,
    time: u64,
    _lock: <SimDisk as Disk>::File,
}

impl Life {
    fn begin(disk: &SimDisk) -> Self {
        let opened = open(disk, &SETTINGS, 1).unwrap();
        let [io, reader_io] = disk.world().boot(2).try_into().unwrap();
        let mut life = Self {
            disk: disk.clone(),
            io,
            spool: opened.spools.into_iter().next().unwrap(),
            keeper: opened.keeper,
            reader: opened.opener.reader(Waker::new(|| {})),
            reader_io,
            opener: opened.opener,
            report: opened.report,
            time: 1_700_000_000_000_000,
            _lock: opened.lock,
        };
        life.keep();
        life
    }

    /// Does what the other threads would.
    fn keep(&mut self) {
        self.keeper.step();
        self.opener.step();
    }

    /// Takes a message whose content comes in these pieces, the last with the envelope.
    fn put(&mut self, pieces: &[&[u8]], tag: u64) -> Result<QueueId, Refusal> {
        self.time += 1;
        let id = self.spool.next_id(Timestamp::from_unix_microseconds(self.time));
        let mut draft = self.spool.begin(id);
        let (last, chunks) = pieces.split_last().unwrap();
        for chunk in chunks {
            if let Err(refusal) = self.spool.append(&mut draft, &[chunk]) {
                self.spool.abandon(draft);
                return Err(refusal);
            }
            self.step();
        }
        match self.spool.commit(draft, State::Incoming, &encoded_envelope(id), &[last], tag) {
            Ok(()) => Ok(id),
            Err((draft, refusal)) => {
                self.spool.abandon(draft);
                Err(refusal)
            }
        }
    }

    /// Submits what gathered and takes what completed.
    fn step(&mut self) {
        self.spool.advance(&mut self.io);
        let mut completions = Vec::new();
        let now = Some(Instant::default());
        self.io.wait(now, &mut completions).unwrap();
        for completion in completions {
            match completion {
                Completion::Written { token, block, result } => self.spool.completed(token, block, result),
                Completion::Read { token, buffer, result } => {
                    self.spool.read_completed(token, buffer, result);
                }
                _ => {}
            }
        }
        self.spool.detach_sealed(&mut self.io);
    }

    /// Takes writes that ended in the opposite order.
    fn complete_in_reverse(&mut self, writes: Vec<Completion>) {
        for write in writes.into_iter().rev() {
            let Completion::Written { token, block, result } = write else { panic!("it is a write") };
            self.spool.completed(token, block, result);
        }
    }

    fn settle(&mut self) -> Vec<(u64, Result<(), SpoolError>)> {
        for _ in 0..100 {
            self.step();
        }
        std::iter::from_fn(|| self.spool.next_settled()).collect()
    }

    /// Takes a message for which segments run out on the way, as they do when the disk is slow.
    fn put_large(&mut self, chunks: &[&[u8]], last: &[u8]) -> QueueId {
        self.time += 1;
        let id = self.spool.next_id(Timestamp::from_unix_microseconds(self.time));
        let mut draft = self.spool.begin(id);
        for chunk in chunks {
            while self.spool.append(&mut draft, &[chunk]) == Err(Refusal::Busy) {
                self.step();
                self.keep();
            }
        }
        self.keep();
        self.spool.commit(draft, State::Incoming, &encoded_envelope(id), &[last], 4).unwrap();
        assert_eq!(self.settle(), [(4, Ok(()))]);
        id
    }

    fn put_settled(&mut self, pieces: &[&[u8]]) -> QueueId {
        let id = self.put(pieces, 1).unwrap();
        assert_eq!(self.settle(), [(1, Ok(()))]);
        id
    }

    fn mark_settled(&mut self, id: QueueId, mark: Mark) {
        self.spool.mark(id, mark, 9).unwrap();
        assert_eq!(self.settle(), [(9, Ok(()))]);
    }

    /// The process is killed: its disk stays, with what the kernel knew.
    fn kill(self) -> SimDisk {
        self.disk
    }

    /// The engine ends, as it does when it is asked to.
    fn end(self) -> SimDisk {
        let Self { disk, spool, mut keeper, .. } = self;
        drop(spool);
        keeper.finish();
        disk
    }

    /// The machine loses power.
    fn cut_power(self) -> SimDisk {
        let disk = self.disk.clone();
        drop(self);
        disk.cut_power();
        disk
    }
}

fn encoded_envelope(id: QueueId) -> Vec<u8> {
    let (arena, envelope) = (Bump::new(), envelope_of(id));
    let mut out = bumpalo::collections::Vec::new_in(&arena);
    envelope::encode(&Origin::default(), &QueuedEnvelope::unchanged(&arena, &envelope), &mut out).unwrap();
    out.to_vec()
}

fn envelope_of(id: QueueId) -> Envelope {
    let address = format!("user{}@example.com", id.number() % 97).into_bytes();
    Envelope {
        arrival: id.time(),
        sender: b"sender@example.net".to_vec(),
        recipients: vec![Recipient { address, ..Recipient::default() }],
        ..Envelope::default()
    }
}

/// All messages of a queue with state and content; their envelopes are compared on the way.
fn contents(disk: &SimDisk) -> BTreeMap<QueueId, (State, Vec<u8>)> {
    let queue = Queue::read(disk, true).unwrap();
    let ids: Vec<_> = queue.ids().collect();
    let mut contents = BTreeMap::new();
    for (id, state, size) in ids {
        let entry = queue.entry(id).unwrap().unwrap();
        assert_eq!(entry.envelope, envelope_of(id));
        let mut content = Vec::new();
        queue.content(id, &mut content).unwrap();
        assert_eq!(content.len() as u64, size);
        contents.insert(id, (state, content));
    }
    contents
}

fn damage(disk: &SimDisk, path: &str, offset: usize) {
    disk.damage(path, |octets| octets[offset] ^= 0x40);
}

/// Where `needle` is in the queue's files.
fn find(disk: &SimDisk, needle: &[u8]) -> (String, usize) {
    for name in disk.list("segments").unwrap() {
        let path = format!("segments/{name}");
        let mut place = None;
        disk.damage(&path, |octets| place = octets.windows(needle.len()).position(|window| window == needle));
        if let Some(place) = place {
            return (path, place);
        }
    }
    panic!("it is in no segment")
}
