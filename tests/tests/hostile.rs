//! Misbehaving clients of each kind reach their target, and an honest one is served while they run and afterwards.

use std::process::{Child, Command, Stdio};

use mailrace_tests::{Directory, Engine, load_generator};
use serde_json::Value;

/// As many as there are states to reset a connection in.
const CLIENTS: u64 = 10;

/// Whether they have got as far as they are meant to when their time is over.
type IsFar = fn(&Seen) -> bool;

const KINDS: [(&str, IsFar); 10] = [
    // Bytes come one by one: nothing is answered yet.
    ("crumbs", |seen| seen.octets >= CLIENTS && seen.reply(220) == CLIENTS && seen.is_open),
    ("never-reads", |seen| seen.octets > 100_000 && seen.reply(250) == CLIENTS),
    ("half-open", |seen| seen.octets == 2 * CLIENTS && seen.reply(220) == CLIENTS && seen.is_open),
    ("storm", |seen| seen.resets >= CLIENTS),
    ("commands", |seen| seen.reply(250) > 10 * CLIENTS && seen.is_open),
    ("endless-line", |seen| seen.octets > 1_000_000 && seen.reply(220) >= CLIENTS),
    ("endless-header", |seen| seen.reply(354) >= CLIENTS && seen.octets > 1_000_000),
    ("pipeline", |seen| seen.octets > 1_000_000 && seen.reply(250) > 100 * CLIENTS),
    ("bdat-lies", |seen| seen.reply(250) >= 3 * CLIENTS && seen.reply(551) > 0 && seen.reply(521) > 0),
    ("resets", |seen| seen.resets >= CLIENTS && seen.reply(354) >= 4),
];

/// What one kind of them reports.
struct Seen {
    octets: u64,
    resets: u64,
    /// All connections are, and the server ended none.
    is_open: bool,
    replies: Value,
}

impl Seen {
    fn reply(&self, code: u16) -> u64 {
        self.replies[code.to_string()].as_u64().unwrap_or(0)
    }
}

#[test]
fn misbehaving_clients_reach_their_target_and_an_honest_one_is_served() {
    let directory = Directory::new();
    // No client is charged, to see how far they get.
    let engine = Engine::start(
        &directory,
        &[
            "--set",
            "engine.client_allowance=0s",
            "--set",
            "relay_domains=example.com",
            "--set",
            "mynetworks=[]",
        ],
    );
    let address = engine.addresses[0].to_string();
    let run = |kind: &str| -> Child {
        Command::new(load_generator())
            .args([&address, "--hostile", &CLIENTS.to_string(), "--kinds", kind, "--duration", "5", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut good = engine.client();
    let children: Vec<Child> = KINDS.iter().map(|(kind, _)| run(kind)).collect();
    good.queue("a@example.org", "beside@localhost", "Subject: x\r\n\r\n");
    for ((kind, is_far), child) in KINDS.iter().zip(children) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{kind}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |name: &str| report[name].as_u64().unwrap();
        let seen = Seen {
            octets: number("octets"),
            resets: number("resets"),
            is_open: number("open") == CLIENTS && number("ended_by_server") == 0,
            replies: report["replies"].clone(),
        };
        assert!(is_far(&seen), "{kind}: {report}");
        assert_eq!(seen.reply(554), 0, "{kind} does not keep to the rules of pipelining: {report}");
    }
    good.queue("a@example.org", "after@localhost", "Subject: x\r\n\r\n");
    engine.stop();
}
