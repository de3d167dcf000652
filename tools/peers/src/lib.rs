//! Starts, queries and stops the servers that tests and benchmarks compare with.
#![forbid(unsafe_code)]

mod canned;
mod client;
mod error;
mod mailrace;
mod postfix;
mod program;
mod server;

pub use canned::Canned;
pub use client::{Answer, Client};
pub use error::PeerError;
pub use mailrace::{Kernel, Mailrace, OTHER};
pub use postfix::Postfix;
pub use program::Program;
pub use server::Server;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A server to compare with; ended when dropped.
pub trait Peer {
    /// A short name.
    fn name(&self) -> &'static str;

    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// The process at the top of its tree.
    fn pid(&self) -> u32;

    /// Deletes the messages that it holds, so that every run starts alike.
    ///
    /// # Errors
    /// [`PeerError`].
    fn empty(&mut self) -> Result<(), PeerError>;

    /// Messages that it holds; `None` when it keeps none.
    ///
    /// # Errors
    /// [`PeerError`].
    fn held(&mut self) -> Result<Option<u64>, PeerError>;
}

/// How servers are started.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Where each makes a directory of its own.
    pub directory: PathBuf,
    /// The processor that servers run on; `None`: any.
    pub cpu: Option<usize>,
    /// Congestion control of the listeners that can be told.
    pub congestion_control: Option<String>,
}

impl Setting {
    fn directory_of(&self, name: &str) -> Result<PathBuf, PeerError> {
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory).map_err(PeerError::on(&directory))?;
        Ok(directory)
    }
}

/// Returns the path of the program `name` beside this one: they are built together.
///
/// # Errors
/// [`PeerError::System`].
pub fn sibling(name: &str) -> Result<PathBuf, PeerError> {
    let own = std::env::current_exe().map_err(PeerError::at("finding this program"))?;
    Ok(own.with_file_name(name))
}

/// Starts a program on one processor only, if one is given; its children inherit that.
///
/// # Errors
/// [`PeerError`].
pub fn spawn(command: &mut Command, cpu: Option<usize>) -> Result<Child, PeerError> {
    let start = |command: &mut Command| {
        let program = PathBuf::from(command.get_program());
        command.spawn().map_err(|source| PeerError::Start { program, source })
    };
    let Some(cpu) = cpu else { return start(command) };
    // A child inherits the affinity of the thread that starts it.
    let failed = |error: rustix::io::Errno| PeerError::at("choosing a processor")(error.into());
    let own = sched_getaffinity(None).map_err(failed)?;
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(failed)?;
    let child = start(command);
    sched_setaffinity(None, &own).map_err(failed)?;
    child
}

fn free_address() -> Result<SocketAddr, PeerError> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(PeerError::at("finding a free port"))?;
    listener.local_addr().map_err(PeerError::at("finding a free port"))
}

/// A server that stays in the foreground, its output in a file; ended when dropped.
#[derive(Debug)]
pub struct Foreground {
    child: Child,
    log: PathBuf,
}

impl Foreground {
    /// Starts it with `spawn`, its output in the file `log`.
    ///
    /// # Errors
    /// [`PeerError`], or what `spawn` returns.
    pub fn start<E: From<PeerError>>(
        command: &mut Command,
        log: PathBuf,
        spawn: impl FnOnce(&mut Command) -> Result<Child, E>,
    ) -> Result<Self, E> {
        let output = File::create(&log).map_err(PeerError::on(&log))?;
        let error_output = output.try_clone().map_err(PeerError::on(&log))?;
        let child = spawn(command.stdin(Stdio::null()).stdout(output).stderr(error_output))?;
        Ok(Self { child, log })
    }

    /// Waits until the server takes connections.
    fn wait_for_connection(&mut self, address: SocketAddr) -> Result<(), PeerError> {
        self.wait_until(|_| TcpStream::connect(address).is_ok())
    }

    /// Waits until `is_ready` says so of the path of the server's output.
    ///
    /// # Errors
    /// [`PeerError::Failed`] with the end of its output when it ends, or takes too long.
    pub fn wait_until(&mut self, is_ready: impl Fn(&Path) -> bool) -> Result<(), PeerError> {
        let give_up = Instant::now() + START_TIME_MAX;
        while !is_ready(&self.log) {
            let is_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if is_ended || Instant::now() > give_up {
                let program = self.log.display().to_string();
                return Err(PeerError::Failed { program, message: tail(&self.log) });
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
        let give_up = Instant::now() + END_TIME_MAX;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < give_up {
            sleep(POLL);
        }
        self.kill();
    }
}

/// The end of a log, for an error's text.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Runs a program to its end, and returns its standard output.
fn output_of(command: &mut Command) -> Result<Vec<u8>, PeerError> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().map_err(|source| PeerError::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(PeerError::Failed { program: program.display().to_string(), message })
}

const START_TIME_MAX: Duration = Duration::from_secs(60);
const END_TIME_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
const TAIL_LINES: usize = 10;
