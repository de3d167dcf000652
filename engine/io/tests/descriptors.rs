//! Descriptors run out: a test for a process of its own, since the limit is the process's.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use mailrace_io::epoll::{EpollIo, Settings};
use mailrace_io::{Completion, Io, Operation, Token};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn without_descriptors_clients_wait_and_are_taken_when_there_are_some() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..limit }).unwrap();
    let mut io = EpollIo::new(Settings { connections: 16, ..Settings::default() }).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    io.submit(Token(1), Operation::Accept(listener));
    let clients = [TcpStream::connect(target).unwrap(), TcpStream::connect(target).unwrap()];
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();

    // It says so, and then leaves the kernel alone for a while: the same deadline for many waits.
    let mut completions = Vec::new();
    let start = io.now();
    let end = start.after(Duration::from_millis(350));
    let mut waits = 0;
    while io.now() < end {
        io.wait(Some(end), &mut completions).unwrap();
        waits += 1;
    }
    let is_out_of_descriptors = |completion: &Completion| {
        matches!(completion, Completion::AcceptFailed { error }
            if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()))
    };
    assert!(completions.iter().all(is_out_of_descriptors), "{completions:?}");
    assert!((2..=4).contains(&completions.len()), "tried {} times in 350 ms", completions.len());
    assert!(waits <= 10, "{waits} waits in 350 ms");

    // A descriptor freed elsewhere is found after the pause; the next client waits again.
    completions.clear();
    files.pop();
    while completions.iter().all(is_out_of_descriptors) {
        io.wait(None, &mut completions).unwrap();
    }
    completions.retain(|completion| !is_out_of_descriptors(completion));
    let [Completion::Accepted { connection, peer }] = completions[..] else { panic!("{completions:?}") };
    assert_eq!(peer, clients[0].local_addr().unwrap());

    // One of our own is used at once.
    completions.clear();
    io.submit(Token(2), Operation::Close(connection));
    io.wait(None, &mut completions).unwrap();
    let [Completion::Accepted { peer, .. }] = completions[..] else { panic!("{completions:?}") };
    assert_eq!(peer, clients[1].local_addr().unwrap());
}
