//! Limits of the system that the process raises for itself.

use std::io;

use rustix::process::{Resource, Rlimit};

use crate::worker::{SPARE_CONNECTIONS, WorkerSettings};

use super::error::{StartError, system};
use super::threads::Kernel;

/// Raises the limit of open files (RLIMIT_NOFILE) to what `max_connections` needs. The connections of a ring are not
/// descriptors, but the kernel limits its table as if they were; with epoll those of all workers are descriptors.
pub(super) fn raise_open_files(
    kernel: Kernel,
    workers: u16,
    settings: &WorkerSettings,
    submissions: u32,
) -> Result<(), StartError> {
    let connections = (settings.max_connections + SPARE_CONNECTIONS) as u64;
    let needed = OTHER_FILES
        + u64::from(submissions)
        + match kernel {
            Kernel::Ring => connections,
            Kernel::Epoll => connections * u64::from(workers),
        };
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum
        && maximum < needed
    {
        let text = format!(
            "the limit of open files is {maximum}, and {needed} are needed: raise it (ulimit -Hn, or LimitNOFILE= of the \
             service), or lower max_connections in [engine]"
        );
        return Err(system("start")(io::Error::other(text)));
    }
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit })
        .map_err(|error| system("raise the limit of open files")(error.into()))
}

/// Open files that are not connections: segments, listeners, rings, eventfds.
const OTHER_FILES: u64 = 1024;
