//! Which marks are needed: those without which a message would come back, or have another state.

use std::collections::{BTreeMap, BTreeSet};

use super::segment::Kind;
use super::{Place, Reading};

/// A last record of a message of which a mark in another segment speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Of this message.
    pub id: u64,
    /// Sequence of its segment.
    pub segment: u64,
    /// Sequences of the segments with a mark that is enough; for as long as the record is there one of them has to stay.
    pub marks: Vec<u64>,
}

impl Reading {
    /// What marks are needed for. Of a message that is done each copy would come back without one of the marks that say so;
    /// of another message the last copy has its state from the last mark after it.
    #[must_use]
    pub fn marked(&self) -> Vec<Marked> {
        let mut done: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let mut states: BTreeMap<u64, Place> = BTreeMap::new();
        for (place, record) in self.records() {
            match record.kind {
                Kind::Done => {
                    done.entry(record.id).or_default().insert(place.0);
                }
                Kind::Hold | Kind::Release => {
                    states.insert(record.id, place);
                }
                _ => {}
            }
        }
        let mut marked = Vec::new();
        for (place, record) in self.records() {
            let (id, segment) = (record.id, place.0);
            if record.kind == Kind::Message
                && let Some(marks) = done.get(&id).filter(|marks| !marks.contains(&segment))
                && self.chain(place, record).is_some()
            {
                marked.push(Marked { id, segment, marks: marks.iter().copied().collect() });
            }
        }
        for (id, found) in &self.messages {
            let last = found.chain.last();
            let mark = states.get(id);
            if let (Some(last), Some(mark)) = (last, mark)
                && mark > last
                && mark.0 != last.0
            {
                marked.push(Marked { id: *id, segment: last.0, marks: vec![mark.0] });
            }
        }
        marked
    }
}
