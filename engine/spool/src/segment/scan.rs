//! Scans a segment for complete batch and record headers.

use std::io;

use mailrace_core::record::spool::{
    BATCH_HEADER_SIZE, BATCH_MAGIC, BatchHeader, RECORD_ALIGNMENT, RECORD_HEADER_SIZE, RECORD_MAGIC,
    RecordHeader, SEGMENT_HEADER_SIZE, SegmentHeader,
};
use mailrace_io::Disk;

/// Bytes per read.
const WINDOW_SIZE: usize = 1 << 20;
/// Bytes per read where a larger read fails.
const PIECE_SIZE: usize = 4096;
/// Failed reads after which the rest of a file is given up: each may take a bad disk seconds.
const UNREADABLE_MAX: usize = 64;

/// Something found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A batch header.
    Batch(BatchHeader),
    /// A record header; its payload is not checked.
    Record(RecordHeader),
}

/// Reads one use of a segment from start to end.
pub(crate) struct Scan<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    header: SegmentHeader,
    window: Vec<u8>,
    window_offset: u64,
    offset: u64,
    /// The first place that could not be read, with the error.
    unreadable: Option<(u64, io::Error)>,
    /// Number of failed reads.
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

    /// Returns the first place that could not be read so far, with the error.
    pub(crate) const fn unreadable(&self) -> Option<&(u64, io::Error)> {
        self.unreadable.as_ref()
    }

    /// Returns the next valid header and its offset. Where there is none, the search continues in steps of the alignment.
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

    /// Returns the payload of the record at `offset`; it is shorter at the end of the file.
    pub(crate) fn payload(&mut self, offset: u64, record: &RecordHeader) -> &[u8] {
        self.at(offset + RECORD_HEADER_SIZE as u64, record.length as usize)
    }

    /// Returns the next possible place of a header, from `offset` on.
    fn next_magic(&mut self, mut offset: u64) -> u64 {
        loop {
            let first = self.at(offset, 1).len();
            if first == 0 {
                return offset;
            }
            let start = usize::try_from(offset - self.window_offset).unwrap_or(usize::MAX);
            let rest = self.window.get(start..).unwrap_or_default();
            // Both magics begin with the same byte, which text never has, so it is compared first.
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

    /// Returns `length` bytes at `offset`, fewer at the end of the file. Unreadable bytes are zeros.
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

    /// Fills the window from `offset` on in small pieces, after a large read has failed.
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

    /// Returns the part of it that is in the window.
    fn peek(&self, offset: u64, length: usize) -> &[u8] {
        let start = usize::try_from(offset - self.window_offset).unwrap_or(usize::MAX).min(self.window.len());
        let end = start.saturating_add(length).min(self.window.len());
        self.window.get(start..end).unwrap_or_default()
    }
}
