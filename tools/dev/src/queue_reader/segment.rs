//! One segment: its header, its batches and its records, wherever they are whole.

use std::collections::BTreeMap;
use std::io;

use twox_hash::XxHash3_64;

use super::{Damage, ReadError};

/// The files of a queue's directory of segments.
pub trait Files {
    /// The manifest beside the directory; none if there is none.
    ///
    /// # Errors
    /// What the system says.
    fn manifest(&self) -> io::Result<Option<Vec<u8>>>;

    /// Their names.
    ///
    /// # Errors
    /// What the system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// All of one; none if it is gone.
    ///
    /// # Errors
    /// What the system says.
    fn read_all(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// A part of one.
    ///
    /// # Errors
    /// What the system says; a part that is not there is an error.
    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;
}

/// One use of a segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) sequence: u64,
    pub(super) salt: u64,
    pub(super) version: u32,
    pub(super) batches: Vec<Batch>,
    /// Whole records by offset.
    pub(super) records: BTreeMap<u32, Record>,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) number: u64,
    pub(super) records: u32,
    pub(super) worker: u32,
    pub(super) from: u64,
    pub(super) through: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chunk,
    Message,
    Done,
    Hold,
    Release,
    Progress,
    Other,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) is_held: bool,
    pub(super) length: u32,
    pub(super) envelope_length: u32,
    pub(super) part: u32,
    /// Sequence and offset of the record before this one; sequence 0: there is none.
    pub(super) previous: (u64, u32),
    pub(super) payload_sum: u64,
    pub(super) content_size: u64,
}

/// Bytes of a batch's or record's header.
pub(super) const HEADER: usize = 64;
/// Bytes of a segment's header; the first batch stands after them.
pub const FRONT: usize = 4096;
/// Batches and records stand at multiples of it.
const STEP: usize = 16;

pub(super) fn sum(octets: &[u8], seed: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, octets)
}

pub(super) fn u32_of(octets: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(octets[at..at + 4].try_into().expect("four bytes are four bytes"))
}

pub(super) fn u64_of(octets: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(octets[at..at + 8].try_into().expect("eight bytes are eight bytes"))
}

/// Reads a segment; none if it holds nothing, or nothing that can be read.
pub(super) fn scan(
    name: &str,
    octets: &[u8],
    damage: &mut Vec<Damage>,
) -> Result<Option<Segment>, ReadError> {
    let mut note = |offset, what| damage.push(Damage { name: name.to_owned(), offset, what });
    let front = &octets[..FRONT.min(octets.len())];
    if !front.is_empty() && front.iter().all(|octet| *octet == 0) {
        return Ok(None);
    }
    let is_whole =
        front.len() == FRONT && front.starts_with(b"MAILRACE") && sum(&front[..40], 0) == u64_of(front, 40);
    let version = if is_whole { u32_of(front, 8) } else { 0 };
    if version > 2 {
        return Err(ReadError::Version(name.to_owned(), version));
    }
    if !is_whole || (version == 2 && sum(&front[..56], 0) != u64_of(front, 56)) {
        note(0, "the header of the segment is damaged");
        return Ok(None);
    }
    if version == 2 && u64_of(front, 48) != 0 {
        return Err(ReadError::Version(name.to_owned(), version));
    }
    let (sequence, salt, size) = (u64_of(front, 16), u64_of(front, 24), u64_of(front, 32));
    if (octets.len() as u64) < size {
        note(octets.len() as u64, "the file is shorter than its header says");
    }
    let mut segment = Segment {
        name: name.to_owned(),
        sequence,
        salt,
        version,
        batches: Vec::new(),
        records: BTreeMap::new(),
    };
    let mut at = FRONT;
    while let Some(head) = octets.get(at..at + HEADER) {
        let offset = u32::try_from(at).map_err(|_| ReadError::Format("a segment is larger than 4 GiB"))?;
        let seed = salt ^ (at as u64).rotate_left(32);
        let has_sum = |head: &[u8]| sum(&head[..56], seed) == u64_of(head, 56);
        if head.starts_with(&[0xB7, 0x4D, 0x72, 0x42]) && has_sum(head) {
            segment.batches.push(Batch {
                offset,
                length: u32_of(head, 4),
                number: u64_of(head, 16),
                through: u64_of(head, 24),
                records: u32_of(head, 32),
                worker: u32_of(head, 36),
                from: u64_of(head, 40),
            });
            at += HEADER;
            continue;
        }
        if head.starts_with(&[0xB7, 0x4D, 0x72, 0x52]) && has_sum(head) {
            let length = u32_of(head, 16);
            let payload = octets.get(at + HEADER..).and_then(|rest| rest.get(..length as usize));
            if let Some(record) = payload.and_then(|payload| record(head, payload, salt)) {
                segment.records.insert(offset, record);
            }
            at = (at + HEADER + length as usize).next_multiple_of(STEP);
            continue;
        }
        at += STEP;
    }
    Ok(Some(segment))
}

/// The record of a whole header; none if its payload is not.
fn record(head: &[u8], payload: &[u8], salt: u64) -> Option<Record> {
    let payload_sum = u64_of(head, 40);
    if sum(payload, salt) != payload_sum {
        return None;
    }
    let kind = match (head[4], payload) {
        (b'C', _) => Kind::Chunk,
        (b'M', _) => Kind::Message,
        (b'K', [b'D', ..]) => Kind::Done,
        (b'K', [b'H', ..]) => Kind::Hold,
        (b'K', [b'R', ..]) => Kind::Release,
        (b'K', [b'S', ..]) => Kind::Progress,
        // Whole, and none of this version.
        _ => Kind::Other,
    };
    Some(Record {
        kind,
        id: u64_of(head, 8),
        is_held: head[5] == 1,
        length: u32_of(head, 16),
        envelope_length: u32_of(head, 20),
        part: u32_of(head, 24),
        previous: (u64_of(head, 32), u32_of(head, 28)),
        payload_sum,
        content_size: u64_of(head, 48),
    })
}

/// Start, end and id of every record whose header is whole in a segment's bytes, wherever it stands and whatever its
/// payload is.
#[must_use]
pub fn record_headers(octets: &[u8]) -> Vec<(usize, usize, u64)> {
    let Some(front) = octets.get(..FRONT).filter(|front| front.starts_with(b"MAILRACE")) else {
        return Vec::new();
    };
    let salt = u64_of(front, 24);
    let mut found = Vec::new();
    for at in (FRONT..octets.len()).step_by(STEP) {
        let Some(head) = octets.get(at..at + HEADER) else { break };
        let seed = salt ^ (at as u64).rotate_left(32);
        if head.starts_with(&[0xB7, 0x4D, 0x72, 0x52]) && sum(&head[..56], seed) == u64_of(head, 56) {
            let end = (at + HEADER + u32_of(head, 16) as usize).next_multiple_of(STEP);
            found.push((at, end, u64_of(head, 8)));
        }
    }
    found
}
