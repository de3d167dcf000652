//! Owns `mailrace queue`: looking at the messages in a queue, marking them.
//!
//! Looking works with and without an engine. Marks are written by the engine that has the queue, or else by this
//! process, which then is the engine for that moment.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Subcommand;
use mailrace_core::QueueId;
use mailrace_io::epoll::{EpollIo, Settings as EpollSettings};
use mailrace_io::{Completion, Io, OsDisk};
use mailrace_spool::reader::{Entry, Queue, ReadError};
use mailrace_spool::{Mark, OpenError, Opened, lock};
use serde::Serialize;

use super::envelope::{Full, Summary, json};
use super::{EXIT_CONFIG, EXIT_DATA, EXIT_UNAVAILABLE, Failure, refused};
use crate::config::{Configuration, Sources, config_file};
use crate::services::{CONTROL_SOCKET, Request};
use crate::worker::{Answer, Marked, Markings, Selection};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The configuration file that names the queue; without one that of $MAILRACE_CONFIG, else
    /// /etc/mailrace/mailrace.toml if it exists
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The queue's directory
    #[arg(long, value_name = "DIR", global = true)]
    queue: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// One line for each message, oldest first
    List {
        /// An object on each line
        #[arg(long)]
        json: bool,
    },
    /// The content of a message
    Cat {
        /// The envelope as JSON instead
        #[arg(long)]
        envelope: bool,
        /// The octets as stored, with CRLF line ends, instead of LF
        #[arg(long, conflicts_with = "envelope")]
        exact: bool,
        /// The message
        id: String,
    },
    /// Messages and octets, in all and by state
    Stats {
        /// As one object
        #[arg(long)]
        json: bool,
    },
    /// Take messages out of the queue
    Delete(Messages),
    /// Park messages
    Hold(Messages),
    /// Park messages no more
    Release(Messages),
}

#[derive(Debug, clap::Args)]
struct Messages {
    /// Queue ids, or ALL
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { action, config, queue } = arguments;
    let configuration =
        Configuration::load(&Sources { file: config_file(config), queue, ..Sources::default() })
            .map_err(|errors| Failure::new(EXIT_CONFIG, format!("the configuration is wrong:\n{errors}")))?;
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
        Action::Delete(messages) => mark(&configuration, &disk, Mark::Done, &messages, &mut out),
        Action::Hold(messages) => mark(&configuration, &disk, Mark::Hold, &messages, &mut out),
        Action::Release(messages) => mark(&configuration, &disk, Mark::Release, &messages, &mut out),
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
        if self.text.is_empty() { Ok(()) } else { Err(self) }
    }

    fn queue(error: impl std::fmt::Display) -> Self {
        Self::new(EXIT_UNAVAILABLE, error)
    }
}

/// The messages in the queue. Without an engine they are made durable, so that what is shown is what the next one finds.
fn read(disk: &OsDisk) -> Result<Queue<'_, OsDisk>, Failure> {
    let held = match lock(disk) {
        Ok(held) => Some(held),
        Err(OpenError::Locked) => None,
        Err(error) => return Err(Failure::queue(error)),
    };
    Queue::read(disk, held.is_some()).map_err(Failure::queue)
}

fn list(disk: &OsDisk, as_json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let mut queue = read(disk)?;
    let ids: Vec<QueueId> = queue.ids().map(|(id, ..)| id).collect();
    for id in ids {
        let mut entry = queue.entry(id);
        if matches!(entry, Err(ReadError::Gone)) {
            // The engine has moved it meanwhile, or it was taken out of the queue.
            queue = read(disk)?;
            entry = queue.entry(id);
        }
        let Ok(Some(entry)) = entry else { continue };
        let summary = summary(&entry);
        let line = if as_json { json(&summary) } else { summary.line() };
        writeln!(out, "{line}").map_err(Failure::output)?;
    }
    refused::list(disk.root(), as_json, out)
}

fn summary(entry: &Entry) -> Summary {
    Summary::new(entry.id, entry.state.name(), entry.size, &entry.origin, &entry.envelope)
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
        let queue = read(disk)?;
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

/// Messages and octets of content.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sum {
    messages: u64,
    octets: u64,
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
        return writeln!(out, "{}", json(&stats)).map_err(Failure::output);
    }
    writeln!(out, "{} messages, {} octets", stats.sum.messages, stats.sum.octets).map_err(Failure::output)?;
    for (state, sum) in &stats.states {
        writeln!(out, "{state}: {} messages, {} octets", sum.messages, sum.octets)
            .map_err(Failure::output)?;
    }
    Ok(())
}

fn mark(
    configuration: &Configuration,
    disk: &OsDisk,
    mark: Mark,
    messages: &Messages,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let ids = refused::mark(disk.root(), mark, messages.ids.clone(), out)?;
    if ids.is_empty() {
        return Ok(());
    }
    let selections = ids.iter().map(|id| match id.as_str() {
        "ALL" => Ok(Selection::All),
        id => queue_id(id).map(Selection::One),
    });
    let requests: Vec<Request> = selections
        .map(|selection| selection.map(|selection| Request { mark, selection }))
        .collect::<Result<_, _>>()?;
    let control = disk.root().join(CONTROL_SOCKET);
    let answers = match mailrace_spool::open(
        disk,
        &configuration.spool_settings(1),
        1,
        u64::from(std::process::id()),
    ) {
        Ok(opened) => mark_alone(opened, &requests)?,
        Err(OpenError::Locked) => {
            requests.iter().map(|request| ask(&control, *request)).collect::<io::Result<Vec<_>>>().map_err(
                |error| {
                    Failure::queue(format!("cannot ask the running engine on {}: {error}", control.display()))
                },
            )?
        }
        Err(error) => return Err(Failure::queue(error)),
    };
    let mut sum = Marked::default();
    for (request, marked) in requests.iter().zip(answers) {
        if let (Selection::One(id), Marked { messages: 0, failures: 0 }) = (request.selection, marked) {
            return Err(no_such_message(id));
        }
        sum.messages += marked.messages;
        sum.failures += marked.failures;
    }
    let done = match mark {
        Mark::Done => "deleted",
        Mark::Hold => "put on hold",
        Mark::Release => "released",
    };
    writeln!(out, "{} {done}", sum.messages).map_err(Failure::output)?;
    if sum.failures > 0 {
        return Err(Failure::queue(format!(
            "{} could not be marked: see the log of the engine",
            sum.failures
        )));
    }
    Ok(())
}

/// Asks the engine that runs.
fn ask(control: &Path, request: Request) -> io::Result<Marked> {
    let mut stream = UnixStream::connect(control)?;
    writeln!(stream, "{request}")?;
    let mut line = String::new();
    stream.take(1024).read_to_string(&mut line)?;
    let mut words = line.split_ascii_whitespace();
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
    match (words.next(), number(words.next()), number(words.next())) {
        (Some("ok"), Some(messages), Some(failures)) => Ok(Marked { messages, failures }),
        _ => Err(io::Error::other(if line.is_empty() { "it gave no answer".to_owned() } else { line })),
    }
}

/// Writes the marks, as the only user of the queue.
fn mark_alone(opened: Opened<OsDisk>, requests: &[Request]) -> Result<Vec<Marked>, Failure> {
    let Opened { mut spools, keeper, lock, .. } = opened;
    // It may run everywhere, and a few marks need no speed.
    let settings = EpollSettings {
        connections: 0,
        receive_buffers: 0,
        receive_buffer_size: 0,
        ..EpollSettings::default()
    };
    let mut io = EpollIo::new(settings).map_err(Failure::queue)?;
    keeper_for(keeper, &io);
    let spool = spools.first_mut().ok_or_else(|| Failure::queue("no spool"))?;
    let answers = Arc::new(Mutex::new(vec![Marked::default(); requests.len()]));
    let mut markings = Markings::default();
    for (index, request) in requests.iter().enumerate() {
        let answers = Arc::clone(&answers);
        let answer = Answer::new(move |marked| {
            if let Some(place) = answers.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                *place = marked;
            }
        });
        markings.begin(spool, request.mark, request.selection, answer);
    }
    let mut completions = Vec::new();
    loop {
        markings.advance(spool);
        spool.advance(&mut io);
        spool.detach_sealed(&mut io);
        if markings.is_empty() && spool.is_idle() {
            break;
        }
        io.wait(None, &mut completions).map_err(Failure::queue)?;
        for completion in completions.drain(..) {
            if let Completion::Written { token, block, result } = completion {
                spool.completed(token, block, result);
            }
        }
        while let Some((tag, result)) = spool.next_settled() {
            markings.settled(tag, result.is_ok());
        }
    }
    drop(lock);
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(answers.clone())
}

/// Makes further segments on a thread, which ends with the process.
fn keeper_for(keeper: mailrace_spool::SegmentKeeper<OsDisk>, io: &EpollIo) {
    let waker = io.waker();
    keeper.shared().add_waker(waker);
    // Without the thread marks that need another segment wait; the first segment is there already.
    let _ = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || keeper.run());
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
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_found_across_writes() {
        for pieces in [&["a\r\nb\r", "\nc\rd\r\r\n", "e\r"][..], &["a\r\nb\r\nc\rd\r\r\ne\r"]] {
            let mut out = Vec::new();
            let mut lines = LineEnds::new(&mut out);
            for piece in pieces {
                lines.write_all(piece.as_bytes()).unwrap();
            }
            lines.finish().unwrap();
            assert_eq!(out, b"a\nb\nc\rd\r\ne\r");
        }
    }
}
