//! Which rules of a table can match a text at all: a few looks at the text instead of a search for each rule.
//!
//! All of it works on outlines, which match wherever their patterns do: no rule is left out that would match. Most
//! patterns for header fields begin with `^Name:`, and most others need some word in the text.

use aho_corasick::{AhoCorasick, MatchKind};
use bumpalo::Bump;

use super::prefix::PrefixFilter;
use super::set::PatternSet;
use super::tree::Node;

/// The patterns of a table, by number.
#[derive(Debug, Default)]
pub(super) struct Filter {
    prefix: PrefixFilter,
    words: Option<Words>,
    /// All patterns of a small table at once, if no rule counts where its pattern does not match.
    any: Option<PatternSet>,
}

/// Words of which patterns need one.
#[derive(Debug)]
struct Words {
    search: AhoCorasick,
    /// For each word the patterns that need it, or one of several.
    patterns: Vec<Vec<u32>>,
    /// The patterns that need none, a bit each.
    others: Vec<u64>,
}

/// Tables of more rules take too long to become one automaton.
const SET_RULES_MAX: usize = 64;

impl Filter {
    /// The filter for patterns with these outlines; one without is always a candidate. `is_negated`: some rule counts
    /// where its pattern does not match.
    pub(super) fn new(outlines: &[Option<Node>], is_negated: bool) -> Self {
        let mut prefix = PrefixFilter::default();
        outlines.iter().for_each(|outline| prefix.add(outline.as_ref()));
        let all: Option<Vec<&Node>> = outlines.iter().map(Option::as_ref).collect();
        let any = all.filter(|all| !is_negated && (1..=SET_RULES_MAX).contains(&all.len())).and_then(|all| {
            let is_anchored = all.iter().all(|node| node.is_anchored());
            PatternSet::build(&all.iter().map(|node| node.hir()).collect::<Vec<_>>(), is_anchored)
        });
        let words = if any.is_some() { None } else { Words::new(outlines) };
        Self { prefix, words, any }
    }

    /// The candidates for a text; `None` if there are none.
    pub(super) fn candidates<'f>(&'f self, arena: &'f Bump, text: &'f [u8]) -> Option<Candidates<'f>> {
        if !self.prefix.has_candidates(text) || self.any.as_ref().is_some_and(|any| !any.is_match(text)) {
            return None;
        }
        let words = self.words.as_ref().map(|words| words.in_text(arena, text));
        Some(Candidates { prefix: self.prefix.candidates(text), words })
    }
}

impl Words {
    fn new(outlines: &[Option<Node>]) -> Option<Self> {
        let mut texts: Vec<(Vec<u8>, u32)> = Vec::new();
        let mut others = vec![0_u64; outlines.len().div_ceil(64)];
        for (index, outline) in outlines.iter().enumerate() {
            let needed = outline.as_ref().map(Node::needed).unwrap_or_default();
            if needed.is_empty() {
                others[index / 64] |= 1 << (index % 64);
            }
            let index = u32::try_from(index).expect("a table has less than 4 Gi lines");
            texts.extend(needed.into_iter().map(|text| (text, index)));
        }
        if texts.is_empty() {
            return None;
        }
        texts.sort_unstable();
        let mut words: Vec<Vec<u8>> = Vec::new();
        let mut patterns: Vec<Vec<u32>> = Vec::new();
        for (text, index) in texts {
            if words.last() != Some(&text) {
                words.push(text);
                patterns.push(Vec::new());
            }
            if let Some(patterns) = patterns.last_mut() {
                patterns.push(index);
            }
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(&words)
            .ok()?;
        Some(Self { search, patterns, others })
    }

    /// The patterns whose words are in a text, and those that need none, a bit each.
    fn in_text<'a>(&self, arena: &'a Bump, text: &[u8]) -> &'a [u64] {
        let bits = arena.alloc_slice_copy(&self.others);
        for found in self.search.find_overlapping_iter(text) {
            for pattern in &self.patterns[found.pattern().as_usize()] {
                bits[*pattern as usize / 64] |= 1 << (pattern % 64);
            }
        }
        bits
    }
}

/// The candidates for one text, asked for in ascending order.
pub(super) struct Candidates<'f> {
    prefix: super::prefix::Candidates<'f>,
    words: Option<&'f [u64]>,
}

impl Candidates<'_> {
    /// Whether the pattern with this number is one.
    pub(super) fn has(&mut self, pattern: usize) -> bool {
        self.group(pattern / 64) & (1 << (pattern % 64)) != 0
    }

    /// The first candidate from this number on that is in the same group of 64, or the start of the next group.
    pub(super) fn next_from(&mut self, pattern: usize) -> (usize, bool) {
        let bits = self.group(pattern / 64) >> (pattern % 64);
        match bits {
            0 => ((pattern / 64 + 1) * 64, false),
            bits => (pattern + bits.trailing_zeros() as usize, true),
        }
    }

    fn group(&mut self, group: usize) -> u64 {
        let words = self.words.map_or(u64::MAX, |words| words.get(group).copied().unwrap_or_default());
        if words == 0 { 0 } else { words & self.prefix.group(group) }
    }
}
