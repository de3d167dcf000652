use super::*;
use crate::conformance::{Bench, conformance};
use crate::{BLOCK_ALIGNMENT, Disk, FileKind};

conformance!(Uring);

#[test]
fn a_short_read_goes_on_until_there_is_no_more() {
    use std::io::Write;

    let mut bench = Bench::new(small());
    let (reader, mut writer) = io::pipe().unwrap();
    let reader = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
    let file = bench.io.attach(OsFile::of_any_kind(reader, FileKind::Read));
    bench.io.submit(Token(1), Operation::Read { file, buffer: vec![b'-'; 8], offset: 0 });
    for octets in [b"abc", b"def"] {
        writer.write_all(octets).unwrap();
        // Each comes by itself: the read has taken the first when the second is written.
        bench.poll();
        assert!(bench.completions.is_empty(), "{:?}", bench.completions);
    }
    drop(writer);
    let (buffer, count) = bench.until(|completion| match completion {
        Completion::Read { buffer, result: Ok(count), .. } => Some((std::mem::take(buffer), *count)),
        _ => None,
    });
    assert_eq!((buffer.as_slice(), count), (b"abcdef--".as_slice(), 6));
}

#[test]
fn more_may_be_submitted_than_both_queues_hold() {
    let settings = Settings {
        connections: 4,
        receive_buffers: 1,
        receive_buffer_size: 4096,
        submission_entries: 8,
        completion_entries: 16,
    };
    let mut bench = Bench::new(Uring::new(settings).unwrap());
    let directory = std::env::temp_dir().join(format!("mailrace-ring-{}", std::process::id()));
    let disk = OsDisk::new(&directory).unwrap();
    let file = disk.create("segment", 1 << 20, FileKind::Buffered).unwrap();
    let file = bench.io.attach(file);
    const WRITES: usize = 1000;
    for number in 0..WRITES {
        let mut block = Block::new(BLOCK_ALIGNMENT);
        block.extend(&[b'x'; BLOCK_ALIGNMENT]);
        let offset = (number % 256 * BLOCK_ALIGNMENT) as u64;
        let write = Operation::Write { file, block, offset, is_durable: false };
        bench.io.submit(Token(number as u64), write);
    }
    let mut tokens: Vec<u64> = (0..WRITES)
        .map(|_| {
            bench.until(|completion| match completion {
                Completion::Written { token, result: Ok(()), .. } => Some(token.0),
                _ => None,
            })
        })
        .collect();
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq(0..WRITES as u64));
    let _ = std::fs::remove_dir_all(directory);
}
