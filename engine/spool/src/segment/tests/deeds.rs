//! Any order of messages, marks, failed writes and power failures.

use super::*;

#[derive(Clone, Debug)]
enum Deed {
    Put(Vec<u16>),
    Mark(usize, bool),
    Settle,
    Keep,
    FailWrites(u32),
    Kill,
    CutPower,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => proptest::collection::vec(0u16..6000, 1..6).prop_map(Deed::Put),
        4 => (0usize..50, any::<bool>()).prop_map(|(index, is_done)| Deed::Mark(index, is_done)),
        4 => Just(Deed::Settle),
        4 => Just(Deed::Keep),
        1 => (1u32..3).prop_map(Deed::FailWrites),
        1 => Just(Deed::Kill),
        1 => Just(Deed::CutPower),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens: messages that settled and are not done are there, byte for byte, those settled as done are not,
    /// and no others are.
    #[test]
    fn nothing_settled_is_lost_or_comes_back(deeds in proptest::collection::vec(deed(), 1..120)) {
        let disk = World::calm().disk();
        let mut life = Life::begin(&disk);
        let mut given: BTreeMap<QueueId, Vec<u8>> = BTreeMap::new();
        let mut queued: Vec<QueueId> = Vec::new();
        let mut done: Vec<QueueId> = Vec::new();
        let mut tags: BTreeMap<u64, (QueueId, bool)> = BTreeMap::new();
        let mut tag = 0;
        for deed in &deeds {
            match deed {
                Deed::Put(sizes) => {
                    tag += 1;
                    let pieces: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'a' + (tag % 26) as u8; usize::from(*size)]).collect();
                    let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                    if let Ok(id) = life.put(&slices, tag) {
                        given.insert(id, pieces.concat());
                        tags.insert(tag, (id, false));
                    }
                }
                Deed::Mark(index, is_done) => {
                    let Some(id) = queued.get(*index).copied() else { continue };
                    tag += 1;
                    let mark = if *is_done { Mark::Done } else { Mark::Hold };
                    if life.spool.mark(id, mark, tag).is_ok() && *is_done {
                        tags.insert(tag, (id, true));
                    }
                }
                Deed::Settle => {}
                Deed::Keep => life.keep(),
                Deed::FailWrites(count) => disk.fail_writes(*count),
                Deed::Kill | Deed::CutPower => {
                    let is_cut = matches!(deed, Deed::CutPower);
                    let time = life.time;
                    drop(life);
                    if is_cut {
                        disk.cut_power();
                    }
                    disk.fail_writes(0);
                    life = Life::begin(&disk);
                    life.time = time;
                    prop_assert_eq!(&life.report.damage, &[]);
                    let found = contents(&disk);
                    for id in &queued {
                        // A mark that was asked for and not settled may or may not be there.
                        let is_unsure = tags.values().any(|(other, is_done)| other == id && *is_done);
                        prop_assert!(is_unsure || found.contains_key(id), "{:?} is lost", id);
                    }
                    for (id, (_, content)) in &found {
                        prop_assert!(!done.contains(id), "{:?} came back", id);
                        prop_assert_eq!(Some(content), given.get(id));
                    }
                    queued = found.keys().copied().collect();
                    tags.clear();
                }
            }
            if matches!(deed, Deed::Settle | Deed::FailWrites(_)) {
                for (tag, result) in life.settle() {
                    let Some((id, is_done)) = tags.remove(&tag) else { continue };
                    if is_done {
                        // A mark that failed may be on the disk.
                        queued.retain(|other| *other != id);
                        if result.is_ok() {
                            done.push(id);
                        }
                    } else if result.is_ok() {
                        // One that was refused may come back, when the write that was to prevent it fails too.
                        queued.push(id);
                    }
                }
            }
        }
    }
}
