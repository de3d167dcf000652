//! Cleanup of a message with 20 fields and 2 recipients, from a remote client and from a local one.

use std::hint::black_box;

use bumpalo::Bump;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailrace::tables;
use mailrace_bench::sample;
use mailrace_core::cleanup::{
    Canonical, Checks, Classes, Cleanup, Notice, Observer, Settings, Surroundings, VirtualAlias,
};
use mailrace_core::{Envelope, Origin, QueueId, Recipient, Timestamp};

struct Nobody;

impl Observer for Nobody {
    fn noticed(&mut self, _notice: &Notice<'_>) {}
}

/// Returns settings with canonical and virtual tables of ten thousand entries, and ten typical header checks.
fn with_tables() -> Settings {
    let directory = std::env::temp_dir().join(format!("mailrace-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("there is a place for temporary files");
    let write =
        |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("it can be written");
    let entries =
        |value: &str| (0..10_000).map(|n| format!("user{n}@example.com {value}{n}@example.com\n")).collect();
    let (canonical, virtual_alias): (String, String) = (entries("first.last"), entries("box"));
    write("canonical", &canonical);
    write(
        "virtual",
        &format!("{virtual_alias}alice@example.com alice@store.example.com, copies@example.com\n"),
    );
    write(
        "checks",
        "/^Subject:.*(viagra|casino|lottery)/ REJECT spam\n/^Received: .*\\[10\\./ IGNORE\n/^X-Mailer: bulk/ REJECT\n\
         /^X-Originating-IP:/ IGNORE\n/^(To|Cc): .*undisclosed/ WARN\n/^Content-Type:.*name=.*\\.(exe|scr|pif)/ REJECT\n\
         /^Message-Id: <>/ REJECT\n/^From: .*@invalid\\./ HOLD\n/^List-Unsubscribe:.*http:/ INFO\n/^Precedence: junk/ DISCARD\n",
    );
    let maps = |table: &str| tables::open(table, &directory).expect("the table is right");
    let all = Classes {
        envelope_sender: true,
        envelope_recipient: true,
        header_sender: true,
        header_recipient: true,
    };
    let settings = Settings {
        canonical: Canonical { maps: maps("texthash:canonical"), classes: all },
        virtual_alias: VirtualAlias { maps: maps("texthash:virtual"), ..VirtualAlias::default() },
        checks: Checks {
            header: maps("regexp:checks"),
            mime_header: maps("regexp:checks"),
            ..Checks::default()
        },
        ..Settings::default()
    };
    std::fs::remove_dir_all(&directory).expect("it was made here");
    settings
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
    let with_tables = with_tables();
    let mut arena = Bump::new();
    let mut group = criterion.benchmark_group("cleanup");
    group.throughput(Throughput::Elements(1));
    for (name, settings, is_local_context) in [
        ("stranger", &settings, false),
        ("own_client", &settings, true),
        ("stranger_with_tables", &with_tables, false),
        ("own_client_with_tables", &with_tables, true),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                arena.reset();
                let mut passes = Surroundings {
                    arena: &arena,
                    settings,
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
