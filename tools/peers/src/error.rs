//! The error of everything that is done with a server.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a server cannot be started, asked or stopped.
#[derive(Debug)]
pub enum PeerError {
    /// A file could not be read or written.
    File {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A program could not be run.
    Start {
        /// Its path.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A program ended or answered otherwise than it should.
    Failed {
        /// Its name.
        program: String,
        /// Its output.
        message: String,
    },
    /// A system call failed.
    System {
        /// What it was for.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl PeerError {
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

impl fmt::Display for PeerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, source } => write!(out, "{}: {source}", path.display()),
            Self::Start { program, source } => write!(out, "{} cannot be run: {source}", program.display()),
            Self::Failed { program, message } => write!(out, "{program}: {message}"),
            Self::System { operation, source } => write!(out, "{operation} failed: {source}"),
        }
    }
}

impl std::error::Error for PeerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } | Self::Start { source, .. } | Self::System { source, .. } => {
                Some(source)
            }
            Self::Failed { .. } => None,
        }
    }
}
