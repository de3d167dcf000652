//! Honest clients go on as if nothing were wrong while strangers fill what the engine holds for its clients, in each way
//! that there is. Takes root and iproute2: each has a network namespace of its own.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mailrace_bench::fair::beside;
use mailrace_bench::fair::honest::{self, Told, Until};
use mailrace_bench::fair::kinds::{KINDS, Kind};
use mailrace_bench::fair::network::{Network, SERVER, STRANGER, Side, strangers};
use mailrace_bench::fair::stranger::{Seen, Step};
use mailrace_tests::{Directory, Engine, skip};
use rustix::process::{Signal, kill_process};

/// Each of two workers has 4 MiB of memory for content. Nothing is charged: only what clients hold is bounded.
const LITTLE_MEMORY: [&str; 9] = [
    "engine.workers=2",
    "engine.memory_limit=56MiB",
    "engine.max_connections=1000",
    "engine.client_allowance=0s",
    "engine.metrics_listen=",
    "queue.segment_size=4MiB",
    "relay_domains=example.com",
    "mynetworks=",
    "message_size_limit=4MiB",
];

/// Each of two workers has 16 places and room for few log lines.
const FEW_PLACES: [&str; 7] = [
    "engine.workers=2",
    "engine.max_connections=32",
    "engine.log_memory=64KiB",
    "engine.metrics_listen=",
    "queue.segment_size=4MiB",
    "relay_domains=example.com",
    "mynetworks=",
];

/// The ways to take places; the others are tried with many places.
const OF_PLACES: [&str; 7] = [
    "idle-at-greeting",
    "idle-after-ehlo",
    "idle-after-data",
    "content-after-accepted-mail",
    "log-lines",
    "churn",
    "churn-at-once",
];

/// Messages that honest clients send beside each kind of strangers.
const MESSAGES: u64 = 30;

/// `None` where namespaces cannot be had.
fn network() -> Option<Network> {
    if !rustix::process::geteuid().is_root() {
        skip("only root can make network namespaces");
        return None;
    }
    match Network::make() {
        Ok(network) => Some(network),
        Err(error) => {
            skip(&format!("no network namespaces: {error}"));
            None
        }
    }
}

fn start(network: &Network, directory: &Directory, settings: &[&str]) -> (Engine, SocketAddr) {
    let listen = format!("{SERVER}:0");
    let mut arguments = vec!["--listen", &listen, "--queue", "mailrace-queue"];
    settings.iter().for_each(|set| arguments.extend(["--set", set]));
    let engine =
        network.within(Side::Server, || Engine::start_plainly(directory.path(), &arguments)).unwrap();
    let address = engine.addresses[0];
    (engine, address)
}

fn send_beside(
    network: &Network,
    server: SocketAddr,
    kind: &Kind,
    sources: &[Ipv4Addr],
    connections: usize,
) -> (Told, Seen) {
    let send =
        |count| network.within(Side::Honest, || honest::send(server, 4, Until::Messages(count))).unwrap();
    beside(network, server, kind, sources, connections, || {
        // Strangers fill what there is while the first honest messages come, and hold it during those that count.
        let first = send(MESSAGES / 3);
        assert!(first.refused.is_empty(), "{}: {:?}", kind.name, first.refused);
        std::thread::sleep(SETTLE_TIME);
        send(MESSAGES)
    })
    .unwrap()
}

/// Strangers do not say when they hold as much as they can.
const SETTLE_TIME: Duration = Duration::from_millis(1000);

fn honest_clients_are_served_beside(
    sources: &[Ipv4Addr],
    connections: usize,
    settings: &[&str],
    is_tried: fn(&Kind) -> bool,
) {
    let Some(network) = network() else { return };
    for kind in KINDS.into_iter().filter(is_tried) {
        honest_clients_are_served(&network, &kind, sources, connections, settings);
    }
}

fn honest_clients_are_served(
    network: &Network,
    kind: &Kind,
    sources: &[Ipv4Addr],
    connections: usize,
    settings: &[&str],
) {
    let directory = Directory::new();
    let (mut engine, server) = start(network, &directory, settings);
    let pid = engine.pid();
    let (told, seen) = std::thread::scope(|scope| {
        // A log that is not read would be one more thing that is full.
        let reader = scope.spawn(move || (engine.wait(), engine.lines.split_off(0)));
        let result = catch_unwind(|| send_beside(network, server, kind, sources, connections));
        kill_process(pid, Signal::TERM).unwrap();
        let (status, lines) = reader.join().unwrap();
        assert!(status.success(), "{}: {:#?}", kind.name, lines.iter().rev().take(20).collect::<Vec<_>>());
        result.unwrap_or_else(|panic| resume_unwind(panic))
    });
    assert!(told.refused.is_empty(), "{}: {told:?}, {seen:?}", kind.name);
    assert_eq!(told.accepted, MESSAGES, "{}: {told:?}, {seen:?}", kind.name);
    assert!(told.slowest < Duration::from_secs(10), "{}: {told:?}, {seen:?}", kind.name);
    assert!(seen.connections > 0, "{}: no stranger came", kind.name);
}

#[test]
fn one_attacker_that_fills_memory_blocks_no_honest_client() {
    honest_clients_are_served_beside(&[STRANGER], 100, &LITTLE_MEMORY, |_| true);
}

#[test]
fn fifty_attackers_that_fill_memory_block_no_honest_client() {
    honest_clients_are_served_beside(&strangers(50), 8, &LITTLE_MEMORY, |_| true);
}

#[test]
fn one_attacker_with_all_connections_blocks_no_honest_client() {
    honest_clients_are_served_beside(&[STRANGER], 100, &FEW_PLACES, |kind| OF_PLACES.contains(&kind.name));
}

#[test]
fn fifty_attackers_with_all_connections_block_no_honest_client() {
    honest_clients_are_served_beside(&strangers(50), 8, &FEW_PLACES, |kind| OF_PLACES.contains(&kind.name));
}

/// Refusals with long lines, as many on a connection as cause no delay.
const REFUSALS: Kind = Kind {
    name: "refusals",
    steps: || {
        let recipient = format!("RCPT TO:<{}@elsewhere.example>\r\n", "a".repeat(400));
        let mut steps = vec![Step::Read(1)];
        for command in ["EHLO stranger.example\r\n", "MAIL FROM:<a@stranger.example>\r\n"] {
            steps.extend([Step::Say(command.as_bytes().into()), Step::Read(1)]);
        }
        steps.extend([Step::Say(recipient.repeat(9).as_bytes().into()), Step::Read(9), Step::Leave]);
        steps
    },
};

/// While nothing reads the log, a client is refused without end: the lines about mail of honest clients are all there when
/// it is read.
fn lines_about_honest_mail_stay(sources: &[Ipv4Addr], connections: usize) {
    let Some(network) = network() else { return };
    let settings = [
        "engine.workers=2",
        "engine.log_memory=128KiB",
        "engine.metrics_listen=",
        "engine.client_allowance=0s",
        "queue.segment_size=4MiB",
        "relay_domains=example.com",
        "mynetworks=",
    ];
    let directory = Directory::new();
    let (mut engine, server) = start(&network, &directory, &settings);
    let (told, seen) = send_beside(&network, server, &REFUSALS, sources, connections);
    assert_eq!(told.accepted, MESSAGES, "{told:?}, {seen:?}");
    engine.signal(Signal::TERM);
    assert!(engine.wait().success());
    let lines = &engine.lines;
    assert!(lines.iter().any(|line| line.contains("log_lines_lost=")), "there was room for all: {seen:?}");
    let mail = lines.iter().filter(|line| line.contains(": queued: ")).count();
    assert_eq!(mail as u64, MESSAGES / 3 + MESSAGES, "{seen:?}");
}

#[test]
fn one_attacker_that_floods_the_log_displaces_no_honest_line() {
    lines_about_honest_mail_stay(&[STRANGER], 20);
}

#[test]
fn fifty_attackers_that_flood_the_log_displace_no_honest_line() {
    lines_about_honest_mail_stay(&strangers(50), 2);
}

/// More recipients than questions may wait for a table, none of which has an answer.
const QUESTIONS: Kind = Kind {
    name: "questions",
    steps: || {
        let mut steps = vec![Step::Read(1)];
        for command in ["EHLO stranger.example\r\n", "MAIL FROM:<a@stranger.example>\r\n"] {
            steps.extend([Step::Say(command.as_bytes().into()), Step::Read(1)]);
        }
        for group in 0..50 {
            let recipients =
                (0..100).map(|number| format!("RCPT TO:<silent{group}.{number}@example.com>\r\n"));
            steps.extend([Step::Say(recipients.collect::<String>().as_bytes().into()), Step::Read(100)]);
        }
        let content = b"BDAT 14 LAST\r\nSubject: s\r\n\r\n";
        steps.extend([Step::Say(content[..].into()), Step::Hold]);
        steps
    },
};

/// A table on a server in the network that has no value for any key, and no answer for those that begin with `silent`.
fn silent_table(network: &Network, silent: &Arc<AtomicUsize>) -> String {
    let listener = network.within(Side::Server, || TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let silent = Arc::clone(silent);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, silent) = (stream.unwrap(), Arc::clone(&silent));
            std::thread::spawn(move || answer(&stream, &silent));
        }
    });
    format!("tcp:{address}")
}

/// Answers as tcp_table(5) has it, until the other side ends the connection; counts questions that get no answer.
fn answer(stream: &TcpStream, silent: &AtomicUsize) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if line.starts_with("get silent") {
            silent.fetch_add(1, Ordering::Relaxed);
        } else if (&*stream).write_all(b"500 not%20found\n").is_err() {
            return;
        }
    }
}

fn honest_clients_are_served_beside_questions(sources: &[Ipv4Addr], connections: usize) {
    let Some(network) = network() else { return };
    let silent = Arc::new(AtomicUsize::new(0));
    let aliases = format!("virtual_alias_maps={}", silent_table(&network, &silent));
    let settings = [
        "engine.workers=2",
        "engine.metrics_listen=",
        "queue.segment_size=32MiB",
        "queue.block_size=8MiB",
        "relay_domains=example.com",
        "mynetworks=",
        "smtpd_recipient_limit=5000",
        "engine.client_allowance=0s",
        &aliases,
    ];
    honest_clients_are_served(&network, &QUESTIONS, sources, connections, &settings);
    assert!(silent.load(Ordering::Relaxed) > 0, "no stranger asked anything");
}

#[test]
fn one_attacker_with_all_lookups_blocks_no_honest_client() {
    honest_clients_are_served_beside_questions(&[STRANGER], 4);
}

#[test]
fn fifty_attackers_with_all_lookups_block_no_honest_client() {
    honest_clients_are_served_beside_questions(&strangers(50), 1);
}
