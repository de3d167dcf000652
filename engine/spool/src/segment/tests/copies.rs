//! Messages that were moved, and the marks that end them.

use super::*;

/// Number of segments that have this.
fn segments_with(disk: &SimDisk, needle: &[u8]) -> usize {
    let mut count = 0;
    for name in disk.list("segments").unwrap() {
        disk.damage(&format!("segments/{name}"), |bytes| {
            count += usize::from(bytes.windows(needle.len()).any(|window| window == needle));
        });
    }
    count
}

/// A damaged segment stays as it is, with the records of what was moved out of it: the mark that ends such a message has to
/// stay for as long, whether it was made in the life that moved the message or in a later one.
#[test]
fn what_was_moved_out_of_a_damaged_segment_stays_done() {
    for has_later_life in [false, true] {
        let mut life = Life::begin(&World::calm().disk());
        let put = |life: &mut Life, count: usize| -> Vec<QueueId> {
            life.keep();
            (0..count).map(|_| life.put_settled(&[b"small"])).collect()
        };
        // A segment has room for 15 such batches; the first of four is to be left.
        let moved = life.put_settled(&[b"moved in time"]);
        let spoilt = life.put_settled(&[b"spoilt"]);
        let passing = put(&mut life, 13);
        let mut others: Vec<QueueId> = (0..3).flat_map(|_| put(&mut life, 15)).collect();
        let disk = life.end();
        let (path, place) = find(&disk, b"spoilt");
        damage(&disk, &path, place);
        let mut life = Life::begin(&disk);
        assert_eq!(life.spool.mark(spoilt, Mark::Done, 9), Err(MarkError::NotFound));
        for id in passing {
            life.keeper.step();
            life.mark_settled(id, Mark::Done);
        }
        // Those marks stay for as long as their segment; the copy goes to another one.
        for _ in 0..16 {
            life.keeper.step();
            others.push(life.put_settled(&[b"small"]));
        }
        for _ in 0..10 {
            life.keep();
            life.settle();
        }
        assert_eq!(segments_with(&disk, b"moved in time"), 2);
        if has_later_life {
            let disk = life.kill();
            life = Life::begin(&disk);
        }
        others.push(moved);
        for id in others {
            life.keep();
            life.mark_settled(id, Mark::Done);
        }
        // The segments with the marks are reused, unless they have to stay.
        for _ in 0..100 {
            life.keep();
            let id = life.put_settled(&[b"small"]);
            life.mark_settled(id, Mark::Done);
        }
        let disk = life.kill();
        let life = Life::begin(&disk);
        assert_eq!(life.report.messages, 0);
    }
}

/// A client that gives content up must not keep it on the disk with a small message beside it that stays.
#[test]
fn content_that_was_given_up_does_not_stay_with_messages_that_do() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let mut kept = Vec::new();
    for _ in 0..12 {
        life.keep();
        kept.push(life.put_settled(&[b"stays"]));
        life.time += 1;
        let id = life.spool.next_id(Timestamp::from_unix_microseconds(life.time));
        let mut draft = life.spool.begin(id);
        for _ in 0..3 {
            while life.spool.append(&mut draft, &[&[b'g'; 14_000]]) == Err(Refusal::Busy) {
                life.step();
                life.keep();
            }
        }
        life.settle();
        life.spool.abandon(draft);
        life.settle();
    }
    for _ in 0..30 {
        life.keep();
        life.settle();
    }
    assert_eq!(contents(&disk).keys().copied().collect::<Vec<_>>(), kept);
    // Those that are kept for the next use among them; there would be one for each round.
    assert!(disk.list("segments").unwrap().len() <= 8);
}

/// Puts small messages, each in a batch of its own; a segment has room for [`BATCHES`] of them.
fn put_each(life: &mut Life, count: usize) -> Vec<QueueId> {
    life.keeper.step();
    (0..count).map(|_| life.put_settled(&[b"small"])).collect()
}

/// Marks messages as done, each in a batch of its own.
fn end_each(life: &mut Life, ids: Vec<QueueId>) {
    life.keeper.step();
    ids.into_iter().for_each(|id| life.mark_settled(id, Mark::Done));
}

/// Fills the segment that is written, with messages that end: with them it empties, if no mark in it is needed.
fn fill_and_empty(life: &mut Life, count: usize) {
    let passing = put_each(life, count);
    end_each(life, passing);
    for _ in 0..3 {
        life.keeper.step();
        life.settle();
    }
}

/// Number of small batches in a segment.
const BATCHES: usize = 15;

/// A message is marked as done while a copy of it is being written. The copy's segment stays, with other messages; the mark
/// is in a later one, and has to stay for as long.
#[test]
fn a_mark_made_while_a_copy_is_written_ends_the_copy_too() {
    let mut life = Life::begin(&World::calm().disk());
    let moved = life.put_settled(&[b"moved in time"]);
    let passing = put_each(&mut life, BATCHES - 1);
    (0..2).for_each(|_| drop(put_each(&mut life, BATCHES)));
    end_each(&mut life, passing);
    assert!(life.spool.usage().is_moving);
    // The copy will be the last batch of its segment.
    put_each(&mut life, BATCHES);
    life.io.hold_writes();
    life.opener.step();
    (0..3).for_each(|_| life.step());
    life.keeper.step();
    life.spool.mark(moved, Mark::Done, 9).unwrap();
    life.step();
    life.io.release_writes();
    assert_eq!(life.settle(), [(9, Ok(()))]);
    assert_eq!(segments_with(&life.disk, b"moved in time"), 2);
    fill_and_empty(&mut life, BATCHES - 1);
    let disk = life.kill();
    assert!(!contents(&disk).contains_key(&moved));
    assert_eq!(contents(&disk).len(), 3 * BATCHES);
}

#[test]
fn a_move_whose_segment_cannot_be_opened_ends_at_once() {
    let mut life = Life::begin(&World::calm().disk());
    life.put_settled(&[b"stays where it is"]);
    let passing = put_each(&mut life, BATCHES - 1);
    (0..2).for_each(|_| drop(put_each(&mut life, BATCHES)));
    end_each(&mut life, passing);
    assert!(life.spool.usage().is_moving);
    let names = life.disk.list("segments").unwrap();
    let rename = |from: &str, to: &str| {
        for name in &names {
            life.disk.rename(&format!("segments/{name}{from}"), &format!("segments/{name}{to}")).unwrap();
        }
    };
    rename("", ".away");
    life.opener.step();
    rename(".away", "");
    life.step();
    assert!(!life.spool.usage().is_moving, "nothing wakes the worker once more");
}

/// A write fails, and its message is on the disk all the same, in a segment that stays for others. The mark that takes it out
/// is in a later one, and has to stay for as long.
#[test]
fn a_message_whose_write_failed_stays_out_for_as_long_as_its_segment_stays() {
    let mut life = Life::begin(&World::calm().disk());
    let stays = put_each(&mut life, 1)[0];
    life.disk.fail_writes(1);
    // The first half of what fails is written: enough for the first of these.
    let failed = life.put(&[b"refused"], 5).unwrap();
    life.put(&[&[b'x'; 5000]], 6).unwrap();
    let settled = life.settle();
    assert_eq!(settled, [(5, Err(SpoolError)), (6, Err(SpoolError))]);
    fill_and_empty(&mut life, BATCHES - 1);
    let disk = life.kill();
    assert_eq!(segments_with(&disk, b"refused"), 1);
    assert!(!contents(&disk).contains_key(&failed));
    assert_eq!(contents(&disk).into_keys().collect::<Vec<_>>(), [stays]);
}
