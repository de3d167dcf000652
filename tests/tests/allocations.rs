//! Once a worker is warm, cleaning a message takes no memory from the allocator: all of it lies in the arena.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::alloc::System;

use bumpalo::Bump;
use mailrace::tables;
use mailrace_bench::sample;
use mailrace_core::cleanup::{
    Canonical, Checks, Classes, Cleanup, Notice, Observer, Settings, Surroundings, VirtualAlias,
};
use mailrace_core::{Envelope, Origin, QueueId, Recipient, Timestamp};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Nobody;

impl Observer for Nobody {
    fn noticed(&mut self, _notice: &Notice<'_>) {}
}

fn clean(
    arena: &Bump,
    settings: &Settings,
    is_local_context: bool,
    envelope: &Envelope,
    message: &[u8],
) -> usize {
    let origin = Origin::default();
    let id = QueueId::new(Timestamp::from_unix_microseconds(1_795_507_200_000_000), 0);
    let mut observer = Nobody;
    let mut cleanup = Cleanup::new(id, is_local_context);
    let mut passes = Surroundings { arena, settings, origin: &origin, envelope, observer: &mut observer };
    let size = cleanup.content(&mut passes, message, true).unwrap().output.len();
    let queued = cleanup.envelope(&mut passes.reborrow()).unwrap().recipients.len();
    size + queued
}

/// A test of its own: others would allocate beside it.
#[test]
fn a_message_needs_no_allocation_with_a_warm_arena() {
    let open = |table: &str| tables::open(table, "/".as_ref()).unwrap();
    let all = Classes {
        envelope_sender: true,
        envelope_recipient: true,
        header_sender: true,
        header_recipient: true,
    };
    let mapped = Settings {
        canonical: Canonical {
            maps: open("inline:{ {bob@example.com = robert@example.net} }"),
            classes: all,
        },
        virtual_alias: VirtualAlias {
            maps: open("inline:{ {robert@example.net = one@example.com, two@example.com} }"),
            ..VirtualAlias::default()
        },
        checks: Checks { header: open("inline:{ {subject: nothing = REJECT} }"), ..Checks::default() },
        ..Settings::default()
    };
    let recipient = |address: &[u8]| Recipient { address: address.to_vec(), ..Recipient::default() };
    let envelope = Envelope {
        sender: b"announce-bounces+4711@lists.example.net".to_vec(),
        recipients: vec![recipient(b"alice@example.com"), recipient(b"bob@example.com")],
        ..Envelope::default()
    };
    let message = sample::message(4096);
    let mut arena = Bump::new();
    for (name, settings) in [("default", &Settings::default()), ("with tables", &mapped)] {
        for is_local_context in [false, true] {
            // A reset arena keeps its largest piece of memory: after a few messages it is large enough.
            for _ in 0..8 {
                arena.reset();
                clean(&arena, settings, is_local_context, &envelope, &message);
            }
            // The harness's own thread may allocate meanwhile, so that the least of a few counts is taken.
            let counts = (0..10).map(|_| {
                let region = Region::new(ALLOCATOR);
                for _ in 0..100 {
                    arena.reset();
                    assert!(clean(&arena, settings, is_local_context, &envelope, &message) > 3);
                }
                region.change().allocations
            });
            assert_eq!(counts.min(), Some(0), "{name}, local {is_local_context}");
        }
    }
}
