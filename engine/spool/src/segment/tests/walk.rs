//! The walk through a message's records, over segments that the writer wrote and that were then damaged.

use mailrace_core::record::spool::{
    BATCH_HEADER_SIZE, RECORD_HEADER_SIZE, SEGMENT_HEADER_SIZE, SegmentHeader, record_size,
};

use super::*;
use crate::Part;
use crate::segment::Source;
use crate::segment::read::{Next, READ_SIZE_MAX, Target, Walk, Want};

/// What a walk came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) envelope: Vec<u8>,
    pub(super) progress: Option<Vec<u8>>,
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) end: Option<Ending>,
    /// Number of reads, and the bytes of the largest.
    reads: usize,
    size_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Whole,
    Gone,
    Damaged,
    Failed,
}

impl Read {
    /// Takes a part, which must come in its order.
    pub(super) fn take(&mut self, part: Part<'_>) {
        match part {
            Part::Envelope(octets) => {
                assert!(self.envelope.is_empty() && self.pieces.is_empty());
                self.envelope = octets.to_vec();
            }
            Part::Progress(octets) => {
                assert!(self.progress.is_none() && self.pieces.is_empty());
                self.progress = Some(octets.to_vec());
            }
            Part::Content { octets, is_last } => {
                assert!(!self.envelope.is_empty() && self.end.is_none());
                self.pieces.push(octets.to_vec());
                if is_last {
                    self.end = Some(Ending::Whole);
                }
            }
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.end == Some(Ending::Whole)
    }
}

/// Lets a walk read from a disk.
fn walk(disk: &SimDisk, source: Source) -> Read {
    let segments = source.clone();
    walk_with(source, |want, memory| {
        read_from(disk, &segments.holder(want.sequence).unwrap().path, want.offset, memory)
    })
}

/// The number of bytes read; `None` if that failed.
fn read_from(disk: &SimDisk, path: &str, offset: u64, memory: &mut [u8]) -> Option<usize> {
    let file = disk.open(path, FileKind::Read).unwrap();
    disk.read_at(&file, memory, offset).ok()
}

/// Lets a walk read with this function.
fn walk_with(source: Source, mut read_at: impl FnMut(Want, &mut [u8]) -> Option<usize>) -> Read {
    let mut walk = Walk::new(source);
    let mut read = Read::default();
    while read.reads < READS_MAX {
        match walk.next() {
            Next::Read(want) => {
                read.reads += 1;
                read.size_max = read.size_max.max(want.size);
                let mut memory = walk.memory(want.size);
                match read_at(want, &mut memory) {
                    Some(count) => {
                        memory.truncate(count);
                        walk.filled(memory);
                    }
                    None if walk.failed() => {}
                    None => return Read { end: Some(Ending::Failed), ..read },
                }
            }
            Next::Part => read.take(walk.part().unwrap()),
            Next::End => {
                assert!(read.is_whole(), "a message ends with its last piece");
                return read;
            }
            Next::Gone => return Read { end: Some(Ending::Gone), ..read },
            Next::Damaged(_) => return Read { end: Some(Ending::Damaged), ..read },
        }
    }
    panic!("a walk does not end: {read:?}")
}

/// Reads of a walk at most.
const READS_MAX: usize = 2000;

/// Takes a message in pieces, however long that takes. Pieces that come together are in one batch, if they fit.
pub(super) fn put(life: &mut Life, pieces: &[Vec<u8>]) -> QueueId {
    life.time += 1;
    let id = life.spool.next_id(Timestamp::from_unix_microseconds(life.time));
    let mut draft = life.spool.begin(id);
    let (last, chunks) = pieces.split_last().unwrap();
    for chunk in chunks {
        while let Err(refusal) = life.spool.append(&mut draft, &[chunk]) {
            assert_eq!(refusal, Refusal::Busy);
            life.step();
            life.keep();
        }
    }
    while let Err((back, refusal)) =
        life.spool.commit(draft, State::Incoming, &encoded_envelope(id), &[last], 4)
    {
        assert_eq!(refusal, Refusal::Busy);
        draft = back;
        life.step();
        life.keep();
    }
    assert_eq!(life.settle(), [(4, Ok(()))]);
    id
}

pub(super) fn bytes(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|place| ((place * 31 + seed * 7 + place / 251) % 256).try_into().unwrap()).collect()
}

#[test]
fn a_small_message_takes_one_read() {
    let mut life = Life::begin(&World::calm().disk());
    for size in [0, 1, 15, 16, 4096, 14_000] {
        let id = life.put_settled(&[&bytes(size, size)]);
        life.keep();
        let read = walk(&life.disk, life.spool.source(id).unwrap());
        assert_eq!((read.envelope, read.pieces), (encoded_envelope(id), vec![bytes(size, size)]));
        assert_eq!((read.end, read.reads), (Some(Ending::Whole), 1), "{size} bytes");
    }
}

#[test]
fn a_message_in_one_batch_takes_two_reads() {
    let mut life = Life::begin(&World::calm().disk());
    let pieces: Vec<Vec<u8>> = (0..5).map(|seed| bytes(seed, 2000)).collect();
    let id = put(&mut life, &pieces);
    let read = walk(&life.disk, life.spool.source(id).unwrap());
    assert_eq!((read.end, read.pieces, read.reads), (Some(Ending::Whole), pieces, 2));
}

#[test]
fn reads_of_a_large_message_are_bounded() {
    let mut life = Life::begin(&World::calm().disk());
    // Larger than a read, in all sizes of chunks.
    for (size, reads_max) in [(500, 24), (4000, 24), (8000, 50)] {
        let pieces: Vec<Vec<u8>> = (0..400_000 / size).map(|seed| bytes(seed, size)).collect();
        let id = put(&mut life, &pieces);
        let read = walk(&life.disk, life.spool.source(id).unwrap());
        assert_eq!((read.end, &read.pieces), (Some(Ending::Whole), &pieces));
        assert!(read.size_max <= READ_SIZE_MAX, "{} bytes at once", read.size_max);
        assert!(read.reads <= reads_max, "{} reads for chunks of {size} bytes", read.reads);
        life.mark_settled(id, Mark::Done);
        (0..4).for_each(|_| life.keep());
    }
}

#[test]
fn what_became_of_the_recipients_follows_the_envelope() {
    use mailrace_core::record::delivery::{Deferral, Progress, RecipientState};
    let mut life = Life::begin(&World::calm().disk());
    let id = put(&mut life, &[bytes(1, 3000), bytes(2, 5000)]);
    let deferred = Deferral { attempts: 3, ..Deferral::default() };
    let progress = Progress::of(&[RecipientState::Deferred(deferred)]).unwrap();
    // It is in a later segment.
    (0..20).for_each(|_| {
        life.keep();
        life.put_settled(&[b"small"]);
    });
    life.spool.note(id, &progress, 7).unwrap();
    assert_eq!(life.settle(), [(7, Ok(()))]);
    let read = walk(&life.disk, life.spool.source(id).unwrap());
    assert_eq!(read.end, Some(Ending::Whole));
    assert_eq!(Progress::decode(&read.progress.unwrap()), Some(progress));
    assert_eq!(read.pieces, [bytes(1, 3000), bytes(2, 5000)]);
}

/// The disk cannot read a page beside those of a message.
#[test]
fn a_read_that_failed_is_repeated_without_what_is_not_needed() {
    let mut life = Life::begin(&World::calm().disk());
    let pieces = [bytes(1, 3000), bytes(2, 5000), bytes(3, 100)];
    let id = put(&mut life, &pieces);
    let source = life.spool.source(id).unwrap();
    let Target::Message { end, .. } = source.target else { panic!("it is a message") };
    let path = source.segments[0].path.clone();
    let last = RECORD_HEADER_SIZE + 100 + encoded_envelope(id).len();
    let unreadable = end.offset as usize + last;
    let mut failures = 0;
    let read = walk_with(source.clone(), |want, memory| {
        let start = usize::try_from(want.offset).unwrap();
        if (start..start + want.size).contains(&unreadable) {
            failures += 1;
            return None;
        }
        read_from(&life.disk, &path, want.offset, memory)
    });
    assert_eq!((failures, read.pieces.as_slice()), (1, pieces.as_slice()));
    life.disk.world().set_broken(&path, true);
    assert_eq!(walk(&life.disk, source).end, Some(Ending::Failed));
}

#[test]
fn a_message_whose_segment_was_emptied_or_is_used_again_is_gone() {
    let mut life = Life::begin(&World::calm().disk());
    let id = life.put_settled(&[b"here today"]);
    let source = life.spool.source(id).unwrap();
    let path = source.segments[0].path.clone();
    let header = source.segments[0].header;
    // Its record is overwritten, and the header is that of another use, or none.
    let (found, place) = find(&life.disk, b"here today");
    assert_eq!(found, path);
    damage(&life.disk, &path, place);
    assert_eq!(walk(&life.disk, source.clone()).end, Some(Ending::Damaged));
    let later = SegmentHeader { sequence: header.sequence + 1, ..header };
    let salted = SegmentHeader { salt: header.salt ^ 1, ..header };
    for block in [later.encode(), salted.encode(), [0; SEGMENT_HEADER_SIZE]] {
        life.disk.damage(&path, |octets| octets[..SEGMENT_HEADER_SIZE].copy_from_slice(&block));
        let read = walk(&life.disk, source.clone());
        assert_eq!((read.end, read.pieces.len()), (Some(Ending::Gone), 0));
    }
    life.disk.damage(&path, |octets| octets[..SEGMENT_HEADER_SIZE].fill(7));
    assert_eq!(walk(&life.disk, source.clone()).end, Some(Ending::Damaged));
    life.disk.damage(&path, Vec::clear);
    assert_eq!(walk(&life.disk, source).end, Some(Ending::Damaged));
}

/// A place that was given for one message leads to another, or a use of the segment to another.
#[test]
fn a_record_of_another_message_or_use_is_not_taken() {
    let mut life = Life::begin(&World::calm().disk());
    let [one, other] = [b"one", b"two"].map(|text| life.put_settled(&[text]));
    let source = life.spool.source(one).unwrap();
    let mut swapped = life.spool.source(other).unwrap();
    swapped.id = one;
    assert_eq!(walk(&life.disk, swapped).end, Some(Ending::Damaged));
    let mut salted = source.clone();
    salted.segments[0].header.salt ^= 1;
    assert_eq!(walk(&life.disk, salted).end, Some(Ending::Gone));
    let mut lost = source;
    lost.segments.clear();
    assert_eq!(walk(&life.disk, lost).end, Some(Ending::Damaged));
}

fn pieces() -> impl Strategy<Value = Vec<u16>> {
    proptest::collection::vec(prop_oneof![0u16..100, 0u16..8000], 1..14)
}

/// What is done to the bytes of a segment.
#[derive(Clone, Debug)]
enum Harm {
    Flip(usize, u8),
    Zero(usize, usize),
    /// A part of it is written to another place.
    Copy(usize, usize, usize),
    CutOff(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let place = || 0usize..(64 << 10);
    prop_oneof![
        4 => (place(), 1u8..=255).prop_map(|(place, bits)| Harm::Flip(place, bits)),
        1 => (place(), 1usize..9000).prop_map(|(place, size)| Harm::Zero(place, size)),
        1 => (place(), place(), 1usize..9000).prop_map(|(from, to, size)| Harm::Copy(from, to, size)),
        1 => place().prop_map(Harm::CutOff),
    ]
}

impl Harm {
    fn strike(&self, octets: &mut Vec<u8>) {
        let size_of_all = octets.len();
        let within = |place: usize| place.min(size_of_all);
        match self {
            Self::Flip(place, bits) => octets.get_mut(*place).into_iter().for_each(|octet| *octet ^= bits),
            Self::Zero(place, size) => octets[within(*place)..within(place + size)].fill(0),
            Self::Copy(from, to, size) => {
                let size = *size.min(&(size_of_all - within(*from))).min(&(size_of_all - within(*to)));
                octets.copy_within(within(*from)..within(*from) + size, within(*to));
            }
            Self::CutOff(place) => octets.truncate(*place),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Each message reads back as it was written, whichever others are between its records.
    #[test]
    fn messages_read_back(all in proptest::collection::vec(pieces(), 1..8)) {
        let mut life = Life::begin(&World::calm().disk());
        let mut given = Vec::new();
        for sizes in &all {
            let pieces: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(seed, size)| bytes(seed + given.len(), usize::from(*size))).collect();
            given.push((put(&mut life, &pieces), pieces));
        }
        for (id, pieces) in given {
            let read = walk(&life.disk, life.spool.source(id).unwrap());
            prop_assert_eq!((read.end, &read.pieces), (Some(Ending::Whole), &pieces));
            prop_assert_eq!(read.envelope, encoded_envelope(id));
            prop_assert!(read.size_max <= READ_SIZE_MAX);
        }
    }

    /// Whatever happens to the bytes on the disk: a read ends, and gives nothing but what was written, in its order.
    #[test]
    fn damage_never_gives_other_bytes(
        all in proptest::collection::vec(pieces(), 1..4),
        harms in proptest::collection::vec((any::<prop::sample::Index>(), harm()), 1..8),
    ) {
        let mut life = Life::begin(&World::calm().disk());
        let mut given = Vec::new();
        for sizes in &all {
            let pieces: Vec<Vec<u8>> = sizes.iter().map(|size| bytes(given.len(), usize::from(*size))).collect();
            given.push((put(&mut life, &pieces), pieces));
        }
        let sources: Vec<Source> = given.iter().map(|(id, _)| life.spool.source(*id).unwrap()).collect();
        let names = life.disk.list("segments").unwrap();
        for (index, harm) in harms {
            life.disk.damage(&format!("segments/{}", index.get(&names)), |octets| harm.strike(octets));
        }
        for ((id, pieces), source) in given.iter().zip(sources) {
            let read = walk(&life.disk, source);
            prop_assert!(pieces.starts_with(&read.pieces));
            prop_assert!(read.envelope.is_empty() || read.envelope == encoded_envelope(*id));
            prop_assert!(!read.is_whole() || read.pieces == *pieces);
        }
    }
}

/// Every byte of a message's records is covered by a checksum.
#[test]
fn no_byte_of_a_message_can_change_unseen() {
    let mut life = Life::begin(&World::calm().disk());
    let id = put(&mut life, &[bytes(1, 100), bytes(2, 90), bytes(3, 50)]);
    let source = life.spool.source(id).unwrap();
    let path = source.segments[0].path.clone();
    let mut start = SEGMENT_HEADER_SIZE + BATCH_HEADER_SIZE;
    let mut seen = 0;
    for length in [100, 90, 50 + encoded_envelope(id).len()] {
        for place in start..start + RECORD_HEADER_SIZE + length {
            damage(&life.disk, &path, place);
            assert_eq!(walk(&life.disk, source.clone()).end, Some(Ending::Damaged), "byte {place}");
            damage(&life.disk, &path, place);
            seen += 1;
        }
        start += record_size(length);
    }
    assert!(seen > 400);
    assert!(walk(&life.disk, source).is_whole());
}
