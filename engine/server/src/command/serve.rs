//! Owns `mailrace serve`.

use std::path::PathBuf;

use super::{ConfigurationArguments, EXIT_CONFIG, EXIT_UNAVAILABLE, Failure};
use crate::config::Sources;
use crate::process::{StartError, serve};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// Where to take connections, instead of listen in [engine]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// The queue's directory, instead of directory in [queue]
    #[arg(long, value_name = "DIR")]
    queue: Option<PathBuf>,
    /// How to reach the kernel, instead of io in [engine]: auto, ring or epoll
    #[arg(long, value_name = "HOW")]
    io: Option<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { configuration, listen, queue, io } = arguments;
    let sources = Sources { listen, queue, io, ..configuration.sources() };
    // The log has the reason.
    serve(sources).map_err(|error| match error {
        StartError::Configuration(_) => Failure::reported(EXIT_CONFIG),
        _ => Failure::reported(EXIT_UNAVAILABLE),
    })
}
