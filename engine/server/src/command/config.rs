//! Owns `mailrace config`.

use std::io::Write;

use super::{ConfigurationArguments, Failure, wrong};
use crate::config::Configuration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// Only parameters that the file or --set gives, as postconf -n does
    #[arg(long)]
    non_default: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { configuration, non_default } = arguments;
    let listing = Configuration::listing(&configuration.sources(), !non_default).map_err(wrong)?;
    let written = std::io::stdout().lock().write_all(listing.as_bytes());
    written.map_err(Failure::output).or_else(Failure::unless_reader_left)
}
