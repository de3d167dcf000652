//! The manifest's file: one whole version of it is always there, whatever fails while it is written.

use mailrace_core::record::manifest::{Entry, EntryState, Manifest};
use mailrace_core::record::spool::SegmentHeader;
use mailrace_io::sim::{Conditions, Crash, Fault, Faults, Random, SimDisk, World};

use super::*;
use crate::segment::manifest::{self, Found, ManifestFile};

/// A world in which only the test breaks anything.
fn world(seed: u64) -> World {
    let conditions = Conditions {
        is_direct: true,
        capacity: 1 << 20,
        receive_buffers: 1,
        receive_buffer_size: 1,
        send_window: 1,
        slots: 1,
        latency: std::time::Duration::ZERO,
        write_time: std::time::Duration::ZERO,
    };
    World::new(seed, conditions, Faults::new(&mut Random::new(seed, "faults"), &Fault::ALL), false)
}

const fn header(sequence: u64) -> SegmentHeader {
    SegmentHeader { sequence, salt: 7 * sequence, size: 64 << 10 }
}

/// The manifest of a new queue on a disk, not saved.
fn new(disk: &SimDisk) -> ManifestFile<SimDisk> {
    ManifestFile::new(disk.clone(), &Found::default(), Manifest::default())
}

/// What is on the disk, which must be whole.
fn read(disk: &SimDisk) -> Option<Manifest> {
    let found = manifest::read(disk).unwrap();
    assert_eq!(found.damage.as_ref().map(|damage| &damage.what), None);
    found.manifest
}

fn list(file: &mut ManifestFile<SimDisk>, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        file.list(header(sequence), &format!("segments/{sequence:010}.seg"));
    }
}

fn count(manifest: Option<Manifest>) -> usize {
    manifest.map_or(0, |manifest| manifest.entries.len())
}

#[test]
fn what_is_saved_reads_back() {
    let disk = world(1).disk();
    assert_eq!(read(&disk), None);
    let mut file = new(&disk);
    assert_eq!((file.next_sequence().unwrap(), file.next_sequence().unwrap()), (1, 2));
    list(&mut file, 1..=3);
    file.close(1, 8192, 5);
    file.empty(2);
    file.save().unwrap();
    assert!(!file.is_changed());
    let manifest = read(&disk).unwrap();
    let states: Vec<_> = manifest.entries.iter().map(|entry| (entry.records, entry.state)).collect();
    assert_eq!(states, [(5, EntryState::Closed), (0, EntryState::Emptied), (0, EntryState::Open)]);
    assert_eq!(manifest.next_sequence, 3);
    assert_eq!(manifest.entries[0].name, "0000000001.seg");
    // Going on from it.
    let mut file = ManifestFile::new(disk.clone(), &manifest::read(&disk).unwrap(), manifest);
    assert_eq!(file.next_sequence().unwrap(), 3);
    file.reopen(1, 4096, 2);
    file.forget(2);
    file.save().unwrap();
    let entries = read(&disk).unwrap().entries;
    let [Entry { end: 4096, records: 2, whole: 2, state: EntryState::Open, .. }, other] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!(other.header, header(3));
}

#[test]
fn what_changes_nothing_needs_no_save() {
    let disk = world(1).disk();
    let mut file = new(&disk);
    list(&mut file, 1..=2);
    file.empty(1);
    file.save().unwrap();
    file.empty(1);
    file.close(1, 9000, 9);
    file.close(7, 9000, 9);
    assert!(!file.is_changed(), "it is emptied already, the other one is not there");
    file.close(2, 9000, 9);
    assert!(file.is_changed());
}

#[test]
fn sequences_end() {
    let manifest = Manifest { next_sequence: u64::MAX, ..Manifest::default() };
    let mut file = ManifestFile::new(world(1).disk(), &Found::default(), manifest);
    assert!(file.next_sequence().is_err());
}

/// Saves two versions, the later one of `last` segments, with the power cut after each number of operations.
fn cut_everywhere(last: u64) {
    let mut landed = [0, 0];
    for seed in 0..40 {
        let is_over = (0..20).any(|operations| {
            let world = world(seed);
            let disk = world.disk();
            let mut file = new(&disk);
            list(&mut file, 1..=2);
            file.save().unwrap();
            list(&mut file, 3..=last);
            world.set_fuse(Some(operations));
            let is_saved = file.save().is_ok();
            let is_over = !world.is_over();
            world.crash(Crash::PowerCut);
            let found = count(read(&disk)) as u64;
            assert!(found == last || (found == 2 && !is_saved), "{found} segments, saved: {is_saved}");
            landed[usize::from(found == last)] += 1;
            is_over
        });
        assert!(is_over, "saving has an end");
    }
    assert!(landed.iter().all(|count| *count >= 40), "{landed:?}");
}

#[test]
fn a_power_cut_while_a_slot_is_written_leaves_a_whole_version() {
    cut_everywhere(5);
}

#[test]
fn a_power_cut_while_the_file_is_replaced_leaves_a_whole_version() {
    cut_everywhere(300);
}

#[test]
fn a_first_manifest_is_there_whole_or_not_at_all() {
    for operations in 0..12 {
        let world = world(operations);
        let disk = world.disk();
        let mut file = new(&disk);
        list(&mut file, 1..=2);
        world.set_fuse(Some(operations));
        let is_saved = file.save().is_ok();
        world.crash(Crash::PowerCut);
        let found = count(read(&disk));
        assert!(found == 2 || (found == 0 && !is_saved), "{found} segments after {operations} operations");
    }
}

#[test]
fn one_that_was_saved_twice_outlives_either_slot() {
    let disk = world(1).disk();
    let mut file = new(&disk);
    list(&mut file, 1..=3);
    file.save().unwrap();
    file.save_twice().unwrap();
    let written = disk.open("manifest", FileKind::Buffered).unwrap();
    let slot = disk.size(&written).unwrap() / 2;
    for place in [0, slot] {
        let mut kept = vec![0; 512];
        assert_eq!(disk.read_at(&written, &mut kept, place).unwrap(), 512);
        disk.write_at(&written, &[0xff; 512], place).unwrap();
        assert_eq!(count(manifest::read(&disk).unwrap().manifest), 3);
        disk.write_at(&written, &kept, place).unwrap();
    }
}

#[test]
fn a_full_disk_keeps_the_version_before() {
    let world = world(1);
    let disk = world.disk();
    let mut file = new(&disk);
    list(&mut file, 1..=2);
    file.save().unwrap();
    world.set_capacity(0);
    // Nothing is allocated for what has room in a slot.
    file.empty(1);
    file.save().unwrap();
    list(&mut file, 3..=300);
    assert_eq!(file.save().unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert!(file.is_changed());
    assert_eq!(count(read(&disk)), 2);
    world.set_capacity(1 << 20);
    file.save().unwrap();
    assert_eq!(count(read(&disk)), 300);
}
