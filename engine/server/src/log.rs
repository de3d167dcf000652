//! The log: lines that threads write into memory and one thread writes to standard error, so that no other thread ever
//! waits for the reader of standard error.
//!
//! Workers gather lines in a [`LogWriter`] of their own; all other threads report events through a [`Log`]. What a line
//! holds from outside is made harmless in [`value`]: it cannot end the line or change how the rest of it looks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError};
use mailrace_core::Timestamp;

pub(crate) use limit::LineLimit;
use output::{Output, StandardError};
use waiting::Waiting;

pub(crate) use event::Event;
pub use line::{Line, LogWriter};
pub use name::EventName;
pub(crate) use value::{decimal, printable};

mod event;
mod limit;
mod line;
pub(crate) mod name;
mod output;
pub(crate) mod panics;
mod shares;
#[cfg(test)]
mod threads;
mod value;
mod waiting;

/// What [`waiting`] is made of; its model has other primitives.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    pub(super) use crossbeam::queue::ArrayQueue;
}

/// How often the writing thread looks for lines. Waking it would cost workers a system call.
const PERIOD: Duration = Duration::from_millis(20);
/// How long the writing thread waits after an error of standard error, such as a full disk, before it tries again.
const RETRY_PERIOD: Duration = Duration::from_secs(1);
/// At the end of the process: how long the remaining lines may wait without one being read.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// At the end of the process: how long writing the remaining lines may take.
const END_MAX: Duration = Duration::from_secs(10);

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Text,
    /// An object per line.
    Json,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Warning,
    Error,
}

impl Level {
    /// Returns its name in JSON lines.
    const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// Returns the prefix of its lines of text.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Info => "",
            Self::Warning => "warning: ",
            Self::Error => "error: ",
        }
    }
}

/// A handle to the log. Nothing that it does waits for standard error, except [`Log::stop`], which has a bound.
#[derive(Clone, Debug)]
pub struct Log {
    waiting: Arc<Waiting>,
    format: LogFormat,
    /// Bytes written since the start.
    progress: Arc<AtomicU64>,
    thread: Thread,
    /// Disconnected when the thread has ended.
    end: Receiver<()>,
}

/// Starts the log: lines go to standard error. `memory`: bytes of lines that may wait.
///
/// # Errors
/// No thread could be started.
pub fn start(format: LogFormat, memory: usize) -> std::io::Result<Log> {
    let waiting = Arc::new(Waiting::new(memory));
    let progress = Arc::new(AtomicU64::new(0));
    let (running, end) = channel::bounded(0);
    let output = Output::new(StandardError, Arc::clone(&waiting), format, Arc::clone(&progress));
    let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        run(output);
        drop(running);
    })?;
    Ok(Log { waiting, format, progress, thread: thread.thread().clone(), end })
}

/// The writing thread.
fn run(mut output: Output<StandardError>) {
    loop {
        // Before the lines are taken: what was handed over before the end is among them.
        let is_stopping = output.is_stopping();
        let result = output.write_waiting();
        if is_stopping {
            return;
        }
        // Lines that a failed write leaves are kept, and written when writing works again.
        std::thread::park_timeout(if result.is_ok() { PERIOD } else { RETRY_PERIOD });
    }
}

impl Log {
    /// A worker's end of the log.
    #[must_use]
    pub fn writer(&self) -> LogWriter {
        LogWriter::new(Arc::clone(&self.waiting), self.format)
    }

    /// Reports an event of the engine itself. `event`: its name in JSON; `message`: its text.
    pub(crate) fn info(&self, event: EventName, message: impl fmt::Display) -> Event {
        self.event(Level::Info, event, &message)
    }

    /// Reports something that an operator should change.
    pub(crate) fn warning(&self, event: EventName, message: impl fmt::Display) -> Event {
        self.event(Level::Warning, event, &message)
    }

    /// Reports something that does not work.
    pub(crate) fn error(&self, event: EventName, message: impl fmt::Display) -> Event {
        self.event(Level::Error, event, &message)
    }

    fn event(&self, level: Level, event: EventName, message: &dyn fmt::Display) -> Event {
        Event::begin(self.writer(), level, event, message)
    }

    /// Writes what is left and ends the thread, unless nothing reads standard error: then the lines that are left are given
    /// up. All writers must have flushed; what is handed over later is not written.
    pub fn stop(&self) {
        self.waiting.stop();
        self.thread.unpark();
        let start = Instant::now();
        loop {
            let before = self.progress.load(Ordering::Relaxed);
            match self.end.recv_timeout(QUIET_MAX) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.progress.load(Ordering::Relaxed) == before || start.elapsed() >= END_MAX {
                return;
            }
        }
    }

    /// Whether the calling thread is the one that writes.
    fn is_own_thread(&self) -> bool {
        std::thread::current().id() == self.thread.id()
    }

    /// Returns the number of lines dropped since the start.
    #[must_use]
    pub fn lines_lost(&self) -> LinesLost {
        LinesLost(Arc::clone(&self.waiting))
    }
}

/// Counts dropped lines.
#[derive(Clone, Debug)]
pub struct LinesLost(Arc<Waiting>);

impl LinesLost {
    /// Number of them since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.lines_lost()
    }
}

/// The time for lines of threads that have no engine.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_microseconds(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
