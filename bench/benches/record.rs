//! Framing a message as a record of the spool: envelope, copy into the block, checksums.

use std::hint::black_box;

use bumpalo::Bump;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailrace_bench::sample;
use mailrace_core::envelope::Recipient;
use mailrace_core::record::envelope;
use mailrace_core::record::spool::{
    RECORD_ALIGNMENT, RECORD_HEADER_SIZE, RecordHeader, RecordKind, checksum,
};
use mailrace_core::{Envelope, Origin, QueueId, QueuedEnvelope};
use mailrace_io::Block;

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    let origin = Origin { helo: (*b"client.example.org").into(), ..Origin::default() };
    let recipient = Recipient { address: b"alice@example.com".to_vec(), ..Recipient::default() };
    let envelope = Envelope {
        sender: b"announce-bounces@lists.example.net".to_vec(),
        recipients: vec![recipient],
        ..Envelope::default()
    };
    for (name, size) in [("4KiB", 4096), ("64KiB", 65_536)] {
        let content = sample::message(size);
        let mut block = Block::new(128 << 10);
        let mut arena = Bump::new();
        group.throughput(Throughput::Bytes(content.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                arena.reset();
                block.clear();
                frame(&arena, &mut block, &origin, &envelope, black_box(&content));
                black_box(block.filled());
            });
        });
    }
    group.finish();
}

fn frame(arena: &Bump, block: &mut Block, origin: &Origin, envelope: &Envelope, content: &[u8]) {
    let salt = 0x5EED;
    block.extend(&[0; RECORD_HEADER_SIZE]);
    let mut encoded = bumpalo::collections::Vec::new_in(arena);
    envelope::encode(origin, &QueuedEnvelope::unchanged(arena, envelope), &mut encoded)
        .expect("its values are short");
    block.extend(&encoded);
    let envelope_length = block.len() - RECORD_HEADER_SIZE;
    block.extend(content);
    let payload = &block.filled()[RECORD_HEADER_SIZE..];
    let header = RecordHeader {
        kind: RecordKind::Message,
        is_held: false,
        id: QueueId::from_number(1 << 60),
        length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        envelope_length: u32::try_from(envelope_length).unwrap_or(u32::MAX),
        part: 0,
        previous: None,
        payload_checksum: checksum(payload, salt),
        content_size: content.len() as u64,
    };
    block.pad(RECORD_ALIGNMENT);
    block.filled_mut()[..RECORD_HEADER_SIZE].copy_from_slice(&header.encode(salt, 0));
}

criterion_group!(benches, framing);
criterion_main!(benches);
