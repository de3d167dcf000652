//! The simulated disk: sectors, what of them would survive a loss of power, and the names of files.
//!
//! A file has what is read now, and what is durable; sectors that differ are in a cache (the kernel's or the disk's
//! own, it makes no difference here). A killed process leaves the cache as it is. When the power is cut any of its
//! sectors may have reached the disk, in any order. A sector is written as a whole or not at all.
//!
//! Names are kept as a journalling file system keeps them: creations, renames and removals become durable in their
//! order, all of them at the next [`Disk::sync_directory`]; when the power is cut only the first few of them are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::world::{State, Step, lock};
use super::{Fault, Random};
use crate::{BLOCK_ALIGNMENT, Disk, FileKind};

/// Bytes that a disk writes as a whole or not at all.
pub(super) const SECTOR_SIZE: usize = 512;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// The simulated disk; clones are the same.
#[derive(Clone, Debug)]
pub struct SimDisk(pub(super) Arc<Mutex<State>>);

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    pub(super) number: u64,
    /// How it is open: [`FileKind::Direct`] only in worlds that have that.
    pub(super) kind: FileKind,
    /// Held until the file is dropped.
    _lock: Option<Lock>,
}

/// Holds a lock until it is dropped.
#[derive(Debug)]
struct Lock {
    disk: SimDisk,
    path: String,
}

impl Drop for Lock {
    fn drop(&mut self) {
        lock(&self.disk.0).files.locks.remove(&self.path);
    }
}

/// Bytes of a file that the disk damaged while it said that all was well.
///
/// A check of the queue reads from it which records were hit.
#[derive(Clone, Debug)]
pub struct Corruption {
    /// The file as it should be, or was.
    pub octets: Vec<u8>,
    /// Where the damage begins.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
    /// The file.
    number: u64,
}

/// All files.
#[derive(Debug, Default)]
pub(super) struct Files {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names that are not durable.
    journal: VecDeque<Renaming>,
    contents: BTreeMap<u64, Content>,
    locks: BTreeSet<String>,
    next: u64,
    corruptions: Vec<Corruption>,
}

/// A change of names.
#[derive(Debug)]
enum Renaming {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

impl Renaming {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(path, number) => {
                names.insert(path.clone(), *number);
            }
            Self::Rename(from, to) => {
                if let Some(number) = names.remove(from) {
                    names.insert(to.clone(), number);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Create(path, _) | Self::Remove(path) | Self::Rename(_, path) => path,
        }
    }
}

/// What a file holds.
#[derive(Debug, Default)]
struct Content {
    octets: Vec<u8>,
    /// As a loss of power would leave it at worst.
    durable: Vec<u8>,
    /// Sectors in which the two may differ, a bit each.
    dirty: Vec<u64>,
}

/// How much of a write reaches its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// All of it.
    Whole,
    /// Any of its sectors.
    Torn,
}

impl Content {
    /// Puts bytes in place; `is_durable`: for good.
    fn put(&mut self, octets: &[u8], offset: usize, is_durable: bool) {
        let end = offset + octets.len();
        if self.octets.len() < end {
            self.octets.resize(end, 0);
        }
        self.octets[offset..end].copy_from_slice(octets);
        let sectors = offset / SECTOR_SIZE..end.div_ceil(SECTOR_SIZE);
        if is_durable {
            for sector in sectors {
                self.make_durable(sector);
            }
        } else {
            let words = sectors.end.div_ceil(64);
            if self.dirty.len() < words {
                self.dirty.resize(words, 0);
            }
            for sector in sectors {
                self.dirty[sector / 64] |= 1 << (sector % 64);
            }
        }
    }

    fn make_durable(&mut self, sector: usize) {
        if self.durable.len() < self.octets.len() {
            self.durable.resize(self.octets.len(), 0);
        }
        let start = sector * SECTOR_SIZE;
        let end = (start + SECTOR_SIZE).min(self.octets.len());
        self.durable[start..end].copy_from_slice(&self.octets[start..end]);
        self.clean(sector);
    }

    fn lose(&mut self, sector: usize) {
        let start = sector * SECTOR_SIZE;
        let end = (start + SECTOR_SIZE).min(self.octets.len());
        let durable = self.durable.get(start..).unwrap_or_default();
        let kept = durable.len().min(end - start);
        self.octets[start..start + kept].copy_from_slice(&durable[..kept]);
        self.octets[start + kept..end].fill(0);
        self.clean(sector);
    }

    fn clean(&mut self, sector: usize) {
        if let Some(word) = self.dirty.get_mut(sector / 64) {
            *word &= !(1 << (sector % 64));
        }
    }

    fn dirty_sectors(&self) -> Vec<usize> {
        let mut sectors = Vec::new();
        for (index, word) in self.dirty.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                sectors.push(index * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
        sectors
    }

    fn sync(&mut self) {
        if self.durable.len() < self.octets.len() {
            self.durable.resize(self.octets.len(), 0);
        }
        let all = self.dirty_sectors();
        if all.len() * SECTOR_SIZE == self.octets.len() {
            self.durable.copy_from_slice(&self.octets);
            self.dirty.fill(0);
            return;
        }
        for sector in all {
            self.make_durable(sector);
        }
    }

    /// Puts any of the sectors of a write in place.
    fn put_torn(&mut self, octets: &[u8], offset: usize, is_durable: bool, random: &mut Random) {
        let count = octets.len().div_ceil(SECTOR_SIZE);
        let mode = random.below(4);
        let cut = random.index(count + 1);
        for (index, sector) in octets.chunks(SECTOR_SIZE).enumerate() {
            let lands = match mode {
                0 => index < cut,
                1 => index >= cut,
                _ => random.one_in(2),
            };
            if lands {
                self.put(sector, offset + index * SECTOR_SIZE, is_durable);
            }
        }
    }
}

impl Files {
    fn content(&mut self, number: u64) -> &mut Content {
        self.contents.entry(number).or_default()
    }

    pub(super) fn size(&self, number: u64) -> usize {
        self.contents.get(&number).map_or(0, |content| content.octets.len())
    }

    fn change(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.names);
        self.journal.push_back(renaming);
    }

    fn used(&self) -> u64 {
        self.names.values().map(|number| self.size(*number) as u64).sum()
    }

    /// Copies what a file has at an offset; returns how much that is.
    pub(super) fn read(&self, number: u64, octets: &mut [u8], offset: u64) -> usize {
        let content = self.contents.get(&number).map(|content| content.octets.as_slice());
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.and_then(|content| content.get(start..)).unwrap_or_default();
        let count = octets.len().min(rest.len());
        octets[..count].copy_from_slice(&rest[..count]);
        count
    }

    /// Puts a write's bytes in place.
    pub(super) fn put(
        &mut self,
        number: u64,
        octets: &[u8],
        offset: usize,
        is_durable: bool,
        landing: Landing,
        random: &mut Random,
    ) {
        match landing {
            Landing::Whole => self.content(number).put(octets, offset, is_durable),
            Landing::Torn => self.content(number).put_torn(octets, offset, is_durable, random),
        }
    }

    /// A flush that fails: of each sector that it was about, it is open whether it is durable, may become so, or is gone.
    pub(super) fn fail_flush(&mut self, number: u64, random: &mut Random) {
        let content = self.content(number);
        for sector in content.dirty_sectors() {
            match random.below(3) {
                0 => content.make_durable(sector),
                1 => content.lose(sector),
                _ => {}
            }
        }
    }

    /// Notes that what was to be at a place is not there.
    pub(super) fn note_lost(&mut self, number: u64, octets: &[u8], offset: usize) {
        let mut file = self.content(number).octets.clone();
        let (from, to) = (offset, offset + octets.len());
        if file.len() < to {
            file.resize(to, 0);
        }
        file[from..to].copy_from_slice(octets);
        self.note_corruption(Corruption { octets: file, from, to, number });
    }

    /// Keeps it, also as it is with the front that the file had before that was hit.
    fn note_corruption(&mut self, corruption: Corruption) {
        let Corruption { octets, from, to, number } = &corruption;
        let is_hit = |hit: &&Corruption| hit.number == *number && hit.from < BLOCK_ALIGNMENT;
        let fronts =
            self.corruptions.iter().filter(is_hit).filter_map(|hit| hit.octets.get(..BLOCK_ALIGNMENT));
        let behind = octets.get(BLOCK_ALIGNMENT..).unwrap_or_default();
        let others: Vec<Corruption> = fronts
            .map(|front| Corruption {
                octets: [front, behind].concat(),
                from: *from,
                to: *to,
                number: *number,
            })
            .collect();
        self.corruptions.extend(others);
        self.corruptions.push(corruption);
    }

    /// Puts bytes where they do not belong.
    pub(super) fn misdirect(&mut self, octets: &[u8], random: &mut Random) {
        let numbers: Vec<u64> = self.names.values().copied().collect();
        let target = *random.pick(&numbers);
        let size = self.size(target);
        if size < octets.len() {
            return;
        }
        let offset = random.index((size - octets.len()) / BLOCK_ALIGNMENT + 1) * BLOCK_ALIGNMENT;
        let content = self.content(target);
        let before = content.octets.clone();
        content.put(octets, offset, true);
        let to = offset + octets.len();
        self.note_corruption(Corruption { octets: before, from: offset, to, number: target });
    }

    /// Changes a bit somewhere, where something is if that is found soon.
    pub(super) fn rot(&mut self, random: &mut Random) {
        let numbers: Vec<u64> =
            self.names.values().copied().filter(|number| self.size(*number) > 0).collect();
        if numbers.is_empty() {
            return;
        }
        let number = *random.pick(&numbers);
        let content = self.contents.entry(number).or_default();
        let mut place = 0;
        for _ in 0..16 {
            place = random.index(content.octets.len());
            if content.octets[place] != 0 {
                break;
            }
        }
        let before = content.octets.clone();
        let bit = 1 << random.below(8);
        content.octets[place] ^= bit;
        if let Some(octet) = content.durable.get_mut(place) {
            *octet ^= bit;
        }
        self.note_corruption(Corruption { octets: before, from: place, to: place + 1, number });
    }

    /// What the disk damaged since this was asked last. Where the front of a file was hit, what was written after it later
    /// is hit too.
    pub(super) fn take_corruptions(&mut self) -> Vec<Corruption> {
        let mut corruptions = std::mem::take(&mut self.corruptions);
        // Report those again next time: more may be written after them.
        let fronts = corruptions.iter().filter(|hit| hit.from < BLOCK_ALIGNMENT);
        self.corruptions.extend(fronts.cloned());
        for index in 0..corruptions.len() {
            let Corruption { octets, from, to, number } = &corruptions[index];
            let front = octets.get(..BLOCK_ALIGNMENT).filter(|_| *from < BLOCK_ALIGNMENT);
            let now = self.contents.get(number).and_then(|content| content.octets.get(BLOCK_ALIGNMENT..));
            if let (Some(front), Some(now)) = (front, now) {
                let octets = [front, now].concat();
                corruptions.push(Corruption { octets, from: *from, to: *to, number: *number });
            }
        }
        corruptions
    }

    /// Cuts the power: what is durable is there, and any of the rest.
    pub(super) fn cut_power(&mut self, random: &mut Random) {
        let kept = random.index(self.journal.len() + 1);
        for renaming in self.journal.drain(..).take(kept) {
            renaming.apply(&mut self.durable_names);
        }
        self.names.clone_from(&self.durable_names);
        // Mostly all alike, as one cache is; but also any of it.
        let mode = random.below(4);
        for content in self.contents.values_mut() {
            for sector in content.dirty_sectors() {
                let survives = match mode {
                    0 => false,
                    1 => true,
                    _ => random.one_in(2),
                };
                if survives { content.make_durable(sector) } else { content.lose(sector) }
            }
            // A size that was never made durable.
            content.octets.truncate(content.durable.len());
        }
    }

    /// Forgets files that no name leads to any more.
    pub(super) fn forget_nameless(&mut self) {
        let (names, durable, journal) = (&self.names, &self.durable_names, &self.journal);
        self.contents.retain(|number, _| {
            names.values().chain(durable.values()).any(|named| named == number)
                || journal
                    .iter()
                    .any(|renaming| matches!(renaming, Renaming::Create(_, named) if named == number))
        });
    }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Changes names, which a fault may prevent.
    fn rename_with(&self, change: impl FnOnce(&Files) -> io::Result<Renaming>) -> io::Result<()> {
        let mut state = self.state();
        let step = state.step();
        let renaming = change(&state.files)?;
        match step {
            Step::Off => return Err(error(EIO)),
            Step::Last => {
                if state.disk_random.one_in(2) {
                    state.files.change(renaming);
                }
                return Err(error(EIO));
            }
            Step::Go => {}
        }
        if state.disk_fault(Fault::WriteError) {
            return Err(error(EIO));
        }
        state.note("names change", [0; 3]);
        state.files.change(renaming);
        Ok(())
    }
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// What a read that fails says.
pub(super) fn read_error(state: &mut State) -> Option<io::Error> {
    state.disk_fault(Fault::ReadError).then(|| error(EIO))
}

/// What a write that fails says.
pub(super) fn write_error(state: &mut State) -> Option<io::Error> {
    let faults = [(Fault::WriteError, EIO), (Fault::NoSpace, ENOSPC), (Fault::Quota, EDQUOT)];
    let mut found = None;
    for (fault, number) in faults {
        if state.disk_fault(fault) {
            found = Some(error(number));
        }
    }
    found
}

fn prefix_of(directory: &str) -> String {
    if directory.is_empty() { String::new() } else { format!("{directory}/") }
}

fn is_inside(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|name| !name.contains('/'))
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated files are small")
}

/// The rule for direct files.
fn check_alignment(file: &SimFile, octets: &[u8], offset: u64) {
    if file.kind == FileKind::Direct {
        let memory = octets.as_ptr().align_offset(BLOCK_ALIGNMENT);
        let is_aligned = offset.is_multiple_of(BLOCK_ALIGNMENT as u64)
            && octets.len().is_multiple_of(BLOCK_ALIGNMENT)
            && memory == 0;
        assert!(is_aligned, "a direct read or write is not aligned: {} octets at {offset}", octets.len());
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let prefix = prefix_of(directory);
        let mut state = self.state();
        if state.disk_fault(Fault::ReadError) {
            return Err(error(EIO));
        }
        let mut names: Vec<String> = state
            .files
            .names
            .keys()
            .filter(|path| is_inside(path, &prefix))
            .map(|path| path[prefix.len()..].to_owned())
            .collect();
        // In no order.
        for index in (1..names.len()).rev() {
            let other = state.disk_random.index(index + 1);
            names.swap(index, other);
        }
        Ok(names)
    }

    fn make_directory(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &str, kind: FileKind) -> io::Result<SimFile> {
        let mut state = self.state();
        let number = *state.files.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        if state.disk_fault(Fault::ReadError) {
            return Err(error(EIO));
        }
        Ok(SimFile { number, kind: state.conditions.kind(kind), _lock: None })
    }

    fn create(&self, path: &str, size: u64, kind: FileKind) -> io::Result<SimFile> {
        let mut state = self.state();
        let step = state.step();
        if state.files.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if step != Step::Go {
            return Err(error(EIO));
        }
        if let Some(error) = write_error(&mut state) {
            return Err(error);
        }
        if state.files.used() + size > state.conditions.capacity {
            state.failures += 1;
            return Err(error(ENOSPC));
        }
        let number = state.files.next;
        state.files.next += 1;
        let octets = vec![0; place(size)];
        state.files.contents.insert(number, Content { octets, ..Content::default() });
        state.files.change(Renaming::Create(path.to_owned(), number));
        state.note("file {} made: {} octets", [number, size, 0]);
        Ok(SimFile { number, kind: state.conditions.kind(kind), _lock: None })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_with(|files| {
            files.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            Ok(Renaming::Rename(from.to_owned(), to.to_owned()))
        })
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_with(|files| {
            files.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            if files.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(Renaming::Rename(from.to_owned(), to.to_owned()))
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.rename_with(|files| {
            files.names.get(path).ok_or(io::ErrorKind::NotFound)?;
            Ok(Renaming::Remove(path.to_owned()))
        })
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.step() != Step::Go || state.disk_fault(Fault::FlushError) {
            return Err(error(EIO));
        }
        let prefix = prefix_of(directory);
        let Files { journal, durable_names, .. } = &mut state.files;
        journal.retain(|renaming| {
            let is_inside = is_inside(renaming.path(), &prefix);
            if is_inside {
                renaming.apply(durable_names);
            }
            !is_inside
        });
        state.note("names are durable", [0; 3]);
        Ok(())
    }

    fn lock(&self, path: &str) -> io::Result<SimFile> {
        if !self.state().files.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let lock = Some(Lock { disk: self.clone(), path: path.to_owned() });
        Ok(SimFile { number: u64::MAX, kind: FileKind::Buffered, _lock: lock })
    }

    fn is_locked(&self, path: &str) -> io::Result<bool> {
        Ok(self.state().files.locks.contains(path))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.state().disk_random.bits())
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let state = self.state();
        let total = state.conditions.capacity;
        Ok((total.saturating_sub(state.files.used()), total))
    }

    fn size(&self, file: &SimFile) -> io::Result<u64> {
        Ok(self.state().files.size(file.number) as u64)
    }

    fn is_direct(&self, file: &SimFile) -> bool {
        file.kind == FileKind::Direct
    }

    fn read_at(&self, file: &SimFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        check_alignment(file, octets, offset);
        let mut state = self.state();
        if state.disk_fault(Fault::ReadError) {
            return Err(error(EIO));
        }
        Ok(state.files.read(file.number, octets, offset))
    }

    fn write_at(&self, file: &SimFile, octets: &[u8], offset: u64) -> io::Result<()> {
        check_alignment(file, octets, offset);
        let mut state = self.state();
        let failure = match state.step() {
            Step::Off => return Err(error(EIO)),
            Step::Last => Some(error(EIO)),
            Step::Go => write_error(&mut state),
        };
        let landing = if failure.is_some() { Landing::Torn } else { Landing::Whole };
        state.note("file {} written: {} octets at {}", [file.number, octets.len() as u64, offset]);
        let State { files, disk_random, .. } = &mut *state;
        files.put(file.number, octets, place(offset), false, landing, disk_random);
        failure.map_or(Ok(()), Err)
    }

    fn sync(&self, file: &SimFile) -> io::Result<()> {
        let mut state = self.state();
        let step = state.step();
        let is_failing = step == Step::Last || state.disk_fault(Fault::FlushError);
        let State { files, disk_random, .. } = &mut *state;
        if step == Step::Off {
            return Err(error(EIO));
        }
        if is_failing {
            files.fail_flush(file.number, disk_random);
            return Err(error(EIO));
        }
        files.content(file.number).sync();
        state.note("file {} is durable", [file.number, 0, 0]);
        Ok(())
    }
}
