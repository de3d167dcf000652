//! `mailrace queue export`: copies messages out of the queue into a Maildir, an mbox file or a directory of `.eml` files.
//!
//! A message is durable in its new place before it is marked as deleted: the file and the directory entry are flushed.
//! Each copy is recognised by its queue id, so an export that is repeated after a crash writes nothing twice.

mod eml;
mod maildir;
mod mbox;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mailrace_core::QueueId;
use mailrace_io::OsDisk;
use mailrace_spool::Mark;
use mailrace_spool::reader::{Entry, Queue, ReadError};

use super::filter::Choice;
use super::mark::{apply, now};
use super::{Failure, LineEnds, read};
use crate::command::{EXIT_DATA, EXIT_UNAVAILABLE};
use crate::config::Configuration;
use crate::worker::Selection;

/// Where to, and what.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Delete each message when its copy is durable
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    choice: Choice,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct TargetArguments {
    /// Export to this Maildir, which is created if necessary: one file in new/ per message, with LF line ends and the
    /// envelope in Return-Path and Delivered-To
    #[arg(long, value_name = "DIR")]
    maildir: Option<PathBuf>,
    /// Append to this mbox file, which is locked meanwhile (fcntl and FILE.lock); a > is added to lines that begin with
    /// From after any number of > (mboxrd)
    #[arg(long, value_name = "FILE")]
    mbox: Option<PathBuf>,
    /// Export to this directory, which is created if necessary: content as stored in ID.eml, envelope in ID.json
    #[arg(long, value_name = "DIR")]
    eml: Option<PathBuf>,
}

/// A place for copies.
trait Target {
    /// Writes a copy, unless there is one of this message: true when it was written.
    fn put(&mut self, entry: &Entry, content: &[u8]) -> io::Result<bool>;

    /// Makes durable all that was put, and what was there already.
    fn settle(&mut self) -> io::Result<()>;
}

/// What an export came to.
#[derive(Debug, Default)]
struct Sum {
    written: u64,
    /// Copies of an earlier export that were found.
    present: u64,
    deleted: u64,
    /// Messages that could not be read.
    unread: Vec<(QueueId, String)>,
    undeleted: u64,
}

pub(super) fn run(
    configuration: &Configuration,
    disk: &OsDisk,
    arguments: &Arguments,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let Arguments { target, delete, choice } = arguments;
    let mut given = choice.given(|| Box::new(io::stdin().lock()))?;
    // Those that were set aside are no messages in the queue.
    let aside = std::mem::take(&mut given.aside);
    given.invalid.extend(aside);
    let mut queue = read(disk)?;
    let selected = choice.select(&queue, &given, now())?;
    let missing: Vec<QueueId> = if given.is_all {
        Vec::new()
    } else {
        given.ids.iter().copied().filter(|id| !queue.ids().any(|(other, ..)| other == *id)).collect()
    };
    let (path, mut target): (&Path, Box<dyn Target>) = match target {
        TargetArguments { maildir: Some(path), .. } => {
            (path, Box::new(maildir::Maildir::open(path).map_err(at(path))?))
        }
        TargetArguments { mbox: Some(path), .. } => {
            (path, Box::new(mbox::Mbox::open(path).map_err(at(path))?))
        }
        TargetArguments { eml: Some(path), .. } => {
            (path, Box::new(eml::Directory::open(path).map_err(at(path))?))
        }
        TargetArguments { maildir: None, mbox: None, eml: None } => {
            return Err(Failure::new(EXIT_DATA, "expected --maildir, --mbox or --eml"));
        }
    };
    let mut sum = Sum::default();
    for ids in selected.chunks(AT_ONCE) {
        let mut copied = Vec::with_capacity(ids.len());
        for id in ids {
            match look(disk, &mut queue, *id) {
                Ok(Some((entry, content))) => {
                    if target.put(&entry, &content).map_err(at(path))? {
                        sum.written += 1;
                    } else {
                        sum.present += 1;
                    }
                    copied.push(*id);
                }
                // It was taken out of the queue meanwhile.
                Ok(None) => {}
                Err(error) => sum.unread.push((*id, error)),
            }
        }
        target.settle().map_err(at(path))?;
        if *delete {
            let outcome = apply(configuration, disk, Mark::Done, &Selection::These(copied.into()))?;
            sum.deleted += outcome.messages;
            sum.undeleted += outcome.failures;
        }
    }
    report(&sum, *delete, &missing, &given.invalid, out)
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::new(EXIT_UNAVAILABLE, format!("cannot export to {path}: {error}"))
}

fn report(
    sum: &Sum,
    delete: bool,
    missing: &[QueueId],
    invalid: &[String],
    out: &mut impl Write,
) -> Result<(), Failure> {
    write!(out, "{} exported", sum.written)
        .and_then(|()| if sum.present > 0 { write!(out, ", {} were there", sum.present) } else { Ok(()) })
        .and_then(|()| if delete { write!(out, ", {} deleted", sum.deleted) } else { Ok(()) })
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush())
        .map_err(Failure::output)?;
    for word in invalid {
        eprintln!("mailrace: {word:?} is not a queue id: mailrace queue list shows them");
    }
    for id in missing {
        eprintln!("mailrace: there is no message {id} in the queue");
    }
    for (id, error) in &sum.unread {
        eprintln!("mailrace: {id} could not be read: {error}");
    }
    if sum.undeleted > 0 {
        eprintln!("mailrace: {} could not be deleted: see the log of the engine", sum.undeleted);
    }
    if sum.undeleted > 0 || !sum.unread.is_empty() {
        Err(Failure::reported(EXIT_UNAVAILABLE))
    } else if !missing.is_empty() || !invalid.is_empty() {
        Err(Failure::reported(EXIT_DATA))
    } else {
        Ok(())
    }
}

/// A message and its content; `None` when it is no longer in the queue. The queue is read again when the engine has moved it.
fn look<'a>(
    disk: &'a OsDisk,
    queue: &mut Queue<'a, OsDisk>,
    id: QueueId,
) -> Result<Option<(Entry, Vec<u8>)>, String> {
    for look in 0..super::LOOKS_MAX {
        if look > 0 {
            *queue = read(disk).map_err(|failure| failure.text)?;
        }
        let mut content = Vec::new();
        let found = queue.entry(id).and_then(|entry| match entry {
            Some(entry) => queue.content(id, &mut content).map(|()| Some(entry)),
            None => Ok(None),
        });
        match found {
            Ok(Some(entry)) => return Ok(Some((entry, content))),
            Ok(None) => return Ok(None),
            Err(ReadError::Gone) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(ReadError::Gone.to_string())
}

/// The content with LF line ends, after the envelope in header fields as a delivery agent adds them.
fn delivered(entry: &Entry, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 256);
    out.extend_from_slice(b"Return-Path: <");
    push_address(&mut out, &entry.envelope.sender);
    out.extend_from_slice(b">\n");
    for recipient in &entry.envelope.recipients {
        out.extend_from_slice(b"Delivered-To: ");
        push_address(&mut out, &recipient.address);
        out.push(b'\n');
    }
    let mut lines = LineEnds::new(&mut out);
    // Writing to memory does not fail.
    let _ = lines.write_all(content).and_then(|()| lines.finish());
    if out.last() != Some(&b'\n') {
        out.push(b'\n');
    }
    out
}

/// An address, in which nothing may end its field.
fn push_address(out: &mut Vec<u8>, address: &[u8]) {
    out.extend(address.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }));
}

/// Makes a directory that only its owner may enter, unless it is there, and makes its name durable.
fn make_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().create_private(path) {
        Ok(()) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_directory(parent.unwrap_or_else(|| Path::new(".")))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

trait CreatePrivate {
    fn create_private(&mut self, path: &Path) -> io::Result<()>;
}

impl CreatePrivate for fs::DirBuilder {
    fn create_private(&mut self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::DirBuilderExt::mode(self, 0o700).create(path)
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a file whole and durable at `temporary`, then gives it its name. The name is durable when the directory is.
fn write_file(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    // One of an export that did not end may be left.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(temporary, path)).inspect_err(|_| {
        // What is left of it helps no one; the first error is the one to report.
        let _ = fs::remove_file(temporary);
    })
}

/// Messages that are copied before their directory is flushed and they are deleted.
const AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use mailrace_core::{Envelope, Origin, Recipient};
    use mailrace_spool::State;

    use super::*;

    pub(super) fn entry(number: u64) -> Entry {
        let recipients = ["b@example.com", "c\nd@example.com"];
        let recipients = recipients
            .map(|address| Recipient { address: address.as_bytes().to_vec(), ..Recipient::default() })
            .to_vec();
        Entry {
            id: QueueId::from_number((1_740_800_000_000_000 + number) << 10),
            state: State::Incoming,
            size: 0,
            origin: Origin::default(),
            envelope: Envelope { sender: b"a@example.org".to_vec(), recipients, ..Envelope::default() },
            progress: mailrace_core::record::delivery::Progress::default(),
        }
    }

    /// A directory that is removed when it is dropped.
    pub(super) struct Place(pub(super) PathBuf);

    impl Place {
        pub(super) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mailrace-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_envelope_precedes_the_content_and_cannot_inject_fields() {
        let text = delivered(&entry(0), b"Subject: x\r\n\r\nbody");
        let expected = "Return-Path: <a@example.org>\nDelivered-To: b@example.com\nDelivered-To: c?d@example.com\n\
            Subject: x\n\nbody\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
