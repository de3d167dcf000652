//! Damaged records and batches: the start reports what is lost, and finds all that is whole.

use super::*;

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
