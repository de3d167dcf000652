//! `mailrace check`.

use crate::config::own_processors;
use crate::file_system::FileSystem;
use crate::tables::Lookups;

use super::{ConfigurationArguments, Failure, wrong};

pub(super) fn run(arguments: ConfigurationArguments) -> Result<(), Failure> {
    let (configuration, tables) = arguments.load(&Lookups::default())?;
    configuration.check_memory(configuration.workers(own_processors().len())).map_err(wrong)?;
    for note in configuration.notes.iter().chain(&tables.notes) {
        println!("{note}");
    }
    let directory = &configuration.queue.directory;
    // A directory that cannot be looked at is an error of the start, which may have another user.
    if let Some(warning) = FileSystem::of(directory).ok().and_then(|kind| kind.warning(directory)) {
        println!("warning: {warning}");
    }
    println!("configuration OK");
    Ok(())
}
