//! Damage to the files of a queue: what is lost is reported with its place, and kept for repair.

use mailrace_core::record::manifest::EntryState;

use super::*;
use crate::acknowledge;
use crate::segment::manifest;

const LIVES: usize = 3;

/// Three lives, each with messages, and marks about messages of this life and the one before. Returns the messages.
fn three_lives(disk: &SimDisk) -> Vec<QueueId> {
    let mut ids: Vec<QueueId> = Vec::new();
    for round in 0..LIVES {
        let mut life = Life::begin(disk);
        assert_eq!(life.report.damage, []);
        let content = vec![b'a' + u8::try_from(round).unwrap(); 9000];
        let new: Vec<QueueId> = (0..12)
            .map(|_| {
                life.keep();
                life.put_settled(&[&content])
            })
            .collect();
        for id in ids.iter().rev().take(2).chain(new.iter().step_by(4)) {
            life.mark_settled(*id, Mark::Hold);
        }
        ids.extend(new);
        drop(life.end());
    }
    ids
}

/// The segments that hold messages, as the manifest lists them.
fn used(disk: &SimDisk) -> Vec<String> {
    let mut paths = Vec::new();
    for name in disk.list("segments").unwrap() {
        let path = format!("segments/{name}");
        let mut is_used = false;
        disk.damage(&path, |bytes| is_used = bytes[4096] != 0 && bytes[0] != 0);
        if is_used {
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

fn file(disk: &SimDisk, path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    disk.damage(path, |bytes| content.clone_from(bytes));
    content
}

fn put_file(disk: &SimDisk, path: &str, content: &[u8]) {
    drop(disk.create(path, 0, FileKind::Buffered).unwrap());
    disk.damage(path, |bytes| *bytes = content.to_vec());
}

/// Damages each segment in turn, and checks that the start reports it, says it as known from then on, loses nothing else,
/// and leaves the file as it is; and that an acknowledgement ends that.
fn is_reported(what: &[DamageKind], change: impl Fn(&SimDisk, &str)) {
    let original = World::calm().disk();
    three_lives(&original);
    let before = contents(&original);
    for path in used(&original) {
        let disk = copy_of(&original);
        change(&disk, &path);
        let is_there = disk.list("segments").unwrap().iter().any(|name| path.ends_with(name.as_str()));
        let damaged = is_there.then(|| file(&disk, &path));
        let mut life = Life::begin(&disk);
        let found: Vec<&DamageKind> = life.report.damage.iter().map(|damage| &damage.what).collect();
        assert!(
            life.report.damage.iter().all(|damage| damage.path == path),
            "{path}: {:?}",
            life.report.damage
        );
        assert!(!found.is_empty() && found.iter().all(|found| what.contains(found)), "{path}: {found:?}");
        let now = contents(&disk);
        assert!(now.iter().all(|(id, (_, content))| before[id].1 == *content));
        // It goes on, and empties what it has.
        for id in now.into_keys() {
            life.mark_settled(id, Mark::Done);
            life.keep();
        }
        for _ in 0..20 {
            life.keep();
            let id = life.put_settled(&[&[b'n'; 9000]]);
            life.mark_settled(id, Mark::Done);
        }
        drop(life.end());
        if let Some(damaged) = damaged {
            assert!(file(&disk, &path) == damaged, "{path} was changed");
        }
        let life = Life::begin(&disk);
        assert_eq!(life.report.messages, 0);
        assert!(life.report.damage.iter().all(|damage| damage.is_known || what.contains(&damage.what)));
        drop(life.end());
        assert!(!acknowledge(&disk).unwrap().is_empty());
        let life = Life::begin(&disk);
        let is_left = |damage: &&Damage| damage.what != DamageKind::SegmentHeader;
        assert_eq!(life.report.damage.iter().find(is_left), None, "{path}");
        assert_eq!(life.report.messages, 0, "{path}: nothing comes back");
    }
}

/// Another disk with the same files.
pub(super) fn copy_of(disk: &SimDisk) -> SimDisk {
    let copy = World::calm().disk();
    for name in disk.list("segments").unwrap() {
        let path = format!("segments/{name}");
        put_file(&copy, &path, &file(disk, &path));
    }
    put_file(&copy, "manifest", &file(disk, "manifest"));
    copy
}

#[test]
fn a_segment_that_was_deleted_is_missed() {
    is_reported(&[DamageKind::NoSegment], |disk, path| disk.remove(path).unwrap());
}

#[test]
fn a_segment_whose_header_was_overwritten_is_missed_and_not_used_again() {
    is_reported(&[DamageKind::Emptied, DamageKind::NoSegment], |disk, path| {
        disk.damage(path, |bytes| bytes[..4096].fill(0));
    });
}

#[test]
fn a_segment_whose_header_is_damaged_is_missed() {
    let what = [DamageKind::SegmentHeader, DamageKind::NoSegment];
    is_reported(&what, |disk, path| damage(disk, path, 20));
    is_reported(&what, |disk, path| damage(disk, path, 50));
    is_reported(&what, |disk, path| disk.damage(path, |bytes| bytes.truncate(40)));
    is_reported(&what, |disk, path| disk.damage(path, Vec::clear));
}

#[test]
fn each_record_that_is_damaged_is_reported() {
    let what = [DamageKind::Records, DamageKind::Missing(1)];
    // The payload of the last record, a lone mark among them.
    is_reported(&what, |disk, path| {
        disk.damage(path, |bytes| {
            let last =
                (4096..bytes.len() - 64).rev().find(|at| bytes[*at..].starts_with(b"\xB7MrR")).unwrap();
            bytes[last + 64] ^= 1;
        });
    });
}

#[test]
fn a_segment_that_was_cut_off_is_reported() {
    let what = [DamageKind::Shortened, DamageKind::Records, DamageKind::BatchHeader];
    is_reported(&what, |disk, path| disk.damage(path, |bytes| bytes.truncate(4096 + 1000)));
}

#[test]
fn a_batch_that_is_gone_without_a_trace_is_reported() {
    let what = [DamageKind::BatchHeader, DamageKind::Missing(1)];
    is_reported(&what, |disk, path| {
        disk.damage(path, |bytes| {
            let is_batch = |at: &usize| bytes[*at..].starts_with(b"\xB7MrB");
            let last = (4096..bytes.len() - 64).step_by(4096).rev().find(is_batch).unwrap();
            bytes[last..].fill(0);
        });
    });
}

/// A batch of which a later one knows, and the last of a life before, of which none does.
#[test]
fn each_batch_that_is_gone_is_reported_whatever_else_is() {
    let disk = World::calm().disk();
    for _ in 0..2 {
        let mut life = Life::begin(&disk);
        for _ in 0..3 {
            life.put_settled(&[b"text"]);
        }
        drop(life.end());
    }
    drop(Life::begin(&disk).end());
    let [path] = &used(&disk)[..] else { panic!("both lives write to one segment") };
    let content = file(&disk, path);
    let is_batch = |at: &usize| content[*at..].starts_with(b"\xB7MrB");
    let batches: Vec<usize> = (4096..content.len()).step_by(4096).filter(is_batch).collect();
    let [_, _, last_of_first, _, middle_of_second, _] = batches[..] else { panic!("{batches:?}") };
    let gone = [last_of_first, middle_of_second];
    disk.damage(path, |bytes| gone.iter().for_each(|at| bytes[*at..*at + 4096].fill(0)));
    let report = Life::begin(&disk).report;
    let told: Vec<u64> = report.damage.iter().map(|damage| damage.offset).collect();
    assert_eq!(told, gone.map(|at| at as u64), "{:?}", report.damage);
    assert_eq!(report.messages, 4);
}

/// The last batches of a segment, of the last of which a record is left.
#[test]
fn what_is_gone_at_the_end_is_reported_from_where_it_begins() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    for _ in 0..4 {
        life.put_settled(&[b"text"]);
    }
    drop(life.end());
    drop(Life::begin(&disk).end());
    let [path] = &used(&disk)[..] else { panic!("all is in one segment") };
    let content = file(&disk, path);
    let is_batch = |at: &usize| content[*at..].starts_with(b"\xB7MrB");
    let batches: Vec<usize> = (4096..content.len()).step_by(4096).filter(is_batch).collect();
    let [_, _, third, fourth] = batches[..] else { panic!("{batches:?}") };
    disk.damage(path, |bytes| {
        bytes[third..third + 4096].fill(0);
        bytes[fourth..fourth + 64].fill(0);
    });
    let report = Life::begin(&disk).report;
    let told: Vec<u64> = report.damage.iter().map(|damage| damage.offset).collect();
    assert_eq!(told, [third as u64], "{:?}", report.damage);
}

#[test]
fn an_older_copy_of_a_segment_is_known_as_such() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let first = life.put_settled(&[b"in the copy"]);
    drop(life.end());
    let path = used(&disk).remove(0);
    let old = file(&disk, &path);
    let mut life = Life::begin(&disk);
    let second = life.put_settled(&[b"not in the copy"]);
    life.mark_settled(first, Mark::Done);
    drop(life.end());
    assert_eq!(used(&disk), std::slice::from_ref(&path), "it went on in the same segment");
    disk.damage(&path, |bytes| *bytes = old);
    let life = Life::begin(&disk);
    assert!(life.report.damage.iter().any(|damage| damage.path == path), "{:?}", life.report.damage);
    let now = contents(&disk);
    assert!(now.contains_key(&first) && !now.contains_key(&second));
}

/// All messages of a segment are done, it is emptied, and a copy of it comes back.
#[test]
fn a_copy_of_a_segment_that_was_emptied_since_brings_nothing_back() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let ids: Vec<QueueId> = (0..3).map(|_| life.put_settled(&[&[b'x'; 14_000]])).collect();
    let path = used(&disk).remove(0);
    let old = file(&disk, &path);
    for id in ids {
        life.mark_settled(id, Mark::Done);
    }
    for _ in 0..30 {
        life.keep();
        let id = life.put_settled(&[&[b'y'; 14_000]]);
        life.mark_settled(id, Mark::Done);
    }
    drop(life.end());
    for copy in ["segments/0000000000.seg", "segments/copy.seg", "segments/4611686018427387905.seg"] {
        put_file(&disk, copy, &old);
        let life = Life::begin(&disk);
        assert_eq!((life.report.messages, &life.report.damage[..]), (0, &[][..]), "{copy}");
        let what = "an old copy of a segment";
        assert_eq!(life.report.strangers, [Stranger { path: copy.to_owned(), what }]);
        drop(life.end());
        assert!(file(&disk, copy) == old, "{copy} was changed");
        disk.remove(copy).unwrap();
    }
}

/// A copy under an earlier name, which a listing shows first, is not taken for the segment: else the segment comes back
/// when the copy is emptied.
#[test]
fn a_copy_does_not_shadow_the_segment() {
    for copy in ["segments/0000000000.seg", "segments/9999999999.seg", "segments/a.seg"] {
        let disk = World::calm().disk();
        three_lives(&disk);
        let before = contents(&disk);
        for path in used(&disk) {
            let disk = copy_of(&disk);
            put_file(&disk, copy, &file(&disk, &path));
            let mut life = Life::begin(&disk);
            assert_eq!((contents(&disk) == before, &life.report.damage[..]), (true, &[][..]));
            for id in before.keys() {
                life.mark_settled(*id, Mark::Done);
                life.keep();
            }
            drop(life.end());
            let life = Life::begin(&disk);
            assert_eq!((life.report.messages, &life.report.damage[..]), (0, &[][..]), "{copy} of {path}");
        }
    }
}

#[test]
fn names_mean_nothing() {
    let original = World::calm().disk();
    three_lives(&original);
    let before = contents(&original);
    let names = original.list("segments").unwrap();
    for (one, two) in names.iter().zip(names.iter().skip(1)) {
        let disk = copy_of(&original);
        let [one, two] = [one, two].map(|name| format!("segments/{name}"));
        disk.rename(&one, "aside").unwrap();
        disk.rename(&two, &one).unwrap();
        disk.rename("aside", &two).unwrap();
        let life = Life::begin(&disk);
        assert_eq!(life.report.damage, []);
        assert!(contents(&disk) == before);
    }
}

#[test]
fn files_that_no_engine_made_are_left_alone() {
    let original = World::calm().disk();
    three_lives(&original);
    let before = contents(&original);
    let head = file(&original, &used(&original)[0])[..5000].to_vec();
    let names = [
        "junk.seg",
        "x.new",
        ".seg",
        "-1.seg",
        "0.seg",
        "+0000000001.seg",
        "18446744073709551615.seg",
        "1.seg",
    ];
    for name in names {
        let noise: Vec<u8> = (0..8192u32).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
        for content in [vec![], b"MAILRACE".to_vec(), vec![0; 4096], noise, head.clone()] {
            let disk = copy_of(&original);
            let path = format!("segments/{name}");
            put_file(&disk, &path, &content);
            let mut life = Life::begin(&disk);
            assert_eq!((contents(&disk) == before, &life.report.damage[..]), (true, &[][..]), "{name}");
            let is_named = life.report.strangers.iter().any(|stranger| stranger.path == path);
            assert!(is_named || name == "x.new", "{name}");
            for _ in 0..12 {
                life.keep();
                life.put_settled(&[&[b'n'; 9000]]);
            }
            drop(life.end());
            assert!(file(&disk, &path) == content, "{name} was changed");
            assert_eq!(contents(&disk).len(), before.len() + 12);
        }
    }
}

#[test]
fn a_manifest_that_is_gone_damaged_or_older_is_reported_and_nothing_is_lost() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    life.put_settled(&[b"of the first life"]);
    drop(life.end());
    let old = file(&disk, "manifest");
    three_lives(&disk);
    let before = contents(&disk);
    type Change<'a> = (DamageKind, &'a dyn Fn(&SimDisk));
    let changes: [Change<'_>; 4] = [
        (DamageKind::NoManifest, &|disk| disk.remove("manifest").unwrap()),
        (DamageKind::Manifest, &|disk| disk.damage("manifest", |bytes| bytes.fill(7))),
        (DamageKind::Manifest, &|disk| disk.damage("manifest", Vec::clear)),
        (DamageKind::OldManifest, &|disk| disk.damage("manifest", |bytes| bytes.clone_from(&old))),
    ];
    for (what, change) in changes {
        let disk = copy_of(&disk);
        change(&disk);
        let life = Life::begin(&disk);
        let path = "manifest".to_owned();
        assert_eq!(life.report.damage, [Damage { path, offset: 0, what, is_known: false }]);
        assert!(contents(&disk) == before);
        drop(life.end());
        assert_eq!(Life::begin(&disk).report.damage, []);
    }
}

/// An engine continues with the file that has the name, unless it is not one of its own.
#[test]
fn a_manifest_that_is_replaced_while_an_engine_runs_is_brought_up_to_date() {
    type Change<'a> = &'a dyn Fn(&SimDisk, &[u8]);
    let changes: [Change<'_>; 3] = [
        &|disk, old| {
            disk.remove("manifest").unwrap();
            put_file(disk, "manifest", old);
        },
        &|disk, _| disk.remove("manifest").unwrap(),
        &|disk, _| {
            disk.remove("manifest").unwrap();
            put_file(disk, "manifest", b"short");
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        let disk = World::calm().disk();
        let mut life = Life::begin(&disk);
        let old = file(&disk, "manifest");
        life.put_settled(&[&[b'x'; 9000]]);
        change(&disk, &old);
        for _ in 0..12 {
            life.keep();
            life.put_settled(&[&[b'x'; 9000]]);
        }
        drop(life.end());
        let life = Life::begin(&disk);
        assert_eq!((life.report.messages, &life.report.damage[..]), (13, &[][..]), "change {index}");
    }
}

#[test]
fn one_slot_of_the_manifest_is_enough() {
    let disk = World::calm().disk();
    three_lives(&disk);
    let before = contents(&disk);
    let size = file(&disk, "manifest").len();
    for slot in [0..size / 2, size / 2..size] {
        let disk = copy_of(&disk);
        disk.damage("manifest", |bytes| bytes[slot].fill(0));
        drop(Life::begin(&disk));
        assert!(contents(&disk) == before);
    }
}

/// Both slots say the same when an engine has ended, so that a start knows all that there was, whichever is damaged.
#[test]
fn what_is_lost_is_reported_although_a_slot_of_the_manifest_is_damaged_too() {
    let original = World::calm().disk();
    three_lives(&original);
    let size = file(&original, "manifest").len();
    for path in used(&original) {
        for slot in [0, size / 2] {
            let disk = copy_of(&original);
            disk.damage(&path, |bytes| {
                let is_record = |at: &usize| bytes[*at..].starts_with(b"\xB7MrR");
                let last = (4096..bytes.len() - 64).rev().find(is_record).unwrap();
                bytes[last + 64] ^= 1;
            });
            disk.damage("manifest", |bytes| bytes[slot + 70] ^= 1);
            let life = Life::begin(&disk);
            let is_named = life.report.damage.iter().any(|damage| damage.path == path);
            assert!(is_named, "{path}, slot at {slot}: {:?}", life.report.damage);
        }
    }
}

#[test]
fn a_segment_that_cannot_be_read_costs_what_is_in_it_and_for_as_long() {
    let original = World::calm().disk();
    three_lives(&original);
    let before = contents(&original);
    for path in used(&original) {
        let disk = copy_of(&original);
        disk.world().set_broken(&path, true);
        let mut life = Life::begin(&disk);
        assert!(
            matches!(&life.report.damage[..], [Damage { path: found, what: DamageKind::Unreadable(_), .. }] if *found == path),
            "{:?}",
            life.report.damage
        );
        let now = contents(&disk);
        assert!(!now.is_empty() && now.len() <= before.len());
        for id in now.keys() {
            life.mark_settled(*id, Mark::Done);
            life.keep();
        }
        drop(life.end());
        // The disk reads again, and everything is as it was left; also what had been marked in other segments.
        disk.world().set_broken(&path, false);
        let life = Life::begin(&disk);
        assert_eq!(life.report.damage, []);
        let rest = contents(&disk);
        assert_eq!(rest.len() + now.len(), before.len());
        assert!(rest.iter().all(|(id, message)| before[id] == *message && !now.contains_key(id)));
    }
}

/// Made anew, the manifest would not list the segment, which would then be an old copy for good.
#[test]
fn no_start_makes_a_manifest_without_a_segment_that_it_cannot_read() {
    type Change<'a> = &'a dyn Fn(&SimDisk);
    let original = World::calm().disk();
    three_lives(&original);
    let before = contents(&original);
    let changes: [(Change<'_>, Change<'_>); 3] = [
        (&|disk| disk.remove("manifest").unwrap(), &|_| {}),
        (&|disk| disk.damage("manifest", |bytes| bytes.fill(7)), &|_| {}),
        (&|disk| disk.world().set_broken("manifest", true), &|disk| {
            disk.world().set_broken("manifest", false)
        }),
    ];
    for (change, repair) in changes {
        for path in used(&original) {
            let disk = copy_of(&original);
            change(&disk);
            disk.world().set_broken(&path, true);
            let expected =
                |error| matches!(error, OpenError::Unidentified { path: found, .. } if found == path);
            assert!(expected(open(&disk, &SETTINGS, 1).unwrap_err()), "{path}");
            assert!(expected(acknowledge(&disk).unwrap_err()), "{path}");
            disk.world().set_broken(&path, false);
            repair(&disk);
            drop(Life::begin(&disk).end());
            assert!(contents(&disk) == before, "{path}");
        }
    }
}

/// An engine is killed before it has erased an emptied segment, and the next one cannot read it.
#[test]
fn an_emptied_segment_that_cannot_be_read_is_erased_later() {
    let disk = World::calm().disk();
    three_lives(&disk);
    let path = used(&disk).remove(0);
    let found = manifest::read(&disk).unwrap();
    let mut emptied = found.manifest.clone().unwrap();
    let entry = emptied.entries.iter_mut().find(|entry| manifest::path_of(entry) == path).unwrap();
    entry.state = EntryState::Emptied;
    manifest::ManifestFile::new(disk.clone(), &found, emptied).save().unwrap();
    disk.world().set_broken(&path, true);
    let life = Life::begin(&disk);
    assert!(life.report.damage.iter().any(|damage| damage.path == path), "{:?}", life.report.damage);
    let messages = life.report.messages;
    drop(life.end());
    disk.world().set_broken(&path, false);
    for _ in 0..2 {
        let life = Life::begin(&disk);
        assert_eq!((&life.report.damage[..], &life.report.strangers[..]), (&[][..], &[][..]));
        assert_eq!(life.report.messages, messages);
        drop(life.end());
    }
}

/// With one look at a time: what an engine does beside it is no damage.
#[test]
fn a_reader_tells_what_a_start_would() {
    let disk = World::calm().disk();
    three_lives(&disk);
    let path = used(&disk).remove(1);
    damage(&disk, &path, 4096 + 64 + 64);
    let seen: Vec<Damage> = Queue::look(&disk).unwrap().damage().to_vec();
    assert_eq!(Queue::look(&disk).unwrap().damage(), seen, "it changes nothing");
    let life = Life::begin(&disk);
    assert_eq!(life.report.damage, seen);
    let beside = Queue::look(&disk).unwrap();
    assert!(beside.damage().iter().all(|damage| damage.is_known && damage.path == path));
    assert_eq!(beside.damage().len(), 1);
}
