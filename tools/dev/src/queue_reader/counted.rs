//! Which records the manifest counts: those of which a start must say that they are gone.

use std::collections::BTreeMap;
use std::fmt;

use super::{Reading, id_text};

/// Records that were whole and counted, by sequence and salt of their segment.
#[derive(Debug, Default)]
pub struct Counted(BTreeMap<(u64, u64), Use>);

#[derive(Debug)]
struct Use {
    name: String,
    /// Offset and id of each.
    records: Vec<(u32, u64)>,
}

impl Counted {
    /// Counts more: what was counted before still is.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// A record that was counted and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// File name in the directory of segments.
    pub name: String,
    /// Bytes from its start.
    pub offset: u64,
    /// Of this message.
    pub id: u64,
}

impl fmt::Display for Gone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a record of {} in {} at {}", id_text(self.id), self.name, self.offset)
    }
}

impl Reading {
    /// What the manifest counts.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let mut counted = BTreeMap::new();
        for segment in self.segments.values() {
            let entry = self.manifest.as_ref().and_then(|manifest| manifest.entry(segment.sequence));
            let entry =
                entry.filter(|entry| entry.salt == segment.salt && matches!(entry.state, b'O' | b'C'));
            let Some(entry) = entry else { continue };
            let before = segment.records.iter().filter(|(offset, _)| u64::from(**offset) < entry.end);
            let records: Vec<(u32, u64)> = before.map(|(offset, record)| (*offset, record.id)).collect();
            if records.len() as u64 == entry.whole {
                let name = segment.name.clone();
                counted.insert((segment.sequence, segment.salt), Use { name, records });
            }
        }
        Counted(counted)
    }

    /// What was counted, is not there, and was not emptied.
    #[must_use]
    pub fn gone_since(&self, counted: &Counted) -> Vec<Gone> {
        let Some(manifest) = &self.manifest else { return Vec::new() };
        let mut gone = Vec::new();
        for ((sequence, salt), used) in &counted.0 {
            let entry = manifest.entry(*sequence).filter(|entry| entry.salt == *salt && entry.state != b'E');
            if entry.is_none() {
                continue;
            }
            let segment = self.segments.get(sequence).filter(|segment| segment.salt == *salt);
            let is_there = |offset| segment.is_some_and(|segment| segment.records.contains_key(&offset));
            let missing = used.records.iter().filter(|(offset, _)| !is_there(*offset));
            gone.extend(missing.map(|(offset, id)| Gone {
                name: used.name.clone(),
                offset: u64::from(*offset),
                id: *id,
            }));
        }
        gone
    }
}
