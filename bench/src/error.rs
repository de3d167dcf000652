//! Errors of measurements.

use std::fmt;
use std::io;
use std::path::Path;

use mailrace_dev::journal_fs::JournalFsError;
use mailrace_io::IoError;
use mailrace_peers::PeerError;

use crate::canned::LogError;

/// Reason why a measurement failed.
#[derive(Debug)]
pub enum BenchError {
    /// A file, a program or a system call failed, or a server could not be started.
    Peer(PeerError),
    /// The file system for the measurement could not be created.
    FileSystem(JournalFsError),
    /// The ring.
    Io(IoError),
    /// The file of a probe or of the canned responder could not be created.
    Log(LogError),
    /// A signal arrived.
    Stopped,
}

impl BenchError {
    /// Returns a function for `map_err` that adds the path of a file.
    pub fn on(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let on = PeerError::on(path);
        |source| Self::Peer(on(source))
    }

    /// Returns a function for `map_err` that adds the failed operation.
    pub fn at(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Peer(PeerError::at(operation)(source))
    }

    /// Returns the error of a program that ended or answered unexpectedly, with its output.
    pub fn failed(program: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Peer(PeerError::Failed { program: program.into(), message: message.into() })
    }
}

impl From<PeerError> for BenchError {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => error.fmt(out),
            Self::FileSystem(error) => error.fmt(out),
            Self::Io(error) => error.fmt(out),
            Self::Log(error) => error.fmt(out),
            Self::Stopped => out.write_str("stopped by a signal"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Peer(error) => Some(error),
            Self::FileSystem(error) => Some(error),
            Self::Io(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::Stopped => None,
        }
    }
}
