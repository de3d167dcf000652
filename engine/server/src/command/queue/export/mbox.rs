//! An mbox file: messages one after the other, each after a line that begins with "From " (mboxrd).
//!
//! The copy of a message is the same bytes each time, and begins with a line that holds its queue id. So an export that is
//! repeated finds those of the one before; one that a crash has cut, which can only be the last, is taken off the end.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mailrace_core::QueueId;
use mailrace_core::message::date::Civil;
use mailrace_spool::reader::Entry;
use rustix::fs::{FlockOperation, fcntl_lock};

use super::{Target, delivered, sync_directory};

pub(super) struct Mbox {
    file: File,
    path: PathBuf,
    size: u64,
    /// Where the messages of earlier exports begin.
    present: HashMap<QueueId, u64>,
    _lock: LockFile,
}

/// FILE.lock, which other programs look for; removed when dropped.
struct LockFile(PathBuf);

impl LockFile {
    /// Takes it, when the file itself is locked: one left by an interrupted export has no owner then.
    fn take(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                let lock = Self(path);
                file.write_all(OWN_LOCK)?;
                Ok(lock)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if std::fs::read(&path).is_ok_and(|content| content == OWN_LOCK) {
                    return Ok(Self(path));
                }
                let text = format!(
                    "{} exists: another program is writing to it, or did not remove it",
                    path.display()
                );
                Err(io::Error::new(ErrorKind::AlreadyExists, text))
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Mbox {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            io::Error::other(format!("another program has locked it ({})", io::Error::from(error)))
        })?;
        let lock = LockFile::take(path)?;
        let (present, size) = survey(&file)?;
        file.set_len(size)?;
        Ok(Self { file, path: path.to_owned(), size, present, _lock: lock })
    }

    /// Whether the bytes at `offset` are `copy`, or as much of it as the file has.
    fn holds(&self, offset: u64, copy: &[u8]) -> io::Result<bool> {
        let available = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut found = vec![0; copy.len().min(available)];
        self.file.read_exact_at(&mut found, offset)?;
        Ok(copy.starts_with(&found))
    }

    /// Appends a copy, after an empty line; where it begins.
    fn append(&mut self, copy: &[u8]) -> io::Result<u64> {
        let mut end = [b'\n'; 2];
        let known = self.size.min(2);
        // At the front of the file there is no line to end.
        let place = if known == 1 { &mut end[1..] } else { &mut end[..] };
        if known > 0 {
            self.file.read_exact_at(place, self.size - known)?;
        }
        let missing: &[u8] = match end {
            [b'\n', b'\n'] => b"",
            [_, b'\n'] => b"\n",
            _ => b"\n\n",
        };
        let written = self.file.seek(SeekFrom::Start(self.size)).and_then(|_| {
            self.file.write_all(missing)?;
            self.file.write_all(copy)?;
            self.file.sync_all()
        });
        if let Err(error) = written {
            // No part of a message may stay, as after a full disk.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        let start = self.size + missing.len() as u64;
        self.size = start + copy.len() as u64;
        Ok(start)
    }
}

impl Target for Mbox {
    fn put(&mut self, entry: &Entry, content: &[u8]) -> io::Result<bool> {
        let copy = copy_of(entry, content);
        if let Some(offset) = self.present.get(&entry.id).copied()
            && self.holds(offset, &copy)?
        {
            if offset + copy.len() as u64 <= self.size {
                return Ok(false);
            }
            // A crash has cut it.
            self.file.set_len(offset)?;
            self.size = offset;
        }
        let start = self.append(&copy)?;
        self.present.insert(entry.id, start);
        Ok(true)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or_else(|| Path::new(".")))
    }
}

/// Where the copies of earlier exports begin, and the size of the file without a first line that a crash has cut, or that has
/// nothing after it: it belongs to no message.
fn survey(file: &File) -> io::Result<(HashMap<QueueId, u64>, u64)> {
    let mut present = HashMap::new();
    let mut reader = BufReader::new(file);
    let mut offset = 0;
    // Where a first line begins that nothing has come after yet.
    let mut first = None;
    let mut is_line_start = true;
    let mut line = Vec::new();
    loop {
        line.clear();
        // Of a long line the rest does not matter.
        let count = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? as u64;
        if count == 0 {
            return Ok((present, first.unwrap_or(offset)));
        }
        let is_ended = line.ends_with(b"\n");
        if std::mem::replace(&mut is_line_start, is_ended) {
            let before = first.take();
            if line.starts_with(FIRST) || (!is_ended && FIRST.starts_with(&line)) {
                first = Some(offset);
            } else if let Some(before) = before
                && let Some(rest) =
                    line.strip_prefix(ID_FIELD).or_else(|| ID_FIELD.starts_with(&line).then_some(&[]))
            {
                match QueueId::parse(rest.trim_ascii()) {
                    Some(id) => drop(present.insert(id, before)),
                    None if !is_ended => first = Some(before),
                    None => {}
                }
            }
        }
        offset += count;
    }
}

/// A message as it is written to the file.
fn copy_of(entry: &Entry, content: &[u8]) -> Vec<u8> {
    let sender = &entry.envelope.sender;
    let mut out = FIRST.to_vec();
    // A space would end the address.
    out.extend(sender.iter().map(|byte| if byte.is_ascii_graphic() { *byte } else { b'-' }));
    if sender.is_empty() {
        out.extend_from_slice(b"MAILER-DAEMON");
    }
    let Civil { year, month, day, hour, minute, second, .. } = Civil::new(entry.id.time(), 0);
    let days = entry.id.time().unix_microseconds() / 86_400_000_000;
    // 1 January 1970 was a Thursday.
    let weekday = usize::try_from((days + 4) % 7).unwrap_or_default();
    let month = usize::from(month);
    let (weekday, month) = (&WEEKDAYS[weekday * 3..][..3], &MONTHS[(month - 1) * 3..][..3]);
    let date = format!(" {weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year}\n");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(ID_FIELD);
    out.extend_from_slice(entry.id.to_string().as_bytes());
    out.push(b'\n');
    for line in delivered(entry, content).split_inclusive(|byte| *byte == b'\n') {
        let quotes = line.iter().take_while(|byte| **byte == b'>').count();
        if line[quotes..].starts_with(b"From ") {
            out.push(b'>');
        }
        out.extend_from_slice(line);
    }
    out.push(b'\n');
    out
}

/// What the first line of each message begins with.
const FIRST: &[u8] = b"From ";
const ID_FIELD: &[u8] = b"X-Mailrace-Queue-Id: ";
/// The content of FILE.lock.
const OWN_LOCK: &[u8] = b"mailrace queue export\n";
const LINE_MAX: u64 = 4096;
const WEEKDAYS: &str = "SunMonTueWedThuFriSat";
const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{Place, entry};
    use super::*;

    const CONTENT: &[u8] = b"Subject: x\r\n\r\nFrom here\r\n>From there\r\n> From\r\nFromage\r\n";

    #[test]
    fn quotes_from_lines() {
        let text = String::from_utf8(copy_of(&entry(1), CONTENT)).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, "From a@example.org Sat Mar  1 03:33:20 2025");
        assert!(rest.starts_with(&format!("X-Mailrace-Queue-Id: {}\nReturn-Path: ", entry(1).id)), "{rest}");
        assert!(rest.ends_with("\n\n>From here\n>>From there\n> From\nFromage\n\n"), "{rest}");
    }

    #[test]
    fn a_repeated_export_finds_earlier_copies() {
        let place = Place::new("mbox");
        let path = place.0.join("box");
        fs::write(&path, "From someone Thu Jan  1 00:00:00 1970\nSubject: before\n\nbody\n\n").unwrap();
        let mut mbox = Mbox::open(&path).unwrap();
        assert!(mbox.put(&entry(1), CONTENT).unwrap());
        assert!(mbox.put(&entry(2), CONTENT).unwrap());
        mbox.settle().unwrap();
        drop(mbox);
        let whole = fs::read(&path).unwrap();
        // A lock left by a crash is taken over, a lock of another program is not.
        fs::write(place.0.join("box.lock"), OWN_LOCK).unwrap();
        let mut mbox = Mbox::open(&path).unwrap();
        assert!(!mbox.put(&entry(1), CONTENT).unwrap());
        assert!(!mbox.put(&entry(2), CONTENT).unwrap());
        drop(mbox);
        assert_eq!(fs::read(&path).unwrap(), whole);
        fs::write(place.0.join("box.lock"), "4711").unwrap();
        assert!(Mbox::open(&path).is_err(), "it is locked");
        fs::remove_file(place.0.join("box.lock")).unwrap();
        // Wherever a crash cuts the last one, it is written whole, once.
        let last = copy_of(&entry(2), CONTENT).len();
        for cut in 1..=last {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let mut mbox = Mbox::open(&path).unwrap();
            assert!(!mbox.put(&entry(1), CONTENT).unwrap());
            assert!(mbox.put(&entry(2), CONTENT).unwrap());
            drop(mbox);
            assert_eq!(fs::read(&path).unwrap(), whole, "cut by {cut}");
        }
    }

    #[test]
    fn a_message_begins_after_an_empty_line() {
        let place = Place::new("mbox-line");
        let path = place.0.join("box");
        for (before, separated) in
            [("", ""), ("\n", "\n"), ("x", "x\n\n"), ("x\n", "x\n\n"), ("x\n\n", "x\n\n")]
        {
            fs::write(&path, before).unwrap();
            Mbox::open(&path).unwrap().put(&entry(1), CONTENT).unwrap();
            let expected = [separated.as_bytes(), &copy_of(&entry(1), CONTENT)].concat();
            assert_eq!(fs::read(&path).unwrap(), expected, "{before:?}");
            assert!(!Mbox::open(&path).unwrap().put(&entry(1), CONTENT).unwrap());
        }
    }

    #[test]
    fn a_changed_message_is_not_a_copy() {
        let place = Place::new("mbox-changed");
        let path = place.0.join("box");
        let mut mbox = Mbox::open(&path).unwrap();
        mbox.put(&entry(1), CONTENT).unwrap();
        drop(mbox);
        let text = fs::read_to_string(&path).unwrap().replace("Subject: x", "Subject: y");
        fs::write(&path, text).unwrap();
        assert!(Mbox::open(&path).unwrap().put(&entry(1), CONTENT).unwrap());
    }

    #[test]
    fn long_lines_do_not_confuse_the_survey() {
        let place = Place::new("mbox-long");
        let path = place.0.join("box");
        let long = format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(20_000));
        let mut mbox = Mbox::open(&path).unwrap();
        mbox.put(&entry(1), long.as_bytes()).unwrap();
        mbox.put(&entry(2), CONTENT).unwrap();
        drop(mbox);
        let mut mbox = Mbox::open(&path).unwrap();
        assert!(!mbox.put(&entry(1), long.as_bytes()).unwrap());
        assert!(!mbox.put(&entry(2), CONTENT).unwrap());
    }
}
