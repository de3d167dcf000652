//! The leftmost of the longest matches, as POSIX wants it, against a matcher that tries everything.

use std::collections::BTreeSet;

use super::*;

/// An expression as the oracle knows it.
#[derive(Clone, Debug)]
enum Node {
    Byte(u8),
    Any,
    /// `[...]` or `[^...]` of some letters.
    Bracket(Vec<u8>, bool),
    Sequence(Vec<Self>),
    Either(Box<Self>, Box<Self>),
    /// The least and the greatest number of times.
    Repeated(Box<Self>, usize, Option<usize>),
}

impl Node {
    /// Its spelling as an extended expression.
    fn spelled(&self) -> String {
        match self {
            Self::Byte(byte) => char::from(*byte).to_string(),
            Self::Any => ".".to_owned(),
            Self::Bracket(letters, is_negated) => {
                let sign = if *is_negated { "^" } else { "" };
                format!("[{sign}{}]", String::from_utf8_lossy(letters))
            }
            Self::Sequence(parts) => parts.iter().map(Self::spelled).collect(),
            Self::Either(one, other) => format!("({}|{})", one.spelled(), other.spelled()),
            Self::Repeated(part, least, most) => {
                let times = match (least, most) {
                    (0, None) => "*".to_owned(),
                    (1, None) => "+".to_owned(),
                    (0, Some(1)) => "?".to_owned(),
                    (least, None) => format!("{{{least},}}"),
                    (least, Some(most)) => format!("{{{least},{most}}}"),
                };
                format!("({}){times}", part.spelled())
            }
        }
    }

    /// Where a match that begins at `start` may end.
    fn ends(&self, text: &[u8], start: usize) -> BTreeSet<usize> {
        let one_byte = |is_match: &dyn Fn(u8) -> bool| {
            text.get(start).filter(|byte| is_match(**byte)).map(|_| start + 1).into_iter().collect()
        };
        match self {
            Self::Byte(wanted) => one_byte(&|byte| byte == *wanted),
            Self::Any => one_byte(&|_| true),
            Self::Bracket(letters, is_negated) => one_byte(&|byte| letters.contains(&byte) != *is_negated),
            Self::Sequence(parts) => parts.iter().fold(BTreeSet::from([start]), |starts, part| {
                starts.into_iter().flat_map(|start| part.ends(text, start)).collect()
            }),
            Self::Either(one, other) => &one.ends(text, start) | &other.ends(text, start),
            Self::Repeated(part, least, most) => {
                let (mut ends, mut now) = (BTreeSet::new(), BTreeSet::from([start]));
                for times in 0..=most.unwrap_or(least + text.len() + 1) {
                    if times >= *least {
                        ends.extend(&now);
                    }
                    now = now.into_iter().flat_map(|start| part.ends(text, start)).collect();
                }
                ends
            }
        }
    }

    /// The longest of the matches that begin first.
    fn longest<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        (0..=text.len()).find_map(|start| Some(&text[start..*self.ends(text, start).last()?]))
    }
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        4 => (b'a'..=b'c').prop_map(Node::Byte),
        1 => Just(Node::Any),
        1 => (proptest::collection::vec(b'a'..=b'c', 1..3), any::<bool>())
            .prop_map(|(letters, is_negated)| Node::Bracket(letters, is_negated)),
    ];
    leaf.prop_recursive(4, 20, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Node::Sequence),
            (inner.clone(), inner.clone())
                .prop_map(|(one, other)| Node::Either(Box::new(one), Box::new(other))),
            (inner, 0..3_usize, proptest::option::of(0..3_usize)).prop_map(|(part, least, more)| {
                let most = more.map(|more| least + more.max(usize::from(least == 0)));
                Node::Repeated(Box::new(part), least, most)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn a_posix_expression_matches_the_longest_of_the_leftmost(
        node in node(), keys in proptest::collection::vec("[a-d]{0,9}", 6),
    ) {
        let table = table("regexp", &format!("/({})/ <$1>", node.spelled())).unwrap();
        for key in keys {
            let expected = node.longest(key.as_bytes()).map(|text| format!("<{}>", String::from_utf8_lossy(text)));
            prop_assert_eq!(found(&table, key.as_bytes()), expected, "{} in {}", node.spelled(), key);
        }
    }

    /// With a back-reference the expression takes another way through the program.
    #[test]
    fn a_back_reference_matches_what_its_group_did(
        node in node(), between in "[a-c]?", keys in proptest::collection::vec("[a-c]{0,9}", 6),
    ) {
        let spelled = node.spelled();
        let table = table("regexp", &format!("/^({spelled}){between}\\1$/ twice")).unwrap();
        for key in keys {
            let text = key.as_bytes();
            let is_match = node.ends(text, 0).into_iter().any(|end| {
                let (first, rest) = text.split_at(end);
                rest.strip_prefix(between.as_bytes()).is_some_and(|second| second == first)
            });
            prop_assert_eq!(found(&table, text).is_some(), is_match, "{} {} in {}", spelled, between, key);
        }
    }
}
