use super::*;

#[test]
fn a_power_cut_takes_exactly_what_was_not_synced() {
    let disk = World::calm().disk();
    let file = disk.create("q/a", 8, FileKind::Buffered).unwrap();
    disk.sync(&file).unwrap();
    disk.sync_directory("q").unwrap();
    disk.write_at(&file, b"lost", 0).unwrap();
    disk.create("q/b", 8, FileKind::Buffered).unwrap();
    disk.cut_power();
    assert_eq!(disk.list("q").unwrap(), ["a"]);
    let mut octets = [1; 4];
    disk.read_at(&file, &mut octets, 0).unwrap();
    assert_eq!(octets, [0; 4]);
}

#[test]
fn a_lock_is_held_once() {
    let disk = World::calm().disk();
    let lock = disk.lock("lock").unwrap();
    assert!(disk.lock("lock").is_err());
    drop(lock);
    assert!(disk.lock("lock").is_ok());
}

fn wait(io: &mut SimIo) -> Vec<Completion> {
    let mut completions = Vec::new();
    let now = io.now();
    io.wait(Some(now), &mut completions).unwrap();
    assert_eq!(io.now(), now, "nothing takes time");
    completions
}

fn write(io: &mut SimIo, file: FileId, offset: u64) {
    let mut block = Block::new(4096);
    block.extend(&[b'x'; 4096]);
    io.submit(Token(offset), Operation::Write { file, block, offset, is_durable: true });
}

#[test]
fn writes_complete_in_order_at_the_next_wait_unless_they_are_held() {
    let disk = World::calm().disk();
    let mut io = disk.world().boot(1).remove(0);
    let file = io.attach(disk.create("a", 8192, FileKind::Direct).unwrap());
    for is_held in [false, true] {
        if is_held {
            io.hold_writes();
        }
        write(&mut io, file, 4096);
        write(&mut io, file, 0);
        if is_held {
            assert!(wait(&mut io).is_empty());
            io.release_writes();
        }
        let completions = wait(&mut io);
        let tokens = completions.iter().map(|completion| match completion {
            Completion::Written { token, result: Ok(()), .. } => token.0,
            other => panic!("{other:?}"),
        });
        assert_eq!(tokens.collect::<Vec<_>>(), [4096, 0]);
    }
}

#[test]
fn ordered_failures_happen_as_often_as_ordered() {
    let disk = World::calm().disk();
    let mut io = disk.world().boot(1).remove(0);
    let file = io.attach(disk.create("a", 8192, FileKind::Direct).unwrap());
    let mut attempt = || {
        write(&mut io, file, 0);
        matches!(wait(&mut io)[..], [Completion::Written { result: Ok(()), .. }])
    };
    let found = || {
        let mut count = 0;
        disk.damage("a", |octets| {
            count = octets.iter().filter(|octet| **octet == b'x').count();
            octets.fill(0);
        });
        count
    };
    disk.fail_writes(1);
    assert_eq!((attempt(), found()), (false, 2048));
    disk.set_read_only(true);
    assert_eq!((attempt(), found()), (false, 0));
    assert!(disk.create("b", 8, FileKind::Buffered).is_err() && disk.remove("a").is_err());
    disk.set_read_only(false);
    assert_eq!((attempt(), found()), (true, 4096));
}

#[test]
fn bytes_arrive_in_the_pieces_in_which_they_were_sent() {
    let mut io = World::calm().boot(1).remove(0);
    let client = io.connect_from([203, 0, 113, 9].into());
    client.send(b"one");
    client.send(b"two");
    let [Completion::Accepted { connection, peer }] = wait(&mut io)[..] else { panic!("it is accepted") };
    assert_eq!((peer.ip(), client.unread()), ([203, 0, 113, 9].into(), 6));
    io.submit(Token(1), Operation::Receive(connection));
    for expected in [b"one", b"two"] {
        let Some(Completion::Received { piece, .. }) = wait(&mut io).pop() else { panic!("it is received") };
        assert_eq!((io.received(&piece), io.lent()), (&expected[..], 1));
        io.recycle(piece);
    }
    // Nothing is sent to a client that does not read.
    client.stop_reading();
    io.submit(Token(2), Operation::Send(connection, vec![b'x']));
    assert!(wait(&mut io).is_empty());
    io.submit(Token(0), Operation::Close(connection));
    assert!(matches!(wait(&mut io)[..], [Completion::Sent { result: Err(_), .. }]));
    assert!(client.is_closed());
}

#[test]
fn a_wait_without_completions_lasts_until_its_deadline() {
    let mut io = World::calm().boot(1).remove(0);
    let deadline = io.now().after(Duration::from_secs(7));
    io.wait(Some(deadline), &mut Vec::new()).unwrap();
    assert_eq!(io.now(), deadline);
    io.pass(Duration::from_secs(1));
    assert_eq!(io.now(), deadline.after(Duration::from_secs(1)));
}
