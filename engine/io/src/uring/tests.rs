use super::*;
use crate::conformance::{Bench, conformance};
use crate::{BLOCK_ALIGNMENT, Disk, FileKind};

conformance!(Uring);

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
