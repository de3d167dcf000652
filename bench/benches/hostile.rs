//! Content and tables designed to be expensive, at doubling sizes. Time must at most double with the size.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bumpalo::Bump;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mailrace::tables;
use mailrace_core::address::{RewriteContext, Rewriting};
use mailrace_core::cleanup::{Checks, Cleanup, Mime, Notice, Observer, Settings, Surroundings, VirtualAlias};
use mailrace_core::{Envelope, Origin, QueueId, Recipient, Timestamp};

struct Nobody;

impl Observer for Nobody {
    fn noticed(&mut self, _notice: &Notice<'_>) {}
}

/// Size of a piece of content per call of the passes, in bytes, as in a worker.
const PIECE_SIZE: usize = 64 * 1024;

/// A message and its settings.
struct Case {
    settings: Settings,
    recipients: Vec<Vec<u8>>,
    content: Vec<u8>,
}

impl Case {
    fn with_content(content: impl Into<Vec<u8>>) -> Self {
        Self { settings: settings(), recipients: vec![b"user@example.com".to_vec()], content: content.into() }
    }
}

fn settings() -> Settings {
    let local = RewriteContext { origin: b"example.com".to_vec(), domain: b"example.com".to_vec() };
    Settings { rewriting: Arc::new(Rewriting { local, ..Rewriting::default() }), ..Settings::default() }
}

/// Runs the passes over the whole message, in pieces. Returns how often its end was reached.
fn clean(case: &Case, arena: &mut Bump) -> usize {
    let id = QueueId::new(Timestamp::from_unix_microseconds(1_795_507_200_000_000), 0);
    let origin = Origin::default();
    let recipients = case.recipients.iter();
    let recipients =
        recipients.map(|address| Recipient { address: address.clone(), ..Recipient::default() }).collect();
    let envelope = Envelope { sender: b"sender@example.com".to_vec(), recipients, ..Envelope::default() };
    let mut cleanup = Cleanup::new(id, true);
    let mut kept: Vec<u8> = Vec::new();
    let mut pieces = case.content.chunks(PIECE_SIZE).peekable();
    loop {
        let piece = pieces.next().unwrap_or_default();
        kept.extend_from_slice(piece);
        let is_whole = pieces.peek().is_none();
        arena.reset();
        let mut passes = Surroundings {
            arena,
            settings: &case.settings,
            origin: &origin,
            envelope: &envelope,
            observer: &mut Nobody,
        };
        let Ok(part) = cleanup.content(&mut passes, &kept, is_whole) else { return 0 };
        let (consumed, is_done) = (part.consumed, part.is_done);
        black_box(part.output.len());
        drop(part);
        kept.drain(..consumed);
        if is_whole || is_done {
            break;
        }
    }
    arena.reset();
    let mut passes = Surroundings {
        arena,
        settings: &case.settings,
        origin: &origin,
        envelope: &envelope,
        observer: &mut Nobody,
    };
    cleanup.envelope(&mut passes).map_or(0, |queued| queued.recipients.len())
}

fn header_section(size: usize) -> Case {
    let field =
        "X-Field: some text of a field that is not special in any way\r\nTo: a, b@c, <d@e.example>\r\n";
    Case::with_content(field.repeat(size / field.len()) + "\r\n")
}

fn addresses(count: usize) -> Case {
    let list: Vec<String> = (0..count).map(|number| format!("user{number}@host")).collect();
    let mut case = Case::with_content(format!("To: {}\r\n\r\n", list.join(",\r\n ")));
    case.settings.header_size_limit = 1 << 30;
    case.settings.header_address_token_limit = 1 << 30;
    case
}

fn nested_parts(depth: usize) -> Case {
    let mut content = String::new();
    for level in 0..depth {
        content += &format!("Content-Type: multipart/mixed; boundary=\"b{level}\"\r\n\r\n--b{level}\r\n");
    }
    content += "\r\ntext\r\n";
    for level in (0..depth).rev() {
        content += &format!("--b{level}--\r\n");
    }
    let mut case = Case::with_content(content);
    case.settings.mime = Mime { nesting_limit: depth + 1, ..Mime::default() };
    case
}

fn body_line(size: usize) -> Case {
    let mut case = Case::with_content(format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(size)));
    // A check that examines each body line.
    case.settings.checks.body = tables::open("inline:{ {never = REJECT} }", Path::new("/")).expect("right");
    case.settings.checks.body_size_limit = 0;
    case
}

fn field_line(size: usize) -> Case {
    Case::with_content(format!("To: {}\r\n\r\n", "x".repeat(size)))
}

fn field_of(text: &str, size: usize) -> Case {
    let mut case = Case::with_content(format!("To: {}\r\n\r\n", text.repeat(size / text.len())));
    case.settings.header_size_limit = 1 << 30;
    case.settings.header_address_token_limit = 1 << 30;
    case
}

fn alias_loops(recipients: usize) -> Case {
    let table = "inline:{ {@example.com = @example.net}, {@example.net = @example.com} }";
    let mut case = Case::with_content("Subject: x\r\n\r\n");
    case.settings.virtual_alias =
        VirtualAlias { maps: tables::open(table, Path::new("/")).expect("right"), ..VirtualAlias::default() };
    case.recipients = (0..recipients).map(|number| format!("u{number}@example.com").into_bytes()).collect();
    case
}

fn many_recipients(recipients: usize) -> Case {
    let mut case = Case::with_content("Subject: x\r\n\r\n");
    case.recipients = (0..recipients).map(|number| format!("u{number}@example.com").into_bytes()).collect();
    case.settings.duplicate_filter_limit = 0;
    case
}

fn expression(pattern: &str, size: usize) -> Case {
    let file = std::env::temp_dir().join(format!("mailrace-hostile-{}", std::process::id()));
    std::fs::write(&file, format!("/{pattern}/ REJECT\n")).expect("there is room for temporary files");
    let maps = tables::open(&format!("pcre:{}", file.display()), Path::new("/")).expect("right");
    let _ = std::fs::remove_file(file);
    let mut case = Case::with_content(format!("Subject: {}\r\n\r\n", "a".repeat(size)));
    case.settings.checks = Checks { header: maps, ..Checks::default() };
    case
}

/// Creates a case of a size.
type Make<'m> = &'m dyn Fn(usize) -> Case;

fn hostile(criterion: &mut Criterion) {
    const MIB: usize = 1 << 20;
    let groups: [(&str, usize, Make<'_>); 12] = [
        ("header section, octets", 10 * MIB, &header_section),
        ("addresses in one To", 100_000, &addresses),
        ("nested parts", 10_000, &nested_parts),
        ("line of a body, octets", 50 * MIB, &body_line),
        ("line of a field, octets", 50 * MIB, &field_line),
        ("open comments, octets", MIB, &|size| field_of("(", size)),
        ("quotes, octets", MIB, &|size| field_of("\"\\\"", size)),
        ("angle brackets, octets", MIB, &|size| field_of("<a@b", size)),
        ("recipients in alias loops", 1000, &alias_loops),
        ("recipients", 50_000, &many_recipients),
        ("octets against (a*)*$x", 64 * 1024, &|size| expression("(a*)*$x", size)),
        ("octets against (a+)+\\1x", 64 * 1024, &|size| expression("(a+)+\\1x", size)),
    ];
    for (name, most, make) in groups {
        let mut group = criterion.benchmark_group(name);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        for size in [most / 8, most / 4, most / 2, most] {
            let case = make(size);
            let mut arena = Bump::new();
            clean(&case, &mut arena);
            let memory = arena.allocated_bytes();
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| clean(&case, &mut arena));
            });
            println!("{name}: {size}: {} KiB of arena", memory / 1024);
        }
        group.finish();
    }
}

criterion_group!(benches, hostile);
criterion_main!(benches);
