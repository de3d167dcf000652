//! Owns the log of a disk's writes (the format of dm-log-writes), and which disks it may have left.
//!
//! One sector of the log's own size with the head; then for each write a sector with its entry, and its data.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mailrace_io::sim::Random;

use crate::error::ProofError;

/// What of the writes after the last flush has reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unflushed {
    /// None.
    Lost,
    /// Each write or not; of large ones each sector of 512 bytes or not.
    Some,
    /// All.
    Kept,
}

/// The log of a disk that had nothing on it at first.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    sector_size: u64,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Bytes from the start of the disk.
    to: u64,
    length: u64,
    is_flush: bool,
    has_data: bool,
    /// Bytes from the start of the log.
    from: u64,
}

/// `log-writes` backwards, as the kernel spells it.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLAG_FLUSH: u64 = 1;
const FLAG_DISCARD: u64 = 4;
/// Writes of this many bytes and more may be torn.
const TORN_SIZE_MIN: u64 = 16 << 10;
const SECTOR_SIZE: usize = 512;

impl WriteLog {
    /// Entries that are in a log, which may still grow.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn count(path: &Path) -> Result<u64, ProofError> {
        let file = File::open(path).map_err(ProofError::on(path))?;
        Ok(numbers::<3>(&file, 0, path)?[2])
    }

    /// The first `count` entries of a log.
    ///
    /// # Errors
    /// When it cannot be read, or is no log.
    pub fn read(path: &Path, count: u64) -> Result<Self, ProofError> {
        let file = File::open(path).map_err(ProofError::on(path))?;
        let [magic, version, _, sector_size] = numbers(&file, 0, path)?;
        let sector_size = sector_size & u64::from(u32::MAX);
        if magic != MAGIC || version != 1 || !(512..=65_536).contains(&sector_size) {
            return Err(ProofError::WriteLog("not a log of writes"));
        }
        let mut entries = Vec::new();
        let mut place = sector_size;
        for _ in 0..count {
            let [sector, sectors, flags, _] = numbers(&file, place, path)?;
            place += sector_size;
            let has_data = flags & FLAG_DISCARD == 0 && sectors > 0;
            let length = sectors * sector_size;
            let is_flush = flags & FLAG_FLUSH != 0;
            entries.push(Entry { to: sector * sector_size, length, is_flush, has_data, from: place });
            if has_data {
                place += length;
            }
        }
        Ok(Self { file, sector_size, entries })
    }

    /// Entries after the last flush.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.entries.len() - self.flushed()
    }

    /// Writes the disk to `image`, which is empty.
    ///
    /// # Errors
    /// When that fails.
    pub fn replay(&self, image: &Path, unflushed: Unflushed, random: &mut Random) -> Result<(), ProofError> {
        let out = File::options().write(true).open(image).map_err(ProofError::on(image))?;
        let flushed = self.flushed();
        let mut data = Vec::new();
        for (index, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.has_data) {
            let is_sure = index < flushed || unflushed == Unflushed::Kept;
            if !is_sure && unflushed == Unflushed::Lost {
                continue;
            }
            let is_torn = !is_sure && entry.length >= TORN_SIZE_MIN && random.percent(50);
            if !is_sure && !is_torn && random.percent(50) {
                continue;
            }
            data.resize(usize::try_from(entry.length).unwrap_or(0), 0);
            self.file.read_exact_at(&mut data, entry.from).map_err(ProofError::on(image))?;
            let piece = if is_torn { SECTOR_SIZE } else { data.len() };
            let mut to = entry.to;
            for piece in data.chunks(piece) {
                if !is_torn || random.percent(50) {
                    out.write_all_at(piece, to).map_err(ProofError::on(image))?;
                }
                to += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Entries up to the last flush.
    fn flushed(&self) -> usize {
        self.entries.iter().rposition(|entry| entry.is_flush).map_or(0, |last| last + 1)
    }

    /// Bytes of the log's own sectors.
    #[must_use]
    pub const fn sector_size(&self) -> u64 {
        self.sector_size
    }
}

fn numbers<const COUNT: usize>(file: &File, place: u64, path: &Path) -> Result<[u64; COUNT], ProofError> {
    let mut octets = vec![0; COUNT * 8];
    file.read_exact_at(&mut octets, place).map_err(ProofError::on(path))?;
    let mut numbers = octets.chunks_exact(8);
    Ok(std::array::from_fn(|_| {
        let octets = numbers.next().and_then(|octets| octets.try_into().ok()).unwrap_or_default();
        u64::from_le_bytes(octets)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of writes of `letter` to a sector of 4096 bytes; `None`: a flush.
    fn log(path: &Path, writes: &[Option<(u64, u64, u8)>]) {
        let mut octets = Vec::new();
        let sector = |numbers: &[u64]| {
            let mut sector: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            sector.resize(4096, 0);
            sector
        };
        octets.extend(sector(&[MAGIC, 1, writes.len() as u64, 4096]));
        for write in writes {
            let Some((to, sectors, letter)) = *write else {
                octets.extend(sector(&[0, 0, FLAG_FLUSH, 0]));
                continue;
            };
            octets.extend(sector(&[to, sectors, 0, 0]));
            octets.extend(vec![letter; usize::try_from(sectors).unwrap() * 4096]);
        }
        std::fs::write(path, octets).unwrap();
    }

    #[test]
    fn replays_flushed_writes_and_the_requested_rest() {
        let directory = std::env::temp_dir().join(format!("mailrace-write-log-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (path, image) = (directory.join("log"), directory.join("image"));
        let writes = [Some((0, 1, b'a')), Some((1, 1, b'b')), None, Some((1, 1, b'c')), Some((2, 64, b'd'))];
        log(&path, &writes);
        assert_eq!(WriteLog::count(&path).unwrap(), 5);
        let log = WriteLog::read(&path, 5).unwrap();
        assert_eq!((log.unflushed(), log.sector_size()), (2, 4096));
        let disk = |unflushed, seed| {
            File::create(&image).unwrap().set_len(66 * 4096).unwrap();
            log.replay(&image, unflushed, &mut Random::new(seed, "test")).unwrap();
            std::fs::read(&image).unwrap()
        };
        let lost = disk(Unflushed::Lost, 1);
        assert_eq!([lost[0], lost[4096], lost[8192]], [b'a', b'b', 0]);
        let kept = disk(Unflushed::Kept, 1);
        assert_eq!([kept[0], kept[4096], kept[8192], kept[66 * 4096 - 1]], [b'a', b'c', b'd', b'd']);
        let some: Vec<Vec<u8>> = (0..20).map(|seed| disk(Unflushed::Some, seed)).collect();
        assert!(some.iter().all(|disk| disk[0] == b'a'));
        assert!(some.iter().any(|disk| disk[4096] == b'b') && some.iter().any(|disk| disk[4096] == b'c'));
        let is_torn = |disk: &Vec<u8>| disk[8192..].contains(&0) && disk[8192..].contains(&b'd');
        assert!(some.iter().any(is_torn), "no write was torn");
        // A log that still grows is cut where it was when it was looked at.
        let early = WriteLog::read(&path, 2).unwrap();
        assert_eq!(early.unflushed(), 2);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
