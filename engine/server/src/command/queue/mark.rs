//! `mailrace queue delete`, `hold` and `release`: by the engine that has the queue, or else by this process, which then is
//! the engine for that moment.

use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mailrace_core::{QueueId, Timestamp};
use mailrace_io::epoll::{EpollIo, Settings as EpollSettings};
use mailrace_io::{Completion, Io, OsDisk};
use mailrace_spool::{Mark, OpenError, Opened, Settings, Spool, Writes};

use super::filter::{Choice, Given};
use super::{Failure, read, say_damage};
use crate::command::{EXIT_DATA, EXIT_UNAVAILABLE, refused};
use crate::config::Configuration;
use crate::log;
use crate::services::{CONTROL_SOCKET, LINE_IDS_MAX, Request, Subject, Total, report_action, verb};
use crate::worker::{Answer, Marked, Markings, Selection, Tag};

/// What a command came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Number of messages that were marked.
    pub(super) messages: u64,
    /// Number of messages that could not be marked.
    pub(super) failures: u64,
    /// The messages that were marked, where they were named and this process marked them.
    marked: Vec<QueueId>,
    /// Those that could not be marked, where they were named.
    pub(super) failed: Vec<QueueId>,
    /// Messages that are not in the queue.
    pub(super) missing: Vec<QueueId>,
}

pub(super) fn run(
    configuration: &Configuration,
    disk: &OsDisk,
    mark: Mark,
    choice: &Choice,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut given = choice.given(|| Box::new(io::stdin().lock()))?;
    let mut aside = std::mem::take(&mut given.aside);
    if choice.has_filter() {
        // Filters are about messages in the queue.
        given.invalid.append(&mut aside);
    }
    let of_aside = if aside.is_empty() { Ok(()) } else { refused::mark(disk.root(), mark, &aside, out) };
    if !aside.is_empty() && !given.is_all && given.ids.is_empty() && given.invalid.is_empty() {
        return of_aside;
    }
    let selection = selection(disk, choice, &given)?;
    let mut outcome = apply(configuration, disk, mark, &selection)?;
    if choice.has_filter() {
        // A message that a filter found and that has left the queue since is not an error.
        outcome.missing.clear();
    }
    let of_queue = report(mark, &given, &outcome, out);
    match (of_queue, of_aside) {
        (result, Ok(())) | (Ok(()), result) => result,
        (Err(failure), Err(of_aside)) => {
            if !of_aside.text.is_empty() {
                eprintln!("mailrace: {}", of_aside.text);
            }
            Err(failure)
        }
    }
}

/// The messages that are meant.
pub(super) fn selection(disk: &OsDisk, choice: &Choice, given: &Given) -> Result<Selection, Failure> {
    Ok(if choice.has_filter() {
        Selection::These(choice.select(&read(disk)?, given, now())?.into())
    } else if given.is_all {
        Selection::All
    } else {
        Selection::These(given.ids.clone().into())
    })
}

pub(super) fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_unix_microseconds(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Marks the messages, each of which is named once.
pub(super) fn apply(
    configuration: &Configuration,
    disk: &OsDisk,
    mark: Mark,
    selection: &Selection,
) -> Result<Outcome, Failure> {
    if matches!(selection, Selection::These(ids) if ids.is_empty()) {
        return Ok(Outcome::default());
    }
    // Marks need little room.
    let settings = Settings { spare_segments: 1, ..configuration.spool_settings(1) };
    match mailrace_spool::open(disk, &settings, 1) {
        Ok(opened) => {
            let marked = mark_alone(opened, mark, selection)?;
            report_alone(configuration, mark, selection, marked)
        }
        Err(OpenError::Locked) => {
            let control = disk.root().join(CONTROL_SOCKET);
            ask(&control, |subject| Request::Mark(mark, subject), selection).map_err(|error| {
                Failure::queue(format!(
                    "cannot send a request to the running engine on {}: {error}",
                    control.display()
                ))
            })
        }
        Err(error) => Err(Failure::queue(error)),
    }
}

fn report(mark: Mark, given: &Given, outcome: &Outcome, out: &mut impl Write) -> Result<(), Failure> {
    let done = match mark {
        Mark::Done => "deleted",
        Mark::Hold => "put on hold",
        Mark::Release => "released",
    };
    writeln!(out, "{} {done}", outcome.messages).and_then(|()| out.flush()).map_err(Failure::output)?;
    for word in &given.invalid {
        eprintln!("mailrace: {word:?} is not a queue id: mailrace queue list shows them");
    }
    for id in &outcome.missing {
        eprintln!("mailrace: there is no message {id} in the queue");
    }
    for id in &outcome.failed {
        eprintln!("mailrace: {id} could not be marked");
    }
    if outcome.failures > 0 {
        let text = format!("{} could not be marked: see the log of the engine", outcome.failures);
        return Err(Failure::new(EXIT_UNAVAILABLE, text));
    }
    if given.invalid.is_empty() && outcome.missing.is_empty() {
        return Ok(());
    }
    Err(Failure::reported(EXIT_DATA))
}

/// Asks the engine that runs.
pub(super) fn ask(
    control: &Path,
    request: impl Fn(Subject) -> Request,
    selection: &Selection,
) -> io::Result<Outcome> {
    let stream = UnixStream::connect(control)?;
    let mut input = BufReader::new(&stream);
    let mut output = BufWriter::new(&stream);
    let mut outcome = Outcome::default();
    match selection {
        Selection::All => {
            writeln!(output, "{}", request(Subject::All))?;
            output.flush()?;
            outcome.add(&mut input)?;
        }
        Selection::These(ids) => {
            let mut progress = Progress::new(ids.len());
            writeln!(output, "{}", request(Subject::List))?;
            for ids in ids.chunks(LINE_IDS_MAX) {
                for id in ids {
                    write!(output, "{id} ")?;
                }
                writeln!(output)?;
                output.flush()?;
                outcome.add(&mut input)?;
                progress.add(ids.len());
            }
            writeln!(output)?;
            output.flush()?;
        }
    }
    Ok(outcome)
}

impl Outcome {
    /// Adds what one line of the engine's says.
    fn add(&mut self, input: &mut impl BufRead) -> io::Result<()> {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let refused = || {
            let text = line.trim_end();
            io::Error::other(if text.is_empty() { "it did not answer" } else { text })
        };
        let mut words = line.split_ascii_whitespace();
        let number = |words: &mut std::str::SplitAsciiWhitespace<'_>| -> io::Result<u64> {
            words.next().and_then(|word| word.parse().ok()).ok_or_else(refused)
        };
        if words.next() != Some("ok") {
            return Err(refused());
        }
        self.messages += number(&mut words)?;
        self.failures += number(&mut words)?;
        for word in words {
            let (sign, id) = word.split_at_checked(1).ok_or_else(refused)?;
            let id = QueueId::parse(id.as_bytes()).ok_or_else(refused)?;
            match sign {
                "-" => self.missing.push(id),
                "!" => self.failed.push(id),
                _ => return Err(refused()),
            }
        }
        Ok(())
    }
}

/// Progress of a long list, if standard error is a terminal.
struct Progress {
    done: usize,
    all: usize,
    is_shown: bool,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self { done: 0, all, is_shown: all > LINE_IDS_MAX && io::stderr().is_terminal() }
    }

    fn add(&mut self, count: usize) {
        self.done += count;
        if self.is_shown {
            eprint!("\r{} of {}", self.done, self.all);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            eprintln!();
        }
    }
}

/// Writes the marks, as the only user of the queue.
fn mark_alone(opened: Opened<OsDisk>, mark: Mark, selection: &Selection) -> Result<Marked, Failure> {
    let Opened { mut spools, mut keeper, report, lock, .. } = opened;
    say_damage(&report.damage, &report.strangers);
    // It may run everywhere, and a few marks need no speed.
    let settings = EpollSettings {
        connections: 0,
        receive_buffers: 0,
        receive_buffer_size: 0,
        ..EpollSettings::default()
    };
    let mut io = EpollIo::new(settings).map_err(Failure::queue)?;
    let spool = spools.first_mut().ok_or_else(|| Failure::queue("no spool"))?;
    let marked = Arc::new(Mutex::new(Marked::default()));
    let mut markings = Markings::default();
    let answer = Answer::new({
        let marked = Arc::clone(&marked);
        move |answer| *marked.lock().unwrap_or_else(PoisonError::into_inner) = answer
    });
    markings.begin(spool, mark, selection.clone(), answer);
    let mut completions = Vec::new();
    loop {
        markings.advance(spool);
        spool.advance(&mut io);
        spool.detach_sealed(&mut io);
        if spool.is_idle() {
            if markings.is_empty() {
                break;
            }
            // They wait for a segment.
            keeper.step();
            continue;
        }
        io.wait(None, &mut completions).map_err(Failure::queue)?;
        for completion in completions.drain(..) {
            if let Completion::Written { token, block, result } = completion {
                spool.completed(token, block, result);
            }
        }
        while let Some((tag, result)) = spool.next_settled() {
            match Tag::unpack(tag) {
                Tag::Mark(number) => drop(markings.settled(number, result.is_ok())),
                Tag::Message(_) | Tag::Note(_) => {
                    unreachable!("nothing but marks is written without an engine")
                }
            }
        }
    }
    drop(spools);
    keeper.finish();
    drop(lock);
    let marked = std::mem::take(&mut *marked.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(marked)
}

/// Reports the action as an engine does, on standard error: no engine runs that could.
fn report_alone(
    configuration: &Configuration,
    mark: Mark,
    selection: &Selection,
    marked: Marked,
) -> Result<Outcome, Failure> {
    let outcome = outcome(marked, selection);
    let subject = match selection {
        Selection::All => Subject::All,
        Selection::These(_) => Subject::List,
    };
    let mut total = Total {
        marked: outcome.messages,
        failed: outcome.failures,
        missing: outcome.missing.len() as u64,
        ids: Vec::new(),
    };
    outcome.marked.iter().for_each(|id| total.name(*id));
    let log = log::start(configuration.log.log_format, LOG_MEMORY).map_err(Failure::queue)?;
    report_action(&log, verb(mark), subject, rustix::process::getuid().as_raw(), &total);
    log.stop();
    Ok(outcome)
}

fn outcome(marked: Marked, selection: &Selection) -> Outcome {
    let Marked { messages, failures, mut outcomes } = marked;
    outcomes.sort_unstable();
    let found = |id: &QueueId| outcomes.binary_search_by_key(id, |(id, _)| *id).is_ok();
    let missing = match selection {
        Selection::All => Vec::new(),
        Selection::These(ids) => ids.iter().copied().filter(|id| !found(id)).collect(),
    };
    let of = |wanted: bool| {
        let those = outcomes.iter().filter(|(_, is_durable)| *is_durable == wanted);
        those.map(|(id, _)| *id).collect()
    };
    Outcome { messages, failures, marked: of(true), failed: of(false), missing }
}

/// Bytes of lines that may wait: there is one event.
const LOG_MEMORY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_the_engines_answers() {
        let [one, two] = [1_740_800_000_000_001_024, 1_740_800_000_000_002_048].map(QueueId::from_number);
        let mut outcome = Outcome::default();
        let mut lines = io::Cursor::new(format!("ok 998 1 -{one} !{two}\nok 3 0\n"));
        outcome.add(&mut lines).unwrap();
        outcome.add(&mut lines).unwrap();
        assert_eq!((outcome.messages, outcome.failures), (1001, 1));
        assert_eq!((outcome.missing, outcome.failed), (vec![one], vec![two]));
    }

    #[test]
    fn other_answers_are_errors() {
        for line in
            ["", "ok\n", "ok 1\n", "ok 1 x\n", "ok 1 0 -\n", "ok 1 0 ?abc\n", "ok 1 0 é\n", "error no\n"]
        {
            let error = Outcome::default().add(&mut io::Cursor::new(line)).unwrap_err();
            assert!(!error.to_string().is_empty(), "{line:?}");
        }
    }
}
