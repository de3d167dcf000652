//! Reads of files.

use super::writes::write;
use super::{Bench, Subject, panics};
use crate::{BLOCK_ALIGNMENT, Disk, FileId, FileKind, Io, Operation, Token};

/// Blocks of the file that a test reads.
const BLOCKS: usize = 16;

/// What no test writes: in a buffer it shows what was not read.
const UNREAD: u8 = 0xee;

/// Makes a file and writes its blocks through the `Io`; returns its content, and the file opened for reading and writing.
fn written_file<I: Subject>(bench: &mut Bench<I>, disk: &I::Disk) -> (Vec<u8>, FileId, FileId) {
    let file = disk.create("segment", (BLOCKS * BLOCK_ALIGNMENT) as u64, FileKind::Direct).unwrap();
    let writer = bench.io.attach(file);
    let mut content = Vec::new();
    for number in 0..BLOCKS {
        write(&mut bench.io, number as u64, writer, true);
        content.extend_from_slice(format!("durable {number}").as_bytes());
        content.resize((number + 1) * BLOCK_ALIGNMENT, 0);
    }
    (0..BLOCKS).for_each(|_| bench.written().2.unwrap());
    let reader = bench.io.attach(disk.open("segment", FileKind::Read).unwrap());
    (content, reader, writer)
}

fn read<I: Io>(io: &mut I, number: u64, file: FileId, length: usize, offset: u64) {
    io.submit(Token(number), Operation::Read { file, buffer: vec![UNREAD; length], offset });
}

pub(crate) fn durable_writes_are_read_back<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let (content, file, _) = written_file(&mut bench, &disk);
    // The whole, and a part that keeps to no alignment.
    for (number, (offset, length)) in [(0, content.len()), (4095, 4099)].into_iter().enumerate() {
        read(&mut bench.io, number as u64, file, length, offset as u64);
        let (token, buffer, result) = bench.read();
        assert_eq!((token.0, result.unwrap()), (number as u64, length));
        assert!(buffer == content[offset..offset + length], "{length} bytes at {offset}");
    }
    assert_eq!(disk.size(&bench.io.detach(file)).unwrap(), content.len() as u64);
}

pub(crate) fn a_read_ends_with_its_file<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let (content, file, _) = written_file(&mut bench, &disk);
    let size = content.len();
    for (offset, length, expected) in
        [(size - 10, 10, 10), (size - 10, 100, 10), (size, 100, 0), (size + 5000, 100, 0), (7, 0, 0)]
    {
        read(&mut bench.io, 1, file, length, offset as u64);
        let (_, buffer, result) = bench.read();
        assert_eq!((result.unwrap(), buffer.len()), (expected, length), "{length} bytes at {offset}");
        assert_eq!(buffer[..expected], content[offset.min(size)..][..expected]);
    }
}

pub(crate) fn several_reads_are_done_at_once<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let (content, file, _) = written_file(&mut bench, &disk);
    // They may come back in any order; some have bytes in common.
    for number in 0..2 * BLOCKS {
        let offset = number * BLOCK_ALIGNMENT / 2;
        read(&mut bench.io, number as u64, file, BLOCK_ALIGNMENT, offset as u64);
    }
    let mut numbers = Vec::new();
    for _ in 0..2 * BLOCKS {
        let (Token(number), buffer, result) = bench.read();
        let expected = &content[usize::try_from(number).unwrap() * BLOCK_ALIGNMENT / 2..];
        let expected = &expected[..expected.len().min(BLOCK_ALIGNMENT)];
        assert_eq!(result.unwrap(), expected.len());
        assert!(buffer.starts_with(expected), "read {number}");
        numbers.push(number);
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..2 * BLOCKS as u64));
}

pub(crate) fn reads_beside_writes_are_not_disturbed<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let (content, reader, writer) = written_file(&mut bench, &disk);
    for number in 0..BLOCKS {
        let at = number * BLOCK_ALIGNMENT;
        if number % 2 == 0 {
            write(&mut bench.io, number as u64, writer, true);
        } else {
            read(&mut bench.io, number as u64, reader, BLOCK_ALIGNMENT, at as u64);
        }
    }
    for _ in 0..BLOCKS / 2 {
        let (Token(number), buffer, result) = bench.read();
        assert_eq!(result.unwrap(), BLOCK_ALIGNMENT);
        let at = usize::try_from(number).unwrap() * BLOCK_ALIGNMENT;
        assert!(buffer == content[at..at + BLOCK_ALIGNMENT], "block {number}");
        bench.written().2.unwrap();
    }
}

pub(crate) fn a_read_that_fails_says_why_and_the_next_one_is_done<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let (content, sound, _) = written_file(&mut bench, &disk);
    let (broken, number_of_error) = bench.io.broken_files(&disk).unreadable;
    for number in 0..8 {
        let is_sound = number % 2 == 1;
        read(&mut bench.io, number, if is_sound { sound } else { broken }, 100, 0);
        let (token, buffer, result) = bench.read();
        assert_eq!((token.0, buffer.len()), (number, 100));
        match result {
            Ok(count) => assert!(is_sound && count == 100 && buffer == content[..100]),
            Err(error) => assert!(!is_sound && error.raw_os_error() == Some(number_of_error), "{error}"),
        }
    }
    drop(bench.io.detach(broken));
}

pub(crate) fn only_a_file_opened_for_reading_is_read<I: Subject>(make: &impl Fn() -> I) {
    for kind in [FileKind::Direct, FileKind::Buffered] {
        let mut bench = Bench::new(make());
        let (disk, _place) = bench.io.place();
        drop(disk.create("segment", 65_536, FileKind::Buffered).unwrap());
        let file = bench.io.attach(disk.open("segment", kind).unwrap());
        assert!(panics(|| {
            read(&mut bench.io, 1, file, BLOCK_ALIGNMENT, 0);
            bench.poll();
        }));
    }
}

pub(crate) fn a_file_is_not_detached_while_it_is_read<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let (content, reader, writer) = written_file(&mut bench, &disk);
    read(&mut bench.io, 1, reader, content.len(), 0);
    assert!(panics(|| drop(bench.io.detach(reader))));
    drop(bench.io.detach(writer));
    // It stays attached, and the read is done.
    let (_, buffer, result) = bench.read();
    assert_eq!(result.unwrap(), content.len());
    assert!(buffer == content);
    drop(bench.io.detach(reader));
}

pub(crate) fn reads_may_be_in_progress_at_the_end<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let (content, file, _) = written_file(&mut bench, &disk);
    for number in 0..BLOCKS as u64 {
        read(&mut bench.io, number, file, content.len(), 0);
    }
    bench.io.wait(Some(crate::Instant::default()), &mut Vec::new()).unwrap();
    read(&mut bench.io, 99, file, content.len(), 0);
    drop(bench);
}
