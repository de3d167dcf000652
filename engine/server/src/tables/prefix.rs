//! Owns a quick look at what a text begins with: which patterns of a table can match it at all.
//!
//! Most patterns for header fields begin with `^Name:`. For the first octets of a text a table says which patterns
//! allow each there; a pattern that all of them allow is a candidate. It costs eight lookups for 64 patterns, and
//! never rules out a pattern that would match.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Octets that are looked at.
const SIZE: usize = 8;
/// Patterns of one group: a bit each.
const GROUP: usize = 64;

/// Which patterns can match, by the front of a text.
#[derive(Debug, Default)]
pub(super) struct PrefixFilter {
    groups: Vec<Group>,
    patterns: usize,
}

/// For each place and octet, the patterns that allow it there.
#[derive(Debug)]
struct Group {
    allowed: Box<[[u64; 256]; SIZE]>,
    /// The patterns that allow the text to end before this place.
    ended: [u64; SIZE],
    /// The patterns that there are.
    patterns: u64,
}

/// What a pattern allows at one place.
type OctetBits = [bool; 256];

impl PrefixFilter {
    /// Adds a pattern; without `hir` it is always a candidate.
    pub(super) fn add(&mut self, hir: Option<&Hir>) {
        if self.patterns.is_multiple_of(GROUP) {
            self.groups.push(Group { allowed: Box::new([[0; 256]; SIZE]), ended: [0; SIZE], patterns: 0 });
        }
        let bit = 1 << (self.patterns % GROUP);
        self.patterns += 1;
        let mut places = Vec::new();
        if let Some(hir) = hir.filter(|hir| hir.properties().look_set_prefix().contains(Look::Start)) {
            walk(hir, &mut places);
        }
        let Some(group) = self.groups.last_mut() else { return };
        group.patterns |= bit;
        for (index, (allowed, ended)) in group.allowed.iter_mut().zip(&mut group.ended).enumerate() {
            let place = places.get(index);
            if place.is_none() {
                *ended |= bit;
            }
            for (octet, patterns) in allowed.iter_mut().enumerate() {
                if place.is_none_or(|place| place[octet]) {
                    *patterns |= bit;
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
    /// Whether the pattern with this number is one.
    pub(super) fn has(&mut self, pattern: usize) -> bool {
        let group = pattern / GROUP;
        if group != self.group {
            self.group = group;
            let group = self.filter.groups.get(group);
            self.bits = group.map_or(u64::MAX, |group| PrefixFilter::candidates_of(group, self.text));
        }
        self.bits & (1 << (pattern % GROUP)) != 0
    }
}

/// Appends what the pattern allows at each place, as far as every match has such a place. False: what follows is not
/// known.
fn walk(hir: &Hir, places: &mut Vec<OctetBits>) -> bool {
    if places.len() >= SIZE {
        return false;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => {
            places.extend(literal.0.iter().map(|octet| {
                let mut bits = [false; 256];
                bits[usize::from(*octet)] = true;
                bits
            }));
            true
        }
        HirKind::Class(Class::Bytes(class)) => {
            let mut bits = [false; 256];
            for range in class.ranges() {
                (range.start()..=range.end()).for_each(|octet| bits[usize::from(octet)] = true);
            }
            places.push(bits);
            true
        }
        HirKind::Class(Class::Unicode(_)) => false,
        HirKind::Capture(capture) => walk(&capture.sub, places),
        HirKind::Concat(parts) => parts.iter().all(|part| walk(part, places)),
        HirKind::Alternation(parts) => {
            let each = parts.iter().map(|part| {
                let mut places = Vec::new();
                walk(part, &mut places);
                places
            });
            let common = each.reduce(|mut one, other| {
                one.truncate(other.len());
                for (bits, others) in one.iter_mut().zip(&other) {
                    bits.iter_mut().zip(others).for_each(|(bit, other)| *bit |= other);
                }
                one
            });
            places.extend(common.unwrap_or_default());
            false
        }
        HirKind::Repetition(repetition) => {
            if repetition.min > 0 {
                walk(&repetition.sub, places);
            }
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::bytes::RegexBuilder;

    fn hir(pattern: &str) -> Hir {
        regex_syntax::ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .case_insensitive(true)
            .build()
            .parse(pattern)
            .unwrap()
    }

    #[test]
    fn fields_of_another_name_are_ruled_out() {
        let mut filter = PrefixFilter::default();
        for pattern in ["^Subject: x", "^(To|Cc):", "anywhere", "^X-[ab]+:"] {
            filter.add(Some(&hir(pattern)));
        }
        let candidates = |text: &str| -> Vec<usize> {
            let mut candidates = filter.candidates(text.as_bytes());
            (0..4).filter(|pattern| candidates.has(*pattern)).collect()
        };
        assert_eq!(candidates("SUBJECT: no"), [0, 2]);
        assert_eq!(candidates("to: x"), [1, 2]);
        assert_eq!(candidates("x-b"), [2, 3]);
        assert_eq!(candidates("Date"), [2]);
    }

    proptest! {
        #[test]
        fn no_match_is_ruled_out(pattern in "\\^?(a|b|[ab]|(a|bc)|a\\+|b\\?|\\(a\\|b\\)\\*|.){0,6}", text in "[abc]{0,10}") {
            let Ok(regex) = RegexBuilder::new(&pattern).unicode(false).case_insensitive(true).build() else {
                return Ok(());
            };
            let mut filter = PrefixFilter::default();
            filter.add(Some(&hir(&pattern)));
            if regex.is_match(text.as_bytes()) {
                prop_assert!(filter.candidates(text.as_bytes()).has(0), "{} {}", pattern, text);
            }
        }
    }
}
