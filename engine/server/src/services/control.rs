//! Owns what operators ask of a running engine: one line on a local socket, one line back.

use std::fmt;
use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crossbeam::channel;
use mailrace_core::QueueId;
use mailrace_spool::Mark;

use crate::process::Workers;
use crate::worker::{Answer, Control, Marked, Selection};

/// The name of the socket in the queue's directory.
pub(crate) const CONTROL_SOCKET: &str = "control";
/// Octets of a request at most.
const REQUEST_SIZE_MAX: u64 = 256;
/// How long who asks may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request: `delete ID`, `hold ALL`, `release ID`. It is answered with `ok MARKED FAILED` or `error TEXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) mark: Mark,
    pub(crate) selection: Selection,
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.mark {
            Mark::Done => "delete",
            Mark::Hold => "hold",
            Mark::Release => "release",
        };
        match self.selection {
            Selection::All => write!(formatter, "{verb} ALL"),
            Selection::One(id) => write!(formatter, "{verb} {id}"),
        }
    }
}

impl FromStr for Request {
    type Err = &'static str;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let (verb, what) = line.trim_end().split_once(' ').ok_or("a verb and a queue id are needed")?;
        let mark = match verb {
            "delete" => Mark::Done,
            "hold" => Mark::Hold,
            "release" => Mark::Release,
            _ => return Err("the verbs are delete, hold and release"),
        };
        let selection = match what {
            "ALL" => Selection::All,
            id => Selection::One(QueueId::parse(id.as_bytes()).ok_or("that is not a queue id")?),
        };
        Ok(Self { mark, selection })
    }
}

/// Answers one request after another, on a thread of its own that ends with the process.
///
/// # Errors
/// The path cannot be listened on.
pub(super) fn start(path: &Path, workers: Workers) -> io::Result<()> {
    // One of an earlier run may be left; the lock of the queue says that nobody listens on it.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    // Whatever the umask and the directory's mode: who may write to the socket may delete mail.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match stream {
                // Who went away is not told.
                Ok(stream) => drop(answer(&stream, &workers)),
                // Such as for want of descriptors: some will be free later.
                Err(_) => std::thread::park_timeout(PATIENCE / 50),
            }
        }
    })?;
    Ok(())
}

fn answer(mut stream: &UnixStream, workers: &Workers) -> io::Result<()> {
    // Others may reach into the queue's directory, for the maildrop's sake.
    let peer = rustix::net::sockopt::socket_peercred(stream)?.uid;
    if !peer.is_root() && peer != rustix::process::geteuid() {
        return writeln!(stream, "error only the user of the engine may ask");
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_SIZE_MAX)).read_line(&mut line)?;
    match line.parse() {
        Ok(request) => {
            let Marked { messages, failures } = mark(workers, request);
            writeln!(stream, "ok {messages} {failures}")
        }
        Err(text) => writeln!(stream, "error {text}"),
    }
}

/// Asks all workers, of which one has the message, and adds up.
fn mark(workers: &Workers, Request { mark, selection }: Request) -> Marked {
    let (sender, answers) = channel::unbounded();
    workers.tell(|| {
        let sender = sender.clone();
        let answer = Answer::new(move |marked| {
            // Who asked may have gone.
            let _ = sender.send(marked);
        });
        Control::Mark { mark, selection, answer }
    });
    drop(sender);
    answers.iter().fold(Marked::default(), |sum: Marked, marked: Marked| Marked {
        messages: sum.messages + marked.messages,
        failures: sum.failures + marked.failures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_back() {
        let id = QueueId::from_number(1_740_800_000_000_001_024);
        for mark in [Mark::Done, Mark::Hold, Mark::Release] {
            for selection in [Selection::All, Selection::One(id)] {
                let request = Request { mark, selection };
                assert_eq!(format!("{request}\n").parse(), Ok(request));
            }
        }
    }

    #[test]
    fn the_socket_is_its_owners_alone() {
        let path = std::env::temp_dir().join(format!("mailrace-control-{}", std::process::id()));
        start(&path, Workers::new(Vec::new())).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn other_lines_are_refused() {
        for line in ["", "delete", "delete \n", "erase ALL", "delete all", "delete ../lock", "hold ALL ALL"] {
            assert!(line.parse::<Request>().is_err(), "{line}");
        }
    }
}
