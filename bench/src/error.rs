//! Owns how a measurement fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use mailrace_dev::journal_fs::JournalFsError;
use mailrace_io::IoError;
use mailrace_peers::PeerError;

use crate::canned::LogError;

/// Why there is no figure.
#[derive(Debug)]
pub enum BenchError {
    /// A file could not be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be run.
    Start {
        /// Which.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended or answered otherwise than it should.
    Failed {
        /// Which.
        program: String,
        /// What it said.
        message: String,
    },
    /// The file system for the measurement.
    FileSystem(JournalFsError),
    /// A server to compare with.
    Peer(PeerError),
    /// The ring.
    Io(IoError),
    /// The file of a probe or of the canned responder.
    Log(LogError),
    /// A system call.
    System {
        /// Which.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A signal came.
    Stopped,
}

impl BenchError {
    /// For `map_err` where a file's path is known.
    pub fn on(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    /// For `map_err` at a system call.
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
