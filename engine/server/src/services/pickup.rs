//! Owns how submitted messages get from the maildrop to a worker, on a thread of its own: one message at a time, in parts,
//! and its file removed when it is durable in the queue.
//!
//! Files are whatever local users put there: each is opened without following links, must be a regular file that has
//! this one name, and who submits it is who the file system says it belongs to. What cannot be taken is never removed: it
//! stays to be tried again, or gets another name.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel;
use mailrace_core::record::submission::{ContentChecksum, HEADER_SIZE, Header, Submission, SubmissionError};
use mailrace_core::{Envelope, Origin, Protocol, Submitter, Timestamp};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, WatchFlags};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::log::{Log, now};
use crate::maildrop::{Maildrop, UNFINISHED, is_message};
use crate::metrics::Cell;
use crate::process::Workers;
use crate::worker::{Control, SubmissionStart, SubmissionState, Submit};

/// How often the directory is looked at when nothing is said of it, and how long a message waits for its next try.
const PERIOD: Duration = Duration::from_secs(60);
/// Files of one look at the directory.
const FILES_MAX: usize = 10_000;
/// Octets of content that a worker gets at once.
const PART_SIZE: usize = 64 * 1024;
/// Octets of an envelope at most: what the largest batch holds.
const ENVELOPE_SIZE_MAX: u32 = 16 << 20;
/// After that time nobody writes to an unfinished file any more.
const UNFINISHED_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// A file's time lies in the future by so much at most, or it counts as now. As in Postfix.
const FUTURE_MAX: Duration = Duration::from_secs(2 * 3600);
/// Behind the name of a message that may not enter.
const REFUSED: &str = ".refused";

/// What became of submitted messages.
#[derive(Debug, Default)]
pub(crate) struct SubmissionNumbers {
    pub(crate) queued: Cell,
    pub(crate) discarded: Cell,
    pub(crate) refused: Cell,
    pub(crate) deferred: Cell,
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Pickup {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
    log: Log,
}

#[derive(Debug)]
struct Stop {
    is_stopping: AtomicBool,
    event: OwnedFd,
}

/// Starts the thread.
///
/// # Errors
/// The directory cannot be used, or no thread be started.
pub(crate) fn start(
    maildrop: &Maildrop,
    workers: Workers,
    numbers: Arc<SubmissionNumbers>,
    log: Log,
) -> io::Result<Pickup> {
    let directory = rustix::fs::open(
        maildrop.path(),
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let of_directory = File::from(directory.try_clone()?).metadata()?;
    let user = rustix::process::geteuid();
    if !user.is_root() && of_directory.uid() != user.as_raw() {
        let text = "it belongs to another user than the engine's, who could not take files out of it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(
        &watch,
        maildrop.path(),
        WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ONLYDIR,
    )?;
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let stop = Arc::new(Stop { is_stopping: AtomicBool::new(false), event });
    let round = Round {
        directory,
        device: of_directory.dev(),
        watch,
        workers,
        numbers,
        stop: Arc::clone(&stop),
        worker: 0,
        deferred: HashMap::new(),
        taken: HashSet::new(),
        log: log.clone(),
    };
    let thread = std::thread::Builder::new().name("pickup".to_owned()).spawn(move || round.run())?;
    Ok(Pickup { stop, thread, log })
}

impl Pickup {
    /// Takes no further message.
    pub(crate) fn stop(&self) {
        self.stop.is_stopping.store(true, Ordering::Release);
        // The thread looks at the flag whenever it wakes.
        let _ = rustix::io::write(&self.stop.event, &1_u64.to_ne_bytes());
    }

    /// Waits until the message under way is settled and its file removed. The workers must have been told to drain.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            self.log.error("submission_unavailable", "the thread for local submission panicked");
        }
    }
}

struct Round {
    directory: OwnedFd,
    device: u64,
    watch: OwnedFd,
    workers: Workers,
    numbers: Arc<SubmissionNumbers>,
    stop: Arc<Stop>,
    /// Who gets the next message.
    worker: usize,
    /// When messages that could not be taken are tried again.
    deferred: HashMap<String, Instant>,
    /// Messages that are in the queue though their files could not be removed.
    taken: HashSet<String>,
    log: Log,
}

/// What to do with a file.
enum Verdict {
    /// It is in the queue, or dropped by order.
    Remove,
    /// It stays as it is until later.
    Keep,
    /// It may not enter; why, unless a worker has said it.
    Refuse(Option<String>),
    /// It is not there any more.
    Gone,
}

impl Round {
    fn run(mut self) {
        loop {
            // Until a look finds nothing new: what came meanwhile is taken too.
            while !self.is_stopping() && self.look() {}
            if self.is_stopping() {
                return;
            }
            self.wait();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.is_stopping.load(Ordering::Acquire)
    }

    /// Until a file came, or it is time to look anyway.
    fn wait(&self) {
        let mut files =
            [PollFd::new(&self.watch, PollFlags::IN), PollFd::new(&self.stop.event, PollFlags::IN)];
        let period = Timespec { tv_sec: i64::try_from(PERIOD.as_secs()).unwrap_or(60), tv_nsec: 0 };
        // Interrupted or not, the directory tells what there is to do.
        let _ = poll(&mut files, Some(&period));
        let mut octets = [MaybeUninit::uninit(); 4096];
        while rustix::io::read(&self.watch, &mut octets).is_ok_and(|(read, _)| !read.is_empty()) {}
    }

    /// Takes all messages that are there. Whether any was.
    fn look(&mut self) -> bool {
        let names = match self.names() {
            Ok(names) => names,
            Err(error) => {
                self.log
                    .error("maildrop_unreadable", format_args!("cannot read the maildrop: {error}"))
                    .text("reason", error.to_string());
                return false;
            }
        };
        let now = Instant::now();
        self.deferred.retain(|name, _| names.binary_search(name).is_ok());
        self.taken.retain(|name| names.binary_search(name).is_ok());
        let mut is_any = false;
        for name in names {
            if self.is_stopping() {
                break;
            }
            if self.deferred.get(&name).is_none_or(|until| *until <= now) {
                is_any |= self.handle(&name);
            }
        }
        is_any
    }

    /// The names of messages, in their order.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if is_message(name) {
                names.push(name.to_owned());
            } else if name.strip_suffix(UNFINISHED).is_some_and(is_message) {
                self.remove_if_forgotten(name);
            }
            if names.len() >= FILES_MAX {
                break;
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whoever wrote it was killed.
    fn remove_if_forgotten(&self, name: &str) {
        let Ok(of_file) = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return;
        };
        let age = now().unix_seconds().saturating_sub(u64::try_from(of_file.st_mtime).unwrap_or(0));
        if age > UNFINISHED_TIME_MAX.as_secs() && self.remove(name).is_ok() {
            let reason = "unfinished for 24 h";
            self.log
                .info("maildrop_removed", format_args!("maildrop/{name}: {reason}, removed"))
                .text("file", name)
                .text("reason", reason);
        }
    }

    /// Takes one message. Whether its file is gone then.
    fn handle(&mut self, name: &str) -> bool {
        let result = match self.take(name) {
            Verdict::Remove => {
                let removed = self.remove(name);
                if removed.is_err() {
                    self.taken.insert(name.to_owned());
                }
                removed
            }
            Verdict::Refuse(reason) => {
                self.numbers.refused.add(1);
                if let Some(reason) = reason {
                    let message = format_args!("maildrop/{name}: refused, kept as {name}{REFUSED}: {reason}");
                    self.log
                        .warning("maildrop_refused", message)
                        .text("file", name)
                        .text("reason", reason.as_str());
                }
                let refused = format!("{name}{REFUSED}");
                rustix::fs::renameat(&self.directory, name, &self.directory, refused).map_err(Into::into)
            }
            Verdict::Keep => {
                self.numbers.deferred.add(1);
                self.deferred.insert(name.to_owned(), Instant::now() + PERIOD);
                return false;
            }
            Verdict::Gone => return true,
        };
        if let Err(error) = &result {
            self.report_retry(name, "remove or rename", error);
            self.deferred.insert(name.to_owned(), Instant::now() + PERIOD);
        }
        result.is_ok()
    }

    fn report_retry(&self, name: &str, operation: &str, error: &io::Error) {
        let message = format_args!("maildrop/{name}: cannot {operation} it: {error}; it is tried again");
        self.log
            .warning("maildrop_retry", message)
            .text("file", name)
            .text("operation", operation)
            .text("reason", error.to_string());
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    fn take(&mut self, name: &str) -> Verdict {
        if self.taken.contains(name) {
            return Verdict::Remove;
        }
        let (file, of_file) = match self.open(name) {
            Ok(opened) => opened,
            Err(OpenError::Gone) => return Verdict::Gone,
            Err(OpenError::Foreign(reason)) => return Verdict::Refuse(Some(reason.to_owned())),
            Err(OpenError::System(error)) => {
                self.report_retry(name, "open", &error);
                return Verdict::Keep;
            }
        };
        match self.submit(name, &file, &of_file) {
            Ok(SubmissionState::Queued) => {
                self.numbers.queued.add(1);
                Verdict::Remove
            }
            Ok(SubmissionState::Discarded) => {
                self.numbers.discarded.add(1);
                Verdict::Remove
            }
            Ok(SubmissionState::Refused) => Verdict::Refuse(None),
            Ok(SubmissionState::Deferred | SubmissionState::Taken) => Verdict::Keep,
            Err(TakeError::Submission(error)) => Verdict::Refuse(Some(error.to_string())),
            Err(TakeError::System(error)) => {
                self.report_retry(name, "read", &error);
                Verdict::Keep
            }
        }
    }

    fn open(&self, name: &str) -> Result<(File, Metadata), OpenError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Err(OpenError::Gone),
            Err(Errno::LOOP) => return Err(OpenError::Foreign("it is a symbolic link")),
            Err(Errno::NXIO) => return Err(OpenError::Foreign("it is no regular file")),
            Err(error) => return Err(OpenError::System(error.into())),
        };
        let of_file = file.metadata().map_err(OpenError::System)?;
        if !of_file.is_file() {
            return Err(OpenError::Foreign("it is no regular file"));
        }
        // Another name may be that of somebody's file that the user could not read.
        if of_file.nlink() != 1 {
            return Err(OpenError::Foreign("it has another name too"));
        }
        if of_file.dev() != self.device {
            return Err(OpenError::Foreign("it is on another file system"));
        }
        Ok((file, of_file))
    }

    /// Gives the message to a worker, part by part, and says what became of it.
    fn submit(&mut self, name: &str, file: &File, of_file: &Metadata) -> Result<SubmissionState, TakeError> {
        let mut header = [0; HEADER_SIZE];
        file.read_exact_at(&mut header, 0).map_err(TakeError::reading)?;
        let header = Header::decode(&header, of_file.len())?;
        let submission = read_submission(file, &header)?;
        let (sender, states) = channel::unbounded();
        self.worker = self.worker.wrapping_add(1);
        let submitter = Submitter { user_id: of_file.uid(), full_name: submission.full_name.clone() };
        let is_local_context = !submission.is_gateway;
        let start = SubmissionStart {
            name: name.to_owned(),
            origin: Origin { protocol: Protocol::Local, ..Origin::default() },
            envelope: Envelope {
                submitter: Some(Box::new(submitter)),
                ..submission.into_envelope(arrival(of_file))
            },
            is_local_context,
            states: sender,
        };
        self.tell(Submit::Start(Box::new(start)));
        let mut content = Content::new(file, &header);
        loop {
            let (octets, is_last) = match content.next() {
                Ok(part) => part,
                Err(error) => {
                    self.tell(Submit::Abandon);
                    return Err(error);
                }
            };
            self.tell(Submit::Content { octets, is_last });
            // A worker that has ended with the process took nothing.
            match states.recv().unwrap_or(SubmissionState::Deferred) {
                SubmissionState::Taken => {}
                state => return Ok(state),
            }
        }
    }

    fn tell(&self, submit: Submit) {
        self.workers.tell_one(self.worker, Control::Submit(submit));
    }
}

/// Why a file is not opened.
enum OpenError {
    Gone,
    Foreign(&'static str),
    System(io::Error),
}

/// Why a message is not taken.
enum TakeError {
    Submission(SubmissionError),
    System(io::Error),
}

impl From<SubmissionError> for TakeError {
    fn from(error: SubmissionError) -> Self {
        Self::Submission(error)
    }
}

impl TakeError {
    /// A file that ends before it should is damaged; anything else may pass.
    fn reading(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Submission(SubmissionError::Damaged);
        }
        Self::System(error)
    }
}

/// When the message was written, but not in the future.
fn arrival(of_file: &Metadata) -> Timestamp {
    let seconds = u64::try_from(of_file.mtime()).unwrap_or(0);
    let microseconds = seconds * 1_000_000 + u64::try_from(of_file.mtime_nsec() / 1000).unwrap_or(0);
    let now = now();
    if seconds > now.unix_seconds() + FUTURE_MAX.as_secs() {
        return now;
    }
    Timestamp::from_unix_microseconds(microseconds)
}

fn read_submission(file: &File, header: &Header) -> Result<Submission, TakeError> {
    if header.envelope_size > ENVELOPE_SIZE_MAX {
        return Err(SubmissionError::Envelope.into());
    }
    let mut envelope = vec![0; header.envelope_size as usize];
    let at = header.envelope_at().ok_or(SubmissionError::Damaged)?;
    file.read_exact_at(&mut envelope, at).map_err(TakeError::reading)?;
    Ok(Submission::decode(header, &envelope)?)
}

/// The content of a drop file, part by part, with CRLF line ends.
struct Content<'a> {
    file: &'a File,
    header: &'a Header,
    at: u64,
    checksum: ContentChecksum,
    is_line_open: bool,
}

impl<'a> Content<'a> {
    fn new(file: &'a File, header: &'a Header) -> Self {
        Self { file, header, at: 0, checksum: ContentChecksum::new(), is_line_open: false }
    }

    /// The next part, and whether it is the last: that comes only when all of it was found undamaged.
    fn next(&mut self) -> Result<(Vec<u8>, bool), TakeError> {
        let left = self.header.content_size - self.at;
        let size = usize::try_from(left).unwrap_or(PART_SIZE).min(PART_SIZE);
        let mut part = vec![0; size];
        self.file.read_exact_at(&mut part, HEADER_SIZE as u64 + self.at).map_err(TakeError::reading)?;
        self.at += size as u64;
        self.checksum.add(&part);
        let is_last = self.at == self.header.content_size;
        if is_last && self.checksum.value() != self.header.content_checksum {
            return Err(SubmissionError::Damaged.into());
        }
        let mut octets = Vec::with_capacity(size + size / 16);
        for line in part.split_inclusive(|octet| *octet == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            // A CR that is no line end is a blank, as in any content.
            octets.extend(text.iter().map(|octet| if *octet == b'\r' { b' ' } else { *octet }));
            self.is_line_open = text.len() == line.len();
            if !self.is_line_open {
                octets.extend_from_slice(b"\r\n");
            }
        }
        if is_last && self.is_line_open {
            octets.extend_from_slice(b"\r\n");
        }
        Ok((octets, is_last))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::maildrop::tests::queue;

    /// The parts of the content of a drop file with `content`.
    fn parts(name: &str, content: &[u8]) -> Vec<Vec<u8>> {
        let (directory, maildrop) = queue(name);
        let mut file = maildrop.create().unwrap();
        file.write(content).unwrap();
        let recipients = vec![(b"a".to_vec(), mailrace_core::Notify::default())];
        file.finish(&Submission { recipients, ..Submission::default() }, || {}).unwrap();
        let path: Vec<PathBuf> =
            std::fs::read_dir(maildrop.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let file = File::open(&path[0]).unwrap();
        let mut header = [0; HEADER_SIZE];
        file.read_exact_at(&mut header, 0).unwrap();
        let header = Header::decode(&header, file.metadata().unwrap().len()).unwrap();
        assert!(read_submission(&file, &header).is_ok());
        let mut content = Content::new(&file, &header);
        let mut parts = Vec::new();
        loop {
            let Ok((part, is_last)) = content.next() else { panic!("an undamaged file") };
            parts.push(part);
            if is_last {
                break;
            }
        }
        std::fs::remove_dir_all(directory).unwrap();
        parts
    }

    #[test]
    fn content_gets_line_ends_that_nothing_can_be_mistaken_for() {
        for (content, wanted) in
            [("a\nb\n", "a\r\nb\r\n"), ("a\r\n.\r\n\n", "a \r\n. \r\n\r\n"), ("end", "end\r\n"), ("", "")]
        {
            assert_eq!(parts("ends", content.as_bytes()), [wanted.as_bytes()], "{content:?}");
        }
        // A part ends with a line, one in the midst of one.
        let content = [vec![b'x'; PART_SIZE - 1], b"\n".to_vec(), vec![b'y'; PART_SIZE + 5]].concat();
        let parts = parts("parts", &content);
        assert_eq!(parts.len(), 3);
        assert!(parts[0].ends_with(b"x\r\n") && parts[1].ends_with(b"y") && parts[2] == b"yyyyy\r\n");
    }
}
