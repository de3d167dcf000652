//! The engine under proof: how it is started, and what it leaves in its queue.

use std::io::BufRead;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mailrace_core::QueueId;
use mailrace_io::OsDisk;
use mailrace_peers::{Program, Server};
use mailrace_postmark::{Found, Identity};
use mailrace_spool::reader::Queue;
use rustix::process::Pid;
use serde::Deserialize;

use crate::error::ProofError;

/// Everything that is in a queue, compared with what was sent.
///
/// # Errors
/// When the queue cannot be read.
pub fn look(program: &Program, queue: &Path) -> Result<Vec<Found>, ProofError> {
    let mut found = look_once(program, queue)?;
    // A running engine moves messages out of old segments, and one may be moved between the list and a look at it.
    for _ in 0..LOOKS_MAX {
        if found.iter().all(|message| message.is_whole) {
            break;
        }
        found = look_once(program, queue)?;
    }
    Ok(found)
}

fn look_once(program: &Program, queue: &Path) -> Result<Vec<Found>, ProofError> {
    let listed = program.queue(queue, ["list", "--json"])?;
    let disk = OsDisk::new(queue).map_err(ProofError::on(queue))?;
    let contents = Queue::read(&disk, false).map_err(|error| ProofError::Engine(error.to_string()))?;
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&listed).lines() {
        let line: Line =
            serde_json::from_str(line).map_err(|error| ProofError::Engine(format!("{error}: {line}")))?;
        let identity = Identity::of_sender(&line.sender);
        let mut content = Vec::new();
        let is_read =
            QueueId::parse(line.id.as_bytes()).is_some_and(|id| contents.content(id, &mut content).is_ok());
        let is_whole = is_read
            && identity.is_some_and(|identity| {
                line.recipients == [identity.recipient()] && is_whole(&content, &identity.content())
            });
        found.push(Found { id: line.id, identity, is_whole, is_held: line.state == "hold" });
    }
    compare_command(program, queue, &contents, &mut found)?;
    Ok(found)
}

/// What `mailrace queue cat` prints is what was looked at; for some, for it reads all of the queue each time.
fn compare_command(
    program: &Program,
    queue: &Path,
    contents: &Queue<'_, OsDisk>,
    found: &mut [Found],
) -> Result<(), ProofError> {
    let step = found.len().div_ceil(CAT_COUNT).max(1);
    for message in found.iter_mut().step_by(step).filter(|message| message.is_whole) {
        // As above.
        let Ok(printed) = program.queue(queue, ["cat", "--exact", &message.id]) else {
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

/// A running engine whose output a thread reads; killed when it is dropped.
#[derive(Debug)]
pub struct Engine {
    server: Server,
    /// Where it takes mail.
    pub address: SocketAddr,
    said: Arc<Mutex<Vec<Event>>>,
    reader: Option<JoinHandle<()>>,
}

/// An event of an engine's log.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty for a line that is no event, which the system or a library wrote.
    pub event: String,
    /// Its text; events about mail may have none.
    #[serde(default)]
    pub message: String,
    /// Events about mail have one.
    id: Option<String>,
}

impl Event {
    /// Reads a line of standard error; `None` if it is about mail, of which there are many.
    fn of(line: String) -> Option<Self> {
        match serde_json::from_str::<Self>(&line) {
            Ok(event) => event.id.is_none().then_some(event),
            Err(_) => Some(Self { event: String::new(), message: line, id: None }),
        }
    }
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
        let mut server = Server::mailrace(adjust(&mut command(program, queue)))?;
        let [address] = server.addresses[..] else {
            return Err(ProofError::Engine("it does not listen on exactly one address".to_owned()));
        };
        let (errors, lines) = (server.take_errors(), std::mem::take(&mut server.lines));
        let said: Vec<Event> = lines.into_iter().filter_map(Event::of).collect();
        let said = Arc::new(Mutex::new(said));
        let reader = std::thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in errors.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                    if let Some(event) = Event::of(line) {
                        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                        if said.len() < EVENTS_MAX {
                            said.push(event);
                        }
                    }
                }
            }
        });
        Ok(Self { server, address, said, reader: Some(reader) })
    }

    /// Starts it on a queue and kills it after a time, ready or not.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kill_at_start(program: &Program, queue: &Path, after: Duration) -> Result<(), ProofError> {
        let mut child =
            command(program, queue).stderr(Stdio::null()).spawn().map_err(ProofError::on(program.path()))?;
        std::thread::sleep(after);
        let _ = child.kill();
        child.wait().map(drop).map_err(ProofError::on(program.path()))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.server.pid()
    }

    /// How it has ended by itself, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.server.ended()
    }

    /// What it said, but for events about mail.
    #[must_use]
    pub fn said(&self) -> Vec<Event> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same as text.
    fn said_lines(&self) -> String {
        let messages: Vec<String> = self.said().into_iter().map(|event| event.message).collect();
        messages.join("\n")
    }

    /// An error if it has ended by itself.
    ///
    /// # Errors
    /// With what it said.
    pub fn require_alive(&mut self) -> Result<(), ProofError> {
        match self.ended() {
            None => Ok(()),
            Some(status) => {
                let said = self.said_lines();
                Err(ProofError::Engine(format!("it ended unexpectedly with {status}: {said}")))
            }
        }
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.server.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// Ends it as an operator does.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub fn stop(mut self) -> Result<(), ProofError> {
        self.server.stop().map_err(|error| ProofError::Engine(format!("{error}{}", self.said_lines())))
    }
}

fn command(program: &Program, queue: &Path) -> Command {
    let mut command = program.command("serve", ["--listen", "127.0.0.1:0"]);
    command.arg("--queue").arg(queue);
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
    "engine.log_format=json",
    "queue.segment_size=2MiB",
    "queue.block_size=256KiB",
    "queue.kept_segments=4",
    "smtpd_peername_lookup=no",
    "smtpd_recipient_limit=200",
];
/// Events that are kept of what it says.
const EVENTS_MAX: usize = 200;
/// How often a queue is looked at again in which something is not whole.
const LOOKS_MAX: usize = 3;
/// Messages that `mailrace queue cat` is asked for.
const CAT_COUNT: usize = 2;
/// Bytes of a trace field at most.
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

    #[test]
    fn omits_events_about_mail() {
        let of = |line: &str| Event::of(line.to_owned());
        let damage = of(r#"{"time":"t","level":"error","event":"damage","message":"m","offset":7}"#).unwrap();
        assert_eq!((damage.event.as_str(), damage.message.as_str()), ("damage", "m"));
        assert_eq!(of(r#"{"time":"t","id":"0DjNZLqx8RYr","event":"queued","from":""}"#), None);
        assert_eq!(of("memory allocation failed").unwrap().message, "memory allocation failed");
    }
}
