//! The files among the segments, and their entries in the manifest.

use std::collections::{BTreeSet, HashMap, VecDeque};

use mailrace_core::record::manifest::{self, EntryState, Manifest};
use mailrace_core::record::spool::SegmentHeader;
use mailrace_io::Disk;

use super::read_header;
use crate::OpenError;
use crate::segment::manifest::name_of;
use crate::segment::{SEGMENT_SUFFIX, SEGMENTS};

/// Entries of the manifest, by sequence.
pub(super) struct Listed<'a> {
    pub(super) entries: HashMap<u64, &'a manifest::Entry>,
    /// `None`: there is no manifest.
    next_sequence: Option<u64>,
}

/// Standing of a valid header according to the manifest.
pub(super) enum Standing<'a> {
    Counts(Option<&'a manifest::Entry>),
    /// It was being emptied.
    Emptied,
    /// It was emptied: an old copy.
    Stale,
}

impl<'a> Listed<'a> {
    pub(super) fn new(manifest: Option<&'a Manifest>) -> Self {
        let entries = manifest.into_iter().flat_map(|manifest| &manifest.entries);
        Self {
            entries: entries.map(|entry| (entry.header.sequence, entry)).collect(),
            next_sequence: manifest.map(|manifest| manifest.next_sequence),
        }
    }

    pub(super) fn standing(&self, header: &SegmentHeader) -> Standing<'a> {
        match (self.entries.get(&header.sequence), self.next_sequence) {
            (Some(entry), _) if entry.header != *header => Standing::Stale,
            (Some(entry), _) if entry.state == EntryState::Emptied => Standing::Emptied,
            (Some(entry), _) => Standing::Counts(Some(entry)),
            (None, Some(next)) if header.sequence < next => Standing::Stale,
            (None, _) => Standing::Counts(None),
        }
    }

    /// Of several files with one header, the one with the lowest rank counts.
    fn rank(&self, header: &SegmentHeader, path: &str) -> u8 {
        match self.entries.get(&header.sequence) {
            Some(entry) if entry.header == *header => u8::from(entry.name != name_of(path)),
            _ => 2,
        }
    }
}

/// The number in a name that an engine may have given.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let number = digits.parse().ok().filter(|number| (1..=NUMBER_MAX).contains(number))?;
    (segment_name(number) == name).then_some(number)
}

/// The name of a segment with this number.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:010}{SEGMENT_SUFFIX}")
}

/// The greatest number in a name; no engine gets that far.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// The segments in the order of their sequences, followed by those created in the meantime.
///
/// While an engine runs, it moves messages, always to a segment of a greater sequence, and the copy is durable
/// before the first segment is emptied. So a reader that comes too late for the one finds the other.
#[derive(Default)]
pub(super) struct Paths {
    lists_left: u32,
    next: VecDeque<String>,
    seen: BTreeSet<(u64, u8, String)>,
}

impl Paths {
    /// Returns the segments of up to `lists` listings.
    pub(super) fn new(lists: u32) -> Self {
        Self { lists_left: lists, ..Self::default() }
    }

    pub(super) fn next<D: Disk>(
        &mut self,
        disk: &D,
        listed: &Listed<'_>,
    ) -> Result<Option<String>, OpenError> {
        if self.next.is_empty() && self.lists_left > 0 {
            self.lists_left -= 1;
            let mut new = BTreeSet::new();
            for name in disk.list(SEGMENTS).map_err(OpenError::disk("list", SEGMENTS))? {
                if name.ends_with(SEGMENT_SUFFIX) {
                    let path = format!("{SEGMENTS}/{name}");
                    let (sequence, rank) = place_in_order(disk, listed, &path);
                    new.insert((sequence, rank, path));
                }
            }
            self.next = new.difference(&self.seen).map(|(.., path)| path.clone()).collect();
            self.seen.append(&mut new);
        }
        Ok(self.next.pop_front())
    }
}

/// Most listings of the segments. A message that is moved more often while they are read may be missed, but an
/// engine that creates segments as fast as they are read does not keep a reader busy forever.
pub(super) const LISTS_MAX: u32 = 4;

/// Returns sequence and rank; 0 if the header is unreadable, which the reader of the whole file reports.
fn place_in_order<D: Disk>(disk: &D, listed: &Listed<'_>, path: &str) -> (u64, u8) {
    let header = read_header(disk, path).ok().and_then(|(_, block)| SegmentHeader::decode(&block).ok());
    header.map_or((0, 0), |header| (header.sequence, listed.rank(&header, path)))
}

#[cfg(test)]
mod tests {
    use mailrace_core::record::spool::SEGMENT_HEADER_SIZE;
    use mailrace_io::FileKind;
    use mailrace_io::sim::{SimDisk, World};

    use super::*;

    fn put(disk: &SimDisk, name: &str, sequence: u64) {
        let size = SEGMENT_HEADER_SIZE as u64;
        let file = disk.create(&format!("{SEGMENTS}/{name}"), size, FileKind::Buffered).unwrap();
        disk.write_at(&file, &SegmentHeader { sequence, salt: 1, size }.encode(), 0).unwrap();
    }

    #[test]
    fn segments_come_by_sequence_and_new_ones_behind_them() {
        let disk = World::calm().disk();
        // Files that were used again have a sequence that their name does not show.
        put(&disk, "1.seg", 7);
        put(&disk, "2.seg", 3);
        put(&disk, "3.seg.new", 9);
        let mut paths = Paths::new(LISTS_MAX);
        let listed = Listed::new(None);
        let mut next = || paths.next(&disk, &listed).unwrap();
        assert_eq!(next().as_deref(), Some("segments/2.seg"));
        // A message is moved to a segment that was not there, and its first one is used again.
        put(&disk, "4.seg", 8);
        disk.remove("segments/1.seg").unwrap();
        put(&disk, "1.seg", 9);
        assert_eq!(next().as_deref(), Some("segments/1.seg"));
        assert_eq!(next().as_deref(), Some("segments/4.seg"));
        assert_eq!(next().as_deref(), Some("segments/1.seg"));
        assert_eq!(next(), None);
        // It comes to an end beside an engine that makes one after the other.
        let mut count = 0;
        let mut paths = Paths::new(LISTS_MAX);
        while paths.next(&disk, &listed).unwrap().is_some() {
            count += 1;
            put(&disk, &format!("new{count}.seg"), 100 + count);
            assert!(count < 100);
        }
    }
}
