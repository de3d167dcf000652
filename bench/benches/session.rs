//! The SMTP session: command lines in one pipelined group, and whole transactions with content.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailrace_bench::sample;
use mailrace_core::smtp::{Context, Event, Observer, Reject, Session, Settings, Verdict};
use mailrace_core::{Origin, QueueId, Timestamp};

struct NobodyCares;

impl Observer for NobodyCares {
    fn replied(&mut self, _code: u16) {}
    fn rejected(&mut self, _origin: &Origin, _reject: &Reject<'_>) {}
}

/// A session after EHLO.
struct Client {
    session: Session,
    settings: Settings,
    replies: Vec<u8>,
}

impl Client {
    fn new() -> Self {
        let session = Session::new(Origin::default(), true);
        // A client that only sends RSET would soon exceed the limit.
        let settings = Settings { smtpd_junk_command_limit: u32::MAX, ..Settings::default() };
        let mut client = Self { session, settings, replies: Vec::new() };
        let mut observer = NobodyCares;
        let mut context = context(&client.settings, &mut observer);
        client.session.greet(&mut context, &mut client.replies);
        client.send(b"EHLO client.example.org\r\n");
        client
    }

    /// Passes all of `input` to the session. Returns the number of content bytes that it handed out.
    fn send(&mut self, mut input: &[u8]) -> usize {
        let mut observer = NobodyCares;
        let mut context = context(&self.settings, &mut observer);
        let mut content = 0;
        loop {
            let step = self.session.feed(&mut context, input, &mut self.replies);
            input = &input[step.consumed..];
            match step.event {
                Event::NeedInput => break,
                Event::Content(octets) => content += black_box(octets).len(),
                Event::ContentEnd => {
                    let id = QueueId::from_number(1 << 60);
                    self.session.verdict(&mut context, Verdict::Queued(id), &mut self.replies);
                }
                Event::SendReplies => self.replies.clear(),
                Event::ContentBegin => {}
                event => panic!("the dialogue went wrong: {event:?}"),
            }
        }
        content
    }
}

fn context<'a>(settings: &'a Settings, observer: &'a mut NobodyCares) -> Context<'a> {
    let wall = Timestamp::from_unix_microseconds(1_795_507_200_000_000);
    Context { settings, wall, is_storage_low: false, observer }
}

fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commands");
    let mut client = Client::new();
    let input = b"MAIL FROM:<announce-bounces@lists.example.net> SIZE=4096 BODY=8BITMIME\r\n\
        RCPT TO:<alice@example.com>\r\nRSET\r\n";
    group.throughput(Throughput::Elements(3));
    group.bench_function("mail_rcpt_rset", |bencher| {
        bencher.iter(|| {
            client.replies.clear();
            client.send(black_box(input));
            assert_eq!(client.replies.iter().filter(|octet| **octet == b'\n').count(), 3);
        });
    });
    group.finish();
}

fn transaction(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transaction");
    for (name, size) in [("4KiB", 4096), ("64KiB", 65_536)] {
        let mut client = Client::new();
        let content = sample::message(size).len();
        let commands =
            b"MAIL FROM:<announce-bounces@lists.example.net>\r\nRCPT TO:<alice@example.com>\r\nDATA\r\n";
        let data = sample::data(size);
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                client.replies.clear();
                client.send(black_box(commands));
                assert_eq!(client.send(black_box(&data)), content);
            });
        });
    }
    group.finish();
}

/// Measures content unlike mail, each line of which is one step of the session.
fn odd_content(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("odd_content");
    // Name, repeated unit, and the number of content bytes that the session hands out for the unit.
    for (name, unit, handed_out) in [
        ("bare_lf", &b"\n"[..], 2),
        ("short_lines_bare_lf", b"a\n", 3),
        ("bare_cr", b"\r", 1),
        ("dots", b"..\r\n", 3),
    ] {
        let mut client = Client::new();
        let commands = b"MAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.com>\r\nDATA\r\n";
        let count = SIZE / unit.len();
        let data = [unit.repeat(count), b"x\r\n.\r\n".to_vec()].concat();
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                client.replies.clear();
                client.send(black_box(commands));
                assert_eq!(client.send(black_box(&data)), count * handed_out + b"x\r\n".len());
            });
        });
    }
    group.finish();
}

const SIZE: usize = 64 << 10;

criterion_group!(benches, commands, transaction, odd_content);
criterion_main!(benches);
