//! Owns the engine under proof: the real program, its commands, what it leaves.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mailrace_core::QueueId;
use mailrace_io::OsDisk;
use mailrace_spool::reader::Queue;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::account::Found;
use super::letter::Identity;
use crate::error::ProofError;

/// The program `mailrace`.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// The one at `path`, or the one beside this program.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(path: Option<PathBuf>) -> Result<Self, ProofError> {
        let beside = || std::env::current_exe().ok().map(|own| own.with_file_name("mailrace"));
        match path.or_else(beside).filter(|path| path.is_file()) {
            Some(path) => Ok(Self(path)),
            None => Err(ProofError::Engine("there is no program mailrace: build it, or name it".to_owned())),
        }
    }

    /// Runs `mailrace queue ...` on a queue to its end.
    ///
    /// # Errors
    /// With what it said.
    pub fn queue<'a>(
        &self,
        queue: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<u8>, ProofError> {
        let output = Command::new(&self.0)
            .arg("queue")
            .args(arguments)
            .arg("--queue")
            .arg(queue)
            // A signal for the chore is not for its programs.
            .process_group(0)
            .output()
            .map_err(ProofError::on(&self.0))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(ProofError::Engine(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Everything that is in a queue, compared with what was sent.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub fn look(&self, queue: &Path) -> Result<Vec<Found>, ProofError> {
        let mut found = self.look_once(queue)?;
        // A running engine moves messages out of old segments, and one may be moved between the list and a look at it.
        for _ in 0..LOOKS_MAX {
            if found.iter().all(|message| message.is_whole) {
                break;
            }
            found = self.look_once(queue)?;
        }
        Ok(found)
    }

    fn look_once(&self, queue: &Path) -> Result<Vec<Found>, ProofError> {
        let listed = self.queue(queue, ["list", "--json"])?;
        let disk = OsDisk::new(queue).map_err(ProofError::on(queue))?;
        let contents = Queue::read(&disk, false).map_err(|error| ProofError::Engine(error.to_string()))?;
        let mut found = Vec::new();
        for line in String::from_utf8_lossy(&listed).lines() {
            let line: Line =
                serde_json::from_str(line).map_err(|error| ProofError::Engine(format!("{error}: {line}")))?;
            let identity = Identity::of_sender(&line.sender);
            let mut content = Vec::new();
            let is_read = QueueId::parse(line.id.as_bytes())
                .is_some_and(|id| contents.content(id, &mut content).is_ok());
            let is_whole = is_read
                && identity.is_some_and(|identity| {
                    line.recipients == [identity.recipient()] && is_whole(&content, &identity.content())
                });
            found.push(Found { id: line.id, identity, is_whole, is_held: line.state == "hold" });
        }
        self.compare_command(queue, &contents, &mut found)?;
        Ok(found)
    }

    /// What `mailrace queue cat` prints is what was looked at; for some, for it reads all of the queue each time.
    fn compare_command(
        &self,
        queue: &Path,
        contents: &Queue<'_, OsDisk>,
        found: &mut [Found],
    ) -> Result<(), ProofError> {
        let step = found.len().div_ceil(CAT_COUNT).max(1);
        for message in found.iter_mut().step_by(step).filter(|message| message.is_whole) {
            // As above.
            let Ok(printed) = self.queue(queue, ["cat", "--exact", &message.id]) else {
                message.is_whole = false;
                continue;
            };
            let mut content = Vec::new();
            let is_read = QueueId::parse(message.id.as_bytes())
                .is_some_and(|id| contents.content(id, &mut content).is_ok());
            message.is_whole = is_read && content == printed;
        }
        Ok(())
    }
}

/// The engine puts a trace field in front, and changes nothing else.
fn is_whole(stored: &[u8], sent: &[u8]) -> bool {
    stored.strip_suffix(sent).is_some_and(|trace| {
        trace.starts_with(b"Received: ") && trace.ends_with(b"\r\n") && trace.len() < TRACE_SIZE_MAX
    })
}

#[derive(Deserialize)]
struct Line {
    id: String,
    state: String,
    sender: String,
    recipients: Vec<String>,
}

/// A running engine; killed when it is dropped.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    /// Where it takes mail.
    pub address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// Whether a line of the log has a queue id, or says that it has none.
fn is_about_mail(line: &str) -> bool {
    let id = line.split_once("Z mailrace: ").and_then(|(_, rest)| rest.split_once(": "));
    id.is_some_and(|(id, _)| id == "NOQUEUE" || QueueId::parse(id.as_bytes()).is_some())
}

impl Engine {
    /// Starts it on a queue, on a port that the kernel picks.
    ///
    /// # Errors
    /// With what it said instead.
    pub fn start(program: &Program, queue: &Path) -> Result<Self, ProofError> {
        Self::start_with(program, queue, |command| command)
    }

    /// The same, with something added to the command.
    ///
    /// # Errors
    /// With what it said instead.
    pub fn start_with(
        program: &Program,
        queue: &Path,
        adjust: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self, ProofError> {
        let mut child = adjust(command(program, queue).stderr(Stdio::piped()))
            .spawn()
            .map_err(ProofError::on(&program.0))?;
        let errors = child.stderr.take().ok_or_else(|| ProofError::Engine("it has no output".to_owned()))?;
        let mut errors = BufReader::new(errors);
        let mut lines = Vec::new();
        let address = loop {
            let mut line = String::new();
            if errors.read_line(&mut line).unwrap_or(0) == 0 {
                let _ = child.wait();
                return Err(ProofError::Engine(format!("it did not start: {}", lines.join("\n"))));
            }
            let address = line.split_once("listening on ").and_then(|(_, rest)| rest.split_once(','));
            let address = address.and_then(|(address, _)| address.parse().ok());
            lines.push(line.trim_end().to_owned());
            if let Some(address) = address {
                break address;
            }
        };
        let said = Arc::new(Mutex::new(lines));
        let reader = std::thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in errors.lines().map_while(Result::ok) {
                    // There are many about mail.
                    if !is_about_mail(&line) {
                        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                        if said.len() < LINES_MAX {
                            said.push(line);
                        }
                    }
                }
            }
        });
        Ok(Self { child, address, said, reader: Some(reader) })
    }

    /// Starts it on a queue and kills it after a time, ready or not.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kill_at_start(program: &Program, queue: &Path, after: Duration) -> Result<(), ProofError> {
        let mut child =
            command(program, queue).stderr(Stdio::null()).spawn().map_err(ProofError::on(&program.0))?;
        std::thread::sleep(after);
        let _ = child.kill();
        child.wait().map(drop).map_err(ProofError::on(&program.0))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// How it has ended by itself, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What it said, but for lines about mail.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An error if it has ended by itself.
    ///
    /// # Errors
    /// With what it said.
    pub fn require_alive(&mut self) -> Result<(), ProofError> {
        match self.ended() {
            None => Ok(()),
            Some(status) => {
                let said = self.said().join("\n");
                Err(ProofError::Engine(format!("it ended by itself with {status}: {said}")))
            }
        }
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// Ends it as an operator does.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub fn stop(mut self) -> Result<(), ProofError> {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::TERM);
        }
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            status => {
                Err(ProofError::Engine(format!("it ended with {status:?}: {}", self.said().join("\n"))))
            }
        }
    }
}

/// With MAILRACE_TEST_IO in the environment it is served with that `--io`.
fn command(program: &Program, queue: &Path) -> Command {
    let mut command = Command::new(&program.0);
    command.args(["serve", "--listen", "127.0.0.1:0", "--queue"]).arg(queue);
    if let Some(io) = std::env::var_os("MAILRACE_TEST_IO") {
        command.arg("--io").arg(io);
    }
    for setting in SETTINGS {
        command.args(["--set", setting]);
    }
    // A signal for the chore is not for its programs.
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    command
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Small segments, so that many are filled, emptied and used again in a second.
const SETTINGS: &[&str] = &[
    "engine.metrics_listen=",
    "queue.segment_size=2MiB",
    "queue.block_size=256KiB",
    "queue.kept_segments=4",
    "smtpd_peername_lookup=no",
    "smtpd_recipient_limit=200",
];
/// Lines that are kept of what it says.
const LINES_MAX: usize = 200;
/// How often a queue is looked at again in which something is not whole.
const LOOKS_MAX: usize = 3;
/// Messages that `mailrace queue cat` is asked for.
const CAT_COUNT: usize = 2;
/// Octets of a trace field at most.
const TRACE_SIZE_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_field_may_be_added() {
        let sent = b"Subject: x\r\n\r\nbody\r\n";
        let whole = |stored: &str| is_whole(stored.as_bytes(), sent);
        assert!(whole("Received: from a\r\n\tby b; c\r\nSubject: x\r\n\r\nbody\r\n"));
        assert!(!whole("Received: from a\r\n\tby b; c\r\nSubject: x\r\n\r\nbod\r\n"));
        assert!(!whole("Subject: x\r\n\r\nbody\r\n"));
        assert!(!whole(""));
    }
}
