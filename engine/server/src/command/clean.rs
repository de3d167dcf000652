//! Owns `mailrace clean`: one message through the cleanup passes, offline.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bumpalo::Bump;
use crossbeam::channel::Receiver;
use mailrace_core::cleanup::{Cleanup, Halt, Notice, Observer, Rejection, Surroundings, strip_characters};
use mailrace_core::lookup::Ticket;
use mailrace_core::record::envelope::{decode, encode};
use mailrace_core::submission::{HeaderRecipients, recipient};
use mailrace_core::{Envelope, Notify, Origin, Protocol, QueueId, QueuedEnvelope, Recipient};
use mailrace_spool::State;

use super::envelope::{Full, Summary, json};
use super::{ConfigurationArguments, EXIT_DATA, EXIT_UNAVAILABLE, Failure};
use crate::config::Configuration;
use crate::log::now;
use crate::tables::Lookups;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// The reverse-path (envelope sender)
    #[arg(long, value_name = "ADDR", default_value = "")]
    sender: String,
    /// A forward-path (envelope recipient); can be repeated
    #[arg(long, value_name = "ADDR")]
    recipient: Vec<String>,
    /// Also take recipients from the header section, as sendmail -t does
    #[arg(short = 't', long)]
    extract_recipients: bool,
    /// The client's verified name
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// The client's address; without it the message is treated as submitted on this machine
    #[arg(long, value_name = "ADDRESS")]
    client_address: Option<IpAddr>,
    /// The argument of the client's HELO or EHLO
    #[arg(long, value_name = "HELO", default_value = "")]
    helo: String,
    /// Print the envelope as JSON instead of the content
    #[arg(long)]
    envelope: bool,
    /// File with the message, with LF or CRLF line ends [default: standard input]
    file: Option<PathBuf>,
}

/// The message as it was given.
fn read_message(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let cannot =
        |what: &dyn std::fmt::Display, error| Failure::new(EXIT_DATA, format!("cannot read {what}: {error}"));
    let Some(path) = file else {
        let mut message = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut message);
        return read.map(|_| message).map_err(|error| cannot(&"standard input", error));
    };
    std::fs::read(path).map_err(|error| cannot(&path.display(), error))
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let lookups = Lookups::default();
    let answers = lookups.answers();
    let (configuration, tables) = arguments.configuration.load(&lookups)?;
    let message = with_crlf(&read_message(arguments.file.as_deref())?);
    let settings = configuration.worker_settings(1, &tables);
    let is_local = arguments.client_address.is_none_or(|address| settings.clients.is_local_context(address));
    let origin = origin(&arguments.client_address, arguments.client_name, arguments.helo);
    let mut recipients: Vec<Recipient> = arguments
        .recipient
        .into_iter()
        .map(|address| Recipient { address: address.into_bytes(), ..Recipient::default() })
        .collect();
    if arguments.extract_recipients {
        let extracted = header_recipients(&message, &configuration)?.into_iter();
        recipients.extend(extracted.map(|address| recipient(address, Notify::default())));
    }
    let envelope =
        Envelope { arrival: now(), sender: arguments.sender.into_bytes(), recipients, ..Envelope::default() };
    let id = QueueId::new(envelope.arrival, 0);
    let arena = Bump::new();
    let message = strip_characters(&arena, &settings.cleanup, &message);
    let mut passes = Surroundings {
        arena: &arena,
        settings: &settings.cleanup,
        origin: &origin,
        envelope: &envelope,
        observer: &mut Notices,
    };
    let mut cleanup = Cleanup::new(id, is_local);
    let part = loop {
        match cleanup.content(&mut passes, message, true) {
            Err(Halt::Pending(ticket)) => wait_for(&answers, ticket)?,
            result => break result.map_err(|halt| refused(&halt))?,
        }
    };
    let queued = loop {
        match cleanup.envelope(&mut passes) {
            Err(Halt::Pending(ticket)) => wait_for(&answers, ticket)?,
            // Without recipients it is the content that is looked at.
            Err(Halt::Rejected(Rejection::NoRecipients))
                if envelope.recipients.is_empty() && !arguments.envelope =>
            {
                break None;
            }
            result => break Some(result.map_err(|halt| refused(&halt))?),
        }
    };
    if cleanup.decisions().is_discarded {
        return Err(Failure::new(EXIT_DATA, "the message would be accepted and discarded"));
    }
    let body = message.get(part.consumed..).unwrap_or_default();
    let pieces = part.output.iter().copied().chain([body]);
    let output = if let Some(queued) = queued.filter(|_| arguments.envelope) {
        let size = pieces.map(|piece| piece.len() as u64).sum();
        let state = if cleanup.decisions().is_held { State::Hold } else { State::Incoming };
        envelope_line(&arena, id, state, size, &origin, &queued)?
    } else {
        with_lf(&pieces.collect::<Vec<_>>().concat())
    };
    io::stdout()
        .lock()
        .write_all(&output)
        .map_err(|error| Failure::new(EXIT_UNAVAILABLE, format!("cannot write the output: {error}")))
}

/// The envelope as JSON, as it is read from its record.
fn envelope_line(
    arena: &Bump,
    id: QueueId,
    state: State,
    size: u64,
    origin: &Origin,
    queued: &QueuedEnvelope<'_>,
) -> Result<Vec<u8>, Failure> {
    let mut encoded = bumpalo::collections::Vec::new_in(arena);
    let written = encode(origin, queued, &mut encoded).ok();
    let (origin, envelope) = written
        .and_then(|()| decode(&encoded))
        .ok_or_else(|| Failure::new(EXIT_UNAVAILABLE, "the envelope cannot be encoded"))?;
    let summary = Summary::new(id, state.name(), size, &origin, &envelope);
    let mut line = json(&Full::new(summary, &origin, &envelope)).into_bytes();
    line.push(b'\n');
    Ok(line)
}

/// The recipients that the header section names, as `sendmail -t` takes them.
fn header_recipients(message: &[u8], configuration: &Configuration) -> Result<Vec<Vec<u8>>, Failure> {
    let line_size_max = (configuration.session.line_length_limit as usize).max(1);
    let mut found = HeaderRecipients::new(configuration.cleanup.header_size_limit.in_memory());
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        let (records, last) = line.split_at(line.len().saturating_sub(1) / line_size_max * line_size_max);
        records
            .chunks(line_size_max)
            .try_for_each(|record| found.record(record, false))
            .and_then(|()| found.record(last, true))
            .map_err(|error| Failure::new(EXIT_DATA, error.to_string()))?;
    }
    let found = found.finish();
    if found.len() > configuration.submission.extract_recipient_limit as usize {
        return Err(Failure::new(
            EXIT_DATA,
            "more recipients in message header than extract_recipient_limit",
        ));
    }
    Ok(found)
}

/// Says on standard error what checks do.
struct Notices;

impl Observer for Notices {
    fn noticed(&mut self, notice: &Notice<'_>) {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).escape_debug().to_string();
        let (subject, argument) = (text(notice.text), text(notice.argument));
        eprintln!("mailrace: {}: {} {subject}: {argument}", notice.action, notice.subject);
    }
}

/// Until a table has answered a question. Each is answered, if only because the time for it is over.
pub(super) fn wait_for(answers: &Receiver<Ticket>, ticket: Ticket) -> Result<(), Failure> {
    let is_answered = answers.iter().any(|answered| answered == ticket);
    is_answered
        .then_some(())
        .ok_or_else(|| Failure::new(EXIT_UNAVAILABLE, "the thread for lookups has ended"))
}

pub(super) fn refused(halt: &Halt) -> Failure {
    let reply = match halt {
        Halt::Rejected(rejection) => rejection.reply(),
        Halt::Pending(_) => Rejection::LookupFailed.reply(),
    };
    Failure::new(EXIT_DATA, format!("the message would be refused: {}", String::from_utf8_lossy(&reply)))
}

fn origin(address: &Option<IpAddr>, name: Option<String>, helo: String) -> Origin {
    let Some(address) = address else {
        return Origin { protocol: Protocol::Local, ..Origin::default() };
    };
    let protocol = if helo.is_empty() { Protocol::Smtp } else { Protocol::Esmtp };
    let client_name = name.map(|name| name.into_bytes().into_boxed_slice());
    Origin { client_name, helo: helo.into_bytes().into_boxed_slice(), protocol, ..Origin::new(*address, 0) }
}

/// With CRLF for each line end, and one at the end; a CR inside a line becomes a space, as in a session.
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
mod tests;
