//! Owns the question whether any pattern of a table matches at all, for all of them at once.
//!
//! Most fields match nothing. A deterministic automaton that is built when the table is read answers that with one
//! step an octet, stops at the first octet that leaves no pattern, and jumps where only a few octets lead on (`.*\[10`
//! waits for a bracket). Such automata can become large: beyond a limit a set that is built as it is needed takes its
//! place.

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::meta;
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::{Hir, Look};

/// Patterns that a text is matched against together.
#[derive(Debug)]
pub(super) enum PatternSet {
    /// Built beforehand.
    Whole { automaton: Box<dense::DFA<Vec<u32>>>, anchored: Anchored },
    /// Built piece by piece as texts need it.
    Lazy(Box<meta::Regex>),
}

/// Octets of an automaton, and of the memory that building it takes.
const AUTOMATON_SIZE_LIMIT: usize = 2 << 20;
/// Octets of the lazy set's program and of its cache.
const LAZY_SIZE_LIMIT: usize = 16 << 20;

impl PatternSet {
    /// The set of these; `None` if it would be too large.
    pub(super) fn build(patterns: &[Hir]) -> Option<Self> {
        let starts = |hir: &Hir| hir.properties().look_set_prefix().contains(Look::Start);
        let (anchored, start_kind) = if patterns.iter().all(starts) {
            (Anchored::Yes, StartKind::Anchored)
        } else {
            (Anchored::No, StartKind::Unanchored)
        };
        let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(AUTOMATON_SIZE_LIMIT));
        let program = thompson::Compiler::new().configure(config).build_many_from_hir(patterns);
        let automaton = program.ok().and_then(|program| {
            let config = dense::Config::new()
                .match_kind(MatchKind::All)
                .start_kind(start_kind)
                .dfa_size_limit(Some(AUTOMATON_SIZE_LIMIT))
                .determinize_size_limit(Some(AUTOMATON_SIZE_LIMIT));
            dense::Builder::new().configure(config).build_from_nfa(&program).ok()
        });
        if let Some(automaton) = automaton {
            return Some(Self::Whole { automaton: Box::new(automaton), anchored });
        }
        let config = meta::Config::new()
            .match_kind(MatchKind::All)
            .utf8_empty(false)
            .nfa_size_limit(Some(LAZY_SIZE_LIMIT))
            .hybrid_cache_capacity(LAZY_SIZE_LIMIT);
        let regex = meta::Builder::new().configure(config).build_many_from_hir(patterns).ok()?;
        Some(Self::Lazy(Box::new(regex)))
    }

    /// Whether any of them matches.
    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        match self {
            Self::Whole { automaton, anchored } => {
                let input = Input::new(text).anchored(*anchored).earliest(true);
                // It has no octets at which it gives up; if it had, each pattern would have to be asked.
                automaton.try_search_fwd(&input).map_or(true, |found| found.is_some())
            }
            Self::Lazy(regex) => regex.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::bytes::RegexBuilder;
    use regex_syntax::ParserBuilder;

    fn set(patterns: &[&str]) -> PatternSet {
        let parse = |pattern: &&str| {
            ParserBuilder::new()
                .unicode(false)
                .utf8(false)
                .case_insensitive(true)
                .build()
                .parse(pattern)
                .unwrap()
        };
        PatternSet::build(&patterns.iter().map(parse).collect::<Vec<Hir>>()).unwrap()
    }

    #[test]
    fn one_that_matches_is_enough() {
        let patterns = set(&["^Received: .*\\[10\\.", "^Subject:.*(casino|lottery)"]);
        assert!(matches!(patterns, PatternSet::Whole { anchored: Anchored::Yes, .. }));
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
    fn one_that_would_be_too_large_is_built_as_needed() {
        let patterns = set(&["[ab]*a[ab]{18}c", "x.*y"]);
        assert!(matches!(patterns, PatternSet::Lazy(_)), "{patterns:?}");
        assert!(patterns.is_match(b"aaaaaaaaaaaaaaaaaaaac") && patterns.is_match(b"AxxY"));
        assert!(!patterns.is_match(b"aaaaaaaaaaaaaaaaac"));
    }

    proptest! {
        #[test]
        fn it_matches_where_one_of_them_does(
            patterns in prop::collection::vec("\\^?(a|b|[^a]|(a|bc)|a\\+|b\\?|\\(a\\|b\\)\\*|.|\\\\b){0,5}\\$?", 1..4),
            text in "[abc\n]{0,10}",
        ) {
            let compiled: Vec<_> = patterns
                .iter()
                .filter_map(|pattern| {
                    RegexBuilder::new(pattern).unicode(false).case_insensitive(true).build().ok()
                })
                .collect();
            if compiled.len() < patterns.len() {
                return Ok(());
            }
            let wanted = compiled.iter().any(|regex| regex.is_match(text.as_bytes()));
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            prop_assert_eq!(set(&patterns).is_match(text.as_bytes()), wanted);
        }
    }
}
