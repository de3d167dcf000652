//! `mailrace config`.

use std::io::Write;

use super::{ConfigurationArguments, Failure, wrong};
use crate::config::Configuration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// Print only parameters that the file or --set sets, like postconf -n
    #[arg(long)]
    non_default: bool,
    /// Print the documentation of all parameters instead, as Markdown
    #[arg(long, conflicts_with = "non_default")]
    reference: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { configuration, non_default, reference } = arguments;
    let text = if reference {
        Configuration::reference()
    } else {
        Configuration::listing(&configuration.sources(), !non_default).map_err(wrong)?
    };
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(Failure::output).or_else(Failure::unless_reader_left)
}
