//! Owns `mailrace clean`: one message through the cleanup passes, offline.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use bumpalo::Bump;
use mailrace_core::cleanup::{Cleanup, Rejection};
use mailrace_core::{Envelope, Origin, Protocol, QueueId, Recipient};

use super::envelope::{Full, Summary, json};
use super::{ConfigurationArguments, EXIT_CONFIG, EXIT_DATA, EXIT_UNAVAILABLE, Failure};
use crate::config::Configuration;
use crate::log::now;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// The reverse-path
    #[arg(long, value_name = "ADDR", default_value = "")]
    sender: String,
    /// A forward-path
    #[arg(long, value_name = "ADDR")]
    recipient: Vec<String>,
    /// The client's verified name
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// The client's address; without one the message counts as submitted on this machine
    #[arg(long, value_name = "ADDRESS")]
    client_address: Option<IpAddr>,
    /// What the client greeted with
    #[arg(long, value_name = "HELO", default_value = "")]
    helo: String,
    /// Print the envelope as JSON instead of the content
    #[arg(long)]
    envelope: bool,
    /// The message, with LF or CRLF; standard input without it
    file: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let configuration = Configuration::load(&arguments.configuration.sources())
        .map_err(|errors| Failure::new(EXIT_CONFIG, format!("the configuration is wrong:\n{errors}")))?;
    let message = match &arguments.file {
        Some(path) => std::fs::read(path)
            .map_err(|error| Failure::new(EXIT_DATA, format!("cannot read {}: {error}", path.display())))?,
        None => {
            let mut message = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut message);
            read.map_err(|error| Failure::new(EXIT_DATA, format!("cannot read standard input: {error}")))?;
            message
        }
    };
    let message = with_crlf(&message);
    let settings = configuration.worker_settings(1);
    let is_local = arguments.client_address.is_none_or(|address| settings.is_local_context(address));
    let origin = origin(&arguments.client_address, arguments.client_name, arguments.helo);
    let mut envelope = Envelope {
        arrival: now(),
        sender: arguments.sender.into_bytes(),
        recipients: arguments
            .recipient
            .into_iter()
            .map(|address| Recipient { address: address.into_bytes(), ..Recipient::default() })
            .collect(),
        ..Envelope::default()
    };
    let id = QueueId::new(envelope.arrival, 0);
    let arena = Bump::new();
    let section = Cleanup::new(id, is_local)
        .header_section(&arena, &settings.cleanup, &origin, &mut envelope, &message, true)
        .map_err(|rejection| match rejection {
            Rejection::TooManyHops => {
                Failure::new(EXIT_DATA, "the message would be refused: 554 5.4.0 Error: too many hops")
            }
        })?;
    let body = message.get(section.consumed..).unwrap_or_default();
    let pieces = section.output.iter().copied().chain([body]);
    let output = if arguments.envelope {
        let size = pieces.map(|piece| piece.len() as u64).sum();
        let summary = Summary::new(id, "incoming", size, &envelope);
        let mut line = json(&Full::new(summary, &origin, &envelope)).into_bytes();
        line.push(b'\n');
        line
    } else {
        with_lf(&pieces.collect::<Vec<_>>().concat())
    };
    io::stdout()
        .lock()
        .write_all(&output)
        .map_err(|error| Failure::new(EXIT_UNAVAILABLE, format!("cannot write the output: {error}")))
}

fn origin(address: &Option<IpAddr>, name: Option<String>, helo: String) -> Origin {
    let Some(address) = address else {
        return Origin { protocol: Protocol::Local, ..Origin::default() };
    };
    let protocol = if helo.is_empty() { Protocol::Smtp } else { Protocol::Esmtp };
    let client_name = name.map(|name| name.into_bytes().into_boxed_slice());
    Origin { client_name, helo: helo.into_bytes().into_boxed_slice(), protocol, ..Origin::new(*address, 0) }
}

/// With CRLF for each line end, and one at the end; a CR inside a line becomes a blank, as in a session.
fn with_crlf(message: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(message.len() + message.len() / 32);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let end = line.iter().rposition(|octet| *octet != b'\r').map_or(0, |last| last + 1);
        let line = line.get(..end).unwrap_or_default();
        output.extend(line.iter().map(|octet| if *octet == b'\r' { b' ' } else { *octet }));
        output.extend_from_slice(b"\r\n");
    }
    output
}

fn with_lf(message: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|octet| *octet == b'\n');
    let mut output = Vec::with_capacity(message.len());
    for line in lines {
        match line.strip_suffix(b"\r\n") {
            Some(line) => output.extend([line, b"\n"].concat()),
            None => output.extend_from_slice(line),
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_turned_both_ways() {
        assert_eq!(with_crlf(b"a\nb\r\nc\rd\r\r\n\r"), b"a\r\nb\r\nc d\r\n\r\n");
        assert_eq!(with_lf(b"a\r\nb\rc\r\n"), b"a\nb\rc\n");
        assert_eq!(with_crlf(b""), b"");
    }
}
