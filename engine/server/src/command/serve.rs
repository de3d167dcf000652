//! Owns `mailrace serve`.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::{ConfigurationArguments, EXIT_CONFIG, EXIT_UNAVAILABLE, Failure};
use crate::config::Sources;
use crate::process::{StartError, serve};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// Address to listen on, instead of listen in [engine]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Directory of the queue, instead of directory in [queue]
    #[arg(long, value_name = "DIR")]
    queue: Option<PathBuf>,
    /// Kernel interface, instead of io in [engine]: auto, ring (io_uring) or epoll
    #[arg(long, value_name = "HOW")]
    io: Option<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    set_purge_delay();
    let Arguments { configuration, listen, queue, io } = arguments;
    let sources = Sources { listen, queue, io, ..configuration.sources() };
    serve(sources).map_err(|error| match error {
        StartError::Log(_) => Failure::new(EXIT_UNAVAILABLE, error),
        // The log has the reason.
        StartError::Configuration(_) => Failure::reported(EXIT_CONFIG),
        _ => Failure::reported(EXIT_UNAVAILABLE),
    })
}

/// Executes the program again with the allocator's purge delay in its environment, unless it is there. By default the
/// allocator keeps free memory for a second, more than the clients hold, and it reads its options from the environment
/// before `main`. If the call fails, the program continues with the default.
fn set_purge_delay() {
    if std::env::var_os(PURGE_DELAY).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        // It returns only when it has failed.
        let _ = Command::new(program).arg0(name).args(arguments).env(PURGE_DELAY, PURGE_MILLISECONDS).exec();
    }
}

/// The allocator's option.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";
const PURGE_MILLISECONDS: &str = "10";
