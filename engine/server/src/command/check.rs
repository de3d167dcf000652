//! Owns `mailrace check`.

use crate::tables::Lookups;

use super::{ConfigurationArguments, Failure};

pub(super) fn run(arguments: ConfigurationArguments) -> Result<(), Failure> {
    let (configuration, tables) = arguments.load(&Lookups::default())?;
    for note in configuration.notes.iter().chain(&tables.notes) {
        println!("{note}");
    }
    println!("the configuration is right");
    Ok(())
}
