//! Lookup tables of a million entries: load time, memory, lookup time.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use criterion::{Criterion, criterion_group, criterion_main};
use mailrace::tables;
use mailrace_core::Sharer;

const ENTRIES: usize = 1_000_000;

/// Returns the resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("there is a /proc");
    let pages: usize = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

fn million(criterion: &mut Criterion) {
    let directory = std::env::temp_dir().join(format!("mailrace-tables-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("there is a place for temporary files");
    let file = directory.join("virtual");
    let entry = |number: usize| {
        let spread = number.wrapping_mul(0x9E37_79B1) % 0x1_0000_0000;
        format!("user{spread}@domain{}.example.com mailbox{number}@store.example.net\n", number % 1000)
    };
    let text: String = (0..ENTRIES).map(entry).collect();
    std::fs::write(&file, &text).expect("there is room for temporary files");
    let keys: Vec<String> = (0..ENTRIES)
        .step_by(97)
        .map(|number| entry(number).split(' ').next().unwrap_or_default().to_owned())
        .collect();
    println!("text: {:.1} octets an entry", text.len() as f64 / ENTRIES as f64);
    drop(text);
    let mut kinds = vec!["texthash"];
    for kind in ["lmdb", "cdb"] {
        let made = mailrace_dev::program::command("postmap")
            .args(["-c", "/etc/postfix", &format!("{kind}:{}", file.display())])
            .status();
        match made {
            Ok(status) if status.success() => kinds.push(kind),
            other => println!("{kind}: not measured, postmap cannot make one: {other:?}"),
        }
    }
    let mut group = criterion.benchmark_group("a table of a million entries");
    group.measurement_time(Duration::from_secs(3));
    for kind in kinds {
        let before = resident();
        let start = Instant::now();
        let maps = tables::open(&format!("{kind}:{}", file.display()), Path::new("/")).expect("it is right");
        let time = start.elapsed();
        let octets = resident().saturating_sub(before) as f64 / ENTRIES as f64;
        println!("{kind}: loaded in {:.2} s, {octets:.1} octets an entry", time.as_secs_f64());
        let mut arena = Bump::new();
        let mut next = 0;
        group.bench_function(format!("{kind}, found"), |bencher| {
            bencher.iter(|| {
                arena.reset();
                next = (next + 1) % keys.len();
                black_box(
                    maps.find(&arena, keys[next].as_bytes(), Sharer::default())
                        .expect("it answers")
                        .map(<[u8]>::len),
                )
            });
        });
        group.bench_function(format!("{kind}, not found"), |bencher| {
            bencher.iter(|| {
                black_box(maps.find(&arena, b"nobody@domain7.example.com", Sharer::default()) == Ok(None))
            });
        });
    }
    group.finish();
    std::fs::remove_dir_all(&directory).expect("it was made here");
}

criterion_group!(benches, million);
criterion_main!(benches);
