use super::*;

fn file(world: &World, io: &mut SimIo) -> FileId {
    let disk = world.disk();
    let file = disk.create("a", 16 << 10, FileKind::Direct).unwrap();
    disk.sync(&file).unwrap();
    disk.sync_directory("").unwrap();
    io.attach(file)
}

fn block(octet: u8) -> Block {
    let mut block = Block::new(4096);
    block.extend(&[octet; 4096]);
    block
}

fn write(io: &mut SimIo, file: FileId, octet: u8, offset: u64, is_durable: bool) {
    io.submit(Token(1), Operation::Write { file, block: block(octet), offset, is_durable });
}

fn octets(world: &World, offset: u64) -> Vec<u8> {
    let disk = world.disk();
    let mut octets = vec![0; 4096];
    disk.read_at(&disk.open("a", FileKind::Buffered).unwrap(), &mut octets, offset).unwrap();
    octets
}

#[test]
fn a_durable_write_is_there_after_a_loss_of_power() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let file = file(&world, &mut io);
    write(&mut io, file, 1, 4096, true);
    assert!(matches!(settle(&world, &mut io)[..], [Completion::Written { result: Ok(()), .. }]));
    world.crash(Crash::PowerCut);
    assert_eq!(octets(&world, 4096), [1; 4096]);
}

#[test]
fn a_write_under_way_is_torn_by_sectors_or_not_at_all() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let mut file = file(&world, &mut io);
    let mut is_torn = false;
    for round in 0..20 {
        write(&mut io, file, round, 4096, true);
        world.enter(0);
        world.crash(Crash::PowerCut);
        let octets = octets(&world, 4096);
        for sector in octets.chunks(World::SECTOR_SIZE) {
            assert!(sector.iter().all(|octet| *octet == sector[0]));
        }
        is_torn |= octets.iter().any(|octet| *octet != octets[0]);
        io = world.boot(1).remove(0);
        file = io.attach(world.disk().open("a", FileKind::Direct).unwrap());
    }
    assert!(is_torn);
}

#[test]
fn names_become_durable_in_their_order() {
    let world = world();
    let disk = world.disk();
    disk.create("one", 4096, FileKind::Buffered).unwrap();
    disk.sync_directory("").unwrap();
    disk.create("two", 4096, FileKind::Buffered).unwrap();
    disk.create("three", 4096, FileKind::Buffered).unwrap();
    world.crash(Crash::PowerCut);
    let mut names = disk.list("").unwrap();
    names.sort();
    assert!(
        [&["one"][..], &["one", "two"], &["one", "three", "two"]]
            .contains(&&names.iter().map(String::as_str).collect::<Vec<_>>()[..]),
        "{names:?}"
    );
}

#[test]
fn a_kill_leaves_what_was_written() {
    let world = world();
    let disk = world.disk();
    let file = disk.create("a", 8192, FileKind::Buffered).unwrap();
    disk.write_at(&file, &[7; 4096], 0).unwrap();
    world.crash(Crash::Kill);
    assert_eq!(octets(&world, 0), [7; 4096]);
}

#[test]
fn nothing_has_an_effect_after_the_end() {
    let world = world();
    let disk = world.disk();
    let file = disk.create("a", 8192, FileKind::Buffered).unwrap();
    world.set_fuse(Some(1));
    disk.write_at(&file, &[1; 512], 0).unwrap();
    assert!(disk.sync(&file).is_err());
    assert!(world.is_over());
    assert!(disk.write_at(&file, &[2; 512], 0).is_err());
    assert!(disk.remove("a").is_err());
    world.crash(Crash::Kill);
    // The flush that the end came in may have lost the first write.
    assert!(octets(&world, 0)[0] < 2);
}

#[test]
#[should_panic(expected = "overlap")]
fn writes_to_the_same_place_at_once_are_a_breach() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let file = file(&world, &mut io);
    write(&mut io, file, 1, 4096, true);
    write(&mut io, file, 2, 4096, true);
    world.enter(0);
}

#[test]
#[should_panic(expected = "not aligned")]
fn a_direct_write_out_of_line_is_a_breach() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let file = file(&world, &mut io);
    write(&mut io, file, 1, 512, true);
    world.enter(0);
}

#[test]
#[should_panic(expected = "detached while it is written to")]
fn a_file_detached_too_early_is_a_breach() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let file = file(&world, &mut io);
    write(&mut io, file, 1, 4096, true);
    world.enter(0);
    drop(io.detach(file));
}

/// A read of a file's second block, while `write` is in progress there.
fn read_beside_a_write(world: &World, io: &mut SimIo, writer: FileId, reader: FileId, octet: u8) -> Vec<u8> {
    write(io, writer, octet, 4096, true);
    io.submit(Token(2), Operation::Read { file: reader, buffer: vec![0; 4096], offset: 4096 });
    let mut completions = settle(world, io);
    completions.retain(|completion| matches!(completion, Completion::Read { .. }));
    match completions.pop() {
        Some(Completion::Read { buffer, result: Ok(4096), .. }) => buffer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_beside_a_write_finds_any_of_its_sectors() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let writer = file(&world, &mut io);
    let reader = io.attach(world.disk().open("a", FileKind::Read).unwrap());
    let (mut is_old, mut is_new, mut is_mixed) = (false, false, false);
    for octet in 1..100 {
        let buffer = read_beside_a_write(&world, &mut io, writer, reader, octet);
        for sector in buffer.chunks(World::SECTOR_SIZE) {
            assert!(sector.iter().all(|at| *at == sector[0]) && [octet - 1, octet].contains(&sector[0]));
        }
        let count = buffer.iter().filter(|at| **at == octet).count();
        is_old |= count == 0;
        is_new |= count == 4096;
        is_mixed |= !matches!(count, 0 | 4096);
    }
    // All old by chance is rare; a read that begins before the write would show it, too.
    assert!(is_new && is_mixed, "old {is_old}, new {is_new}, mixed {is_mixed}");
}

#[test]
fn what_a_read_found_of_a_write_is_lost_with_the_power() {
    let world = world();
    let mut io = world.boot(1).remove(0);
    let writer = file(&world, &mut io);
    let reader = io.attach(world.disk().open("a", FileKind::Read).unwrap());
    write(&mut io, writer, 1, 4096, false);
    settle(&world, &mut io);
    io.submit(Token(2), Operation::Read { file: reader, buffer: vec![0; 4096], offset: 4096 });
    let completions = settle(&world, &mut io);
    let [Completion::Read { buffer, result: Ok(4096), .. }] = &completions[..] else {
        panic!("{completions:?}")
    };
    assert_eq!(buffer, &[1; 4096]);
    // A read in progress when the power is cut is never heard of.
    io.submit(Token(3), Operation::Read { file: reader, buffer: vec![0; 4096], offset: 4096 });
    world.enter(0);
    world.crash(Crash::PowerCut);
    assert!(settle(&world, &mut io).is_empty());
    let found = octets(&world, 4096);
    assert!(found.chunks(World::SECTOR_SIZE).all(|sector| sector.iter().all(|at| *at == sector[0])));
    assert_ne!(found, [1; 4096]);
}

#[test]
fn a_read_may_fail() {
    let without: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| *fault != Fault::ReadError).collect();
    let mut faults = (0..).map(|seed| Faults::new(&mut Random::new(seed, "faults"), &without));
    let faults = faults.find(|faults| faults.has(Fault::ReadError)).unwrap();
    let world = World::new(1, CONDITIONS, faults, true);
    let mut io = world.boot(1).remove(0);
    world.set_faults_off(true);
    let _ = file(&world, &mut io);
    let reader = io.attach(world.disk().open("a", FileKind::Read).unwrap());
    world.set_faults_off(false);
    let mut failures = 0;
    for _ in 0..10_000 {
        io.submit(Token(2), Operation::Read { file: reader, buffer: vec![0; 10], offset: 0 });
        world.enter(0);
        world.advance(world.next_event(0).unwrap());
        let mut completions = Vec::new();
        io.wait(None, &mut completions).unwrap();
        let [Completion::Read { buffer, result, .. }] = &completions[..] else { panic!("{completions:?}") };
        assert_eq!(buffer.len(), 10);
        failures += u64::from(result.is_err());
    }
    assert!(failures > 0);
    assert_eq!(world.disk_failures(), failures);
}
