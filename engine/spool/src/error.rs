//! Errors of the spool.

use std::fmt;
use std::io;

/// Why the spool refuses a piece now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All memory for writes is in use, or the next segment is not ready yet. Try again a little later.
    Busy,
    /// The disk has no room.
    Full,
    /// Envelope and piece do not fit into one block ([`crate::Settings::block_size`]).
    TooLarge,
    /// An earlier part of the message was not written.
    Failed,
}

/// A message or mark did not become durable, because its write or flush failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolError;

impl fmt::Display for SpoolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the write that held it failed")
    }
}

impl std::error::Error for SpoolError {}

/// Why a message could not be marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkError {
    /// This spool has no such message.
    NotFound,
    /// The spool refuses it now.
    Refused(Refusal),
}

/// Why a queue cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another engine uses it.
    Locked,
    /// The settings contradict each other, as the text says.
    Settings(&'static str),
    /// A file of the queue has another version of the format.
    Version {
        /// Its path in the queue directory.
        path: String,
        /// Version of the file.
        version: u32,
    },
    /// A file needs features that this program does not know.
    Features {
        /// The file's path in the queue directory.
        path: String,
        /// One bit per feature.
        features: u64,
    },
    /// Neither the manifest nor the header of a segment can be read.
    Unidentified {
        /// The segment's path in the queue directory.
        path: String,
        /// System error.
        error: String,
    },
    /// A number that only grows is exhausted.
    Exhausted,
    /// The file system failed.
    Disk {
        /// Operation that failed.
        operation: &'static str,
        /// Path in the queue directory.
        path: String,
        /// System error.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn disk(operation: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { operation, path, source }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => formatter
                .write_str("another engine uses this queue directory: stop it, or use another directory"),
            Self::Settings(text) => formatter.write_str(text),
            Self::Version { path, version } => {
                write!(
                    formatter,
                    "{path} has queue format version {version}, which this program does not support: use the program that wrote it to empty the queue"
                )
            }
            Self::Features { path, features } => {
                write!(
                    formatter,
                    "{path} has features ({features:#x}) of the queue format that this program does not support: use the program that wrote it"
                )
            }
            Self::Unidentified { path, error } => {
                write!(
                    formatter,
                    "neither the manifest nor {path} can be read ({error}), so a start would leave that segment's messages out of the queue: repair the disk, or move the file out of the queue directory to start without it"
                )
            }
            Self::Exhausted => formatter
                .write_str("its batch numbers are exhausted: use another directory, and empty this one"),
            Self::Disk { operation, path, source } => {
                write!(formatter, "cannot {operation} {path}: {source}")
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk { source, .. } => Some(source),
            _ => None,
        }
    }
}
