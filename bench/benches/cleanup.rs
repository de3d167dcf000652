//! Cleanup of a message with 20 fields and 2 recipients, as a stranger's and as our own client's.

use std::hint::black_box;

use bumpalo::Bump;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailrace_bench::sample;
use mailrace_core::cleanup::{Cleanup, Notice, Observer, Settings, Surroundings};
use mailrace_core::{Envelope, Origin, QueueId, Recipient, Timestamp};

struct Nobody;

impl Observer for Nobody {
    fn noticed(&mut self, _notice: &Notice<'_>) {}
}

fn message(criterion: &mut Criterion) {
    let settings = Settings::default();
    let origin = Origin::default();
    let message = sample::message(4096);
    let id = QueueId::new(Timestamp::from_unix_microseconds(1_795_507_200_000_000), 0);
    let recipient = |address: &[u8]| Recipient { address: address.to_vec(), ..Recipient::default() };
    let envelope = Envelope {
        sender: b"announce-bounces+4711@lists.example.net".to_vec(),
        recipients: vec![recipient(b"alice@example.com"), recipient(b"bob@example.com")],
        ..Envelope::default()
    };
    let mut arena = Bump::new();
    let mut group = criterion.benchmark_group("cleanup");
    group.throughput(Throughput::Elements(1));
    for (name, is_local_context) in [("stranger", false), ("own_client", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                arena.reset();
                let mut passes = Surroundings {
                    arena: &arena,
                    settings: &settings,
                    origin: &origin,
                    envelope: &envelope,
                    observer: &mut Nobody,
                };
                let mut cleanup = Cleanup::new(id, is_local_context);
                let part = cleanup
                    .content(&mut passes, black_box(&message), true)
                    .expect("nothing is wrong with it");
                let queued = cleanup.envelope(&mut passes).expect("nothing is wrong with it either");
                black_box((part.output.len(), queued.recipients.len()))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, message);
criterion_main!(benches);
