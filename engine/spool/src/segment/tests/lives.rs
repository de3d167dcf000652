//! Several runs of an engine: each finds what the one before left, and continues from there.

use super::*;
use mailrace_core::record::spool::Location;

use crate::reader::ReadError;
use crate::{Place, acknowledge};

#[test]
fn lives_that_write_a_mark_each_share_a_segment() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let ids: Vec<QueueId> = (0..10).map(|_| life.put_settled(&[b"parked and released"])).collect();
    drop(life.end());
    let files = disk.list("segments").unwrap().len();
    for round in 0..70 {
        let mut life = Life::begin(&disk);
        assert_eq!(life.report.damage, [], "round {round}");
        let mark = if round % 2 == 0 { Mark::Hold } else { Mark::Release };
        life.mark_settled(ids[round / 2 % 10], mark);
        // A kill now and then: then the next life finds the end.
        if round % 3 == 0 {
            drop(life.kill())
        } else {
            drop(life.end())
        };
    }
    // Seventy marks take a block of 4096 bytes each.
    let segments = disk.list("segments").unwrap().len();
    assert!(segments <= files + 6, "{segments} segments after, {files} before");
    assert_eq!(contents(&disk).len(), 10);
}

#[test]
fn salts_never_repeat() {
    let disk = World::calm().disk();
    let mut salts = Vec::new();
    for _ in 0..20 {
        let mut life = Life::begin(&disk);
        let id = life.put_settled(&[&[b'x'; 12_000]]);
        life.mark_settled(id, Mark::Done);
        drop(life.end());
        for name in disk.list("segments").unwrap() {
            disk.damage(&format!("segments/{name}"), |bytes| salts.push(bytes[16..32].to_vec()));
        }
    }
    // Sequence and salt: a use has one salt, and no two uses have the same.
    salts.retain(|salt| salt.iter().any(|byte| *byte != 0));
    salts.sort();
    salts.dedup();
    let mut only: Vec<&[u8]> = salts.iter().map(|salt| &salt[8..]).collect();
    only.sort_unstable();
    only.dedup();
    assert_eq!(only.len(), salts.len());
}

#[test]
fn a_queue_of_the_first_version_goes_on() {
    let disk = World::calm().disk();
    let segment = include_bytes!("../../../../../tests/format/v1.seg");
    disk.create("segments/0000000003.seg", 0, FileKind::Buffered).unwrap();
    disk.damage("segments/0000000003.seg", |bytes| *bytes = segment.to_vec());
    let mut life = Life::begin(&disk);
    assert_eq!((life.report.messages, &life.report.damage[..]), (2, &[][..]));
    let states: Vec<(QueueId, State)> =
        Queue::read(&disk, false).unwrap().ids().map(|(id, state, _)| (id, state)).collect();
    assert_eq!(states.iter().map(|(_, state)| *state).collect::<Vec<_>>(), [State::Incoming, State::Hold]);
    let new = life.put_settled(&[b"of the second version"]);
    drop(life.end());
    // What was of the first version is known like all else from now on.
    damage(&disk, "segments/0000000003.seg", 4096 + 64 + 100);
    let mut life = Life::begin(&disk);
    assert_eq!(life.report.messages, 2);
    assert!(life.report.damage.iter().any(|damage| damage.path == "segments/0000000003.seg"));
    for (id, ..) in states.into_iter().skip(1) {
        life.mark_settled(id, Mark::Done);
    }
    drop(life.end());
    assert_eq!(acknowledge(&disk).unwrap().len(), 1);
    let life = Life::begin(&disk);
    assert_eq!(life.report.damage, []);
    assert_eq!(contents(&disk).keys().copied().collect::<Vec<_>>(), [new]);
}

#[test]
fn a_manifest_has_room_for_any_number_of_segments() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let mut ids = Vec::new();
    // A segment has room for three such messages.
    for _ in 0..450 {
        life.keep();
        ids.push(life.put_settled(&[&[b'x'; 15_000]]));
    }
    let disk = life.cut_power();
    let life = Life::begin(&disk);
    assert_eq!((life.report.messages, &life.report.damage[..]), (450, &[][..]));
    assert!(life.report.segments > 128, "{} segments", life.report.segments);
}

#[test]
fn messages_and_marks_of_a_life_on_a_full_disk_go_where_room_is() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let ids: Vec<QueueId> = (0..3).map(|_| life.put_settled(&[b"small"])).collect();
    drop(life.end());
    disk.world().set_capacity(0);
    // The segment that the last life did not fill has room, and the manifest too.
    let mut life = Life::begin(&disk);
    ids.iter().for_each(|id| life.mark_settled(*id, Mark::Done));
    drop(life.end());
    assert_eq!(Life::begin(&disk).report.messages, 0);
}

#[test]
fn one_message_is_read_without_the_others() {
    let mut life = Life::begin(&World::calm().disk());
    let parts = [&[b'x'; 14_000][..], &[b'y'; 14_000], &[b'z'; 14_000], b"end"];
    let other = life.put_settled(&[b"of another"]);
    let id = life.put_large(&parts[..3], parts[3]);
    life.mark_settled(id, Mark::Hold);
    let place = life.spool.place(id).unwrap();
    assert_eq!((place.state, place.progress), (State::Hold, None));
    let queue = Queue::at(&life.disk, id, place).unwrap();
    assert_eq!(queue.ids().collect::<Vec<_>>(), [(id, State::Hold, 42_003)]);
    assert_eq!(queue.entry(id).unwrap().unwrap().envelope, envelope_of(id));
    let mut content = Vec::new();
    queue.content(id, &mut content).unwrap();
    assert_eq!(content, parts.concat());
    // What is at that place is no other message, and nothing is beside it.
    assert!(matches!(Queue::at(&life.disk, other, place), Err(ReadError::Gone)));
    let beside = Place { end: Location { offset: place.end.offset + 8, ..place.end }, ..place };
    assert!(matches!(Queue::at(&life.disk, id, beside), Err(ReadError::Gone)));
    life.mark_settled(id, Mark::Done);
    assert_eq!(life.spool.place(id), None);
}
