//! Names of one `Io` in another, and the end of a wait.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use super::writes::write;
use super::{Bench, Client, Subject, panics};
use crate::operation::Serial;
use crate::system::monotonic;
use crate::{Completion, Disk, FileKind, Operation, OsDisk, Piece, Token};

pub(crate) fn pieces_and_files_of_another_are_not_taken<I: Subject>(make: &impl Fn() -> I) {
    let (mut own, mut other) = (Bench::new(make()), Bench::new(make()));
    let (mut client, connection) = own.connected();
    own.io.submit(Token(2), Operation::Receive(connection));
    client.say(b"received");
    let piece = own.until(|completion| match completion {
        Completion::Received { piece, .. } => {
            let nothing = Piece { owner: Serial::next(), buffer: 0, offset: 0, length: 0 };
            Some(std::mem::replace(piece, nothing))
        }
        _ => None,
    });
    assert!(panics(|| _ = other.io.received(&piece).to_vec()));
    assert_eq!(own.io.received(&piece), b"received");
    assert!(panics(|| other.io.recycle(piece)));

    let (disk, _place) = own.io.place();
    let (other_disk, _other_place) = other.io.place();
    let create = |disk: &I::Disk, name| disk.create(name, 65_536, FileKind::Buffered).unwrap();
    let file = own.io.attach(create(&disk, "own"));
    let others = other.io.attach(create(&other_disk, "other"));
    // Both have the first place of their table.
    assert!(panics(|| {
        write(&mut other.io, 1, file, false);
        other.poll();
    }));
    assert!(panics(|| drop(other.io.detach(file))));
    // Nor does a name live on when its file is detached and another one has its place.
    drop(own.io.detach(file));
    let next = own.io.attach(create(&disk, "next"));
    assert!(next != file && others != file);
    assert!(panics(|| drop(own.io.detach(file))));
    write(&mut own.io, 1, next, true);
    own.written().2.unwrap();
}

pub(crate) fn connections_of_another_are_names_of_the_past<I: Subject<Disk = OsDisk, Client = TcpStream>>(
    make: &impl Fn() -> I,
) {
    let (mut own, mut other) = (Bench::new(make()), Bench::new(make()));
    let (_client, connection) = own.connected();
    let (mut others_client, others) = other.connected();
    assert_eq!(connection.slot, others.slot);
    other.io.submit(Token(3), Operation::Close(connection));
    other.io.submit(Token(4), Operation::Send(connection, b"not for this one".to_vec()));
    assert!(other.sent().1.is_err());
    other.io.submit(Token(5), Operation::Send(others, b"220 ".to_vec()));
    other.sent().1.unwrap();
    let mut octets = [0; 4];
    others_client.read_exact(&mut octets).unwrap();
    assert_eq!(&octets, b"220 ");
}

pub(crate) fn another_thread_wakes_a_wait<I: Subject<Disk = OsDisk, Client = TcpStream>>(
    make: &impl Fn() -> I,
) {
    let mut io = make();
    let waker = io.waker();
    let start = std::time::Instant::now();
    for _ in 0..3 {
        let waker = waker.clone();
        let thread = std::thread::spawn(move || waker.wake());
        io.wait(Some(monotonic().after(Duration::from_secs(20))), &mut Vec::new()).unwrap();
        thread.join().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(15));
}

pub(crate) fn a_deadline_ends_a_wait<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let start = bench.io.now();
    let deadline = start.after(Duration::from_millis(30));
    while bench.io.now() < deadline {
        bench.io.wait_for(deadline, &mut bench.completions);
    }
    assert!(bench.io.now().since(start) < Duration::from_secs(10));
    assert!(bench.completions.is_empty());
}
