mod conforming;
mod copies;
mod damage;
mod lives;
mod manifest;
mod progress;
mod reader;
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

#[test]
fn what_was_settled_is_there_after_a_loss_of_power() {
    let mut life = Life::begin(&World::calm().disk());
    let one = life.put_settled(&[b"From: a\r\n\r\none\r\n"]);
    let two = life.put_settled(&[b"From: b\r\n\r\n", b"in ", b"pieces\r\n"]);
    let disk = life.cut_power();
    let life = Life::begin(&disk);
    assert_eq!((life.report.messages, life.report.damage.len()), (2, 0));
    let contents = contents(&disk);
    assert_eq!(contents[&one], (State::Incoming, b"From: a\r\n\r\none\r\n".to_vec()));
    assert_eq!(contents[&two], (State::Incoming, b"From: b\r\n\r\nin pieces\r\n".to_vec()));
}

#[test]
fn a_message_in_many_segments_is_whole() {
    let mut life = Life::begin(&World::calm().disk());
    let piece = vec![b'x'; life.spool.piece_size_max()];
    let pieces = vec![piece.as_slice(); 40];
    let id = life.put_large(&pieces, b"end");
    let disk = life.cut_power();
    assert_eq!(contents(&disk)[&id].1.len(), piece.len() * 40 + 3);
}

#[test]
fn chunks_alone_are_no_message() {
    let mut life = Life::begin(&World::calm().disk());
    let id = life.spool.next_id(Timestamp::from_unix_microseconds(5));
    let mut draft = life.spool.begin(id);
    life.spool.append(&mut draft, &[b"half a message"]).unwrap();
    life.settle();
    life.spool.abandon(draft);
    let disk = life.kill();
    let life = Life::begin(&disk);
    assert_eq!((life.report.messages, life.report.damage.len()), (0, 0));
}

#[test]
fn marks_are_kept() {
    let mut life = Life::begin(&World::calm().disk());
    let done = life.put_settled(&[b"done"]);
    let held = life.put_settled(&[b"held"]);
    let released = life.put_settled(&[b"released"]);
    life.mark_settled(done, Mark::Done);
    life.mark_settled(held, Mark::Hold);
    life.mark_settled(released, Mark::Hold);
    life.mark_settled(released, Mark::Release);
    assert_eq!(life.spool.mark(done, Mark::Hold, 1), Err(MarkError::NotFound));
    assert_eq!((life.spool.stats().messages, life.spool.stats().held), (2, 1));
    let disk = life.cut_power();
    let mut life = Life::begin(&disk);
    let states: Vec<_> = contents(&disk).into_iter().map(|(id, (state, _))| (id, state)).collect();
    assert_eq!(states, [(held, State::Hold), (released, State::Incoming)]);
    // In the next life too.
    life.mark_settled(held, Mark::Done);
    let disk = life.cut_power();
    let life = Life::begin(&disk);
    assert_eq!((life.report.messages, life.spool.stats().held), (1, 0));
}

#[test]
fn the_later_of_two_marks_counts_in_whatever_order_their_writes_end() {
    let mut life = Life::begin(&World::calm().disk());
    let id = life.put_settled(&[b"marked twice"]);
    let mut writes = Vec::new();
    for (mark, tag) in [(Mark::Hold, 1), (Mark::Release, 2)] {
        life.spool.mark(id, mark, tag).unwrap();
        life.spool.advance(&mut life.io);
        life.io.wait(Some(Instant::default()), &mut writes).unwrap();
    }
    assert_eq!(writes.len(), 2);
    life.complete_in_reverse(writes);
    assert_eq!(life.settle(), [(2, Ok(())), (1, Ok(()))]);
    assert_eq!(life.spool.stats().held, 0);
    let disk = life.kill();
    assert_eq!(contents(&disk)[&id].0, State::Incoming);
}

#[test]
fn used_segments_come_back_without_their_messages() {
    let mut life = Life::begin(&World::calm().disk());
    for round in 0..200 {
        life.keep();
        let content = vec![b'0' + round % 10; 4000];
        let id = life.put_settled(&[&content]);
        life.mark_settled(id, Mark::Done);
        if round % 50 == 49 {
            let disk = life.cut_power();
            life = Life::begin(&disk);
            assert_eq!(life.report.damage, []);
            assert!(contents(&disk).is_empty());
        }
    }
    life.keep();
    life.keep();
    let files = life.disk.list("segments").unwrap().len();
    assert!(files <= 10, "{files} segments for no message");
    let disk = life.cut_power();
    assert!(contents(&disk).is_empty());
}

#[test]
fn a_message_that_stays_holds_no_segment() {
    let mut life = Life::begin(&World::calm().disk());
    let piece = vec![b'p'; life.spool.piece_size_max()];
    let large = vec![piece.as_slice(); 10];
    let stays = [life.put_settled(&[b"stays"]), life.put_large(&large, b"end"), life.put_settled(&[b"held"])];
    life.mark_settled(stays[2], Mark::Hold);
    let mut passing = VecDeque::new();
    for round in 0..300 {
        life.keep();
        let content = vec![b'm'; 1000 + round * 997 % 9000];
        passing.push_back(life.put_settled(&[&content]));
        // Later, so that marks and their messages are in different segments.
        if passing.len() > 10
            && let Some(id) = passing.pop_front()
        {
            // The large message, which may just have been moved, takes more than a segment.
            life.keep();
            life.mark_settled(id, Mark::Done);
        }
        if round % 100 == 70 {
            let disk = life.cut_power();
            life = Life::begin(&disk);
            assert_eq!(life.report.damage, []);
        }
        assert_eq!(life.spool.stats().messages, 3 + passing.len() as u64);
    }
    for id in passing {
        life.keep();
        life.mark_settled(id, Mark::Done);
    }
    life.settle();
    life.keep();
    let files = life.disk.list("segments").unwrap().len();
    // What is live, what is ready or kept, and what marks may hold.
    assert!(files <= 16, "{files} segments for three messages");
    let disk = life.cut_power();
    let contents = contents(&disk);
    assert_eq!(contents.keys().copied().collect::<Vec<_>>(), stays);
    assert_eq!(contents[&stays[0]], (State::Incoming, b"stays".to_vec()));
    assert_eq!(contents[&stays[1]], (State::Incoming, [large.concat(), b"end".to_vec()].concat()));
    assert_eq!(contents[&stays[2]], (State::Hold, b"held".to_vec()));
    // And out they go for good.
    let mut life = Life::begin(&disk);
    for id in stays {
        life.keep();
        life.mark_settled(id, Mark::Done);
    }
    let disk = life.cut_power();
    assert_eq!(Life::begin(&disk).report.messages, 0);
}

#[test]
fn damage_is_reported_and_takes_one_message_only() {
    let mut life = Life::begin(&World::calm().disk());
    let ids: Vec<_> =
        (0..5).map(|number| life.put_settled(&[format!("message number {number}").as_bytes()])).collect();
    let disk = life.kill();
    let (path, place) = find(&disk, b"message number 2");
    damage(&disk, &path, place);
    let life = Life::begin(&disk);
    let expected: Vec<_> =
        ids.iter().enumerate().filter(|(number, _)| *number != 2).map(|(_, id)| *id).collect();
    assert_eq!(contents(&disk).keys().copied().collect::<Vec<_>>(), expected);
    assert!(
        matches!(life.report.damage.as_slice(), [Damage { path: found, what: DamageKind::Records, .. }] if *found == path),
        "{:?}",
        life.report.damage
    );
}

#[test]
fn damage_at_the_end_of_a_segment_is_reported() {
    let mut life = Life::begin(&World::calm().disk());
    let text = |number: usize| format!("message number {number:02}");
    let ids: Vec<_> = (0..20).map(|number| life.put_settled(&[text(number).as_bytes()])).collect();
    let disk = life.kill();
    // A batch each, the last two of the first segment: the header of one, and a record of the one before, which the whole
    // record after it must not be taken for.
    let (path, _) = find(&disk, text(0).as_bytes());
    let last = (0..20).rfind(|number| find(&disk, text(*number).as_bytes()).0 == path).unwrap();
    assert!(last < 19, "there is a second segment");
    let before = find(&disk, text(last - 1).as_bytes()).1;
    let header = find(&disk, text(last).as_bytes()).1 / 4096 * 4096;
    damage(&disk, &path, before);
    damage(&disk, &path, header + 9);
    let life = Life::begin(&disk);
    let of =
        |offset: usize, what| Damage { path: path.clone(), offset: offset as u64, what, is_known: false };
    let expected = [of(before / 4096 * 4096, DamageKind::Records), of(header + 64, DamageKind::BatchHeader)];
    assert_eq!(life.report.damage, expected);
    let expected: Vec<_> = ids.iter().copied().filter(|id| *id != ids[last - 1]).collect();
    assert_eq!(contents(&disk).keys().copied().collect::<Vec<_>>(), expected);
}

#[test]
fn a_torn_last_batch_is_no_damage() {
    let mut life = Life::begin(&World::calm().disk());
    let whole = life.put_settled(&[b"whole"]);
    life.put_settled(&[b"torn off by the loss of power"]);
    let disk = life.kill();
    // As if its write had not been completed: nothing after it says that it was.
    let (path, place) = find(&disk, b"torn off");
    damage(&disk, &path, place);
    let life = Life::begin(&disk);
    assert_eq!(life.report.damage, []);
    assert_eq!(contents(&disk).keys().copied().collect::<Vec<_>>(), [whole]);
    // A reader beside a running engine does not see it either.
    let seen: Vec<QueueId> = Queue::read(&disk, false).unwrap().ids().map(|(id, ..)| id).collect();
    assert_eq!(seen, [whole]);
}

#[test]
fn a_damaged_batch_header_does_not_hide_what_follows() {
    let mut life = Life::begin(&World::calm().disk());
    life.put_settled(&[b"one"]);
    let middle = life.put_settled(&[b"two"]);
    life.put_settled(&[b"three"]);
    life.put_settled(&[b"four"]);
    let disk = life.kill();
    let (path, place) = find(&disk, b"two");
    damage(&disk, &path, place / 4096 * 4096 + 9);
    let life = Life::begin(&disk);
    // Its record is whole all the same.
    assert_eq!(life.report.messages, 4);
    assert!(contents(&disk).contains_key(&middle));
    assert_eq!(life.report.damage.len(), 1);
}

#[test]
fn a_file_that_was_cut_off_is_reported() {
    let mut life = Life::begin(&World::calm().disk());
    let whole = life.put_settled(&[b"whole"]);
    life.put_settled(&[b"cut off"]);
    let disk = life.kill();
    let (path, place) = find(&disk, b"cut off");
    disk.damage(&path, |octets| octets.truncate(place));
    let life = Life::begin(&disk);
    let what = DamageKind::Shortened;
    assert_eq!(life.report.damage, [Damage { path, offset: place as u64, what, is_known: false }]);
    assert_eq!(contents(&disk).keys().copied().collect::<Vec<_>>(), [whole]);
}

#[test]
fn a_new_segment_takes_the_name_of_no_other() {
    let mut life = Life::begin(&World::calm().disk());
    let id = life.put_settled(&[b"in use"]);
    let disk = life.kill();
    // Segments are used again under their old names: the next number may be the name of one that is in use.
    let (path, _) = find(&disk, b"in use");
    for name in disk.list("segments").unwrap().iter().map(|name| format!("segments/{name}")) {
        if name != path {
            disk.remove(&name).unwrap();
        }
    }
    disk.rename(&path, "segments/0000000002.seg").unwrap();
    drop(Life::begin(&disk));
    assert_eq!(contents(&disk).keys().copied().collect::<Vec<_>>(), [id]);
}

#[test]
fn a_copy_of_a_segment_is_reported_and_left_alone() {
    let mut life = Life::begin(&World::calm().disk());
    let id = life.put_settled(&[b"once"]);
    let disk = life.kill();
    let (path, place) = find(&disk, b"once");
    let mut content = Vec::new();
    disk.damage(&path, |octets| content.clone_from(octets));
    let copy = "segments/copy.seg".to_owned();
    disk.create(&copy, 0, FileKind::Buffered).unwrap();
    disk.damage(&copy, |octets| octets.clone_from(&content));
    // What only the copy has is not shown.
    damage(&disk, &copy, place);
    let life = Life::begin(&disk);
    assert_eq!(life.report.damage, []);
    assert_eq!(life.report.strangers, [Stranger { path: copy, what: "a copy of a segment" }]);
    assert_eq!(contents(&disk).keys().copied().collect::<Vec<_>>(), [id]);
}

#[test]
fn a_failed_write_refuses_its_messages_and_the_next_segment_takes_over() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let before = life.put_settled(&[b"before"]);
    disk.fail_writes(1);
    life.put(&[b"fails"], 5).unwrap();
    assert_eq!(life.settle(), [(5, Err(SpoolError))]);
    let after = life.put_settled(&[b"after"]);
    assert_eq!(life.spool.stats().messages, 2);
    assert_eq!(life.spool.stats().written.failures, 1);
    let disk = life.kill();
    let life = Life::begin(&disk);
    assert_eq!(life.report.messages, 2);
    assert_eq!(contents(&disk).keys().copied().collect::<Vec<_>>(), [before, after]);
}

#[test]
fn a_failed_write_that_reached_the_disk_does_not_come_back_as_a_message() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    disk.fail_writes(1);
    // The first half of what fails is written: enough for the first of these.
    life.put(&[b"reaches the disk"], 5).unwrap();
    life.put(&[&[b'x'; 8000]], 6).unwrap();
    assert_eq!(life.settle(), [(5, Err(SpoolError)), (6, Err(SpoolError))]);
    let (_, _) = find(&disk, b"reaches the disk");
    let disk = life.kill();
    assert_eq!(Life::begin(&disk).report.messages, 0);
}

#[test]
fn a_failed_write_is_told_when_nothing_brings_its_message_back() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    disk.fail_writes(1);
    life.put(&[b"reaches the disk"], 5).unwrap();
    life.put(&[&[b'x'; 8000]], 6).unwrap();
    life.step();
    // The write has failed, and the mark that takes out what it left is on its way.
    assert_eq!(life.spool.next_settled(), None);
    assert!(!life.spool.is_idle());
    assert_eq!(life.settle(), [(5, Err(SpoolError)), (6, Err(SpoolError))]);
    let disk = life.cut_power();
    assert_eq!(Life::begin(&disk).report.messages, 0);
}

#[test]
fn a_failed_chunk_refuses_its_message() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let id = life.spool.next_id(Timestamp::from_unix_microseconds(5));
    let mut draft = life.spool.begin(id);
    disk.fail_writes(1);
    life.spool.append(&mut draft, &[b"lost"]).unwrap();
    life.settle();
    assert_eq!(life.spool.append(&mut draft, &[b"more"]), Err(Refusal::Failed));
    life.spool.abandon(draft);
    life.put_settled(&[b"another"]);
}

#[test]
fn without_room_on_the_disk_messages_are_refused() {
    let disk = World::calm().disk();
    // And for the manifest.
    disk.world().set_capacity(3 * SETTINGS.segment_size + (32 << 10));
    let mut life = Life::begin(&disk);
    let mut taken = Vec::new();
    let refusal = loop {
        life.keep();
        match life.put(&[&[b'x'; 4000]], 1) {
            Ok(id) => taken.push(id),
            Err(refusal) => break refusal,
        }
        life.settle();
        assert!(taken.len() < 1000);
    };
    assert_eq!(refusal, Refusal::Full);
    assert!(life.keeper.shared().is_storage_low());
    // What is taken out makes room.
    for id in &taken[..20] {
        if life.spool.mark(*id, Mark::Done, 9).is_ok() {
            life.settle();
        }
    }
    let disk = life.cut_power();
    assert!(contents(&disk).len() >= taken.len() - 20);
}

/// Segment A holds a message that is parked by a mark in B, and moved to C. If B were kept for C's copy, and C for its mark
/// about a message in B, neither would ever go.
#[test]
fn marks_and_copies_do_not_hold_each_other() {
    let mut life = Life::begin(&World::calm().disk());
    let put = |life: &mut Life, count: usize| -> Vec<QueueId> {
        life.keep();
        (0..count).map(|_| life.put_settled(&[b"small"])).collect()
    };
    // A segment has room for 15 such batches.
    let parked = put(&mut life, 1)[0];
    let mut passing = put(&mut life, 14);
    life.mark_settled(parked, Mark::Hold);
    passing.extend(put(&mut life, 14));
    let staying = put(&mut life, 16);
    for id in passing {
        life.spool.mark(id, Mark::Done, 9).unwrap();
    }
    life.settle();
    // The parked message leaves its segment, and the keeper does not come to erase that.
    for _ in 0..10 {
        life.opener.step();
        life.settle();
    }
    let disk = life.kill();
    let mut life = Life::begin(&disk);
    for id in staying.into_iter().chain([parked]) {
        life.spool.mark(id, Mark::Done, 9).unwrap();
    }
    life.settle();
    let disk = life.kill();
    let life = Life::begin(&disk);
    assert_eq!(life.report.messages, 0);
    // The one with the marks, and those that were ready.
    assert!(life.report.segments <= 4, "{} segments hold nothing", life.report.segments);
}

/// The copy's last record is durable, and the write of an earlier one fails.
#[test]
fn a_message_does_not_move_to_a_copy_that_is_not_whole() {
    let mut life = Life::begin(&World::calm().disk());
    let put = |life: &mut Life, count: usize| -> Vec<QueueId> {
        life.keeper.step();
        (0..count).map(|_| life.put_settled(&[b"small"])).collect()
    };
    let moved = life.put_settled(&[&[b'c'; 3000], b"end"]);
    // A segment has room for 15 such batches; the first of four is to be left.
    let passing = put(&mut life, 13);
    (0..3).for_each(|_| drop(put(&mut life, 15)));
    put(&mut life, 1);
    for id in passing {
        life.spool.mark(id, Mark::Done, 9).unwrap();
    }
    life.settle();
    life.io.hold_writes();
    for _ in 0..4 {
        life.opener.step();
        life.step();
    }
    life.disk.fail_writes(1);
    life.io.release_writes();
    life.settle();
    assert_eq!(life.spool.stats().written.failures, 1, "a copy was written");
    life.keeper.step();
    let disk = life.cut_power();
    assert_eq!(contents(&disk)[&moved].1.len(), 3003);
}

#[test]
fn a_queue_opens_on_a_full_disk() {
    let mut life = Life::begin(&World::calm().disk());
    let ids: Vec<_> = (0..3).map(|_| life.put_settled(&[&[b'x'; 15_000]])).collect();
    let disk = life.kill();
    for name in disk.list("segments").unwrap() {
        let path = format!("segments/{name}");
        let mut is_used = false;
        disk.damage(&path, |octets| is_used = octets[4096] != 0);
        if !is_used {
            disk.remove(&path).unwrap();
        }
    }
    disk.world().set_capacity(0);
    let mut life = Life::begin(&disk);
    assert_eq!(life.report.messages, 3);
    assert_eq!(life.put(&[b"more"], 1), Err(Refusal::Full));
    disk.world().set_capacity(u64::MAX);
    life.keep();
    life.put_settled(&[b"more"]);
    assert!(ids.iter().all(|id| contents(&disk).contains_key(id)));
}

/// The numbers in files' names and the sequences of their uses go apart when segments are used again, and the sequences
/// begin anew when all are empty.
#[test]
fn a_new_segment_never_replaces_one() {
    let disk = World::calm().disk();
    drop(disk.create("segments/0000000002.seg", SETTINGS.segment_size, FileKind::Direct).unwrap());
    // It is used first, and another one is made.
    let mut life = Life::begin(&disk);
    assert_eq!(disk.list("segments").unwrap().len(), 2);
    let id = life.put_settled(&[b"kept"]);
    let disk = life.kill();
    assert!(contents(&disk).contains_key(&id));
}

#[test]
fn a_file_that_a_killed_engine_had_just_made_has_a_durable_name_before_it_is_used() {
    let disk = World::calm().disk();
    drop(disk.create("segments/0000000001.seg", SETTINGS.segment_size, FileKind::Direct).unwrap());
    let mut life = Life::begin(&disk);
    let id = life.put_settled(&[b"kept"]);
    let disk = life.cut_power();
    assert!(contents(&disk).contains_key(&id));
}

#[test]
fn a_segment_whose_start_failed_leaves_its_sequence_unused() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let before = life.keeper.manifest.next_sequence().unwrap();
    disk.world().set_capacity(0);
    assert!(life.keeper.prepare(1).is_err());
    assert_eq!(life.keeper.manifest.next_sequence().unwrap(), before + 2);
}

#[test]
fn segments_emptied_while_the_disk_takes_nothing_are_used_again() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    for round in 0..6 {
        let mut put = || {
            life.keep();
            life.put_settled(&[&[b'x'; 4000]])
        };
        let ids: Vec<QueueId> = (0..14).map(|_| put()).collect();
        ids.into_iter().for_each(|id| life.mark_settled(id, Mark::Done));
        disk.set_read_only(true);
        life.keep();
        assert!(!life.keeper.files.retiring.is_empty(), "round {round}: nothing was emptied");
        disk.set_read_only(false);
        life.keep();
        assert!(life.keeper.files.retiring.is_empty(), "round {round}");
    }
    assert!(life.keeper.shared().segments() <= 8, "{} segments", life.keeper.shared().segments());
}

#[test]
fn a_queue_whose_directory_is_gone_takes_nothing() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    life.put_settled(&[b"before"]);
    disk.set_taken_away(true);
    life.keep();
    assert_eq!(life.put(&[b"no process would find it"], 1), Err(Refusal::Full));
    assert!(life.keeper.shared().is_storage_low());
    disk.set_taken_away(false);
    life.keep();
    life.put_settled(&[b"after"]);
    assert_eq!(contents(&disk).len(), 2);
}

#[test]
fn a_second_engine_is_kept_out() {
    let life = Life::begin(&World::calm().disk());
    assert!(matches!(open(&life.disk, &SETTINGS, 1), Err(OpenError::Locked)));
    let disk = life.kill();
    assert!(open(&disk, &SETTINGS, 1).is_ok());
}

#[test]
fn an_id_is_not_given_again_when_the_clock_goes_back() {
    let mut life = Life::begin(&World::calm().disk());
    let first = life.put_settled(&[b"first"]);
    life.mark_settled(first, Mark::Done);
    let disk = life.kill();
    let mut life = Life::begin(&disk);
    assert!(life.put_settled(&[b"second"]) > first);
}

#[test]
fn what_does_not_fit_into_a_block_is_refused() {
    let mut life = Life::begin(&World::calm().disk());
    let result = life.put(&[&vec![b'x'; SETTINGS.block_size]], 1);
    assert_eq!(result, Err(Refusal::TooLarge));
    life.put_settled(&[b"fits"]);
}

#[derive(Clone, Debug)]
enum Deed {
    Put(Vec<u16>),
    Mark(usize, bool),
    Settle,
    Keep,
    FailWrites(u32),
    Kill,
    CutPower,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => proptest::collection::vec(0u16..6000, 1..6).prop_map(Deed::Put),
        4 => (0usize..50, any::<bool>()).prop_map(|(index, is_done)| Deed::Mark(index, is_done)),
        4 => Just(Deed::Settle),
        4 => Just(Deed::Keep),
        1 => (1u32..3).prop_map(Deed::FailWrites),
        1 => Just(Deed::Kill),
        1 => Just(Deed::CutPower),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens: messages that settled and are not done are there, byte for byte, those settled as done are not,
    /// and no others are.
    #[test]
    fn nothing_settled_is_lost_or_comes_back(deeds in proptest::collection::vec(deed(), 1..120)) {
        let disk = World::calm().disk();
        let mut life = Life::begin(&disk);
        let mut given: BTreeMap<QueueId, Vec<u8>> = BTreeMap::new();
        let mut queued: Vec<QueueId> = Vec::new();
        let mut done: Vec<QueueId> = Vec::new();
        let mut tags: BTreeMap<u64, (QueueId, bool)> = BTreeMap::new();
        let mut tag = 0;
        for deed in &deeds {
            match deed {
                Deed::Put(sizes) => {
                    tag += 1;
                    let pieces: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'a' + (tag % 26) as u8; usize::from(*size)]).collect();
                    let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                    if let Ok(id) = life.put(&slices, tag) {
                        given.insert(id, pieces.concat());
                        tags.insert(tag, (id, false));
                    }
                }
                Deed::Mark(index, is_done) => {
                    let Some(id) = queued.get(*index).copied() else { continue };
                    tag += 1;
                    let mark = if *is_done { Mark::Done } else { Mark::Hold };
                    if life.spool.mark(id, mark, tag).is_ok() && *is_done {
                        tags.insert(tag, (id, true));
                    }
                }
                Deed::Settle => {}
                Deed::Keep => life.keep(),
                Deed::FailWrites(count) => disk.fail_writes(*count),
                Deed::Kill | Deed::CutPower => {
                    let is_cut = matches!(deed, Deed::CutPower);
                    let time = life.time;
                    drop(life);
                    if is_cut {
                        disk.cut_power();
                    }
                    disk.fail_writes(0);
                    life = Life::begin(&disk);
                    life.time = time;
                    prop_assert_eq!(&life.report.damage, &[]);
                    let found = contents(&disk);
                    for id in &queued {
                        // A mark that was asked for and not settled may or may not be there.
                        let is_unsure = tags.values().any(|(other, is_done)| other == id && *is_done);
                        prop_assert!(is_unsure || found.contains_key(id), "{:?} is lost", id);
                    }
                    for (id, (_, content)) in &found {
                        prop_assert!(!done.contains(id), "{:?} came back", id);
                        prop_assert_eq!(Some(content), given.get(id));
                    }
                    queued = found.keys().copied().collect();
                    tags.clear();
                }
            }
            if matches!(deed, Deed::Settle | Deed::FailWrites(_)) {
                for (tag, result) in life.settle() {
                    let Some((id, is_done)) = tags.remove(&tag) else { continue };
                    if is_done {
                        // A mark that failed may be on the disk.
                        queued.retain(|other| *other != id);
                        if result.is_ok() {
                            done.push(id);
                        }
                    } else if result.is_ok() {
                        // One that was refused may come back, when the write that was to prevent it fails too.
                        queued.push(id);
                    }
                }
            }
        }
    }
}

#[test]
fn chunks_leave_room_for_messages_that_end() {
    let mut life = Life::begin(&World::calm().disk());
    life.io.hold_writes();
    let id = life.spool.next_id(Timestamp::from_unix_microseconds(life.time));
    let mut draft = life.spool.begin(id);
    let mut chunks = 0;
    while life.spool.has_room_for_chunks() {
        life.spool.append(&mut draft, &[&[b'x'; 6000]]).unwrap();
        life.step();
        chunks += 1;
    }
    // Half of the two writes of 16 KiB that are under way at once.
    assert_eq!(chunks, 3);
    assert!(life.spool.has_room());
    life.put(&[b"message"], 7).unwrap();
    life.io.release_writes();
    assert_eq!(life.settle(), [(7, Ok(()))]);
    assert!(life.spool.has_room_for_chunks());
    life.spool.abandon(draft);
}
