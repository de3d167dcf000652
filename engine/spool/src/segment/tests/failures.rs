//! Failed writes, and disks that are full or gone: messages are refused, and none is lost or comes back.

use super::*;

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
