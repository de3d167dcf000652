//! The manifest, which lists the segments in use: reads it, and writes it so that one complete version always exists.

use std::io;

use mailrace_core::record::manifest::{Entry, EntryState, Manifest, SlotError};
use mailrace_core::record::spool::{SEGMENT_HEADER_SIZE, SegmentHeader};
use mailrace_io::{Disk, FileKind};

use crate::OpenError;
use crate::segment::SEGMENTS;
use crate::segment::recovery::{Damage, DamageKind};

/// Its path in the queue directory.
pub(crate) const MANIFEST: &str = "manifest";
/// A manifest that is being created.
const UNFINISHED: &str = "manifest.new";
/// Smallest slot in bytes: room for 127 segments.
const SLOT_SIZE_MIN: usize = 16 << 10;
/// Largest manifest in bytes that is read: room for a million segments.
const SIZE_MAX: u64 = 512 << 20;

/// The manifest as found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// `None`: it is missing or damaged.
    pub(crate) manifest: Option<Manifest>,
    /// Damage of it.
    pub(crate) damage: Option<Damage>,
    /// Size of a slot in bytes, if the file can be written in place.
    slot_size: Option<u64>,
}

/// Reads the manifest.
pub(crate) fn read<D: Disk>(disk: &D) -> Result<Found, OpenError> {
    let damaged = |what| {
        let damage = Damage { path: MANIFEST.to_owned(), offset: 0, what, is_known: false };
        Ok(Found { damage: Some(damage), ..Found::default() })
    };
    let read = || {
        let file = disk.open(MANIFEST, FileKind::Read)?;
        let size = disk.size(&file)?;
        if size > SIZE_MAX {
            return Err(io::Error::other("too large for a manifest"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let count = disk.read_at(&file, &mut bytes, 0)?;
        bytes.truncate(count);
        Ok(bytes)
    };
    let bytes = match read().or_else(|error| retry(&error, read)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(error) => return damaged(DamageKind::Unreadable(error.to_string())),
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut newest: Option<Manifest> = None;
    for slot in [first, second] {
        match Manifest::decode(slot) {
            Ok(manifest) => {
                if newest.as_ref().is_none_or(|other| other.generation < manifest.generation) {
                    newest = Some(manifest);
                }
            }
            Err(SlotError::Blank | SlotError::Damaged) => {}
            Err(SlotError::Version(version)) => {
                return Err(OpenError::Version { path: MANIFEST.to_owned(), version });
            }
            Err(SlotError::Features(features)) => {
                return Err(OpenError::Features { path: MANIFEST.to_owned(), features });
            }
        }
    }
    if newest.is_none() {
        return damaged(DamageKind::Manifest);
    }
    Ok(Found { manifest: newest, damage: None, slot_size: Some(first.len() as u64) })
}

/// Retries once unless the file is missing, because an error may be transient.
fn retry<T>(error: &io::Error, again: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if error.kind() == io::ErrorKind::NotFound { Err(error.kind().into()) } else { again() }
}

/// The manifest of a queue that is open.
#[derive(Debug)]
pub(crate) struct ManifestFile<D: Disk> {
    disk: D,
    /// Size of a slot in bytes; 0: the file must be created anew.
    slot_size: u64,
    manifest: Manifest,
    /// It has changed since it was saved.
    is_changed: bool,
    /// Both slots are current.
    is_twice: bool,
    /// The version found, until it is known to be durable: a killed engine may have left it in the page cache only.
    unconfirmed: Option<Manifest>,
}

impl<D: Disk> ManifestFile<D> {
    /// Continues from the manifest found; a damaged file is replaced when it is saved.
    pub(crate) fn new(disk: D, found: &Found, manifest: Manifest) -> Self {
        let slot_size = found.slot_size.unwrap_or(0);
        let unconfirmed = found.manifest.clone();
        Self { disk, slot_size, manifest, is_changed: true, is_twice: false, unconfirmed }
    }

    pub(crate) const fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Writes the saved version to the other slot too, unless it is there. Then damage to one slot loses nothing,
    /// whatever else is damaged.
    pub(crate) fn save_twice(&mut self) -> io::Result<()> {
        if self.is_changed || self.is_twice {
            return Ok(());
        }
        self.save()?;
        self.is_twice = true;
        Ok(())
    }

    /// Lists a segment before its first record is written.
    pub(crate) fn list(&mut self, header: SegmentHeader, path: &str) {
        self.is_changed = true;
        self.manifest.entries.push(Entry {
            header,
            end: SEGMENT_HEADER_SIZE as u64,
            records: 0,
            whole: 0,
            state: EntryState::Open,
            name: name_of(path),
        });
    }

    /// Notes that an engine continues to write after the end of a segment.
    pub(crate) fn reopen(&mut self, sequence: u64, end: u64, records: u64) {
        if let Some(entry) = self.entry(sequence) {
            *entry = Entry { end, records, whole: records, state: EntryState::Open, ..entry.clone() };
            self.is_changed = true;
        }
    }

    /// Returns the next sequence, unless they are exhausted.
    pub(crate) fn next_sequence(&mut self) -> io::Result<u64> {
        let next = self.manifest.next_sequence.max(1);
        let after =
            next.checked_add(1).ok_or_else(|| io::Error::other("the sequence numbers are exhausted"))?;
        self.manifest.next_sequence = after;
        Ok(next)
    }

    /// Notes that no record follows the end of a segment.
    pub(crate) fn close(&mut self, sequence: u64, end: u64, records: u64) {
        if let Some(entry) = self.entry(sequence)
            && entry.state == EntryState::Open
        {
            *entry = Entry { end, records, whole: records, state: EntryState::Closed, ..entry.clone() };
            self.is_changed = true;
        }
    }

    /// Notes that none of a segment's messages is in the queue.
    pub(crate) fn empty(&mut self, sequence: u64) {
        if let Some(entry) = self.entry(sequence)
            && entry.state != EntryState::Emptied
        {
            entry.state = EntryState::Emptied;
            self.is_changed = true;
        }
    }

    /// Forgets an erased segment. Saving that is not urgent.
    pub(crate) fn forget(&mut self, sequence: u64) {
        self.manifest.entries.retain(|entry| entry.header.sequence != sequence);
    }

    fn entry(&mut self, sequence: u64) -> Option<&mut Entry> {
        self.manifest.entries.iter_mut().find(|entry| entry.header.sequence == sequence)
    }

    /// Makes the current version durable. After an error, either the version before or this one is.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        let next = Manifest { generation: self.manifest.generation + 1, ..self.manifest.clone() };
        let bytes = next.encode();
        let place = next.generation % 2;
        let written = self.file_in_place(bytes.len()).map(|file| {
            self.confirm(&file)?;
            self.write(&file, &bytes, place)
        });
        match written {
            Some(Ok(())) => {}
            Some(Err(error)) if is_full(&error) => return Err(error),
            _ => self.replace(&bytes, place)?,
        }
        self.manifest.generation = next.generation;
        self.is_changed = false;
        self.is_twice = false;
        self.unconfirmed = None;
        Ok(())
    }

    /// Writes the version found once more, before the other slot is overwritten, which may be the only durable one. A flush
    /// would not do: after one that failed, the next reports success for data that the kernel has dropped.
    fn confirm(&self, file: &D::File) -> io::Result<()> {
        let Some(found) = &self.unconfirmed else { return Ok(()) };
        self.write(file, &found.encode(), found.generation % 2)
    }

    fn write(&self, file: &D::File, bytes: &[u8], place: u64) -> io::Result<()> {
        self.disk.write_at(file, bytes, place * self.slot_size)?;
        self.disk.sync(file)
    }

    /// Opens the file, if this number of bytes can be written to a slot of it. It is opened each time because another
    /// process may have put a copy in its place, and writes to the old file would be lost.
    fn file_in_place(&self, size: usize) -> Option<D::File> {
        let fits = size as u64 <= self.slot_size;
        let file = fits.then(|| self.disk.open(MANIFEST, FileKind::Buffered).ok()).flatten()?;
        let is_as_made = self.disk.size(&file).is_ok_and(|found| found == 2 * self.slot_size);
        is_as_made.then_some(file)
    }

    /// Writes a new file: the first one, a larger one, or a replacement of one that cannot be written.
    fn replace(&mut self, bytes: &[u8], place: u64) -> io::Result<()> {
        // Left by a killed engine.
        let _ = self.disk.remove(UNFINISHED);
        let slot_size = bytes.len().next_power_of_two().max(SLOT_SIZE_MIN) as u64;
        let create = || self.disk.create(UNFINISHED, 2 * slot_size, FileKind::Buffered);
        let file = self.without_directory(UNFINISHED, create)?;
        let written = self
            .disk
            .write_at(&file, bytes, place * slot_size)
            .and_then(|()| self.disk.sync(&file))
            .and_then(|()| self.without_directory(MANIFEST, || self.disk.rename(UNFINISHED, MANIFEST)));
        if let Err(error) = written {
            let _ = self.disk.remove(UNFINISHED);
            return Err(error);
        }
        // Until the new name is durable, the old file may come back.
        self.slot_size = 0;
        self.disk.sync_directory("")?;
        self.slot_size = slot_size;
        Ok(())
    }

    /// Does something that needs the name; a directory with that name is moved aside and kept.
    fn without_directory<T>(&self, path: &str, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match work() {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists) => {}
            result => return result,
        }
        let mut moved = Err(io::ErrorKind::AlreadyExists.into());
        for number in 1..=ASIDE_MAX {
            moved = self.disk.rename_new(path, &format!("{path}.aside{number}"));
            if moved.is_ok() {
                break;
            }
        }
        moved.and_then(|()| work())
    }
}

/// Most directories that are moved aside under one name.
const ASIDE_MAX: u32 = 10;

/// The name of a segment at a path.
pub(crate) fn name_of(path: &str) -> String {
    path.strip_prefix(SEGMENTS).and_then(|path| path.strip_prefix('/')).unwrap_or(path).to_owned()
}

/// The path of an entry's segment.
pub(crate) fn path_of(entry: &Entry) -> String {
    if entry.name.is_empty() {
        format!("{SEGMENTS} (sequence {})", entry.header.sequence)
    } else {
        format!("{SEGMENTS}/{}", entry.name)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
