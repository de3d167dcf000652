//! What a start found is shared out between workers.

use mailrace_core::record::delivery::{Progress, RecipientState};

use super::*;
use crate::Opened;

/// Lets a worker's writes complete.
fn settle(spool: &mut SegmentSpool<SimDisk>, io: &mut SimIo, keeper: &mut SegmentKeeper<SimDisk>) {
    for _ in 0..50 {
        spool.advance(io);
        let mut completions = Vec::new();
        io.wait(Some(Instant::default()), &mut completions).unwrap();
        for completion in completions {
            if let Completion::Written { token, block, result } = completion {
                spool.completed(token, block, result);
            }
        }
        spool.detach_sealed(io);
        keeper.step();
    }
    std::iter::from_fn(|| spool.next_settled()).for_each(|(_, result)| result.unwrap());
}

#[test]
fn each_worker_goes_on_with_messages_of_its_own() {
    let mut life = Life::begin(&World::calm().disk());
    let mut ids = Vec::new();
    // Five segments of small messages, a message in several segments, one with a mark in a later one.
    for number in 0..75 {
        life.keep();
        ids.push(life.put_settled(&[&[b'm'; 3000]]));
        if number == 40 {
            let pieces = [&[b'l'; 8000][..]; 12];
            ids.push(life.put_large(&pieces, b"end"));
        }
    }
    let progress = Progress::of(&[RecipientState::Done]).unwrap();
    life.spool.note(ids[0], &progress, 3).unwrap();
    life.spool.mark(ids[1], Mark::Hold, 4).unwrap();
    life.settle();
    let expected = contents(&life.disk);
    let disk = life.kill();
    for workers in [3, 2, 1, 4] {
        let Opened { mut spools, mut keeper, report, .. } = open(&disk, &SETTINGS, workers).unwrap();
        assert_eq!((report.messages, &report.damage[..]), (76, &[][..]));
        let shares: Vec<u64> = spools.iter().map(|spool| spool.stats().messages).collect();
        assert_eq!(shares.iter().sum::<u64>(), 76);
        assert!(shares.iter().all(|share| *share >= 10), "{shares:?}");
        let mut states = BTreeMap::new();
        for spool in &mut spools {
            states.extend(spool.ids());
            assert_eq!(spool.usage().parts_of_drafts, 0);
        }
        assert_eq!(states, expected.iter().map(|(id, (state, _))| (*id, *state)).collect());
        let owner = spools.iter().find_map(|spool| spool.place(ids[0])).unwrap();
        assert!(owner.progress.is_some());
        keeper.step();
    }
    // Each ends its own; none comes back.
    let Opened { mut spools, mut keeper, .. } = open(&disk, &SETTINGS, 2).unwrap();
    for (spool, mut io) in spools.iter_mut().zip(disk.world().boot(2)) {
        for id in spool.ids().map(|(id, _)| id).collect::<Vec<_>>() {
            while let Err(refusal) = spool.mark(id, Mark::Done, 1) {
                assert_eq!(refusal, MarkError::Refused(Refusal::Busy));
                settle(spool, &mut io, &mut keeper);
            }
        }
        settle(spool, &mut io, &mut keeper);
        assert_eq!(spool.usage(), crate::Usage::default());
    }
    drop(spools);
    drop(keeper);
    disk.cut_power();
    let life = Life::begin(&disk);
    assert_eq!((life.report.messages, &life.report.damage[..]), (0, &[][..]));
}
