//! The program under test: built once, started on ports that the kernel picks.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use mailrace_peers::{Program, Server};
use rustix::process::Signal;
use serde_json::Value;

use crate::{Client, Directory};

/// Returns the path of `mailrace`, built now unless it is up to date.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("mailrace"))
}

/// Returns the path of `mailrace-load`, built now unless it is up to date.
pub fn load_generator() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("mailrace-load"))
}

/// Builds the program of a package.
fn built(name: &str) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", name, "--bin", name]);
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "{name} does not build");
    // The test's own executable is in deps/ beside it.
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join(name)
}

/// Result of a finished command.
#[derive(Debug)]
pub struct Finished {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// `mailrace` with these arguments.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let program = Program::find(Some(program().to_owned())).unwrap();
    let (subcommand, rest) = arguments.split_first().unwrap();
    let mut command = program.command(subcommand, rest.iter().copied());
    command.current_dir(directory);
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
    server: Server,
    directory: PathBuf,
}

impl Deref for Engine {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Options for a small queue, which is created quickly.
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
        let server = Server::mailrace(command(directory, &arguments).stdout(Stdio::null())).unwrap();
        Self { server, directory: directory.to_path_buf() }
    }

    /// Returns the next line of its standard error that contains `text`.
    pub fn line_with(&mut self, text: &str) -> String {
        self.server.line_with(text).unwrap()
    }

    /// Returns the address of its metrics, which must be enabled.
    #[must_use]
    pub fn metrics_address(&self) -> &str {
        self.server.metrics_address().unwrap()
    }

    /// Returns its metrics, which must be enabled.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.server.metrics().unwrap()
    }

    /// Returns a client after greeting and EHLO.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::introduced(self.addresses[0])
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.server.signal(signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.server.wait().unwrap()
    }

    /// Waits for its end without reading its standard error. Returns `None` if it runs for longer than `limit`.
    pub fn wait_unread(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.server.wait_unread(limit).unwrap()
    }

    /// Closes the pipe of its standard error.
    pub fn close_errors(&mut self) {
        drop(self.server.take_errors());
    }

    /// Stops it with SIGTERM.
    pub fn stop(mut self) {
        self.server.stop().unwrap();
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.server.kill();
    }

    /// `mailrace queue ACTION` on its queue.
    #[must_use]
    pub fn queue(&self, arguments: &[&str]) -> Finished {
        queue(&self.directory, arguments)
    }
}

impl Engine {
    /// Returns the exact output of `mailrace queue ACTION`.
    #[must_use]
    pub fn queue_octets(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(program());
        command.current_dir(&self.directory).arg("queue").args(arguments).args(["--queue", "mailrace-queue"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
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

    /// Returns the output of `mailrace queue list --json`.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        let listed = self.queue(&["list", "--json"]);
        assert!(listed.status.success(), "{}", listed.errors);
        listed.output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
