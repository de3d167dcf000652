//! Ends the program when a signal asks for it before its message is queued: with EX_TEMPFAIL, so that the caller tries
//! again, and without a file left.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;

use super::EXIT_TEMPORARY;
use crate::maildrop::DropFile;

/// Signals that end a process that does not handle them, and that may be handled.
const ENDING: [i32; 11] =
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGIO, SIGXCPU];

/// What a signal that ends the program has to do.
#[derive(Clone, Debug)]
pub(super) struct Interruption(Arc<Mutex<Phase>>);

#[derive(Debug)]
enum Phase {
    /// Nothing is promised yet; this file, if any, is to be removed.
    Writing(Option<PathBuf>),
    /// The message gets its name in the queue: it is too late to stop.
    Queueing,
}

impl Interruption {
    /// Handles signals from now on, but for those that the caller has ignored (nohup).
    ///
    /// # Errors
    /// The handlers cannot be installed, or no thread be started.
    pub(super) fn handle() -> io::Result<Self> {
        let ignored = ignored_signals();
        let is_heeded = |signal: &i32| ignored >> (signal - 1) & 1 == 0;
        let interruption = Self(Arc::new(Mutex::new(Phase::Writing(None))));
        // A write beyond the limit of a file's size then fails with EFBIG, like one to a full disk with ENOSPC.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut signals = Signals::new(ENDING.iter().filter(|signal| is_heeded(signal)))?;
        let watched = interruption.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in signals.forever() {
                let phase = watched.phase();
                if let Phase::Writing(file) = &*phase {
                    if let Some(file) = file {
                        // What is left the engine removes after a day.
                        let _ = std::fs::remove_file(file);
                    }
                    // The lock stays taken: the message is not queued meanwhile.
                    std::process::exit(i32::from(EXIT_TEMPORARY));
                }
            }
        })?;
        Ok(interruption)
    }

    /// Begins a file, which a signal removes from then on.
    ///
    /// # Errors
    /// Those of `create`.
    pub(super) fn begin(&self, create: impl FnOnce() -> io::Result<DropFile>) -> io::Result<DropFile> {
        let mut phase = self.phase();
        let file = create()?;
        *phase = Phase::Writing(file.unfinished().map(Path::to_owned));
        Ok(file)
    }

    /// There is no file to remove any more, or none yet.
    pub(super) fn forget(&self) {
        *self.phase() = Phase::Writing(None);
    }

    /// The message gets its name in the queue now: signals no longer end the program. Does not return when one has come
    /// already.
    pub(super) fn end(&self) {
        *self.phase() = Phase::Queueing;
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals that this process was started to ignore, one bit for each; none where the kernel does not tell.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
