//! Owns the program under test: built once, started on ports that the kernel picks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Client, Directory};

/// The path of `mailrace`, built now unless it is up to date.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("mailrace"))
}

/// The path of `mailrace-load`, built now unless it is up to date.
pub fn load_generator() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("mailrace-load"))
}

/// Builds the program of the package of this name.
fn built(name: &str) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", name, "--bin", name]);
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "{name} does not build");
    // A test's own program lies in deps/ beside it.
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join(name)
}

/// What a command that has ended said.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// `mailrace` with these arguments. With MAILRACE_TEST_IO in the environment it is served with that `--io`, unless the
/// arguments say how.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.current_dir(directory).args(arguments);
    if arguments.first() == Some(&"serve")
        && !arguments.contains(&"--io")
        && let Ok(io) = std::env::var("MAILRACE_TEST_IO")
    {
        command.args(["--io", &io]);
    }
    command
}

/// Runs `mailrace` with these arguments to its end.
#[must_use]
pub fn run(directory: &Path, arguments: &[&str]) -> Finished {
    let output = command(directory, arguments).output().unwrap();
    Finished {
        status: output.status,
        output: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A running `mailrace serve`; killed when it is dropped.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    errors: BufReader<ChildStderr>,
    /// The lines that it has said so far.
    pub lines: Vec<String>,
    /// Where it takes mail, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    directory: PathBuf,
}

/// A small queue is made quickly.
const SMALL: [&str; 6] = [
    "--set",
    "queue.segment_size=1MiB",
    "--set",
    "queue.block_size=256KiB",
    "--set",
    "smtpd_recipient_limit=200",
];

impl Engine {
    /// Starts it in `directory` on a free port, with a small queue in `mailrace-queue` and no metrics.
    #[must_use]
    pub fn start(directory: &Directory, arguments: &[&str]) -> Self {
        let mut all =
            vec!["--set", "engine.metrics_listen=", "--listen", "127.0.0.1:0", "--queue", "mailrace-queue"];
        all.extend(SMALL);
        all.extend(arguments);
        Self::start_plainly(directory.path(), &all)
    }

    /// Starts `mailrace serve` with these arguments and no others.
    #[must_use]
    pub fn start_plainly(directory: &Path, arguments: &[&str]) -> Self {
        let arguments = [&["serve"], arguments].concat();
        let mut child = command(directory, &arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (lines, addresses, directory) = (Vec::new(), Vec::new(), directory.to_path_buf());
        let mut engine = Self { child, errors, lines, addresses, directory };
        let ready = engine.line_with("mailrace ready: ");
        let listening =
            ready.split_once("listening on ").and_then(|(_, rest)| rest.split_once(',')).unwrap().0;
        engine.addresses = listening.split(' ').map(|address| address.parse().unwrap()).collect();
        engine
    }

    /// The next line of its standard error that holds `text`.
    pub fn line_with(&mut self, text: &str) -> String {
        loop {
            if self.errors.buffer().is_empty() {
                let mut waiting = [PollFd::new(self.errors.get_ref(), PollFlags::IN)];
                let limit = LINE_PATIENCE.try_into().unwrap();
                let is_there = poll(&mut waiting, Some(&limit)).unwrap() > 0;
                assert!(is_there, "it does not say {text:?}; it said {:#?}", self.lines);
            }
            let mut line = String::new();
            let count = self.errors.read_line(&mut line).unwrap();
            assert!(count > 0, "it ended without {text:?}; it said {:#?}", self.lines);
            let line = line.trim_end().to_owned();
            self.lines.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Where its metrics are, which it must have been told to serve.
    #[must_use]
    pub fn metrics_address(&self) -> &str {
        let address = |line: &'_ String| {
            let start = line.find("metrics at http://")? + "metrics at http://".len();
            Some(start..line.find("/metrics")?)
        };
        self.lines.iter().find_map(|line| line.get(address(line)?)).unwrap()
    }

    /// What its metrics are, which it must have been told to serve.
    #[must_use]
    pub fn metrics(&self) -> String {
        let address = self.metrics_address();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// A client, greeted and introduced.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::introduced(self.addresses[0])
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut rest = String::new();
        while self.errors.read_line(&mut rest).unwrap() > 0 {
            self.lines.push(std::mem::take(&mut rest));
        }
        self.child.wait().unwrap()
    }

    /// Waits for its end and reads nothing of its standard error; `None` if it goes on for longer than `limit`.
    pub fn wait_unread(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                None if start.elapsed() < limit => std::thread::yield_now(),
                status => return status,
            }
        }
    }

    /// Closes the pipe that is its standard error.
    pub fn close_errors(&mut self) {
        let (reader, _) = std::io::pipe().unwrap();
        self.errors = BufReader::new(ChildStderr::from(std::os::fd::OwnedFd::from(reader)));
    }

    /// Ends it as an operator does.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert!(self.wait().success(), "{:#?}", self.lines);
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `mailrace queue ACTION` on its queue.
    #[must_use]
    pub fn queue(&self, arguments: &[&str]) -> Finished {
        queue(&self.directory, arguments)
    }
}

impl Engine {
    /// What `mailrace queue ACTION` writes, octet for octet.
    #[must_use]
    pub fn queue_octets(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(program());
        command.current_dir(&self.directory).arg("queue").args(arguments).args(["--queue", "mailrace-queue"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `mailrace queue ...` on the queue in `directory`.
fn queue(directory: &Path, arguments: &[&str]) -> Finished {
    let mut all = vec!["queue"];
    all.extend(arguments);
    all.extend(["--queue", "mailrace-queue"]);
    run(directory, &all)
}

impl Directory {
    /// `mailrace queue ...` on the queue in this directory.
    #[must_use]
    pub fn queue(&self, arguments: &[&str]) -> Finished {
        queue(self.path(), arguments)
    }

    /// What `mailrace queue list --json` says.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        let listed = self.queue(&["list", "--json"]);
        assert!(listed.status.success(), "{}", listed.errors);
        listed.output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// How long an engine may take for its next line that a test waits for, on a machine that does much else.
const LINE_PATIENCE: Duration = Duration::from_secs(180);
