//! Errors of the interface to the kernel.

use std::fmt;
use std::io;

/// The kernel does not provide what an engine needs.
#[derive(Debug)]
pub enum IoError {
    /// io_uring is not permitted here.
    NotPermitted(io::Error),
    /// The kernel lacks something; the text names it.
    Unsupported(&'static str),
    /// A limit is too low; the text says which and what to do.
    Limit {
        /// The missing resource.
        what: &'static str,
        /// The remedy.
        remedy: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// A call on the ring failed.
    Ring {
        /// The call.
        operation: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// A call of the `Io` on epoll failed.
    Epoll {
        /// The call.
        operation: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

impl IoError {
    /// Whether io_uring is not available here, so that another [`Io`](crate::Io) can help. A limit that is too low does
    /// not count: every `Io` needs descriptors and memory.
    #[must_use]
    pub const fn is_ring_missing(&self) -> bool {
        matches!(self, Self::NotPermitted(_) | Self::Unsupported(_))
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted(error) => write!(
                formatter,
                "io_uring is not permitted here ({error}): set the sysctl kernel.io_uring_disabled to 0, and in a \
                 container allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile \
                 (docker: --security-opt seccomp=PROFILE.json)"
            ),
            Self::Unsupported(what) => {
                write!(formatter, "this kernel's io_uring lacks {what}: Mailrace needs Linux 6.7 or newer")
            }
            Self::Limit { what, remedy, source } => write!(formatter, "{what} failed ({source}): {remedy}"),
            Self::Ring { operation, source } => write!(formatter, "io_uring: {operation} failed: {source}"),
            Self::Epoll { operation, source } => write!(formatter, "epoll: {operation} failed: {source}"),
        }
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotPermitted(source)
            | Self::Limit { source, .. }
            | Self::Ring { source, .. }
            | Self::Epoll { source, .. } => Some(source),
            Self::Unsupported(_) => None,
        }
    }
}
