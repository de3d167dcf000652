//! Owns `mailrace check`.

use super::{ConfigurationArguments, EXIT_CONFIG, Failure};
use crate::config::Configuration;

pub(super) fn run(arguments: ConfigurationArguments) -> Result<(), Failure> {
    let configuration = Configuration::load(&arguments.sources())
        .map_err(|errors| Failure::new(EXIT_CONFIG, format!("the configuration is wrong:\n{errors}")))?;
    for note in &configuration.notes {
        println!("{note}");
    }
    println!("the configuration is right");
    Ok(())
}
