//! Reading constant databases (cdb) as postmap(1) writes them: all entries, in the order of the file.

use super::lmdb::without_nul;
use super::string_table::StringTable;
use super::{Spec, TableError};

/// Bytes of the directory in front: 256 hash tables, a position and a number of slots each.
const DIRECTORY_SIZE: usize = 2048;

/// The table in a file.
pub(super) fn table(spec: &Spec<'_>, file: &[u8]) -> Result<StringTable, TableError> {
    entries(file).ok_or_else(|| {
        let reason = format!("{} is no constant database, or is damaged", spec.path().display());
        spec.error(reason, "create it with postmap")
    })
}

fn entries(file: &[u8]) -> Option<StringTable> {
    let word = |at: usize| {
        let octets = file.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*octets)).ok()
    };
    // Entries end where the first hash table begins.
    let places = (0..DIRECTORY_SIZE).step_by(8).map(word);
    let end = places.collect::<Option<Vec<usize>>>()?.into_iter().min()?;
    let slots: usize = (4..DIRECTORY_SIZE).step_by(8).filter_map(word).sum();
    if end < DIRECTORY_SIZE || end > file.len() || slots > file.len() {
        return None;
    }
    let mut table = StringTable::with_capacity(slots / 2, end);
    let mut at = DIRECTORY_SIZE;
    while at < end {
        let key = at + 8;
        let value = key.checked_add(word(at)?)?;
        let next = value.checked_add(word(at + 4)?)?;
        if next > end {
            return None;
        }
        table.insert(without_nul(file.get(key..value)?), without_nul(file.get(value..next)?));
        at = next;
    }
    Some(table)
}
