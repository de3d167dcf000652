//! Owns why a chore on a test disk cannot go on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use mailrace_peers::PeerError;

/// Why a rig cannot be set up, or a proof not be carried through.
#[derive(Debug)]
pub enum ProofError {
    /// Only root can.
    NotRoot,
    /// A program is not installed.
    Missing {
        /// Which.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The machine has no loop devices, or does not let them be mounted.
    NoLoopDevices(String),
    /// A program failed.
    Failed {
        /// Which.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// A file could not be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The engine did not do what it had to.
    Engine(String),
    /// The engine, or one of its commands, could not be run.
    Peer(PeerError),
    /// The log of the disk's writes does not say what it should.
    WriteLog(&'static str),
    /// A signal came.
    Interrupted,
}

impl ProofError {
    /// For `map_err`, where something is done with `path`.
    pub fn on(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    /// Whether this machine cannot have the rig at all, whatever is installed.
    #[must_use]
    pub const fn is_of_machine(&self) -> bool {
        matches!(self, Self::NoLoopDevices(_))
    }

    /// Whether the rig is not there, and nothing was tried.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::NotRoot | Self::Missing { .. } | Self::NoLoopDevices(_))
    }
}

impl From<PeerError> for ProofError {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl fmt::Display for ProofError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => out.write_str("only root can create loop devices and mount file systems"),
            Self::Missing { program, package } => {
                write!(out, "{program} is not installed: apt-get install {package}")
            }
            Self::NoLoopDevices(message) => {
                write!(out, "this machine has no loop devices that can be mounted: {message}")
            }
            Self::Failed { program, message } => write!(out, "{program} failed: {message}"),
            Self::File { path, source } => write!(out, "{}: {source}", path.display()),
            Self::Engine(text) => write!(out, "the engine: {text}"),
            Self::Peer(error) => error.fmt(out),
            Self::WriteLog(text) => write!(out, "the log of the disk's writes: {text}"),
            Self::Interrupted => out.write_str("interrupted"),
        }
    }
}

impl std::error::Error for ProofError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Peer(error) => Some(error),
            _ => None,
        }
    }
}
