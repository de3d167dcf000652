//! Marks about recipients: the last durable one of each message counts, and only that one keeps its segment.

use mailrace_core::record::delivery::{Cause, Deferral, Progress, RecipientState};

use super::*;

/// The progress of a message with one recipient, which was attempted this often.
fn attempted(attempts: u32) -> Progress {
    let deferral = Deferral {
        until: Timestamp::from_unix_microseconds(1_700_000_000_000_000 + u64::from(attempts)),
        attempts,
        cause: Cause::new(4, 4, 1, "connect to mx.example.com[192.0.2.1]:25: Connection refused"),
    };
    Progress::of(&[RecipientState::Deferred(deferral)]).unwrap()
}

/// How often the recipient of each message was attempted, as a reader finds it.
fn attempts(disk: &SimDisk) -> BTreeMap<QueueId, u32> {
    let queue = Queue::read(disk, false).unwrap();
    let ids: Vec<QueueId> = queue.ids().map(|(id, ..)| id).collect();
    let attempts = |id| {
        let progress = queue.entry(id).unwrap().unwrap().progress;
        match progress.states(1).unwrap()[0] {
            RecipientState::Untried => 0,
            RecipientState::Deferred(deferral) => deferral.attempts,
            state => panic!("never noted: {state:?}"),
        }
    };
    ids.into_iter().map(|id| (id, attempts(id))).collect()
}

impl Life {
    fn note_settled(&mut self, id: QueueId, attempts: u32) {
        self.spool.note(id, &attempted(attempts), 8).unwrap();
        assert_eq!(self.settle(), [(8, Ok(()))]);
    }
}

/// Fills segments with messages that stay: with few segments nothing is moved.
fn put_others(life: &mut Life) -> Vec<QueueId> {
    let put = |_| {
        life.keeper.step();
        life.put_settled(&[&[b'o'; 3000]])
    };
    (0..50).map(put).collect()
}

#[test]
fn marks_that_no_longer_count_keep_no_segment() {
    let mut life = Life::begin(&World::calm().disk());
    let ids: Vec<QueueId> = (0..3).map(|_| life.put_settled(&[b"deferred"])).collect();
    let others = put_others(&mut life);
    for round in 1..=200 {
        life.keep();
        // The second message is tried less often: its mark has to leave the segments of the others' marks.
        life.note_settled(ids[0], round);
        if round % 60 == 1 {
            life.note_settled(ids[1], round);
        }
        let passing = life.put_settled(&[b"passes"]);
        life.mark_settled(passing, Mark::Done);
        if round == 100 {
            let disk = life.kill();
            life = Life::begin(&disk);
            assert_eq!(life.report.damage, []);
        }
    }
    for _ in 0..10 {
        life.keep();
        life.settle();
    }
    for id in others {
        life.keep();
        life.mark_settled(id, Mark::Done);
    }
    let expected = BTreeMap::from([(ids[0], 200), (ids[1], 181), (ids[2], 0)]);
    assert_eq!(attempts(&life.disk), expected);
    let place = |life: &Life, id| life.spool.place(id).unwrap().progress;
    assert!(place(&life, ids[0]).is_some() && place(&life, ids[2]).is_none());
    let files = life.disk.list("segments").unwrap().len();
    assert!(files <= 14, "{files} segments for three messages");
    assert_eq!(life.spool.usage().parts_of_drafts, 0);
    let disk = life.cut_power();
    let mut life = Life::begin(&disk);
    assert_eq!(attempts(&disk), expected);
    // With the message its mark goes.
    life.mark_settled(ids[0], Mark::Done);
    assert_eq!(life.spool.usage().parts_of_drafts, 0);
    assert_eq!(life.spool.note(ids[0], &attempted(1), 1), Err(MarkError::NotFound));
}

#[test]
fn the_later_mark_counts_in_whatever_order_their_writes_end() {
    let mut life = Life::begin(&World::calm().disk());
    let id = life.put_settled(&[b"deferred twice"]);
    let mut writes = Vec::new();
    for attempts in [1, 2] {
        life.spool.note(id, &attempted(attempts), attempts.into()).unwrap();
        life.spool.advance(&mut life.io);
        life.io.wait(Some(Instant::default()), &mut writes).unwrap();
    }
    assert_eq!(writes.len(), 2);
    life.complete_in_reverse(writes);
    assert_eq!(life.settle(), [(2, Ok(())), (1, Ok(()))]);
    let place = life.spool.place(id).unwrap();
    let queue = Queue::at(&life.disk, id, place).unwrap();
    assert_eq!(queue.entry(id).unwrap().unwrap().progress, attempted(2));
    assert_eq!(life.spool.usage().parts_of_drafts, 0);
}

/// What a copy says must not hide what was noted while it was made.
#[test]
fn a_mark_made_while_the_one_before_it_is_moved_counts() {
    let mut life = Life::begin(&World::calm().disk());
    let id = life.put_settled(&[b"deferred"]);
    // They fill the first segment, and leave it to the message.
    let passing: Vec<QueueId> = (0..12).map(|_| life.put_settled(&[b"passes"])).collect();
    put_others(&mut life);
    for id in passing {
        life.keeper.step();
        life.mark_settled(id, Mark::Done);
    }
    life.note_settled(id, 1);
    let mut attempts_made = 1;
    for _ in 0..200 {
        life.keeper.step();
        let passing = life.put_settled(&[b"passes"]);
        life.mark_settled(passing, Mark::Done);
        let is_moving = life.spool.moving() == Some(id);
        life.opener.step();
        if is_moving {
            attempts_made += 1;
            life.note_settled(id, attempts_made);
        }
        assert_eq!(attempts(&life.disk)[&id], attempts_made);
    }
    assert!(attempts_made > 3, "moved {attempts_made} times");
}

/// A message whose segment is damaged may be repaired: what became of its recipients stays as long.
#[test]
fn a_mark_about_a_damaged_message_stays() {
    let mut life = Life::begin(&World::calm().disk());
    let id = life.put_settled(&[b"spoilt"]);
    // The segments of message and mark differ.
    (0..20).for_each(|_| {
        life.keep();
        life.put_settled(&[&[b'f'; 3000]]);
    });
    life.note_settled(id, 7);
    let disk = life.end();
    let (path, place) = find(&disk, b"spoilt");
    damage(&disk, &path, place);
    let mut life = Life::begin(&disk);
    assert_eq!(life.spool.place(id), None);
    for other in contents(&disk).into_keys() {
        life.keep();
        life.mark_settled(other, Mark::Done);
    }
    for _ in 0..100 {
        life.keep();
        let passing = life.put_settled(&[b"passes"]);
        life.mark_settled(passing, Mark::Done);
    }
    let disk = life.end();
    damage(&disk, &path, place);
    assert_eq!(attempts(&disk), BTreeMap::from([(id, 7)]));
}

#[derive(Clone, Debug)]
enum Deed {
    Put,
    Note(usize),
    End(usize),
    /// Messages that come and go, so that segments empty.
    Pass,
    Settle,
    Keep,
    FailWrites(u32),
    Kill,
    CutPower,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => Just(Deed::Put),
        6 => (0..4usize).prop_map(Deed::Note),
        1 => (0..4usize).prop_map(Deed::End),
        4 => Just(Deed::Pass),
        4 => Just(Deed::Settle),
        4 => Just(Deed::Keep),
        1 => (1..3u32).prop_map(Deed::FailWrites),
        1 => Just(Deed::Kill),
        1 => Just(Deed::CutPower),
    ]
}

/// What a message's marks said.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    durable: u32,
    given: u32,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever happens: a message's progress is never older than what was durable, nor newer than what was given.
    #[test]
    fn no_progress_is_lost_or_comes_back(deeds in proptest::collection::vec(deed(), 1..150)) {
        let disk = World::calm().disk();
        let mut life = Life::begin(&disk);
        let mut queued: BTreeMap<QueueId, Noted> = BTreeMap::new();
        let mut tags: BTreeMap<u64, (QueueId, Option<u32>)> = BTreeMap::new();
        let mut tag = 0;
        for deed in &deeds {
            tag += 1;
            let nth = |index: &usize| queued.keys().nth(*index).copied();
            match deed {
                Deed::Put => {
                    if let Ok(id) = life.put(&[b"deferred"], tag) {
                        tags.insert(tag, (id, None));
                    }
                }
                Deed::Note(index) => {
                    let Some(id) = nth(index) else { continue };
                    let noted = queued.get_mut(&id).unwrap();
                    if life.spool.note(id, &attempted(noted.given + 1), tag).is_ok() {
                        noted.given += 1;
                        tags.insert(tag, (id, Some(noted.given)));
                    }
                }
                Deed::End(index) => {
                    let Some(id) = nth(index) else { continue };
                    if life.spool.mark(id, Mark::Done, tag).is_ok() {
                        queued.remove(&id);
                    }
                }
                Deed::Pass => {
                    if let Ok(id) = life.put(&[&[b'p'; 4000]], tag) {
                        life.settle().into_iter().for_each(|(tag, result)| take(&mut queued, &mut tags, tag, result));
                        let _ = life.spool.mark(id, Mark::Done, tag);
                        queued.remove(&id);
                    }
                }
                Deed::Settle => {}
                Deed::Keep => life.keep(),
                Deed::FailWrites(count) => disk.fail_writes(*count),
                Deed::Kill | Deed::CutPower => {
                    let time = life.time;
                    drop(life);
                    if matches!(deed, Deed::CutPower) {
                        disk.cut_power();
                    }
                    disk.fail_writes(0);
                    life = Life::begin(&disk);
                    life.time = time;
                    prop_assert_eq!(&life.report.damage, &[]);
                    let found = attempts(&disk);
                    for (id, noted) in &mut queued {
                        let attempts = found.get(id).copied();
                        let is_possible = |attempts| (noted.durable..=noted.given).contains(&attempts);
                        prop_assert!(attempts.is_some_and(is_possible), "{:?}: {:?} is not in {:?}", id, attempts, noted);
                        *noted = Noted { durable: attempts.unwrap_or(0), given: noted.given };
                    }
                    tags.clear();
                }
            }
            if matches!(deed, Deed::Settle | Deed::FailWrites(_)) {
                life.settle().into_iter().for_each(|(tag, result)| take(&mut queued, &mut tags, tag, result));
            }
        }
    }
}

/// Takes note of what settled.
fn take(
    queued: &mut BTreeMap<QueueId, Noted>,
    tags: &mut BTreeMap<u64, (QueueId, Option<u32>)>,
    tag: u64,
    result: Result<(), SpoolError>,
) {
    match (tags.remove(&tag), result) {
        (Some((id, None)), Ok(())) => drop(queued.insert(id, Noted::default())),
        (Some((id, Some(attempts))), Ok(())) => {
            if let Some(noted) = queued.get_mut(&id) {
                noted.durable = noted.durable.max(attempts);
            }
        }
        _ => {}
    }
}
