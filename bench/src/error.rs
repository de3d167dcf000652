//! Errors of measurements.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use mailrace_dev::journal_fs::JournalFsError;
use mailrace_io::IoError;
use mailrace_peers::PeerError;

use crate::canned::LogError;

/// Reason why a measurement failed.
#[derive(Debug)]
pub enum BenchError {
    /// A file could not be read or written.
    File {
        /// Path of the file.
        path: PathBuf,
        /// System error.
        source: io::Error,
    },
    /// A program could not be run.
    Start {
        /// Program.
        program: PathBuf,
        /// System error.
        source: io::Error,
    },
    /// A program ended or answered unexpectedly.
    Failed {
        /// Program.
        program: String,
        /// Message of the program.
        message: String,
    },
    /// The file system for the measurement could not be created.
    FileSystem(JournalFsError),
    /// A server to compare with could not be started.
    Peer(PeerError),
    /// The ring.
    Io(IoError),
    /// The file of a probe or of the canned responder could not be created.
    Log(LogError),
    /// A system call failed.
    System {
        /// Operation that failed.
        operation: &'static str,
        /// System error.
        source: io::Error,
    },
    /// A signal arrived.
    Stopped,
}

impl BenchError {
    /// Returns a function for `map_err` that adds the path of a file.
    pub fn on(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    /// Returns a function for `map_err` that adds the failed operation.
    pub fn at(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { operation, source }
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
            Self::File { path, source } => write!(out, "{}: {source}", path.display()),
            Self::Start { program, source } => write!(out, "{} cannot be run: {source}", program.display()),
            Self::Failed { program, message } => write!(out, "{program}: {message}"),
            Self::FileSystem(error) => error.fmt(out),
            Self::Peer(error) => error.fmt(out),
            Self::Io(error) => error.fmt(out),
            Self::Log(error) => error.fmt(out),
            Self::System { operation, source } => write!(out, "{operation} failed: {source}"),
            Self::Stopped => out.write_str("stopped by a signal"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } | Self::Start { source, .. } | Self::System { source, .. } => {
                Some(source)
            }
            Self::FileSystem(error) => Some(error),
            Self::Peer(error) => Some(error),
            Self::Io(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::Failed { .. } | Self::Stopped => None,
        }
    }
}
