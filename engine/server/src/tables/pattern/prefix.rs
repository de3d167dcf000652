//! A quick look at what a text begins with: which patterns of a table can match it at all.
//!
//! Most patterns for header fields begin with `^Name:`. For the first bytes of a text a table says which patterns
//! allow each there; a pattern that all of them allow is a candidate. It costs eight lookups for 64 patterns, and
//! never rules out a pattern that would match.

use super::tree::{ByteSet, Node};

/// Bytes that are looked at.
const SIZE: usize = 8;
/// Patterns of one group: a bit each.
const GROUP: usize = 64;

/// Which patterns can match, by the front of a text.
#[derive(Debug, Default)]
pub(super) struct PrefixFilter {
    groups: Vec<Group>,
    patterns: usize,
}

/// For each place and byte, the patterns that allow it there.
#[derive(Debug)]
struct Group {
    allowed: Box<[[u64; 256]; SIZE]>,
    /// The patterns that allow the text to end before this place.
    ended: [u64; SIZE],
    /// The patterns that there are.
    patterns: u64,
}

impl PrefixFilter {
    /// Adds a pattern by its outline; without one it is always a candidate.
    pub(super) fn add(&mut self, outline: Option<&Node>) {
        if self.patterns.is_multiple_of(GROUP) {
            self.groups.push(Group { allowed: Box::new([[0; 256]; SIZE]), ended: [0; SIZE], patterns: 0 });
        }
        let bit = 1 << (self.patterns % GROUP);
        self.patterns += 1;
        let mut places = Vec::new();
        if let Some(outline) = outline.filter(|outline| outline.is_anchored()) {
            walk(outline, &mut places);
        }
        let Some(group) = self.groups.last_mut() else { return };
        group.patterns |= bit;
        for (index, (allowed, ended)) in group.allowed.iter_mut().zip(&mut group.ended).enumerate() {
            match places.get(index) {
                Some(place) => place.bytes().for_each(|byte| allowed[usize::from(byte)] |= bit),
                None => {
                    *ended |= bit;
                    allowed.iter_mut().for_each(|patterns| *patterns |= bit);
                }
            }
        }
    }

    /// The candidates among the patterns of the group with this number, a bit each.
    fn candidates_of(group: &Group, text: &[u8]) -> u64 {
        let mut candidates = u64::MAX;
        for (index, (allowed, ended)) in group.allowed.iter().zip(&group.ended).enumerate() {
            candidates &= match text.get(index) {
                Some(octet) => allowed[usize::from(*octet)],
                None => *ended,
            };
        }
        candidates
    }

    /// The candidates for a text.
    pub(super) fn candidates<'f>(&'f self, text: &'f [u8]) -> Candidates<'f> {
        Candidates { filter: self, text, group: usize::MAX, bits: 0 }
    }

    /// Whether any pattern is a candidate.
    pub(super) fn has_candidates(&self, text: &[u8]) -> bool {
        self.groups.iter().any(|group| Self::candidates_of(group, text) & group.patterns != 0)
    }
}

/// The candidates for one text, asked for in ascending order.
pub(super) struct Candidates<'f> {
    filter: &'f PrefixFilter,
    text: &'f [u8],
    group: usize,
    bits: u64,
}

impl Candidates<'_> {
    /// The candidates among the patterns of the group with this number, a bit each.
    pub(super) fn group(&mut self, group: usize) -> u64 {
        if group != self.group {
            self.group = group;
            self.bits = self
                .filter
                .groups
                .get(group)
                .map_or(0, |group| PrefixFilter::candidates_of(group, self.text) & group.patterns);
        }
        self.bits
    }
}

/// Appends what the pattern allows at each place, as far as every match has such a place. False: what follows is not
/// known.
fn walk(node: &Node, places: &mut Vec<ByteSet>) -> bool {
    if places.len() >= SIZE {
        return false;
    }
    match node {
        Node::Empty | Node::Place(_) => true,
        Node::Byte(set) => {
            places.push(*set);
            true
        }
        Node::Group(_, node) => walk(node, places),
        Node::Concat(nodes) => nodes.iter().all(|node| walk(node, places)),
        Node::Alternatives(nodes) => {
            let each = nodes.iter().map(|node| {
                let mut places = Vec::new();
                walk(node, &mut places);
                places
            });
            let common = each.reduce(|mut one, other| {
                one.truncate(other.len());
                for (set, others) in one.iter_mut().zip(&other) {
                    *set = set.union(*others);
                }
                one
            });
            places.extend(common.unwrap_or_default());
            false
        }
        Node::Repeat { node, min, max } => {
            let is_whole = *min == 0 || walk(node, places);
            *min == 1 && *max == Some(1) && is_whole
        }
        Node::BackReference(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::pattern::outline::outline;
    use crate::tables::pattern::pcre::Pcre;
    use crate::tables::pattern::rules::pcre_flags;
    use proptest::prelude::*;

    fn outline_of(pattern: &str) -> Node {
        outline(pattern.as_bytes(), false).unwrap()
    }

    #[test]
    fn rules_out_fields_with_another_name() {
        let mut filter = PrefixFilter::default();
        for pattern in ["^Subject: x", "^(To|Cc):", "anywhere", "^X-[ab]+:"] {
            filter.add(Some(&outline_of(pattern)));
        }
        let candidates = |text: &str| -> Vec<usize> {
            let bits = filter.candidates(text.as_bytes()).group(0);
            (0..4).filter(|pattern| bits & (1 << pattern) != 0).collect()
        };
        assert_eq!(candidates("SUBJECT: no"), [0, 2]);
        assert_eq!(candidates("to: x"), [1, 2]);
        assert_eq!(candidates("x-b"), [2, 3]);
        assert_eq!(candidates("Date"), [2]);
    }

    proptest! {
        #[test]
        fn never_rules_out_a_match(pattern in "\\^?(a|b|[ab]|(a|bc)|a\\+|b\\?|\\(a\\|b\\)\\*|.){0,6}", text in "[abc]{0,10}") {
            let Ok(compiled) = Pcre::new(pattern.as_bytes(), pcre_flags(b"").unwrap().0) else { return Ok(()) };
            let Some(outline) = outline(pattern.as_bytes(), false) else { return Ok(()) };
            let mut filter = PrefixFilter::default();
            filter.add(Some(&outline));
            if compiled.is_match(text.as_bytes()) == Ok(true) {
                prop_assert!(filter.candidates(text.as_bytes()).group(0) == 1, "{} {}", pattern, text);
            }
        }
    }
}
