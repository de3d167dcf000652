//! Matching POSIX expressions: where the leftmost and then longest match is, and where its groups are.
//!
//! Without back references all of it is linear in the text. POSIX leaves no choice about the match itself; of the ways
//! to divide it among the groups, glibc takes the one that a backtracking matcher would try first, and so does this.

use std::sync::OnceLock;

use regex_automata::hybrid::dfa;
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input, MatchKind, meta};
use regex_syntax::hir::{Hir, Look};

use super::backtrack::{Program, StepLimit};
use super::posix::{Expression, TOO_BIG};
use super::tree::{ByteSet, Node};

/// Nodes of an expression with its repetitions written out.
const SIZE_MAX: u64 = 200_000;
/// Nodes of one that is compiled when it is first needed: it cannot fail then.
const LAZY_SIZE_MAX: u64 = 2_000;
/// Bytes of a compiled expression.
const PROGRAM_SIZE_MAX: usize = 32 << 20;
/// Bytes of the automaton that a thread builds as it goes along, for one expression.
const CACHE_SIZE: usize = 1 << 20;

/// A place in a text, from and to.
pub(super) type Span = (usize, usize);

/// A compiled expression.
#[derive(Debug)]
pub(super) enum Matcher {
    /// Without back references.
    Linear(Box<Linear>),
    /// With some.
    Backtracking(Program),
}

#[derive(Debug)]
pub(super) struct Linear {
    node: Node,
    search: OnceLock<meta::Regex>,
    longest: OnceLock<dfa::DFA>,
    /// The expression up to the end of the text, and up to one byte before it.
    whole: [OnceLock<meta::Regex>; 2],
}

impl Matcher {
    pub(super) fn new(expression: Expression, ignores_case: bool) -> Result<Self, String> {
        let size = expression.node.size();
        if size > SIZE_MAX {
            return Err(TOO_BIG.to_owned());
        }
        if expression.node.has_back_reference() {
            return Ok(Self::Backtracking(Program::new(&expression.node, expression.groups, ignores_case)));
        }
        let linear = Linear {
            node: expression.node,
            search: OnceLock::new(),
            longest: OnceLock::new(),
            whole: Default::default(),
        };
        if size > LAZY_SIZE_MAX {
            let too_big = |_| TOO_BIG.to_owned();
            let _ = linear.search.set(regex(linear.node.hir()).map_err(too_big)?);
            for (index, cell) in linear.whole.iter().enumerate() {
                let _ = cell.set(regex(whole(&linear.node, index)).map_err(too_big)?);
            }
            let _ = linear.longest.set(longest(&linear.node).ok_or_else(|| TOO_BIG.to_owned())?);
        }
        Ok(Self::Linear(Box::new(linear)))
    }

    pub(super) fn is_match(&self, text: &[u8]) -> Result<bool, StepLimit> {
        match self {
            Self::Linear(linear) => Ok(linear.search().is_match(text)),
            Self::Backtracking(program) => program.is_match(text),
        }
    }

    /// Where the groups matched; the first is the whole. `None`: there is no match.
    pub(super) fn groups(&self, text: &[u8]) -> Result<Option<Vec<Option<Span>>>, StepLimit> {
        match self {
            Self::Linear(linear) => Ok(linear.groups(text)),
            Self::Backtracking(program) => program.groups(text),
        }
    }
}

/// Of an expression of moderate size, which has always room.
const FITS: &str = "an expression of this size fits into the limits";

impl Linear {
    fn search(&self) -> &meta::Regex {
        self.search.get_or_init(|| regex(self.node.hir()).expect(FITS))
    }

    fn groups(&self, text: &[u8]) -> Option<Vec<Option<Span>>> {
        let start = self.search().find(text)?.start();
        let longest = self.longest.get_or_init(|| longest(&self.node).expect(FITS));
        let input = Input::new(text).range(start..).anchored(Anchored::Yes);
        let end = longest.try_search_fwd(&mut longest.create_cache(), &input).ok().flatten()?.offset();
        // The byte after the match stays in sight of what looks at it.
        let (is_before_end, text) = match text.get(..=end) {
            Some(front) => (1, front),
            None => (0, text),
        };
        let whole =
            self.whole[is_before_end].get_or_init(|| regex(whole(&self.node, is_before_end)).expect(FITS));
        let mut captures = whole.create_captures();
        whole.captures(Input::new(text).range(start..).anchored(Anchored::Yes), &mut captures);
        let groups = captures.iter().map(|span| span.map(|span| (span.start, span.end)));
        let mut groups: Vec<Option<Span>> = groups.collect();
        if let Some(first) = groups.first_mut() {
            *first = Some((start, end));
        }
        Some(groups)
    }
}

fn regex(hir: Hir) -> Result<meta::Regex, Box<meta::BuildError>> {
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(PROGRAM_SIZE_MAX))
        .hybrid_cache_capacity(CACHE_SIZE);
    meta::Builder::new().configure(config).build_from_hir(&hir).map_err(Box::new)
}

/// The expression, this number of bytes, and the end of the text.
fn whole(node: &Node, bytes: usize) -> Hir {
    let rest = std::iter::repeat_n(Node::Byte(ByteSet::ALL).hir(), bytes);
    Hir::concat([node.hir()].into_iter().chain(rest).chain([Hir::look(Look::End)]).collect())
}

/// What finds the end of the longest match that begins at a place.
fn longest(node: &Node) -> Option<dfa::DFA> {
    let config = thompson::Config::new()
        .utf8(false)
        .which_captures(thompson::WhichCaptures::None)
        .nfa_size_limit(Some(PROGRAM_SIZE_MAX));
    let program = thompson::Compiler::new().configure(config).build_from_hir(&node.hir()).ok()?;
    let config = dfa::Config::new()
        .match_kind(MatchKind::All)
        .cache_capacity(CACHE_SIZE)
        .skip_cache_capacity_check(true);
    dfa::Builder::new().configure(config).build_from_nfa(program).ok()
}
