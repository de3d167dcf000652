//! Cleanup of a header section of 20 fields, as a stranger's and as our own client's.

use std::hint::black_box;

use bumpalo::Bump;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailrace_bench::sample;
use mailrace_core::cleanup::{Cleanup, Settings};
use mailrace_core::{Envelope, Origin, QueueId, Recipient, Timestamp};

fn header_section(criterion: &mut Criterion) {
    let settings = Settings::default();
    let origin = Origin::default();
    let message = sample::message(4096);
    let id = QueueId::new(Timestamp::from_unix_microseconds(1_795_507_200_000_000), 0);
    let recipient = Recipient { address: b"alice@example.com".to_vec(), ..Recipient::default() };
    let envelope = Envelope {
        sender: b"announce-bounces+4711@lists.example.net".to_vec(),
        recipients: vec![recipient],
        ..Envelope::default()
    };
    let mut arena = Bump::new();
    let mut group = criterion.benchmark_group("header_section");
    group.throughput(Throughput::Elements(1));
    for (name, is_local_context) in [("stranger", false), ("own_client", true)] {
        group.bench_function(name, |bencher| {
            let mut envelope = envelope.clone();
            bencher.iter(|| {
                arena.reset();
                let mut cleanup = Cleanup::new(id, is_local_context);
                let section = cleanup
                    .header_section(&arena, &settings, &origin, &mut envelope, black_box(&message), true)
                    .expect("nothing is wrong with it");
                assert!(section.is_done);
                black_box(section.output.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, header_section);
criterion_main!(benches);
