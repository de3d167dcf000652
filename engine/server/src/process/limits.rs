//! Limits of the system that the process raises for itself.

use std::io;

use rustix::process::{Resource, Rlimit};

use crate::worker::{SPARE_CONNECTIONS, WorkerSettings};

use super::error::{StartError, system};
use super::threads::Kernel;

/// Sees to it that there may be as many connections as there have to be. A ring's are no descriptors, but its table may not
/// be larger than the limit for these; on epoll those of all workers are.
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

/// Files that are not connections: segments, listeners, rings, what wakes workers.
const OTHER_FILES: u64 = 1024;
