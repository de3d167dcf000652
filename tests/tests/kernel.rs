//! How it reaches the kernel: by default, as configured, and where io_uring is forbidden.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::collections::BTreeMap;

use mailrace_tests::{Directory, Engine, program, run};
use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The numbers of io_uring's calls, the same on all architectures.
const IO_URING_SETUP: i64 = 425;
const IO_URING_ENTER: i64 = 426;
const IO_URING_REGISTER: i64 = 427;

/// Does something on a thread that, with all that it starts, has `error` from a call: as containers have it from their
/// seccomp profile.
fn forbidding<T: Send>(call: i64, error: Errno, act: impl FnOnce() -> T + Send) -> T {
    // Built before: that is not to be hindered.
    program();
    let answer = SeccompAction::Errno(error.raw_os_error().unsigned_abs());
    let rules = BTreeMap::from([(call, vec![])]);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture).unwrap();
    let filter = BpfProgram::try_from(filter).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            apply_filter(&filter).unwrap();
            act()
        });
        thread.join().unwrap()
    })
}

const TWO_WORKERS: [&str; 4] = ["--set", "engine.workers=2", "--set", "engine.metrics_listen=127.0.0.1:0"];

fn with_io(io: &'static str) -> Vec<&'static str> {
    [&TWO_WORKERS[..], &["--io", io]].concat()
}

fn warnings(engine: &Engine) -> Vec<&String> {
    engine.lines.iter().filter(|line| line.contains("warning")).collect()
}

/// Mail goes in, and the metrics say how.
fn works_on(engine: &Engine, io: &str) {
    for _ in 0..8 {
        engine.client().queue("a@example.org", "b@localhost", "Subject: x\r\n\r\n");
    }
    let metrics = engine.metrics();
    for line in [format!("mailrace_io_info{{io=\"{io}\"}} 1"), "mailrace_messages_total 8".to_owned()] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing: {metrics}");
    }
}

#[test]
fn uses_io_uring_where_it_is_permitted() {
    for io in ["auto", "ring"] {
        let directory = Directory::new();
        let engine = Engine::start(&directory, &with_io(io));
        assert_eq!(warnings(&engine), Vec::<&String>::new());
        works_on(&engine, "ring");
        engine.stop();
    }
}

#[test]
fn uses_epoll_on_request_without_a_warning() {
    let directory = Directory::new();
    let engine = Engine::start(&directory, &with_io("epoll"));
    assert_eq!(warnings(&engine), Vec::<&String>::new());
    works_on(&engine, "epoll");
    engine.stop();
}

#[test]
fn without_io_uring_uses_epoll_with_one_warning() {
    for (call, error) in [
        (IO_URING_SETUP, Errno::PERM),
        (IO_URING_SETUP, Errno::NOSYS),
        (IO_URING_SETUP, Errno::ACCESS),
        (IO_URING_ENTER, Errno::PERM),
        (IO_URING_REGISTER, Errno::PERM),
    ] {
        let directory = Directory::new();
        let engine = forbidding(call, error, || Engine::start(&directory, &with_io("auto")));
        let warnings = warnings(&engine);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for part in
            ["epoll is used", "not permitted here", "kernel.io_uring_disabled to 0", "seccomp profile"]
        {
            assert!(warnings[0].contains(part), "{part}: {}", warnings[0]);
        }
        works_on(&engine, "epoll");
        engine.stop();
        // Without an engine, too.
        let deleted = forbidding(call, error, || directory.queue(&["delete", "ALL"]));
        assert_eq!(deleted.output, "8 deleted\n", "{}", deleted.errors);
    }
}

#[test]
fn without_io_uring_ring_fails_to_start() {
    let directory = Directory::new();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--queue", "queue", "--io", "ring"];
    let refused = forbidding(IO_URING_SETUP, Errno::PERM, || run(directory.path(), &arguments));
    assert_eq!(refused.status.code(), Some(69), "{}", refused.errors);
    assert!(refused.errors.contains("io_uring is not permitted here"), "{}", refused.errors);
    assert!(refused.errors.contains("kernel.io_uring_disabled to 0"), "{}", refused.errors);
}

#[test]
fn refuses_other_kernel_interfaces() {
    let directory = Directory::new();
    let refused = run(directory.path(), &["serve", "--io", "poll"]);
    assert_eq!(refused.status.code(), Some(78), "{}", refused.errors);
    assert!(refused.errors.contains("write \"auto\", \"ring\" or \"epoll\""), "{}", refused.errors);
    let config = directory.write("mailrace.toml", "[engine]\nio = \"epoll\"\n");
    let checked = run(directory.path(), &["check", "--config", config.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", checked.errors);
}
