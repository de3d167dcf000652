//! The process's memory stays within what `memory_limit` is documented to mean, whatever clients send.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailrace_bench::fair::stranger::{Step, attack};
use mailrace_tests::{Directory, Engine};
use rustix::process::{Pid, Signal, kill_process};

const MIB: u64 = 1 << 20;
/// `memory_limit` of the engine under test.
const LIMIT: u64 = 64 * MIB;
const CONNECTIONS: u64 = 200;

/// What docs/operations.md says of a process with this limit and this number of connections.
const DOCUMENTED: u64 = LIMIT + LIMIT / 4 + 16 * MIB + CONNECTIONS * 10 * 1024;

/// Anonymous resident memory; swap is not counted, and no test machine should swap.
fn anonymous_memory(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn say(text: &str) -> Step {
    Step::Say(text.as_bytes().into())
}

/// A dialogue up to its content, which does not end. No reply to it is read.
fn content(first: &str, again: &str) -> Vec<Step> {
    let begin = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@localhost>\r\nDATA\r\n";
    let steps =
        [Step::Read(1), say("EHLO a.example\r\n"), Step::Read(1), say(begin), Step::Read(3), say(first)];
    steps.into_iter().chain([Step::StopReading, Step::Flood(again.repeat(100).as_bytes().into())]).collect()
}

fn commands(again: &str) -> Vec<Step> {
    let begin = [Step::Read(1), say("EHLO a.example\r\n"), Step::Read(1), say("MAIL FROM:<a@b.example>\r\n")];
    let flood = Step::Flood(again.repeat(100).as_bytes().into());
    begin.into_iter().chain([Step::Read(1), Step::StopReading, flood]).collect()
}

#[test]
fn memory_stays_within_the_documented_bound() {
    let floods = [
        ("a body line without end", content("A: b\r\n\r\n", &"z".repeat(1000))),
        ("a field without end", content("X-Long: ", &"z".repeat(1000))),
        ("a folded address field", content("To: a@b", &",\r\n\ta@b.example".repeat(50))),
        ("replies unread", commands("NOOP\r\n")),
        ("recipients unread", commands(&format!("RCPT TO:<{}@localhost>\r\n", "u".repeat(900)))),
    ];
    for (name, steps) in floods {
        let directory = Directory::new();
        let settings = [
            "engine.workers=2",
            "engine.memory_limit=64MiB",
            "engine.metrics_listen=",
            "message_size_limit=60MiB",
            "queue.segment_size=4MiB",
        ];
        let mut arguments = vec!["--listen", "127.0.0.1:0", "--queue", "mailrace-queue"];
        settings.iter().for_each(|set| arguments.extend(["--set", set]));
        let mut engine = Engine::start_plainly(directory.path(), &arguments);
        let (pid, server) = (engine.pid(), engine.addresses[0]);
        let environment = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap();
        let mut variables = environment.split(|byte| *byte == 0);
        assert!(variables.any(|variable| variable == b"MIMALLOC_PURGE_DELAY=10"));
        let is_over = AtomicBool::new(false);
        let peak = std::thread::scope(|scope| {
            let reader = scope.spawn(move || engine.wait());
            let flood = scope.spawn(|| {
                let connections = usize::try_from(CONNECTIONS).unwrap();
                attack(server, &steps, &[Ipv4Addr::LOCALHOST], connections, &is_over).unwrap()
            });
            let (start, mut peak) = (Instant::now(), 0);
            // Long enough for memory to be filled again and again.
            while start.elapsed() < Duration::from_secs(8) {
                peak = peak.max(anonymous_memory(pid).unwrap());
                std::thread::sleep(Duration::from_millis(5));
            }
            is_over.store(true, Ordering::Relaxed);
            let seen = flood.join().unwrap();
            kill_process(pid, Signal::TERM).unwrap();
            assert!(reader.join().unwrap().success());
            eprintln!("{name}: {} MiB, {seen:?}", peak / MIB);
            assert!(seen.bytes > LIMIT / 2, "{name}: the flood did not come: {seen:?}");
            peak
        });
        assert!(peak <= DOCUMENTED, "{name}: {} MiB of {} MiB", peak / MIB, DOCUMENTED / MIB);
    }
}
