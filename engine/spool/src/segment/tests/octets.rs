//! Damage to any byte, and a cut at any place: what is read is what was written, and what is lost is reported.

use super::damage::copy_of;
use super::*;

/// Messages of all kinds with marks about some, closed as an engine closes them. Returns what is in the queue.
fn closed_queue(disk: &SimDisk) -> BTreeMap<QueueId, (State, Vec<u8>)> {
    let mut life = Life::begin(disk);
    life.put_settled(&[b"From: a\r\n\r\nshort\r\n"]);
    let held = life.put_settled(&[b"From: b\r\n\r\n", b"in ", b"three pieces\r\n"]);
    let done = life.put_settled(&[b"over\r\n"]);
    let released = life.put_settled(&[&[b'r'; 300], b"end"]);
    life.mark_settled(held, Mark::Hold);
    life.mark_settled(done, Mark::Done);
    life.mark_settled(released, Mark::Hold);
    life.mark_settled(released, Mark::Release);
    life.put_settled(&[b"the last one\r\n"]);
    drop(life.end());
    contents(disk)
}

/// What a reader finds: the messages that it can read, and whether it reports anything as lost.
fn found(disk: &SimDisk) -> (BTreeMap<QueueId, (State, Vec<u8>)>, bool) {
    let queue = Queue::look(disk).unwrap();
    let mut is_reported = !queue.damage().is_empty();
    let mut messages = BTreeMap::new();
    let ids: Vec<_> = queue.ids().collect();
    for (id, state, size) in ids {
        let mut content = Vec::new();
        if queue.content(id, &mut content).is_ok() {
            assert_eq!(content.len() as u64, size);
            assert_eq!(queue.entry(id).unwrap().unwrap().envelope, envelope_of(id));
            messages.insert(id, (state, content));
        } else {
            is_reported = true;
        }
    }
    (messages, is_reported)
}

/// Where the records of a segment are: the bytes that are not zero, and one in 13 of those that are.
fn places(content: &[u8]) -> Vec<usize> {
    (0..content.len()).filter(|place| content[*place] != 0 || place % 13 == 0).collect()
}

/// The only segment that holds messages, and its bytes.
fn segment(disk: &SimDisk) -> (String, Vec<u8>) {
    let (path, _) = find(disk, b"the last one");
    let mut content = Vec::new();
    disk.damage(&path, |bytes| content.clone_from(bytes));
    (path, content)
}

/// A message whose mark was lost may be there as it was before the mark; nothing else may differ without a report.
fn check(disk: &SimDisk, expected: &BTreeMap<QueueId, (State, Vec<u8>)>, written: &[Vec<u8>], what: &str) {
    let (messages, is_reported) = found(disk);
    assert!(is_reported || messages == *expected, "{what}: {messages:?}");
    for (id, (_, content)) in messages {
        assert!(written.contains(&content), "{what}: {id:?} has {}", content.escape_ascii());
        assert!(expected.get(&id).is_none_or(|(_, whole)| *whole == content), "{what}: {id:?}");
    }
}

#[test]
fn a_changed_byte_changes_no_message_and_loses_none_in_silence() {
    let disk = World::calm().disk();
    let expected = closed_queue(&disk);
    let mut written: Vec<Vec<u8>> = expected.values().map(|(_, content)| content.clone()).collect();
    written.push(b"over\r\n".to_vec());
    let (path, whole) = segment(&disk);
    for place in places(&whole) {
        for bit in [0x01, 0x80] {
            disk.damage(&path, |bytes| bytes[place] ^= bit);
            check(&disk, &expected, &written, &format!("byte {place} ^ {bit:#x}"));
            disk.damage(&path, |bytes| bytes[place] ^= bit);
        }
    }
    assert_eq!(found(&disk), (expected, false), "every byte is back");
}

#[test]
fn a_segment_cut_off_anywhere_loses_no_message_in_silence() {
    let disk = World::calm().disk();
    let expected = closed_queue(&disk);
    let written: Vec<Vec<u8>> =
        expected.values().map(|(_, content)| content.clone()).chain([b"over\r\n".to_vec()]).collect();
    let (path, whole) = segment(&disk);
    for place in places(&whole) {
        disk.damage(&path, |bytes| bytes.truncate(place));
        check(&disk, &expected, &written, &format!("cut at {place}"));
        disk.damage(&path, |bytes| bytes.clone_from(&whole));
    }
}

#[test]
fn zeros_from_any_place_on_lose_no_message_in_silence() {
    let disk = World::calm().disk();
    let expected = closed_queue(&disk);
    let written: Vec<Vec<u8>> =
        expected.values().map(|(_, content)| content.clone()).chain([b"over\r\n".to_vec()]).collect();
    let (path, whole) = segment(&disk);
    for place in places(&whole) {
        disk.damage(&path, |bytes| bytes[place..].fill(0));
        check(&disk, &expected, &written, &format!("zeros from {place}"));
        disk.damage(&path, |bytes| bytes.clone_from(&whole));
    }
}

/// As a reader, so a start: with a few bytes of each kind of record, since it writes.
#[test]
fn a_start_reports_what_a_reader_misses() {
    let original = World::calm().disk();
    let expected = closed_queue(&original);
    let (path, whole) = segment(&original);
    for place in places(&whole).into_iter().step_by(17) {
        let disk = copy_of(&original);
        disk.damage(&path, |bytes| bytes[place] ^= 0x10);
        let seen = found(&disk);
        let life = Life::begin(&disk);
        assert_eq!(!life.report.damage.is_empty(), seen.1, "byte {place}: {:?}", life.report.damage);
        let now = found(&life.disk).0;
        assert_eq!(now, seen.0, "byte {place}");
        assert!(seen.1 || now == expected, "byte {place}");
    }
}
