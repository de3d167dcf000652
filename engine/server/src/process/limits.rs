//! System limits that the process raises for itself.

use std::io;

use rustix::process::{Resource, Rlimit};

use crate::worker::{SPARE_CONNECTIONS, WorkerSettings};

use super::error::{StartError, system};
use super::threads::Kernel;

/// Raises the limit of open files (RLIMIT_NOFILE) to what `max_connections` and the connections to next hops need. A ring's
/// connections are not file descriptors, but the kernel applies the limit to each ring's connection table. With epoll the
/// connections of all threads are file descriptors.
pub(super) fn raise_open_files(
    kernel: Kernel,
    workers: u16,
    settings: &WorkerSettings,
    submissions: u32,
    deliveries: u32,
) -> Result<(), StartError> {
    let connections = (settings.max_connections + SPARE_CONNECTIONS) as u64;
    let needed = OTHER_FILES
        + u64::from(submissions)
        + match kernel {
            Kernel::Ring => connections.max(u64::from(deliveries)),
            Kernel::Epoll => connections * u64::from(workers) + u64::from(deliveries),
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
             service), or lower max_connections in [engine] or default_process_limit"
        );
        return Err(system("start")(io::Error::other(text)));
    }
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit })
        .map_err(|error| system("raise the limit of open files")(error.into()))
}

/// Number of open files in addition to connections: segments, listeners, rings, eventfds.
const OTHER_FILES: u64 = 1024;

#[cfg(test)]
mod tests;
