//! Owns `mailrace check`.

use super::{ConfigurationArguments, Failure};

pub(super) fn run(arguments: ConfigurationArguments) -> Result<(), Failure> {
    let (configuration, tables) = arguments.load()?;
    for note in configuration.notes.iter().chain(&tables.notes) {
        println!("{note}");
    }
    println!("the configuration is right");
    Ok(())
}
