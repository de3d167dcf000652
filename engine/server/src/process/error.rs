//! Startup errors.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use mailrace_io::IoError;
use mailrace_spool::OpenError;

use crate::config::ConfigErrors;

/// Reason why the engine does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is invalid.
    Configuration(ConfigErrors),
    /// The queue's directory cannot be used.
    Directory {
        /// Queue directory.
        path: PathBuf,
        /// System error.
        source: io::Error,
    },
    /// The queue cannot be opened.
    Queue {
        /// Queue directory.
        path: PathBuf,
        /// Cause.
        source: OpenError,
    },
    /// An address cannot be listened on.
    Listen {
        /// Address.
        address: SocketAddr,
        /// System error.
        source: io::Error,
    },
    /// The kernel denies a worker a resource.
    Io(IoError),
    /// The log cannot be started, so this is in no log.
    Log(io::Error),
    /// Another system operation failed.
    System {
        /// Operation that failed.
        operation: &'static str,
        /// System error.
        source: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(errors) => write!(formatter, "{errors}"),
            Self::Directory { path, source } => write!(
                formatter,
                "cannot use the queue directory {}: {source}; set directory in [queue], or --queue, to one that this user may write",
                path.display()
            ),
            Self::Queue { path, source } => {
                write!(formatter, "cannot open the queue in {}: {source}", path.display())
            }
            Self::Listen { address, source } => {
                let remedy = match source.kind() {
                    io::ErrorKind::AddrInUse => {
                        "stop the program that listens there, or set another address with listen in [engine] or --listen"
                    }
                    io::ErrorKind::PermissionDenied => {
                        "ports below 1024 need the capability CAP_NET_BIND_SERVICE"
                    }
                    io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
                    _ => "check listen and congestion_control in [engine]",
                };
                write!(formatter, "cannot listen on {address}: {source}; {remedy}")
            }
            // Only io_uring needs locked memory.
            Self::Io(error @ IoError::Limit { source, .. })
                if source.kind() == io::ErrorKind::OutOfMemory =>
            {
                write!(formatter, "{error}, or set io = \"epoll\" in [engine], which needs none")
            }
            Self::Io(error) => write!(formatter, "{error}"),
            Self::Log(source) => write!(formatter, "cannot start the log: {source}"),
            Self::System { operation, source } => write!(formatter, "cannot {operation}: {source}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Configuration(errors) => Some(errors),
            Self::Queue { source, .. } => Some(source),
            Self::Io(error) => Some(error),
            Self::Log(source)
            | Self::Directory { source, .. }
            | Self::Listen { source, .. }
            | Self::System { source, .. } => Some(source),
        }
    }
}

pub(super) fn system(operation: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { operation, source }
}

#[cfg(test)]
mod tests;
