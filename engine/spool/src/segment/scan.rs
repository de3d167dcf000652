//! Owns finding what is in a segment: batches and records, wherever they are whole.

use std::io;

use mailrace_core::record::spool::{
    BATCH_HEADER_SIZE, BATCH_MAGIC, BatchHeader, RECORD_ALIGNMENT, RECORD_HEADER_SIZE, RECORD_MAGIC,
    RecordHeader, SEGMENT_HEADER_SIZE, SegmentHeader,
};
use mailrace_io::Disk;

/// Octets that are read at once.
const WINDOW_SIZE: usize = 1 << 20;
/// Octets that are read at once where more cannot be read.
const PIECE_SIZE: usize = 4096;
/// Pieces of a file that are tried in vain before the rest is given up: each may take a bad disk seconds.
const UNREADABLE_MAX: usize = 64;

/// Something that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The head of a batch.
    Batch(BatchHeader),
    /// A record, its payload not looked at.
    Record(RecordHeader),
}

/// Reads one use of a segment from front to end.
pub(crate) struct Scan<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    header: SegmentHeader,
    window: Vec<u8>,
    window_offset: u64,
    offset: u64,
    /// The first place that could not be read, and what was said there.
    unreadable: Option<(u64, io::Error)>,
    /// Number of such pieces.
    failures: usize,
}

impl<'a, D: Disk> Scan<'a, D> {
    pub(crate) const fn new(disk: &'a D, file: &'a D::File, header: SegmentHeader) -> Self {
        Self {
            disk,
            file,
            header,
            window: Vec::new(),
            window_offset: 0,
            offset: SEGMENT_HEADER_SIZE as u64,
            unreadable: None,
            failures: 0,
        }
    }

    /// The first place that could not be read so far, and what was said there.
    pub(crate) const fn unreadable(&self) -> Option<&(u64, io::Error)> {
        self.unreadable.as_ref()
    }

    /// The next whole header and where it is. Where none is, the search moves on in steps of the alignment.
    pub(crate) fn next(&mut self) -> Option<(u64, Found)> {
        loop {
            let offset = self.offset;
            let octets = self.at(offset, RECORD_HEADER_SIZE);
            if octets.len() < RECORD_HEADER_SIZE {
                return None;
            }
            let salt = self.header.salt;
            let octets = self.peek(offset, RECORD_HEADER_SIZE);
            if let Some(batch) = BatchHeader::decode(octets, salt, offset) {
                self.offset += BATCH_HEADER_SIZE as u64;
                return Some((offset, Found::Batch(batch)));
            }
            if let Some(record) = RecordHeader::decode(octets, salt, offset) {
                self.offset += record.size() as u64;
                return Some((offset, Found::Record(record)));
            }
            self.offset = self.next_magic(offset + RECORD_ALIGNMENT as u64);
        }
    }

    /// The payload of the record at `offset`; shorter at the end of the file.
    pub(crate) fn payload(&mut self, offset: u64, record: &RecordHeader) -> &[u8] {
        self.at(offset + RECORD_HEADER_SIZE as u64, record.length as usize)
    }

    /// Where the next header might be, from `offset` on.
    fn next_magic(&mut self, mut offset: u64) -> u64 {
        loop {
            let first = self.at(offset, 1).len();
            if first == 0 {
                return offset;
            }
            let start = usize::try_from(offset - self.window_offset).unwrap_or(usize::MAX);
            let rest = self.window.get(start..).unwrap_or_default();
            // Both magics begin with the same octet, which text has nowhere: it is looked at first.
            let place = rest.chunks(RECORD_ALIGNMENT).position(|place| {
                place.first() == BATCH_MAGIC.first()
                    && (place.starts_with(&BATCH_MAGIC) || place.starts_with(&RECORD_MAGIC))
            });
            match place {
                Some(place) => return offset + (place * RECORD_ALIGNMENT) as u64,
                None => offset += rest.len().next_multiple_of(RECORD_ALIGNMENT) as u64,
            }
        }
    }

    /// `length` octets at `offset`, fewer at the end of the file. What cannot be read is zeros.
    fn at(&mut self, offset: u64, length: usize) -> &[u8] {
        let end = offset + length as u64;
        if offset < self.window_offset || end > self.window_offset + self.window.len() as u64 {
            let rest = usize::try_from(self.header.size.saturating_sub(offset)).unwrap_or(WINDOW_SIZE);
            self.window.clear();
            self.window.resize(length.max(WINDOW_SIZE.min(rest)), 0);
            let count = match self.disk.read_at(self.file, &mut self.window, offset) {
                Ok(count) => count,
                Err(_) => self.read_pieces(offset),
            };
            self.window.truncate(count);
            self.window_offset = offset;
        }
        self.peek(offset, length)
    }

    /// Fills the window from `offset` on where not all of it can be read at once.
    fn read_pieces(&mut self, offset: u64) -> usize {
        let mut filled = 0;
        for piece in self.window.chunks_mut(PIECE_SIZE) {
            let place = offset + filled as u64;
            match self.disk.read_at(self.file, piece, place) {
                Ok(count) if count < piece.len() => return filled + count,
                Ok(_) => {}
                Err(error) => {
                    piece.fill(0);
                    self.unreadable.get_or_insert((place, error));
                    self.failures += 1;
                    if self.failures > UNREADABLE_MAX {
                        return filled;
                    }
                }
            }
            filled += piece.len();
        }
        filled
    }

    /// What is in the window of it.
    fn peek(&self, offset: u64, length: usize) -> &[u8] {
        let start = usize::try_from(offset - self.window_offset).unwrap_or(usize::MAX).min(self.window.len());
        let end = start.saturating_add(length).min(self.window.len());
        self.window.get(start..end).unwrap_or_default()
    }
}
