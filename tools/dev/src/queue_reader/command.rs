//! The chore `read-queue`: lists a queue directory, and checks all of it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{Directory, ReadError, Reading, id_number, id_text, read};

/// Lists the messages of a queue directory, or writes the content of one. It fails when something cannot be read, or is
/// damaged.
#[must_use]
pub fn command(directory: &Path, id: Option<&str>) -> ExitCode {
    let files = Directory(directory);
    let mut out = io::stdout().lock();
    let result = read(&files).and_then(|reading| match id {
        Some(id) => content(&reading, &files, id, &mut out),
        None => list(&reading, &files, &mut out),
    });
    match result {
        Ok(is_whole) => ExitCode::from(u8::from(!is_whole)),
        Err(error) => {
            eprintln!("mailrace-dev: {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn content(
    reading: &Reading,
    files: &Directory<'_>,
    id: &str,
    out: &mut impl Write,
) -> Result<bool, ReadError> {
    let number = id_number(id).ok_or(ReadError::Format("this is not a queue id"))?;
    out.write_all(&reading.message(files, number)?.content)?;
    Ok(true)
}

/// Whether all is whole.
fn list(reading: &Reading, files: &Directory<'_>, out: &mut impl Write) -> Result<bool, ReadError> {
    let mut is_whole = reading.damage.is_empty();
    for (id, found) in &reading.messages {
        let (text, state) = (id_text(*id), if found.is_held { "hold" } else { "incoming" });
        match reading.message(files, *id) {
            Ok(message) => {
                let sender = message.envelope.sender.unwrap_or_default();
                let recipients = message.envelope.recipients.iter().map(|recipient| &recipient.address);
                let recipients: Vec<_> =
                    recipients.map(|address| address.escape_ascii().to_string()).collect();
                let recipients = recipients.join(" ");
                writeln!(out, "{text} {state} {} <{}> {recipients}", found.size, sender.escape_ascii())?;
            }
            Err(error) => {
                is_whole = false;
                writeln!(out, "{text} {state} {} cannot be read: {error}", found.size)?;
            }
        }
    }
    for damage in &reading.damage {
        writeln!(out, "damaged: {damage}")?;
    }
    Ok(is_whole)
}
