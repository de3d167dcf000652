//! The manifest: which uses of segments there are, and how far they are filled.

use super::ReadError;
use super::segment::{sum, u32_of, u64_of};

/// The slot that counts.
#[derive(Debug)]
pub(super) struct Manifest {
    generation: u64,
    pub(super) next_sequence: u64,
    pub(super) entries: Vec<Entry>,
}

/// One use of a segment.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) salt: u64,
    pub(super) end: u64,
    pub(super) whole: u64,
    /// `O`, `C`, `E` or `L`.
    pub(super) state: u8,
    pub(super) name: String,
}

const NAME: &str = "manifest";
const HEAD: usize = 64;
const ENTRY: usize = 128;

impl Manifest {
    /// Reads both slots; none if none is whole.
    pub(super) fn read(octets: &[u8]) -> Result<Option<Self>, ReadError> {
        let mut newest: Option<Self> = None;
        for at in [0, octets.len() / 2] {
            let slot = slot(&octets[at..])?;
            if let Some(slot) = slot
                && newest.as_ref().is_none_or(|newest| newest.generation < slot.generation)
            {
                newest = Some(slot);
            }
        }
        Ok(newest)
    }

    pub(super) fn entry(&self, sequence: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.sequence == sequence)
    }
}

/// Whether a file's bytes are those of a manifest, as far as one of its slots shows.
#[must_use]
pub fn is_manifest(octets: &[u8]) -> bool {
    [0, octets.len() / 2].into_iter().any(|at| octets[at..].starts_with(b"MAILRMAN"))
}

fn slot(octets: &[u8]) -> Result<Option<Manifest>, ReadError> {
    let Some(head) = octets.get(..HEAD).filter(|head| head.starts_with(b"MAILRMAN")) else {
        return Ok(None);
    };
    let count = u32_of(head, 20) as usize;
    let Some(summed) = octets.get(16..HEAD.saturating_add(count.saturating_mul(ENTRY))) else {
        return Ok(None);
    };
    if sum(summed, 0) != u64_of(head, 8) {
        return Ok(None);
    }
    if u32_of(head, 16) != 2 || u64_of(head, 40) != 0 {
        return Err(ReadError::Version(NAME.to_owned(), u32_of(head, 16)));
    }
    let entries = octets[HEAD..HEAD + count * ENTRY].chunks_exact(ENTRY).map(|entry| {
        let length = usize::from(entry[49]).min(64);
        Entry {
            sequence: u64_of(entry, 0),
            salt: u64_of(entry, 8),
            end: u64_of(entry, 24),
            whole: u64_of(entry, 40),
            state: entry[48],
            name: String::from_utf8_lossy(&entry[64..64 + length]).into_owned(),
        }
    });
    let entries = entries.collect();
    Ok(Some(Manifest { generation: u64_of(head, 24), next_sequence: u64_of(head, 32), entries }))
}
