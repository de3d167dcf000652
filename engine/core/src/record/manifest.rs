//! The manifest of a queue: which segments are in use, and how far each is filled. All numbers are little-endian.
//!
//! It says what the files alone cannot: that a segment existed which is gone now, that one has fewer records than
//! it had, that an apparent segment was emptied long ago. `docs/queue-format.md` has the layout.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::spool::{FORMAT_VERSION, SegmentHeader, checksum, put, u32_at, u64_at};

/// Bytes of a slot's header.
pub const SLOT_HEADER_SIZE: usize = 64;
/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 128;
/// Longest name of a segment in an entry, in bytes.
pub const NAME_SIZE_MAX: usize = 64;

/// First bytes of a slot.
const MAGIC: [u8; 8] = *b"MAILRMAN";
/// Start of the bytes that the checksum covers.
const COVERED: usize = 16;

/// State of a use of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// It is written, or the engine that wrote it was killed.
    Open,
    /// No record follows its end.
    Closed,
    /// None of its messages is in the queue.
    Emptied,
    /// A start did not find it.
    Lost,
}

/// One use of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its header.
    pub header: SegmentHeader,
    /// Offset in bytes from which nothing was complete.
    pub end: u64,
    /// Number of complete records before that.
    pub records: u64,
    /// Number of them that were still complete at the last start.
    pub whole: u64,
    /// Its state.
    pub state: EntryState,
    /// Its file in the directory of segments; empty if the name has more than [`NAME_SIZE_MAX`] bytes.
    pub name: String,
}

/// The segments of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Greater is later; 0 before the first was written.
    pub generation: u64,
    /// Greater than the sequence of every segment that was ever listed.
    pub next_sequence: u64,
    /// One for each use, in no order.
    pub entries: Vec<Entry>,
}

/// Reasons why bytes are no valid slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotError {
    /// Its header is all zeros: it was never written.
    Blank,
    /// Its checksum is invalid, or its content is impossible.
    Damaged,
    /// It has another version.
    Version(u32),
    /// A program must know these features to read it.
    Features(u64),
}

/// Bytes of a slot with this number of entries.
#[must_use]
pub const fn slot_size(entries: usize) -> usize {
    SLOT_HEADER_SIZE + entries * ENTRY_SIZE
}

impl Manifest {
    /// A slot's bytes.
    ///
    /// # Panics
    /// With more than 2^32 entries.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut slot = vec![0; slot_size(self.entries.len())];
        let count = u32::try_from(self.entries.len()).expect("a queue has fewer segments than 2^32");
        put(&mut slot, 0, &MAGIC);
        put(&mut slot, 16, &FORMAT_VERSION.to_le_bytes());
        put(&mut slot, 20, &count.to_le_bytes());
        put(&mut slot, 24, &self.generation.to_le_bytes());
        put(&mut slot, 32, &self.next_sequence.to_le_bytes());
        for (index, entry) in self.entries.iter().enumerate() {
            entry.encode(slot.get_mut(slot_size(index)..).unwrap_or_default());
        }
        let sum = checksum(slot.get(COVERED..).unwrap_or_default(), 0);
        put(&mut slot, 8, &sum.to_le_bytes());
        slot
    }

    /// Reads a slot; bytes after its last entry are ignored.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn decode(slot: &[u8]) -> Result<Self, SlotError> {
        let header = slot.get(..SLOT_HEADER_SIZE).ok_or(SlotError::Damaged)?;
        if header.iter().all(|byte| *byte == 0) {
            return Err(SlotError::Blank);
        }
        if header.get(..8) != Some(&MAGIC) {
            return Err(SlotError::Damaged);
        }
        let field = |place| u64_at(header, place).ok_or(SlotError::Damaged);
        let count = u32_at(header, 20).and_then(|count| usize::try_from(count).ok());
        let size = count.and_then(|count| count.checked_mul(ENTRY_SIZE)?.checked_add(SLOT_HEADER_SIZE));
        let slot = size.and_then(|size| slot.get(..size)).ok_or(SlotError::Damaged)?;
        if field(8)? != checksum(slot.get(COVERED..).unwrap_or_default(), 0) {
            return Err(SlotError::Damaged);
        }
        let version = u32_at(header, 16).ok_or(SlotError::Damaged)?;
        if version != FORMAT_VERSION {
            return Err(SlotError::Version(version));
        }
        let features = field(40)?;
        if features != 0 {
            return Err(SlotError::Features(features));
        }
        let entries = slot.get(SLOT_HEADER_SIZE..).unwrap_or_default().chunks_exact(ENTRY_SIZE);
        let entries = entries.map(|entry| Entry::decode(entry).ok_or(SlotError::Damaged));
        Ok(Self {
            generation: field(24)?,
            next_sequence: field(32)?,
            entries: entries.collect::<Result<_, _>>()?,
        })
    }
}

impl Entry {
    fn encode(&self, out: &mut [u8]) {
        let numbers =
            [self.header.sequence, self.header.salt, self.header.size, self.end, self.records, self.whole];
        for (index, number) in numbers.into_iter().enumerate() {
            put(out, index * 8, &number.to_le_bytes());
        }
        let state = match self.state {
            EntryState::Open => b'O',
            EntryState::Closed => b'C',
            EntryState::Emptied => b'E',
            EntryState::Lost => b'L',
        };
        let name = if self.name.len() > NAME_SIZE_MAX { "" } else { self.name.as_str() };
        put(out, 48, &[state, u8::try_from(name.len()).expect("a name has at most NAME_SIZE_MAX bytes")]);
        put(out, 64, name.as_bytes());
    }

    fn decode(entry: &[u8]) -> Option<Self> {
        let state = match entry.get(48)? {
            b'O' => EntryState::Open,
            b'C' => EntryState::Closed,
            b'E' => EntryState::Emptied,
            b'L' => EntryState::Lost,
            _ => return None,
        };
        let length = usize::from(*entry.get(49)?);
        let name = entry.get(64..)?.get(..length)?;
        Some(Self {
            header: SegmentHeader {
                sequence: u64_at(entry, 0)?,
                salt: u64_at(entry, 8)?,
                size: u64_at(entry, 16)?,
            },
            end: u64_at(entry, 24)?,
            records: u64_at(entry, 32)?,
            whole: u64_at(entry, 40)?,
            state,
            name: core::str::from_utf8(name).ok()?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = |sequence, state, name: &str| Entry {
            header: SegmentHeader { sequence, salt: sequence ^ 0x5555, size: 1 << 26 },
            end: 8192 * sequence,
            records: 10 + sequence,
            whole: 10,
            state,
            name: name.into(),
        };
        Manifest {
            generation: 7,
            next_sequence: 5,
            entries: vec![
                entry(1, EntryState::Open, "0000000001.seg"),
                entry(2, EntryState::Closed, "named by hand.seg"),
                entry(3, EntryState::Emptied, ""),
                entry(4, EntryState::Lost, "0000000003.seg"),
            ],
        }
    }

    #[test]
    fn a_slot_round_trips_whatever_follows_it() {
        let mut slot = manifest().encode();
        assert_eq!(slot.len(), slot_size(4));
        assert_eq!(Manifest::decode(&slot), Ok(manifest()));
        slot.extend_from_slice(&[9; 300]);
        assert_eq!(Manifest::decode(&slot), Ok(manifest()));
        assert_eq!(Manifest::decode(&Manifest::default().encode()), Ok(Manifest::default()));
    }

    #[test]
    fn changing_any_byte_damages_a_slot() {
        let slot = manifest().encode();
        for place in 0..slot.len() {
            let mut damaged = slot.clone();
            damaged[place] ^= 1;
            assert_eq!(Manifest::decode(&damaged), Err(SlotError::Damaged), "byte {place}");
        }
        assert_eq!(Manifest::decode(&slot[..slot.len() - 1]), Err(SlotError::Damaged));
        assert_eq!(Manifest::decode(&[0; 4096]), Err(SlotError::Blank));
        assert_eq!(Manifest::decode(&[]), Err(SlotError::Damaged));
    }

    #[test]
    fn a_slot_of_a_later_release_is_not_used() {
        for (place, expected) in [(16, SlotError::Version(3)), (40, SlotError::Features(1))] {
            let mut slot = manifest().encode();
            slot[place] += 1;
            let sum = checksum(&slot[COVERED..], 0);
            put(&mut slot, 8, &sum.to_le_bytes());
            assert_eq!(Manifest::decode(&slot), Err(expected));
        }
    }

    #[test]
    fn omits_a_name_that_is_too_long() {
        let mut long = manifest();
        long.entries.iter_mut().for_each(|entry| entry.name = "x".repeat(NAME_SIZE_MAX + 1));
        let read = Manifest::decode(&long.encode()).unwrap();
        assert!(read.entries.iter().all(|entry| entry.name.is_empty()));
    }
}
