//! A server whose standard error is read while it runs: it says where it listens, and what happens to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::PeerError;

/// A running server; killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    program: String,
    child: Child,
    /// Standard error, until it is closed or read elsewhere.
    errors: Option<BufReader<ChildStderr>>,
    /// The lines of standard error read so far.
    pub lines: Vec<String>,
    /// Where it listens, in the order of its configuration.
    pub addresses: Vec<SocketAddr>,
}

impl Server {
    /// Starts `mailrace serve` and waits until it is ready.
    ///
    /// # Errors
    /// [`PeerError::Failed`] with its output when it ends, or is silent for too long.
    pub fn mailrace(command: &mut Command) -> Result<Self, PeerError> {
        let listening = |line: &str| -> Option<Vec<SocketAddr>> {
            let (addresses, _) = line.split_once("listening on ")?.1.split_once(',')?;
            addresses.split(' ').map(|address| address.parse().ok()).collect()
        };
        Self::start(command, "mailrace ready: ", listening)
    }

    /// Starts `mailrace-sink` and waits until it is ready.
    ///
    /// # Errors
    /// [`PeerError::Failed`] with its output when it ends, or is silent for too long.
    pub fn sink(command: &mut Command) -> Result<Self, PeerError> {
        let ready = "mailrace-sink ready: ";
        Self::start(command, ready, |line| Some(vec![line.strip_prefix(ready)?.parse().ok()?]))
    }

    fn start(
        command: &mut Command,
        ready: &str,
        addresses: impl Fn(&str) -> Option<Vec<SocketAddr>>,
    ) -> Result<Self, PeerError> {
        let program = PathBuf::from(command.get_program());
        let name = program.display().to_string();
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| PeerError::Start { program, source })?;
        let errors = child.stderr.take().map(BufReader::new);
        let mut server = Self { program: name, child, errors, lines: Vec::new(), addresses: Vec::new() };
        let line = server.line_with(ready)?;
        server.addresses = addresses(&line).ok_or_else(|| server.failed("does not say where it listens"))?;
        Ok(server)
    }

    /// Returns the next line of standard error that contains `text`.
    ///
    /// # Errors
    /// [`PeerError::Failed`] with its output when it ends, or is silent for too long.
    pub fn line_with(&mut self, text: &str) -> Result<String, PeerError> {
        loop {
            let Some(line) = self.next_line()? else {
                return Err(self.failed(&format!("ended without {text:?}")));
            };
            let line = line.trim_end().to_owned();
            self.lines.push(line.clone());
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    /// Reads a line of standard error; `None` at its end.
    fn next_line(&mut self) -> Result<Option<String>, PeerError> {
        let failed = PeerError::at("reading standard error");
        let Some(errors) = &mut self.errors else { return Ok(None) };
        if errors.buffer().is_empty() {
            let mut waiting = [PollFd::new(errors.get_ref(), PollFlags::IN)];
            let limit = LINE_PATIENCE.try_into().ok();
            match poll(&mut waiting, limit.as_ref()) {
                Ok(0) => return Err(self.failed(&format!("is silent for {LINE_PATIENCE:?}"))),
                Ok(_) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        let mut line = String::new();
        let count = errors.read_line(&mut line).map_err(failed)?;
        Ok((count > 0).then_some(line))
    }

    fn failed(&self, what: &str) -> PeerError {
        let message = format!("{what}; its output: {}", self.lines.join("\n"));
        PeerError::Failed { program: self.program.clone(), message }
    }

    /// Returns Mailrace's metrics, which its configuration must enable.
    ///
    /// # Errors
    /// [`PeerError`] when there are none.
    pub fn metrics(&self) -> Result<String, PeerError> {
        let failed = || PeerError::at("reading metrics");
        let address = self.metrics_address().ok_or_else(|| self.failed("has no metrics"))?;
        let mut stream = TcpStream::connect(address).map_err(failed())?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").map_err(failed())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(failed())?;
        Ok(text)
    }

    /// Where Mailrace's metrics are, if its configuration enables them.
    #[must_use]
    pub fn metrics_address(&self) -> Option<&str> {
        let address = |line: &'_ String| {
            let start = line.find("metrics at http://")? + "metrics at http://".len();
            Some(start..line.find("/metrics")?)
        };
        self.lines.iter().find_map(|line| line.get(address(line)?))
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`PeerError::System`] when there is no such process any longer.
    pub fn signal(&self, signal: Signal) -> Result<(), PeerError> {
        kill_process(self.pid(), signal).map_err(|error| PeerError::at("sending a signal")(error.into()))
    }

    /// Hands out standard error, for a thread that reads it from now on.
    pub fn take_errors(&mut self) -> Option<BufReader<ChildStderr>> {
        self.errors.take()
    }

    /// Hands out standard output, if the command pipes it.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Returns the status of a server that has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the end, and reads standard error up to there.
    ///
    /// # Errors
    /// [`PeerError::System`].
    pub fn wait(&mut self) -> Result<ExitStatus, PeerError> {
        if let Some(errors) = self.errors.take() {
            self.lines.extend(errors.lines().map_while(Result::ok));
        }
        self.child.wait().map_err(PeerError::at("waiting for the end"))
    }

    /// Waits for the end without reading standard error; `None` if the server runs for longer than `limit`.
    ///
    /// # Errors
    /// [`PeerError::System`].
    pub fn wait_unread(&mut self, limit: Duration) -> Result<Option<ExitStatus>, PeerError> {
        let start = Instant::now();
        loop {
            match self.child.try_wait().map_err(PeerError::at("waiting for the end"))? {
                None if start.elapsed() < limit => std::thread::yield_now(),
                status => return Ok(status),
            }
        }
    }

    /// Ends it as an operator does.
    ///
    /// # Errors
    /// [`PeerError::Failed`] when it ends with another status than 0.
    pub fn stop(&mut self) -> Result<(), PeerError> {
        self.signal(Signal::TERM)?;
        let status = self.wait()?;
        if status.success() { Ok(()) } else { Err(self.failed(&format!("ended with {status}"))) }
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How long the next awaited line may take, on a machine that does much else.
const LINE_PATIENCE: Duration = Duration::from_secs(180);
