//! Writes to files.

use super::{Bench, Subject};
use crate::{BLOCK_ALIGNMENT, Block, Disk, FileId, FileKind, Io, Operation, Token};

/// All bytes of a file.
fn read<D: Disk>(disk: &D, path: &str) -> Vec<u8> {
    let file = disk.open(path, FileKind::Buffered).unwrap();
    let mut content = vec![0; usize::try_from(disk.size(&file).unwrap()).unwrap()];
    assert_eq!(disk.read_at(&file, &mut content, 0).unwrap(), content.len());
    content
}

pub(super) fn write<I: Io>(io: &mut I, number: u64, file: FileId, is_durable: bool) {
    write_from(io, Block::new(2 * BLOCK_ALIGNMENT), number, file, is_durable);
}

fn write_from<I: Io>(io: &mut I, mut block: Block, number: u64, file: FileId, is_durable: bool) {
    block.extend(format!("durable {number}").as_bytes());
    block.pad(BLOCK_ALIGNMENT);
    let offset = number * BLOCK_ALIGNMENT as u64;
    io.submit(Token(number), Operation::Write { file, block, offset, is_durable });
}

pub(crate) fn durable_writes_are_on_the_file<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let file = disk.create("segment", 65_536, FileKind::Direct).unwrap();
    let file = bench.io.attach(file);
    // More at once than a caller writes at a time; they may come back in any order.
    (0..16).for_each(|number| write(&mut bench.io, number, file, true));
    let mut tokens = Vec::new();
    for _ in 0..16 {
        let (token, block, result) = bench.written();
        result.unwrap();
        assert!(block.filled().starts_with(format!("durable {}\0", token.0).as_bytes()));
        tokens.push(token.0);
    }
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq(0..16));
    let content = read(&disk, "segment");
    for (number, piece) in content.chunks(BLOCK_ALIGNMENT).enumerate() {
        assert!(piece.starts_with(format!("durable {number}\0").as_bytes()));
    }
    assert_eq!(disk.size(&bench.io.detach(file)).unwrap(), 65_536);
}

pub(crate) fn blocks_of_this_kernel_and_of_others_are_written<I: Subject>(make: &impl Fn() -> I) {
    let (mut own, mut other) = (Bench::new(make()), Bench::new(make()));
    let (disk, _place) = own.io.place();
    let file = disk.create("segment", 65_536, FileKind::Direct).unwrap();
    let file = own.io.attach(file);
    let blocks = own.io.blocks(4, BLOCK_ALIGNMENT + 1);
    assert!(blocks.iter().all(|block| block.capacity() == 2 * BLOCK_ALIGNMENT && block.is_empty()));
    let foreign = other.io.blocks(4, BLOCK_ALIGNMENT + 1);
    for (number, block) in (0..).zip(blocks.into_iter().chain(foreign)) {
        write_from(&mut own.io, block, number, file, true);
        // The same block again, and what it was filled with is what is written.
        let (_, mut block, result) = own.written();
        result.unwrap();
        block.clear();
        write_from(&mut own.io, block, 8 + number, file, true);
        own.written().2.unwrap();
    }
    let content = read(&disk, "segment");
    assert_eq!(content.len(), 16 * BLOCK_ALIGNMENT);
    for (number, piece) in content.chunks(BLOCK_ALIGNMENT).enumerate() {
        assert!(piece.starts_with(format!("durable {number}\0").as_bytes()), "{number}");
    }
}

pub(crate) fn a_later_write_replaces_its_bytes_only<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let file = bench.io.attach(disk.create("segment", 32_768, FileKind::Direct).unwrap());
    (0..8).for_each(|number| write(&mut bench.io, number, file, true));
    (0..8).for_each(|_| bench.written().2.unwrap());
    // Two blocks from the third on, in one write, and the one before the last; one is not durable by itself.
    for (number, (text, size, is_durable)) in [(2, ("replaced", 2, false)), (6, ("also replaced", 1, true))] {
        let mut block = Block::new(2 * BLOCK_ALIGNMENT);
        block.extend(text.as_bytes());
        block.pad(size * BLOCK_ALIGNMENT);
        let offset = number * BLOCK_ALIGNMENT as u64;
        bench.io.submit(Token(number), Operation::Write { file, block, offset, is_durable });
        bench.written().2.unwrap();
    }
    let content = read(&disk, "segment");
    for (number, piece) in content.chunks(BLOCK_ALIGNMENT).enumerate() {
        let expected = match number {
            2 => "replaced".to_owned(),
            3 => String::new(),
            6 => "also replaced".to_owned(),
            _ => format!("durable {number}"),
        };
        let (text, rest) = piece.split_at(expected.len());
        assert_eq!(text, expected.as_bytes(), "block {number}");
        assert!(rest.iter().all(|octet| *octet == 0), "block {number}");
    }
}

pub(crate) fn a_write_that_fails_says_why_and_the_next_one_is_done<I: Subject>(make: &impl Fn() -> I) {
    let mut bench = Bench::new(make());
    let (disk, _place) = bench.io.place();
    let (broken, number_of_error) = bench.io.broken_files(&disk).unwritable;
    let sound = bench.io.attach(disk.create("segment", 65_536, FileKind::Buffered).unwrap());
    for number in 0..8 {
        let is_sound = number % 2 == 1;
        write(&mut bench.io, number, if is_sound { sound } else { broken }, is_sound);
        let (token, block, result) = bench.written();
        assert_eq!((token, block.len()), (Token(number), BLOCK_ALIGNMENT));
        let error = result.map_err(|error| error.raw_os_error());
        assert_eq!(error, if is_sound { Ok(()) } else { Err(Some(number_of_error)) });
    }
}
