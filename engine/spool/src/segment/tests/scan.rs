//! The scan of a segment: everything whole is found, whatever lies between.

use mailrace_core::record::spool::{
    BATCH_HEADER_SIZE, BatchHeader, RECORD_ALIGNMENT, RECORD_HEADER_SIZE, RECORD_MAGIC, RecordHeader,
    RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader, checksum,
};

use super::*;
use crate::segment::scan::{Found, Scan};

const SALT: u64 = 0x5a17;

/// What a segment is made of.
#[derive(Clone, Debug)]
enum Thing {
    Batch(u64),
    /// A record with a payload of this many equal bytes.
    Record(usize, u8),
    /// Bytes that mean nothing, in steps of the alignment.
    Junk(usize, u8),
    /// What looks like the start of a record.
    Magic,
}

/// The bytes of a segment, and what is whole in it with its place.
fn written(things: &[Thing]) -> (Vec<u8>, Vec<(u64, Found)>) {
    let (mut bytes, mut whole) = (vec![0; SEGMENT_HEADER_SIZE], Vec::new());
    for thing in things {
        let offset = bytes.len() as u64;
        match *thing {
            Thing::Batch(number) => {
                let batch = BatchHeader {
                    length: 4096,
                    records: 1,
                    worker: 0,
                    sequence: 1,
                    number,
                    durable_from: 1,
                    durable_through: 0,
                };
                bytes.extend(batch.encode(SALT, offset));
                whole.push((offset, Found::Batch(batch)));
            }
            Thing::Record(size, fill) => {
                let payload = vec![fill; size];
                let record = RecordHeader {
                    kind: RecordKind::Message,
                    is_held: false,
                    id: QueueId::from_number(4711),
                    length: u32::try_from(size).unwrap(),
                    envelope_length: 0,
                    part: 0,
                    previous: None,
                    payload_checksum: checksum(&payload, SALT),
                    content_size: size as u64,
                };
                bytes.extend(record.encode(SALT, offset));
                bytes.extend(payload);
                bytes.resize(bytes.len().next_multiple_of(RECORD_ALIGNMENT), 0);
                whole.push((offset, Found::Record(record)));
            }
            Thing::Junk(steps, fill) => bytes.resize(bytes.len() + steps * RECORD_ALIGNMENT, fill),
            Thing::Magic => {
                bytes.extend(RECORD_MAGIC);
                bytes.resize(bytes.len() + RECORD_HEADER_SIZE - RECORD_MAGIC.len(), 0x11);
            }
        }
    }
    (bytes, whole)
}

/// A disk with these bytes as its only file.
fn disk_with(bytes: &[u8]) -> SimDisk {
    let disk = World::calm().disk();
    let file = disk.create("segment", bytes.len() as u64, FileKind::Buffered).unwrap();
    disk.write_at(&file, bytes, 0).unwrap();
    disk
}

fn header(bytes: &[u8]) -> SegmentHeader {
    SegmentHeader { sequence: 1, salt: SALT, size: bytes.len() as u64 }
}

/// Everything that a scan finds, and the payloads of the records.
fn scanned(bytes: &[u8]) -> (Vec<(u64, Found)>, Vec<Vec<u8>>) {
    let disk = disk_with(bytes);
    let file = disk.open("segment", FileKind::Read).unwrap();
    let mut scan = Scan::new(&disk, &file, header(bytes));
    let (mut found, mut payloads) = (Vec::new(), Vec::new());
    while let Some((offset, thing)) = scan.next() {
        if let Found::Record(record) = thing {
            payloads.push(scan.payload(offset, &record).to_vec());
        }
        found.push((offset, thing));
    }
    assert!(scan.unreadable().is_none());
    (found, payloads)
}

fn things() -> impl Strategy<Value = Vec<Thing>> {
    let thing = prop_oneof![
        3 => any::<u64>().prop_map(Thing::Batch),
        4 => (0..3000_usize, any::<u8>()).prop_map(|(size, fill)| Thing::Record(size, fill)),
        2 => (1..300_usize, any::<u8>()).prop_map(|(steps, fill)| Thing::Junk(steps, fill)),
        1 => Just(Thing::Magic),
        // More than is read at once.
        1 => (65_000..70_000_usize).prop_map(|steps| Thing::Junk(steps, 0)),
    ];
    proptest::collection::vec(thing, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_that_is_whole_is_found_whatever_lies_between(things in things()) {
        let (bytes, whole) = written(&things);
        let (found, payloads) = scanned(&bytes);
        prop_assert_eq!(found, whole);
        let sizes = things.iter().filter_map(|thing| match thing {
            Thing::Record(size, fill) => Some(vec![*fill; *size]),
            _ => None,
        });
        prop_assert!(payloads.into_iter().eq(sizes));
    }

    #[test]
    fn a_segment_that_is_cut_off_shows_what_comes_before_the_cut(things in things(), cut in any::<proptest::sample::Index>()) {
        let (bytes, whole) = written(&things);
        let end = SEGMENT_HEADER_SIZE + cut.index(bytes.len() - SEGMENT_HEADER_SIZE + 1);
        let (found, payloads) = scanned(&bytes[..end]);
        // A record's header is found although not all of its payload is there.
        let expected: Vec<_> =
            whole.into_iter().filter(|(offset, _)| *offset + BATCH_HEADER_SIZE as u64 <= end as u64).collect();
        prop_assert_eq!(&found, &expected);
        let lengths = found.iter().filter_map(|(offset, thing)| match thing {
            Found::Record(record) => {
                let rest = end as u64 - *offset - RECORD_HEADER_SIZE as u64;
                Some(rest.min(u64::from(record.length)))
            }
            Found::Batch(_) => None,
        });
        prop_assert!(payloads.iter().map(|payload| payload.len() as u64).eq(lengths));
    }
}

#[test]
fn a_header_of_another_use_or_place_is_none() {
    let (bytes, whole) = written(&[Thing::Record(100, 1), Thing::Batch(3), Thing::Record(10, 2)]);
    let moved = [&bytes[..], &bytes[SEGMENT_HEADER_SIZE..]].concat();
    assert_eq!(scanned(&moved).0, whole, "a copy after them is no second one");
    let disk = disk_with(&bytes);
    let file = disk.open("segment", FileKind::Read).unwrap();
    let other = SegmentHeader { salt: SALT + 1, ..header(&bytes) };
    assert!(Scan::new(&disk, &file, other).next().is_none());
}

#[test]
fn where_nothing_can_be_read_the_first_place_is_named_and_the_scan_ends() {
    let (bytes, _) = written(&[Thing::Record(100, 1), Thing::Junk(100, 0)]);
    let disk = disk_with(&bytes);
    let file = disk.open("segment", FileKind::Read).unwrap();
    disk.world().set_broken("segment", true);
    let mut scan = Scan::new(&disk, &file, header(&bytes));
    assert!(scan.next().is_none());
    assert_eq!(scan.unreadable().map(|(place, _)| *place), Some(SEGMENT_HEADER_SIZE as u64));
}
