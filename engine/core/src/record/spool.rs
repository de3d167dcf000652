//! Headers of the spool's segments, batches and records. All numbers are little-endian.

use twox_hash::XxHash3_64;

use crate::queue_id::QueueId;

/// Bytes of a segment's header block.
pub const SEGMENT_HEADER_SIZE: usize = 4096;
/// Bytes of a batch's header.
pub const BATCH_HEADER_SIZE: usize = 64;
/// Bytes of a record's header.
pub const RECORD_HEADER_SIZE: usize = 64;
/// Records and batches begin at multiples of this.
pub const RECORD_ALIGNMENT: usize = 16;
/// Version of the format that this module writes.
pub const FORMAT_VERSION: u32 = 2;
/// The first version of the format, which is read too.
pub const FORMAT_VERSION_1: u32 = 1;

/// First bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"MAILRACE";
/// First bytes of a batch.
pub const BATCH_MAGIC: [u8; 4] = [0xB7, b'M', b'r', b'B'];
/// First bytes of a record.
pub const RECORD_MAGIC: [u8; 4] = [0xB7, b'M', b'r', b'R'];

/// Returns the checksum of `bytes` with `seed`: XXH3, 64 bits.
#[must_use]
pub fn checksum(bytes: &[u8], seed: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// One use of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Unique in the queue directory, also among earlier uses of the same file; greater is later; not 0.
    pub sequence: u64,
    /// Seed of all checksums in this use. No sender of mail knows it.
    pub salt: u64,
    /// Size of the file in bytes.
    pub size: u64,
}

impl SegmentHeader {
    /// Returns the header block.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_SIZE] {
        let mut block = [0; SEGMENT_HEADER_SIZE];
        put(&mut block, 0, &SEGMENT_MAGIC);
        put(&mut block, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut block, 16, &self.sequence.to_le_bytes());
        put(&mut block, 24, &self.salt.to_le_bytes());
        put(&mut block, 32, &self.size.to_le_bytes());
        let sum = checksum(block.get(..40).unwrap_or_default(), 0);
        put(&mut block, 40, &sum.to_le_bytes());
        let sum = checksum(block.get(..56).unwrap_or_default(), 0);
        put(&mut block, 56, &sum.to_le_bytes());
        block
    }

    /// Reads a header block.
    ///
    /// # Errors
    /// [`SegmentError`]: the file is no segment, has another version, or is damaged.
    pub fn decode(block: &[u8]) -> Result<Self, SegmentError> {
        if block.get(..8) != Some(&SEGMENT_MAGIC) {
            return Err(SegmentError::NotASegment);
        }
        // This comes before the version, because another program could not read a damaged header either.
        let sum = checksum(block.get(..40).ok_or(SegmentError::NotASegment)?, 0);
        if u64_at(block, 40) != Some(sum) {
            return Err(SegmentError::Damaged);
        }
        let version = u32_at(block, 8).ok_or(SegmentError::NotASegment)?;
        let field = |place| u64_at(block, place).ok_or(SegmentError::NotASegment);
        match version {
            FORMAT_VERSION_1 => {}
            FORMAT_VERSION => {
                let sum = checksum(block.get(..56).ok_or(SegmentError::NotASegment)?, 0);
                if field(56)? != sum {
                    return Err(SegmentError::Damaged);
                }
                let features = field(48)?;
                if features != 0 {
                    return Err(SegmentError::Features(features));
                }
            }
            _ => return Err(SegmentError::Version(version)),
        }
        Ok(Self { sequence: field(16)?, salt: field(24)?, size: field(32)? })
    }
}

/// Reasons why a block is no header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentError {
    /// It has no magic number.
    NotASegment,
    /// It has another version.
    Version(u32),
    /// A program must know these features to read it.
    Features(u64),
    /// Its checksum is invalid.
    Damaged,
}

/// Header of a batch, the content of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes from this header to the next batch, including padding.
    pub length: u32,
    /// Records in it.
    pub records: u32,
    /// The worker that wrote it.
    pub worker: u32,
    /// Sequence of the segment.
    pub sequence: u64,
    /// Counts the worker's batches over all segments.
    pub number: u64,
    /// When this one was started, all of the worker's batches from `durable_from` to `durable_through` were known to be
    /// durable; none if that is less.
    pub durable_from: u64,
    /// The last of them.
    pub durable_through: u64,
}

impl BatchHeader {
    /// Returns the header of a batch at `offset` of a segment with `salt`.
    #[must_use]
    pub fn encode(&self, salt: u64, offset: u64) -> [u8; BATCH_HEADER_SIZE] {
        let mut header = [0; BATCH_HEADER_SIZE];
        put(&mut header, 0, &BATCH_MAGIC);
        put(&mut header, 4, &self.length.to_le_bytes());
        put(&mut header, 8, &self.sequence.to_le_bytes());
        put(&mut header, 16, &self.number.to_le_bytes());
        put(&mut header, 24, &self.durable_through.to_le_bytes());
        put(&mut header, 32, &self.records.to_le_bytes());
        put(&mut header, 36, &self.worker.to_le_bytes());
        put(&mut header, 40, &self.durable_from.to_le_bytes());
        seal(&mut header, salt, offset);
        header
    }

    /// Reads a header at `offset`; `None` unless it was written there, in this use of the segment.
    #[must_use]
    pub fn decode(octets: &[u8], salt: u64, offset: u64) -> Option<Self> {
        let header = sealed(octets, BATCH_MAGIC, salt, offset)?;
        Some(Self {
            length: u32_at(header, 4)?,
            sequence: u64_at(header, 8)?,
            number: u64_at(header, 16)?,
            durable_from: u64_at(header, 40)?,
            durable_through: u64_at(header, 24)?,
            records: u32_at(header, 32)?,
            worker: u32_at(header, 36)?,
        })
    }
}

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A piece of a message's content, not the last.
    Chunk,
    /// The envelope and the last piece of a message's content: with it the message exists.
    Message,
    /// A change of a message's state, as [`Noted`] reads it.
    Mark,
    /// A kind of a later release, which is skipped.
    Other(u8),
}

/// A change of a queued message as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is out of the queue.
    Done,
    /// It is put on hold.
    Hold,
    /// It is released.
    Release,
}

impl Mark {
    /// Returns its byte in a record.
    #[must_use]
    pub const fn octet(self) -> u8 {
        match self {
            Self::Done => b'D',
            Self::Hold => b'H',
            Self::Release => b'R',
        }
    }

    /// Returns the mark with this byte.
    #[must_use]
    pub const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            b'D' => Some(Self::Done),
            b'H' => Some(Self::Hold),
            b'R' => Some(Self::Release),
            _ => None,
        }
    }
}

/// What a mark says, of those that this release knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted<'a> {
    /// What became of the message as a whole.
    Mark(Mark),
    /// What became of its recipients, as [`super::delivery::Progress`] encodes it.
    Progress(&'a [u8]),
}

impl<'a> Noted<'a> {
    /// First byte of a mark with the progress of a message.
    pub const PROGRESS: u8 = b'S';

    /// Reads the payload of a mark. `None`: it is of a later release.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (verb, rest) = payload.split_first()?;
        match *verb {
            Self::PROGRESS => Some(Self::Progress(rest)),
            verb => Mark::from_octet(verb).map(Self::Mark),
        }
    }
}

/// Place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Sequence of the segment.
    pub sequence: u64,
    /// Offset of the record's header in the segment, in bytes.
    pub offset: u32,
}

/// Header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its kind.
    pub kind: RecordKind,
    /// The message was on hold when this was written; only marks after the record change that.
    pub is_held: bool,
    /// The message.
    pub id: QueueId,
    /// Bytes of payload.
    pub length: u32,
    /// Bytes of the envelope at the front of a [`RecordKind::Message`]'s payload.
    pub envelope_length: u32,
    /// Counts the message's records from 0.
    pub part: u32,
    /// The message's record before this one.
    pub previous: Option<Location>,
    /// Checksum of the payload with the segment's salt.
    pub payload_checksum: u64,
    /// Bytes of the message's content up to the end of this record.
    pub content_size: u64,
}

impl RecordHeader {
    /// Returns the header of a record at `offset` of a segment with `salt`.
    #[must_use]
    pub fn encode(&self, salt: u64, offset: u64) -> [u8; RECORD_HEADER_SIZE] {
        let mut header = [0; RECORD_HEADER_SIZE];
        let kind = match self.kind {
            RecordKind::Chunk => b'C',
            RecordKind::Message => b'M',
            RecordKind::Mark => b'K',
            RecordKind::Other(octet) => octet,
        };
        let previous = self.previous.unwrap_or(Location { sequence: 0, offset: 0 });
        put(&mut header, 0, &RECORD_MAGIC);
        put(&mut header, 4, &[kind, u8::from(self.is_held)]);
        put(&mut header, 8, &self.id.number().to_le_bytes());
        put(&mut header, 16, &self.length.to_le_bytes());
        put(&mut header, 20, &self.envelope_length.to_le_bytes());
        put(&mut header, 24, &self.part.to_le_bytes());
        put(&mut header, 28, &previous.offset.to_le_bytes());
        put(&mut header, 32, &previous.sequence.to_le_bytes());
        put(&mut header, 40, &self.payload_checksum.to_le_bytes());
        put(&mut header, 48, &self.content_size.to_le_bytes());
        seal(&mut header, salt, offset);
        header
    }

    /// Reads a header at `offset`; `None` unless it was written there, in this use of the segment.
    #[must_use]
    pub fn decode(octets: &[u8], salt: u64, offset: u64) -> Option<Self> {
        let header = sealed(octets, RECORD_MAGIC, salt, offset)?;
        let kind = match header.get(4)? {
            b'C' => RecordKind::Chunk,
            b'M' => RecordKind::Message,
            b'K' => RecordKind::Mark,
            octet => RecordKind::Other(*octet),
        };
        let previous = Location { sequence: u64_at(header, 32)?, offset: u32_at(header, 28)? };
        let length = u32_at(header, 16)?;
        let envelope_length = u32_at(header, 20)?;
        if envelope_length > length {
            return None;
        }
        Some(Self {
            kind,
            is_held: *header.get(5)? == 1,
            id: QueueId::from_number(u64_at(header, 8)?),
            length,
            envelope_length,
            part: u32_at(header, 24)?,
            previous: (previous.sequence != 0).then_some(previous),
            payload_checksum: u64_at(header, 40)?,
            content_size: u64_at(header, 48)?,
        })
    }

    /// Bytes from this header to the next record.
    #[must_use]
    pub const fn size(&self) -> usize {
        record_size(self.length as usize)
    }
}

/// Returns the bytes of a record with this many bytes of payload: header, payload, padding.
#[must_use]
pub const fn record_size(payload: usize) -> usize {
    RECORD_HEADER_SIZE + payload.next_multiple_of(RECORD_ALIGNMENT)
}

/// Offset of a header's own checksum.
const SEAL: usize = 56;

/// The offset is part of the seed, so a header that a disk wrote to another place is invalid there.
const fn header_seed(salt: u64, offset: u64) -> u64 {
    salt ^ offset.rotate_left(32)
}

fn seal(header: &mut [u8; 64], salt: u64, offset: u64) {
    let sum = checksum(header.get(..SEAL).unwrap_or_default(), header_seed(salt, offset));
    put(header, SEAL, &sum.to_le_bytes());
}

fn sealed(octets: &[u8], magic: [u8; 4], salt: u64, offset: u64) -> Option<&[u8]> {
    let header = octets.get(..64)?;
    if header.get(..4)? != magic {
        return None;
    }
    let sum = checksum(header.get(..SEAL)?, header_seed(salt, offset));
    (u64_at(header, SEAL)? == sum).then_some(header)
}

pub(super) fn put(octets: &mut [u8], place: usize, value: &[u8]) {
    let target = octets.get_mut(place..place + value.len());
    target.expect("a field lies in its header").copy_from_slice(value);
}

fn array_at<const SIZE: usize>(octets: &[u8], place: usize) -> Option<[u8; SIZE]> {
    octets.get(place..place + SIZE)?.try_into().ok()
}

pub(super) fn u32_at(octets: &[u8], place: usize) -> Option<u32> {
    array_at(octets, place).map(u32::from_le_bytes)
}

pub(super) fn u64_at(octets: &[u8], place: usize) -> Option<u64> {
    array_at(octets, place).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RecordHeader {
        RecordHeader {
            kind: RecordKind::Message,
            is_held: true,
            id: QueueId::from_number(0x1122_3344_5566_7788),
            length: 4711,
            envelope_length: 300,
            part: 2,
            previous: Some(Location { sequence: 7, offset: 8192 }),
            payload_checksum: 99,
            content_size: 123_456,
        }
    }

    #[test]
    fn headers_round_trip() {
        let segment = SegmentHeader { sequence: 9, salt: 77, size: 1 << 26 };
        assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment));
        let batch = BatchHeader {
            length: 8192,
            records: 2,
            worker: 1,
            sequence: 9,
            number: 5,
            durable_from: 2,
            durable_through: 3,
        };
        assert_eq!(BatchHeader::decode(&batch.encode(1, 4096), 1, 4096), Some(batch));
        assert_eq!(RecordHeader::decode(&record().encode(1, 4160), 1, 4160), Some(record()));
    }

    #[test]
    fn the_checksum_is_xxh3() {
        // From the reference implementation's command: xxhsum -H3.
        assert_eq!(checksum(b"", 0), 0x2d06_8005_38d3_94c2);
        assert_eq!(checksum(b"abc", 0), 0x78af_5f94_892f_3950);
    }

    #[test]
    fn rejects_a_header_from_another_offset_use_or_content() {
        let octets = record().encode(1, 4160);
        assert_eq!(RecordHeader::decode(&octets, 2, 4160), None);
        assert_eq!(RecordHeader::decode(&octets, 1, 4176), None);
        for place in 0..octets.len() {
            let mut damaged = octets;
            damaged[place] ^= 1;
            assert_eq!(RecordHeader::decode(&damaged, 1, 4160), None, "byte {place}");
        }
        let mut block = SegmentHeader { sequence: 9, salt: 77, size: 1 << 26 }.encode();
        block[20] ^= 1;
        assert_eq!(SegmentHeader::decode(&block), Err(SegmentError::Damaged));
        block[20] ^= 1;
        block[8] = 9;
        assert_eq!(SegmentHeader::decode(&block), Err(SegmentError::Damaged), "no other version");
        let sum = checksum(&block[..40], 0);
        put(&mut block, 40, &sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(SegmentError::Version(9)));
    }

    #[test]
    fn reads_segments_of_version_1() {
        let segment = SegmentHeader { sequence: 9, salt: 77, size: 1 << 26 };
        let mut block = segment.encode();
        block[8] = 1;
        let sum = checksum(&block[..40], 0);
        put(&mut block, 40, &sum.to_le_bytes());
        block[48..64].fill(0);
        assert_eq!(SegmentHeader::decode(&block), Ok(segment));
    }

    #[test]
    fn refuses_segments_with_unknown_features() {
        let mut block = SegmentHeader { sequence: 9, salt: 77, size: 1 << 26 }.encode();
        block[48] = 1;
        assert_eq!(SegmentHeader::decode(&block), Err(SegmentError::Damaged));
        let sum = checksum(&block[..56], 0);
        put(&mut block, 56, &sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(SegmentError::Features(1)));
    }

    #[test]
    fn records_of_a_later_release_have_a_size() {
        let mut later = record();
        later.kind = RecordKind::Other(b'S');
        let read = RecordHeader::decode(&later.encode(1, 4160), 1, 4160).unwrap();
        assert_eq!((read, read.size()), (later, record().size()));
    }
}
