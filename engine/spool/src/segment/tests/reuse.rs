//! Reuse of segments: the queue moves the messages that stay, and no old one comes back.

use super::*;

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
