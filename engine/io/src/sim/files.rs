//! The files of a simulated disk: sectors, what of them would survive a loss of power, and names.
//!
//! A file has what is read now, and what is durable; sectors that differ are in a cache (the kernel's or the disk's
//! own, it makes no difference here). A killed process leaves the cache as it is. When the power is cut any of its
//! sectors may have reached the disk, in any order. A sector is written as a whole or not at all.
//!
//! Names are kept as a journalling file system keeps them: creations, renames and removals become durable in their
//! order, all of them at the next [`sync_directory`](crate::Disk::sync_directory); when the power is cut only the first few of them are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Random;
use crate::BLOCK_ALIGNMENT;

/// Bytes that a disk writes as a whole or not at all.
pub(super) const SECTOR_SIZE: usize = 512;

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
    pub(super) names: BTreeMap<String, u64>,
    pub(super) durable_names: BTreeMap<String, u64>,
    /// Changes of names that are not durable.
    pub(super) journal: VecDeque<Renaming>,
    pub(super) contents: BTreeMap<u64, Content>,
    pub(super) locks: BTreeSet<String>,
    pub(super) next: u64,
    /// Files that can be neither read nor written to.
    broken: BTreeSet<u64>,
    corruptions: Vec<Corruption>,
}

/// A change of names.
#[derive(Debug)]
pub(super) enum Renaming {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

impl Renaming {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
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

    pub(super) fn path(&self) -> &str {
        match self {
            Self::Create(path, _) | Self::Remove(path) | Self::Rename(_, path) => path,
        }
    }
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Content {
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
    /// Its first half.
    FirstHalf,
    /// Any of its sectors.
    Torn,
    /// None of it.
    Nowhere,
}

impl Content {
    /// Zeros, of which none are durable.
    pub(super) fn zeros(size: usize) -> Self {
        Self { octets: vec![0; size], ..Self::default() }
    }

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

    pub(super) fn sync(&mut self) {
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

    /// Changes what is read, and makes all of that durable.
    pub(super) fn damage(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.octets);
        self.durable.clone_from(&self.octets);
        self.dirty.clear();
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
    pub(super) fn content(&mut self, number: u64) -> &mut Content {
        self.contents.entry(number).or_default()
    }

    pub(super) fn size(&self, number: u64) -> usize {
        self.contents.get(&number).map_or(0, |content| content.octets.len())
    }

    pub(super) fn change(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.names);
        self.journal.push_back(renaming);
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|number| self.size(*number) as u64).sum()
    }

    /// Breaks or mends a file.
    pub(super) fn set_broken(&mut self, path: &str, is_broken: bool) {
        let number = self.names.get(path).expect("a file that is broken exists");
        if is_broken {
            self.broken.insert(*number);
        } else {
            self.broken.remove(number);
        }
    }

    pub(super) fn is_broken(&self, number: u64) -> bool {
        self.broken.contains(&number)
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
            Landing::FirstHalf => {
                self.content(number).put(&octets[..octets.len() / 2], offset, is_durable);
            }
            Landing::Torn => self.content(number).put_torn(octets, offset, is_durable, random),
            Landing::Nowhere => {}
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

    /// Cuts the power: what is durable is there, and any of the rest; none of it without `random`.
    pub(super) fn cut_power(&mut self, mut random: Option<&mut Random>) {
        let kept = random.as_mut().map_or(0, |random| random.index(self.journal.len() + 1));
        for renaming in self.journal.drain(..).take(kept) {
            renaming.apply(&mut self.durable_names);
        }
        self.names.clone_from(&self.durable_names);
        // Mostly all alike, as one cache is; but also any of it.
        let mode = random.as_mut().map_or(0, |random| random.below(4));
        for content in self.contents.values_mut() {
            for sector in content.dirty_sectors() {
                let survives = match mode {
                    0 => false,
                    1 => true,
                    _ => random.as_mut().is_some_and(|random| random.one_in(2)),
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
