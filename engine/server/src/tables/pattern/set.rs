//! Whether any pattern of a small table matches at all, for all of them at once.
//!
//! Most fields match nothing. A deterministic automaton that is built when the table is read answers that with one
//! step per byte, stops at the first byte that leaves no pattern, and jumps where only a few bytes lead on (`.*\[10`
//! waits for a bracket). Such automata can become large: beyond a limit there is none.

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;

/// Patterns that a text is matched against together.
#[derive(Debug)]
pub(super) struct PatternSet {
    automaton: dense::DFA<Vec<u32>>,
    anchored: Anchored,
}

/// Bytes of an automaton, and of the memory that building it takes.
const AUTOMATON_SIZE_LIMIT: usize = 1 << 20;

impl PatternSet {
    /// The set of these; `None` if it would be too large. `is_anchored`: they match at the start of a text only.
    pub(super) fn build(patterns: &[Hir], is_anchored: bool) -> Option<Self> {
        let (anchored, start_kind) = if is_anchored {
            (Anchored::Yes, StartKind::Anchored)
        } else {
            (Anchored::No, StartKind::Unanchored)
        };
        let config = thompson::Config::new()
            .utf8(false)
            .which_captures(thompson::WhichCaptures::None)
            .nfa_size_limit(Some(AUTOMATON_SIZE_LIMIT));
        let program = thompson::Compiler::new().configure(config).build_many_from_hir(patterns).ok()?;
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(start_kind)
            .dfa_size_limit(Some(AUTOMATON_SIZE_LIMIT))
            .determinize_size_limit(Some(AUTOMATON_SIZE_LIMIT));
        let automaton = dense::Builder::new().configure(config).build_from_nfa(&program).ok()?;
        Some(Self { automaton, anchored })
    }

    /// Whether any of them matches.
    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        let input = Input::new(text).anchored(self.anchored).earliest(true);
        // It has no bytes at which it gives up; if it had, each pattern would have to be asked.
        self.automaton.try_search_fwd(&input).map_or(true, |found| found.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::pattern::outline::outline;
    use crate::tables::pattern::pcre::Pcre;
    use crate::tables::pattern::rules::pcre_flags;
    use proptest::prelude::*;

    fn set(patterns: &[&str]) -> Option<PatternSet> {
        let outlines: Option<Vec<_>> =
            patterns.iter().map(|pattern| outline(pattern.as_bytes(), false)).collect();
        let outlines = outlines?;
        let is_anchored = outlines.iter().all(|outline| outline.is_anchored());
        PatternSet::build(&outlines.iter().map(|outline| outline.hir()).collect::<Vec<Hir>>(), is_anchored)
    }

    #[test]
    fn a_single_match_is_enough() {
        let patterns = set(&["^Received: .*\\[10\\.", "^Subject:.*(casino|lottery)"]).unwrap();
        assert_eq!(patterns.anchored, Anchored::Yes);
        for (text, is_match) in [
            ("received: from x [10.0.0.1]", true),
            ("Received: from x [1.0.0.1]", false),
            ("Subject: THE CASINO", true),
            ("X: Subject: casino", false),
            ("", false),
        ] {
            assert_eq!(patterns.is_match(text.as_bytes()), is_match, "{text}");
        }
    }

    #[test]
    fn a_set_that_is_too_large_is_not_built() {
        assert!(set(&["[ab]*a[ab]{18}c", "x.*y"]).is_none());
    }

    proptest! {
        #[test]
        fn matches_where_any_pattern_matches(
            patterns in prop::collection::vec("\\^?(a|b|[^a]|(a|bc)|a\\+|b\\?|\\(a\\|b\\)\\*|.|\\\\b){0,5}\\$?", 1..4),
            text in "[abc\n]{0,10}",
        ) {
            let compiled = patterns.iter().map(|pattern| Pcre::new(pattern.as_bytes(), pcre_flags(b"").unwrap().0));
            let Ok(compiled) = compiled.collect::<Result<Vec<_>, _>>() else { return Ok(()) };
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let Some(set) = set(&patterns) else { return Ok(()) };
            if compiled.iter().any(|pattern| pattern.is_match(text.as_bytes()) == Ok(true)) {
                prop_assert!(set.is_match(text.as_bytes()), "{:?}", patterns);
            }
        }
    }
}
