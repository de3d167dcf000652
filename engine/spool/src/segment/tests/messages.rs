//! Messages and marks of a life: what settled survives it, and nothing else does.

use super::*;

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
