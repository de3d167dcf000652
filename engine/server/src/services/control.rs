//! The control socket: operators' requests to a running engine, one line each way.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{self, Receiver};
use mailrace_core::QueueId;
use mailrace_core::queue_id::QUEUE_ID_SIZE;
use mailrace_core::record::spool::Location;
use mailrace_io::OsDisk;
use mailrace_spool::{Mark, Place, State};

use mailrace_delivery::dispatcher as delivery;

use crate::door::DispatcherDoor;
use crate::log::{Log, name};
use crate::worker::{Answer, Control, Marked, Selection, Workers};

/// The name of the socket in the queue's directory.
pub(crate) const CONTROL_SOCKET: &str = "control";
/// Largest request in bytes.
const REQUEST_SIZE_MAX: u64 = 256;
/// Most ids on a line of a list. They are marked together, with as few flushes as the spool needs for them.
pub(crate) const LINE_IDS_MAX: usize = 1000;
/// Longest line of a list in bytes: each id has a space or a line end after it.
const LINE_SIZE_MAX: u64 = (LINE_IDS_MAX * (QUEUE_ID_SIZE + 1)) as u64 + 2;
/// Most ids that an event lists.
const EVENT_IDS_MAX: usize = 100;
/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request. Anything else is answered with `error TEXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `find ID`: answered with `ok SEQUENCE OFFSET STATE`, the place of the message's last record, or with `none`. If
    /// its recipients were tried, the sequence and offset of the mark that says what became of them follow.
    Find(QueueId),
    /// `delete ID`, `release ALL`, or `hold LIST` with lines of ids after it, separated by spaces, up to an empty line.
    ///
    /// It is answered with `ok MARKED FAILED`, as is each line of a list, there followed by a word for each id that was not
    /// marked: `-ID` is not in the queue, `!ID` could not be marked.
    Mark(Mark, Subject),
    /// `flush` or `expire`, as above; the second number is always 0, and no words follow. The engine that delivers does it.
    Wish(Wish, Subject),
}

/// What an operator wants of messages that are being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// They are tried now.
    Flush,
    /// They are given back to their senders.
    Expire,
}

/// The messages that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// All messages that it changes.
    All,
    /// This one.
    One(QueueId),
    /// Those whose ids follow.
    List,
}

/// The result of an operator's action.
#[derive(Debug, Default)]
pub(crate) struct Total {
    /// Number of messages that were marked.
    pub(crate) marked: u64,
    /// Number of messages that could not be marked.
    pub(crate) failed: u64,
    /// Number of messages that were not in the queue.
    pub(crate) missing: u64,
    /// The first of those that were marked.
    pub(crate) ids: Vec<QueueId>,
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Find(id) => write!(formatter, "{FIND} {id}"),
            Self::Mark(mark, subject) => write!(formatter, "{} {subject}", verb(*mark)),
            Self::Wish(wish, subject) => write!(formatter, "{} {subject}", wish.verb()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("ALL"),
            Self::One(id) => write!(formatter, "{id}"),
            Self::List => formatter.write_str("LIST"),
        }
    }
}

impl Wish {
    /// The verb of the request and of the command.
    pub(crate) const fn verb(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Expire => "expire",
        }
    }
}

const FIND: &str = "find";

/// The verb of the request and of the command.
pub(crate) const fn verb(mark: Mark) -> &'static str {
    match mark {
        Mark::Done => "delete",
        Mark::Hold => "hold",
        Mark::Release => "release",
    }
}

impl FromStr for Request {
    type Err = &'static str;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let (verb, what) =
            line.trim_end().split_once(' ').ok_or("expected a verb, and a queue id, ALL or LIST")?;
        let id = |id: &str| QueueId::parse(id.as_bytes());
        let subject = || match what {
            "ALL" => Ok(Subject::All),
            "LIST" => Ok(Subject::List),
            one => id(one).map(Subject::One).ok_or("expected a queue id, ALL or LIST"),
        };
        match verb {
            FIND => id(what).map(Self::Find).ok_or("expected a queue id"),
            "delete" => Ok(Self::Mark(Mark::Done, subject()?)),
            "hold" => Ok(Self::Mark(Mark::Hold, subject()?)),
            "release" => Ok(Self::Mark(Mark::Release, subject()?)),
            "flush" => Ok(Self::Wish(Wish::Flush, subject()?)),
            "expire" => Ok(Self::Wish(Wish::Expire, subject()?)),
            _ => Err("the verbs are delete, expire, find, flush, hold and release"),
        }
    }
}

/// Answers one request after another, on a thread of its own that ends with the process.
///
/// # Errors
/// The socket cannot be created.
pub(super) fn start(
    disk: &OsDisk,
    workers: Workers,
    dispatcher: Option<DispatcherDoor>,
    log: Log,
) -> io::Result<()> {
    let path = disk.root().join(CONTROL_SOCKET);
    // One of an earlier run may be left; the lock of the queue shows that no process listens on it.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    // Whatever the umask and the directory's mode: a user who may write to the socket may delete mail.
    disk.settle_socket(CONTROL_SOCKET)?;
    let owner = disk.owner();
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match stream {
                // A client that has disconnected gets no answer.
                Ok(stream) => drop(answer(&stream, owner, &workers, dispatcher.as_ref(), &log)),
                // For example, no descriptor is free: some will be later.
                Err(_) => std::thread::park_timeout(PATIENCE / 50),
            }
        }
    })?;
    Ok(())
}

fn answer(
    mut stream: &UnixStream,
    owner: u32,
    workers: &Workers,
    dispatcher: Option<&DispatcherDoor>,
    log: &Log,
) -> io::Result<()> {
    // Others may reach into the queue's directory, for the maildrop's sake.
    let peer = rustix::net::sockopt::socket_peercred(stream)?.uid;
    if !peer.is_root() && peer != rustix::process::geteuid() && peer.as_raw() != owner {
        return writeln!(stream, "error only the engine's user and the owner of the queue may send requests");
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut input = BufReader::new(stream);
    let line = read_line(&mut input, REQUEST_SIZE_MAX)?;
    // Part of a request may mean something else than all of it.
    let request =
        if line.ends_with('\n') { line.parse() } else { Err("expected a line of at most 256 bytes") };
    let (mark, subject) = match request {
        Ok(Request::Mark(mark, subject)) => (mark, subject),
        Ok(Request::Find(id)) => return tell_place(stream, workers, id),
        Ok(Request::Wish(wish, subject)) => {
            let mut total = Total::default();
            let result = grant(stream, input, dispatcher, wish, subject, &mut total);
            report(log, wish.verb(), subject, peer.as_raw(), &total);
            return result;
        }
        Err(text) => return writeln!(stream, "error {text}"),
    };
    let mut total = Total::default();
    let result = match subject {
        Subject::All => {
            let marked = mark_selection(workers, mark, &Selection::All);
            (total.marked, total.failed) = (marked.messages, marked.failures);
            writeln!(stream, "ok {} {}", marked.messages, marked.failures)
        }
        Subject::One(id) => {
            let marked = mark_selection(workers, mark, &Selection::These([id].into()));
            (total.marked, total.failed) = (marked.messages, marked.failures);
            total.missing = u64::from(marked.outcomes.is_empty());
            marked.outcomes.iter().for_each(|(id, _)| total.name(*id));
            writeln!(stream, "ok {} {}", marked.messages, marked.failures)
        }
        Subject::List => mark_list(stream, input, workers, mark, &mut total),
    };
    // Even if the operator's command has ended: what was marked stays marked.
    report(log, verb(mark), subject, peer.as_raw(), &total);
    result
}

/// Reads a line of at most `size_max` bytes. Bytes that are not UTF-8 become U+FFFD, which no request contains.
fn read_line(input: &mut impl BufRead, size_max: u64) -> io::Result<String> {
    let mut line = Vec::new();
    input.take(size_max).read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Asks all workers, of which one at most has the message.
fn tell_place(mut stream: &UnixStream, workers: &Workers, id: QueueId) -> io::Result<()> {
    let answers = ask_all(workers, |answer| Control::Find { id, answer });
    match answers.iter().flatten().next() {
        Some(place) => writeln!(stream, "{}", place_line(&place)),
        None => writeln!(stream, "none"),
    }
}

fn place_line(Place { end, state, progress }: &Place) -> String {
    let mut line = format!("ok {} {} {}", end.sequence, end.offset, state.name());
    if let Some(Location { sequence, offset }) = progress {
        line += &format!(" {sequence} {offset}");
    }
    line
}

/// Reads the answer to `find ID`; `None`: the message is not there.
pub(crate) fn parse_place(line: &str) -> Option<Place> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let location = |sequence: &str, offset: &str| {
        Some(Location { sequence: sequence.parse().ok()?, offset: offset.parse().ok()? })
    };
    let (end, state, progress) = match *words.as_slice() {
        ["ok", sequence, offset, state] => (location(sequence, offset)?, state, None),
        ["ok", sequence, offset, state, marks_sequence, marks_offset] => {
            (location(sequence, offset)?, state, Some(location(marks_sequence, marks_offset)?))
        }
        _ => return None,
    };
    Some(Place { end, state: State::of_name(state)?, progress })
}

/// Marks the messages of a list line by line.
fn mark_list(
    mut stream: &UnixStream,
    mut input: impl BufRead,
    workers: &Workers,
    mark: Mark,
    total: &mut Total,
) -> io::Result<()> {
    loop {
        let ids = match read_ids(&mut input)? {
            Ids::These(ids) => ids,
            Ids::End => return Ok(()),
            Ids::Invalid => return refuse_ids(stream),
        };
        let marked = mark_selection(workers, mark, &Selection::These(Arc::clone(&ids)));
        let outcomes: HashMap<QueueId, bool> = marked.outcomes.iter().copied().collect();
        let mut answer = format!("ok {} {}", marked.messages, marked.failures);
        for id in ids.iter() {
            let sign = match outcomes.get(id) {
                Some(true) => {
                    total.name(*id);
                    continue;
                }
                Some(false) => '!',
                None => {
                    total.missing += 1;
                    '-'
                }
            };
            // Writing to a String does not fail.
            let _ = fmt::Write::write_fmt(&mut answer, format_args!(" {sign}{id}"));
        }
        total.marked += marked.messages;
        total.failed += marked.failures;
        answer.push('\n');
        stream.write_all(answer.as_bytes())?;
    }
}

/// A line of a list.
enum Ids {
    These(Arc<[QueueId]>),
    End,
    Invalid,
}

fn read_ids(input: &mut impl BufRead) -> io::Result<Ids> {
    let line = read_line(input, LINE_SIZE_MAX)?;
    if line.trim_end().is_empty() {
        return Ok(Ids::End);
    }
    let ids = line
        .ends_with('\n')
        .then(|| line.split_ascii_whitespace().map(|id| QueueId::parse(id.as_bytes())).collect())
        .flatten();
    Ok(ids.map_or(Ids::Invalid, Ids::These))
}

fn refuse_ids(mut stream: &UnixStream) -> io::Result<()> {
    writeln!(stream, "error expected at most {LINE_IDS_MAX} queue ids on a line")
}

/// Has messages tried or given back.
fn grant(
    mut stream: &UnixStream,
    mut input: impl BufRead,
    dispatcher: Option<&DispatcherDoor>,
    wish: Wish,
    subject: Subject,
    total: &mut Total,
) -> io::Result<()> {
    let Some(dispatcher) = dispatcher else {
        return writeln!(stream, "error this engine delivers nothing: no next hop is configured");
    };
    let mut ask = |selection| {
        let count = match wish {
            Wish::Flush => dispatcher.flush(selection),
            Wish::Expire => dispatcher.expire(selection),
        };
        let count = count.unwrap_or(0);
        total.marked += count;
        writeln!(stream, "ok {count} 0")
    };
    match subject {
        Subject::All => ask(delivery::Selection::All),
        Subject::One(id) => ask(delivery::Selection::These([id].into())),
        Subject::List => loop {
            match read_ids(&mut input)? {
                Ids::These(ids) => ask(delivery::Selection::These(ids))?,
                Ids::End => return Ok(()),
                Ids::Invalid => return refuse_ids(stream),
            }
        },
    }
}

/// Asks all workers, of which one has each message, and adds up.
fn mark_selection(workers: &Workers, mark: Mark, selection: &Selection) -> Marked {
    let answers = ask_all(workers, |answer| Control::Mark { mark, selection: selection.clone(), answer });
    answers.iter().fold(Marked::default(), |mut sum: Marked, marked: Marked| {
        sum.add(marked);
        sum
    })
}

/// Asks all workers; each answers once, unless it ends.
fn ask_all<T: Send + 'static>(workers: &Workers, request: impl Fn(Answer<T>) -> Control) -> Receiver<T> {
    let (sender, answers) = channel::unbounded();
    workers.tell(|| {
        let sender = sender.clone();
        request(Answer::new(move |answer| {
            // The client may have disconnected.
            let _ = sender.send(answer);
        }))
    });
    answers
}

impl Total {
    /// Remembers a message that was marked, as far as an event would name it.
    pub(crate) fn name(&mut self, id: QueueId) {
        if self.ids.len() <= EVENT_IDS_MAX {
            self.ids.push(id);
        }
    }
}

/// Reports an action of an operator: one event, with the ids where they are few.
pub(crate) fn report(log: &Log, verb: &str, subject: Subject, user_id: u32, total: &Total) {
    let Total { marked, failed, missing, ids } = total;
    let whole = if subject == Subject::All { " (ALL)" } else { "" };
    let message = format_args!(
        "queue {verb}{whole} by user {user_id}: {marked} done, {missing} not in the queue, {failed} failed",
    );
    let event = log
        .info(name::QUEUE_ACTION, message)
        .text("action", verb)
        .number("uid", user_id.into())
        .number("messages", *marked)
        .number("missing", *missing)
        .number("failures", *failed);
    if (1..=EVENT_IDS_MAX).contains(&ids.len()) {
        drop(event.array("queue_ids", ids));
    }
}

#[cfg(test)]
mod tests;
