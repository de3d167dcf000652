//! Owns `mailrace check`.

use crate::config::own_processors;
use crate::tables::Lookups;

use super::{ConfigurationArguments, Failure, wrong};

pub(super) fn run(arguments: ConfigurationArguments) -> Result<(), Failure> {
    let (configuration, tables) = arguments.load(&Lookups::default())?;
    configuration.check_memory(configuration.workers(own_processors().len())).map_err(wrong)?;
    for note in configuration.notes.iter().chain(&tables.notes) {
        println!("{note}");
    }
    println!("the configuration is right");
    Ok(())
}
