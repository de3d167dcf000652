//! `mailrace queue`: looking at the messages in a queue, with and without an engine; marking and exporting them.

mod export;
mod filter;
mod mark;
mod wish;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use mailrace_core::QueueId;
use mailrace_io::OsDisk;
use mailrace_spool::reader::{Entry, Queue, ReadError};
use mailrace_spool::{Damage, Mark, OpenError, Place, Stranger};
use serde::Serialize;

use super::envelope::{Full, Summary, json};
use super::{EXIT_DATA, EXIT_IO, EXIT_UNAVAILABLE, Failure, refused, wrong};
use crate::config::{Configuration, Sources, config_file};
use crate::process::{damage_text, stranger_text};
use crate::services::{CONTROL_SOCKET, Request, Wish, parse_place};
use filter::Choice;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Configuration file that names the queue [default: the file named by $MAILRACE_CONFIG, else
    /// /etc/mailrace/mailrace.toml if it exists]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Directory of the queue
    #[arg(long, value_name = "DIR", global = true)]
    queue: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the messages, one per line, oldest first
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Print the content of a message
    Cat {
        /// Print the envelope as JSON instead of the content
        #[arg(long)]
        envelope: bool,
        /// Print the content as stored, with CRLF line ends instead of LF
        #[arg(long, conflicts_with = "envelope")]
        exact: bool,
        /// Queue id of the message
        id: String,
    },
    /// Print the number of messages and their size, in total and by state
    Stats {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Delete messages from the queue
    Delete(Choice),
    /// Put messages on hold
    Hold(Choice),
    /// Release held messages
    Release(Choice),
    /// Have deferred messages tried now
    Flush(Choice),
    /// Give messages back to their senders
    Expire(Choice),
    /// Copy messages to files; optionally delete them when the copies are durable
    Export(export::Arguments),
    /// Give up damaged and missing data: the engine stops reporting it and reuses the space
    Acknowledge,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { action, config, queue } = arguments;
    let sources = Sources { file: config_file(config), queue, ..Sources::default() };
    let configuration = Configuration::load(&sources).map_err(wrong)?;
    let directory = configuration.queue.directory.clone();
    if !directory.is_dir() {
        let text = format!("there is no queue in {}: name it with --queue or --config", directory.display());
        return Err(Failure::new(EXIT_DATA, text));
    }
    let disk = OsDisk::new(&directory).map_err(|error| {
        Failure::new(EXIT_UNAVAILABLE, format!("cannot read {}: {error}", directory.display()))
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    let result = match action {
        Action::List { json } => list(&disk, json, &mut out),
        Action::Cat { envelope, exact, id } => cat(&disk, envelope, exact, &id, &mut out),
        Action::Stats { json } => stats(&disk, json, &mut out),
        Action::Delete(choice) => mark::run(&configuration, &disk, Mark::Done, &choice, &mut out),
        Action::Hold(choice) => mark::run(&configuration, &disk, Mark::Hold, &choice, &mut out),
        Action::Release(choice) => mark::run(&configuration, &disk, Mark::Release, &choice, &mut out),
        Action::Flush(choice) => wish::run(&disk, Wish::Flush, &choice, &mut out),
        Action::Expire(choice) => wish::run(&disk, Wish::Expire, &choice, &mut out),
        Action::Export(arguments) => export::run(&configuration, &disk, &arguments, &mut out),
        Action::Acknowledge => acknowledge(&disk, &mut out),
    };
    result.and_then(|()| out.flush().map_err(Failure::output)).or_else(Failure::unless_reader_left)
}

/// Lists the messages in the queue in `directory`, as `mailq` does.
pub(super) fn list_for_sendmail(directory: &Path) -> Result<(), Failure> {
    let disk = OsDisk::new(directory).map_err(|error| {
        Failure::new(EXIT_UNAVAILABLE, format!("cannot read {}: {error}", directory.display()))
    })?;
    let mut listed = Vec::new();
    list(&disk, false, &mut listed)?;
    if listed.is_empty() {
        listed.extend_from_slice(b"Mail queue is empty\n");
    }
    io::stdout().lock().write_all(&listed).map_err(Failure::output).or_else(Failure::unless_reader_left)
}

impl Failure {
    pub(super) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(0, "");
        }
        Self::new(EXIT_UNAVAILABLE, format!("cannot write the output: {error}"))
    }

    /// The reader of a pipe has seen enough: no failure.
    pub(super) fn unless_reader_left(self) -> Result<(), Self> {
        if self.text.is_empty() && self.status == 0 { Ok(()) } else { Err(self) }
    }

    fn queue(error: impl fmt::Display) -> Self {
        Self::new(EXIT_UNAVAILABLE, error)
    }
}

/// The messages in the queue, and on standard error what of it could not be read.
fn read(disk: &OsDisk) -> Result<Queue<'_, OsDisk>, Failure> {
    let queue = Queue::look(disk).map_err(Failure::queue)?;
    say_damage(queue.damage(), queue.strangers());
    Ok(queue)
}

fn say_damage(damage: &[Damage], strangers: &[Stranger]) {
    for text in damage.iter().map(damage_text).chain(strangers.iter().map(stranger_text)) {
        eprintln!("mailrace: {text}");
    }
}

/// A failure where the system could not read all of the queue: what is shown is not all that there may be. What was read and
/// is damaged is said and gone, and no failure.
fn all_of(queue: &Queue<'_, OsDisk>) -> Result<(), Failure> {
    let is_unread = queue.damage().iter().any(|damage| damage.what.is_error());
    if is_unread { Err(Failure::new(EXIT_IO, "not all of the queue could be read")) } else { Ok(()) }
}

fn list(disk: &OsDisk, as_json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let mut queue = read(disk)?;
    let ids: Vec<QueueId> = queue.ids().map(|(id, ..)| id).collect();
    for id in ids {
        let mut entry = queue.entry(id);
        if matches!(entry, Err(ReadError::Gone)) {
            // The engine has moved it meanwhile, or it was taken out of the queue.
            queue = Queue::look(disk).map_err(Failure::queue)?;
            entry = queue.entry(id);
        }
        let Ok(Some(entry)) = entry else { continue };
        let summary = summary(&entry);
        let line = if as_json { json(&summary) } else { summary.line() };
        writeln!(out, "{line}").map_err(Failure::output)?;
    }
    refused::list(disk.root(), as_json, out)?;
    out.flush().map_err(Failure::output)?;
    all_of(&queue)
}

fn summary(entry: &Entry) -> Summary {
    let summary = Summary::new(entry.id, entry.state.name(), entry.size, &entry.origin, &entry.envelope);
    summary.with_progress(&entry.envelope, &entry.progress)
}

fn cat(
    disk: &OsDisk,
    is_envelope: bool,
    is_exact: bool,
    id: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if refused::is_id(id) {
        return if is_exact {
            refused::cat(disk.root(), id, is_envelope, out)
        } else {
            let mut lines = LineEnds::new(out);
            refused::cat(disk.root(), id, is_envelope, &mut lines)?;
            lines.finish().map_err(Failure::output)
        };
    }
    let id = queue_id(id)?;
    let (entry, content) = look(disk, id)?;
    if is_envelope {
        let full = Full::new(summary(&entry), &entry.origin, &entry.envelope);
        return writeln!(out, "{}", json(&full)).map_err(Failure::output);
    }
    let result = if is_exact {
        out.write_all(&content)
    } else {
        let mut lines = LineEnds::new(out);
        lines.write_all(&content).and_then(|()| lines.finish())
    };
    result.map_err(Failure::output)
}

/// A message and its content. One that the engine moves in that moment is looked for again.
fn look(disk: &OsDisk, id: QueueId) -> Result<(Entry, Vec<u8>), Failure> {
    let mut looks = 0;
    loop {
        let queue = match engines_place(disk, id) {
            Some(place) => Queue::at(disk, id, place).or_else(|_| read(disk))?,
            None => read(disk)?,
        };
        let mut content = Vec::new();
        let found = queue.entry(id).and_then(|entry| match entry {
            Some(entry) => queue.content(id, &mut content).map(|()| Some(entry)),
            None => Ok(None),
        });
        looks += 1;
        match found {
            Ok(Some(entry)) => return Ok((entry, content)),
            Ok(None) => return Err(no_such_message(id)),
            Err(ReadError::Gone) if looks < LOOKS_MAX => {}
            Err(error) => return Err(Failure::queue(format!("{id}: {error}"))),
        }
    }
}

/// Asks the running engine where the message is. `None` if no engine runs, or if it does not have the message, or does not
/// answer this user: the queue's files then say the same, but all of them have to be read.
fn engines_place(disk: &OsDisk, id: QueueId) -> Option<Place> {
    let stream = UnixStream::connect(disk.root().join(CONTROL_SOCKET)).ok()?;
    stream.set_read_timeout(Some(ENGINE_PATIENCE)).ok()?;
    writeln!(&stream, "{}", Request::Find(id)).ok()?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).ok()?;
    parse_place(&line)
}

/// How long the engine has to say where a message is.
const ENGINE_PATIENCE: Duration = Duration::from_secs(2);
/// How often a message is looked for that the engine moves.
const LOOKS_MAX: usize = 3;

fn queue_id(text: &str) -> Result<QueueId, Failure> {
    QueueId::parse(text.as_bytes()).ok_or_else(|| {
        Failure::new(EXIT_DATA, format!("{text:?} is not a queue id: mailrace queue list shows them"))
    })
}

fn no_such_message(id: QueueId) -> Failure {
    Failure::new(EXIT_DATA, format!("there is no message {id} in the queue"))
}

/// Messages and bytes of content.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sum {
    messages: u64,
    octets: u64,
}

impl fmt::Display for Sum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.messages == 1 { "" } else { "s" };
        write!(out, "{} message{plural}, {} bytes", self.messages, self.octets)
    }
}

#[derive(Debug, Default, Serialize)]
struct Stats {
    #[serde(flatten)]
    sum: Sum,
    states: BTreeMap<&'static str, Sum>,
}

fn stats(disk: &OsDisk, as_json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let queue = read(disk)?;
    let mut stats = Stats::default();
    stats.states.extend([("incoming", Sum::default()), ("hold", Sum::default())]);
    for (_, state, octets) in queue.ids() {
        let of_state = stats.states.entry(state.name()).or_default();
        for sum in [&mut stats.sum, of_state] {
            sum.messages += 1;
            sum.octets += octets;
        }
    }
    if as_json {
        writeln!(out, "{}", json(&stats)).map_err(Failure::output)?;
    } else {
        writeln!(out, "{}", stats.sum).map_err(Failure::output)?;
        for (state, sum) in &stats.states {
            writeln!(out, "{state}: {sum}").map_err(Failure::output)?;
        }
    }
    out.flush().map_err(Failure::output)?;
    all_of(&queue)
}

/// Ends the reports of damage that was looked at. Segments that cannot be read stay where they are, unused.
fn acknowledge(disk: &OsDisk, out: &mut impl Write) -> Result<(), Failure> {
    let acknowledged = mailrace_spool::acknowledge(disk).map_err(|error| match error {
        OpenError::Locked => Failure::queue("an engine is using this queue directory: stop it first"),
        error => Failure::queue(error),
    })?;
    for damage in &acknowledged {
        writeln!(out, "{damage}").map_err(Failure::output)?;
    }
    writeln!(out, "{} acknowledged", acknowledged.len()).map_err(Failure::output)
}

/// Writes LF where CRLF comes.
struct LineEnds<'a, W: Write> {
    out: &'a mut W,
    /// A CR came last.
    has_cr: bool,
}

impl<'a, W: Write> LineEnds<'a, W> {
    const fn new(out: &'a mut W) -> Self {
        Self { out, has_cr: false }
    }

    fn finish(self) -> io::Result<()> {
        if self.has_cr { self.out.write_all(b"\r") } else { Ok(()) }
    }
}

impl<W: Write> Write for LineEnds<'_, W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut rest = octets;
        while let Some((first, _)) = rest.split_first() {
            if self.has_cr && *first != b'\n' {
                self.out.write_all(b"\r")?;
            }
            self.has_cr = false;
            let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
            let (plain, behind) = rest.split_at(end);
            self.out.write_all(plain)?;
            rest = behind.split_first().map_or(&[], |(_, behind)| behind);
            self.has_cr = !behind.is_empty();
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
