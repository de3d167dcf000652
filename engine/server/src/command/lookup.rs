//! `mailrace lookup`: what a lookup table has for a key, as `postmap -q` prints it.

use std::cell::RefCell;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bumpalo::Bump;
use crossbeam::channel::Receiver;
use mailrace_core::Sharer;
use mailrace_core::lookup::{Asker, LookupError, Maps, Ticket};

use super::{ConfigurationArguments, EXIT_CONFIG, EXIT_UNAVAILABLE, Failure, wrong};
use crate::config::Configuration;
use crate::tables::{Lookups, OpenTables, Opener};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// The table, such as texthash:virtual or pcre:header_checks; a relative path is resolved in the working directory
    #[arg(value_name = "TABLE")]
    table: String,
    /// The key to look up; -: look up each line of standard input
    #[arg(value_name = "KEY", allow_hyphen_values = true)]
    key: std::ffi::OsString,
}

/// Nothing was found.
const EXIT_NOT_FOUND: u8 = 1;
/// EX_TEMPFAIL: the table has no answer now.
const EXIT_TEMPORARY: u8 = 75;

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let configuration = Configuration::load(&arguments.configuration.sources()).map_err(wrong)?;
    let lookups = Lookups::default();
    let answers = lookups.answers();
    let nothing = OpenTables::default();
    let mut opener = Opener::new(&lookups, configuration.table_settings(), &nothing);
    let maps =
        opener.maps(&[arguments.table], Path::new("")).map_err(|errors| Failure::new(EXIT_CONFIG, errors))?;
    for note in opener.into_parts().2 {
        eprintln!("mailrace: {note}");
    }
    let table = Table { maps, answers };
    let mut output = io::BufWriter::new(io::stdout().lock());
    let found = if arguments.key == "-" {
        each_line(&table, &mut output)?
    } else {
        table.print(arguments.key.as_bytes(), b"", &mut output)?
    };
    output.flush().map_err(unwritten)?;
    if found { Ok(()) } else { Err(Failure::reported(EXIT_NOT_FOUND)) }
}

/// Looks up each line; whether any was found.
fn each_line(table: &Table, output: &mut impl Write) -> Result<bool, Failure> {
    let mut is_any_found = false;
    for line in io::stdin().lock().split(b'\n') {
        let line = line.map_err(|error| {
            Failure::new(EXIT_UNAVAILABLE, format!("cannot read standard input: {error}"))
        })?;
        let key = line.strip_suffix(b"\r").unwrap_or(&line);
        is_any_found |= table.print(key, &[key, b"\t"].concat(), output)?;
    }
    Ok(is_any_found)
}

fn unwritten(error: io::Error) -> Failure {
    Failure::new(EXIT_UNAVAILABLE, format!("cannot write the output: {error}"))
}

struct Table {
    maps: Maps,
    answers: Receiver<Ticket>,
}

impl Table {
    /// Prints the value for a key after `front`; whether there is one.
    fn print(&self, key: &[u8], front: &[u8], output: &mut impl Write) -> Result<bool, Failure> {
        let (arena, answers) = (Bump::new(), RefCell::default());
        loop {
            match self.maps.find(&arena, key, Asker::new(Sharer::default(), &answers)) {
                Ok(None) => return Ok(false),
                Ok(Some(value)) => {
                    output.write_all(&[front, value, b"\n"].concat()).map_err(unwritten)?;
                    return Ok(true);
                }
                Err(LookupError::Unavailable) => {
                    output.flush().map_err(unwritten)?;
                    let key = String::from_utf8_lossy(key);
                    let text = format!("the table cannot answer for {key:?} now; try again later");
                    return Err(Failure::new(EXIT_TEMPORARY, text));
                }
                // Each question is answered, if only because the time for it is over.
                Err(LookupError::Pending(ticket)) => {
                    if !self.answers.iter().any(|answered| answered == ticket) {
                        return Err(Failure::new(EXIT_UNAVAILABLE, "the thread for lookups has ended"));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
