//! What an expression matches, as a tree over bytes: exactly (POSIX) or at least that much (an outline of PCRE).

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, Look, Repetition};

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(super) const ALL: Self = Self([u64::MAX; 4]);

    pub(super) fn of(bytes: impl IntoIterator<Item = u8>) -> Self {
        let mut set = Self::default();
        bytes.into_iter().for_each(|byte| set.insert(byte));
        set
    }

    /// The bytes for which `is_in` holds.
    pub(super) fn with(is_in: impl Fn(u8) -> bool) -> Self {
        Self::of((0..=u8::MAX).filter(|byte| is_in(*byte)))
    }

    /// A byte, with its other case if it is a letter of ASCII.
    pub(super) fn folded(byte: u8) -> Self {
        Self::of([byte.to_ascii_lowercase(), byte.to_ascii_uppercase()])
    }

    pub(super) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(super) fn remove(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] &= !(1 << (byte & 63));
    }

    pub(super) const fn contains(&self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] & (1 << (byte & 63)) != 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index] | other.0[index]))
    }

    pub(super) fn complement(self) -> Self {
        Self(self.0.map(|word| !word))
    }

    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|byte| self.contains(*byte))
    }

    /// The letter or other byte that it stands for, in lower case, if it holds nothing but that.
    fn single(&self) -> Option<u8> {
        if self.0.iter().map(|word| word.count_ones()).sum::<u32>() > 2 {
            return None;
        }
        let first = self.bytes().next()?;
        (*self == Self::of([first]) || *self == Self::folded(first)).then(|| first.to_ascii_lowercase())
    }
}

/// A place between bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    TextStart,
    TextEnd,
    /// The start of the text, or after a line feed.
    LineStart,
    /// The end of the text, or before a line feed.
    LineEnd,
    WordStart,
    WordEnd,
    WordEdge,
    NotWordEdge,
}

impl Place {
    const fn look(self) -> Look {
        match self {
            Self::TextStart => Look::Start,
            Self::TextEnd => Look::End,
            Self::LineStart => Look::StartLF,
            Self::LineEnd => Look::EndLF,
            Self::WordStart => Look::WordStartAscii,
            Self::WordEnd => Look::WordEndAscii,
            Self::WordEdge => Look::WordAscii,
            Self::NotWordEdge => Look::WordAsciiNegate,
        }
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Empty,
    Byte(ByteSet),
    Place(Place),
    /// A group with its number, from 1.
    Group(usize, Box<Self>),
    BackReference(usize),
    Concat(Vec<Self>),
    Alternatives(Vec<Self>),
    Repeat {
        node: Box<Self>,
        min: u32,
        max: Option<u32>,
    },
}

impl Node {
    /// The number of nodes with all repetitions written out.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Empty | Self::Byte(_) | Self::Place(_) | Self::BackReference(_) => 1,
            Self::Group(_, node) => node.size().saturating_add(2),
            Self::Concat(nodes) | Self::Alternatives(nodes) => {
                nodes.iter().fold(1, |size, node| size.saturating_add(node.size()))
            }
            Self::Repeat { node, min, max } => {
                let times = u64::from(max.unwrap_or(*min).max(1));
                node.size().saturating_mul(times).saturating_add(1)
            }
        }
    }

    pub(super) fn has_back_reference(&self) -> bool {
        match self {
            Self::BackReference(_) => true,
            Self::Empty | Self::Byte(_) | Self::Place(_) => false,
            Self::Group(_, node) | Self::Repeat { node, .. } => node.has_back_reference(),
            Self::Concat(nodes) | Self::Alternatives(nodes) => nodes.iter().any(Self::has_back_reference),
        }
    }

    /// The same for regex-automata. It has no back references.
    pub(super) fn hir(&self) -> Hir {
        match self {
            Self::Empty | Self::BackReference(_) => Hir::empty(),
            Self::Byte(set) => class(set),
            Self::Place(place) => Hir::look(place.look()),
            Self::Group(index, node) => {
                let index = u32::try_from(*index).expect("an expression has fewer groups than bytes");
                Hir::capture(regex_syntax::hir::Capture { index, name: None, sub: Box::new(node.hir()) })
            }
            Self::Concat(nodes) => Hir::concat(nodes.iter().map(Self::hir).collect()),
            Self::Alternatives(nodes) => Hir::alternation(nodes.iter().map(Self::hir).collect()),
            Self::Repeat { node, min, max } => {
                Hir::repetition(Repetition { min: *min, max: *max, greedy: true, sub: Box::new(node.hir()) })
            }
        }
    }

    /// An expression without groups that matches wherever this one does, and in more places: places between bytes
    /// other than the start of the text match anywhere, back references match any text.
    pub(super) fn outline(&self) -> Self {
        match self {
            Self::Place(Place::TextStart) => self.clone(),
            Self::Empty | Self::Place(_) => Self::Empty,
            Self::Byte(set) => Self::Byte(*set),
            Self::Group(_, node) => node.outline(),
            Self::BackReference(_) => Self::anything(),
            Self::Concat(nodes) => Self::Concat(nodes.iter().map(Self::outline).collect()),
            Self::Alternatives(nodes) => Self::Alternatives(nodes.iter().map(Self::outline).collect()),
            Self::Repeat { node, min, max } => {
                Self::Repeat { node: Box::new(node.outline()), min: *min, max: *max }
            }
        }
    }

    /// Any text.
    pub(super) fn anything() -> Self {
        Self::Repeat { node: Box::new(Self::Byte(ByteSet::ALL)), min: 0, max: None }
    }

    /// Whether every match begins at the start of the text.
    pub(super) fn is_anchored(&self) -> bool {
        match self {
            Self::Place(Place::TextStart) => true,
            Self::Group(_, node) => node.is_anchored(),
            // What stands before it matches nothing but the empty text there.
            Self::Concat(nodes) => nodes.iter().any(Self::is_anchored),
            Self::Alternatives(nodes) => !nodes.is_empty() && nodes.iter().all(Self::is_anchored),
            Self::Repeat { node, min, .. } => *min > 0 && node.is_anchored(),
            Self::Empty | Self::Byte(_) | Self::Place(_) | Self::BackReference(_) => false,
        }
    }

    /// Texts in lower case of which every text that matches contains one, in any case; empty if there are none that
    /// say much.
    pub(super) fn needed(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Byte(_) => {
                let mut run = Vec::new();
                self.append_to(&mut run);
                if run.len() >= NEEDED_SIZE_MIN { vec![run] } else { Vec::new() }
            }
            Self::Group(_, node) => node.needed(),
            Self::Repeat { node, min, .. } if *min > 0 => node.needed(),
            Self::Alternatives(nodes) => {
                let mut all = Vec::new();
                for node in nodes {
                    let needed = node.needed();
                    if needed.is_empty() || all.len() + needed.len() > NEEDED_MAX {
                        return Vec::new();
                    }
                    all.extend(needed);
                }
                all
            }
            Self::Concat(nodes) => Self::needed_of(nodes),
            Self::Repeat { .. } | Self::Empty | Self::Place(_) | Self::BackReference(_) => Vec::new(),
        }
    }

    /// The best of what the parts and the bytes in a row need.
    fn needed_of(nodes: &[Self]) -> Vec<Vec<u8>> {
        let mut best: Vec<Vec<u8>> = Vec::new();
        let mut offer = |needed: Vec<Vec<u8>>| {
            let shortest = |texts: &[Vec<u8>]| texts.iter().map(Vec::len).min().unwrap_or_default();
            if shortest(&needed) > shortest(&best) {
                best = needed;
            }
        };
        let mut run = Vec::new();
        for node in nodes {
            if node.append_to(&mut run) {
                continue;
            }
            if run.len() >= NEEDED_SIZE_MIN {
                offer(vec![std::mem::take(&mut run)]);
            }
            run.clear();
            offer(node.needed());
        }
        if run.len() >= NEEDED_SIZE_MIN {
            offer(vec![run]);
        }
        best
    }

    /// Appends the text that it matches, in lower case, if that is one text in any case.
    fn append_to(&self, run: &mut Vec<u8>) -> bool {
        match self {
            Self::Byte(set) => match set.single() {
                Some(byte) => {
                    run.push(byte);
                    true
                }
                None => false,
            },
            Self::Empty | Self::Place(_) => true,
            Self::Group(_, node) => node.append_to(run),
            Self::Concat(nodes) => {
                let size = run.len();
                let is_text = nodes.iter().all(|node| node.append_to(run));
                if !is_text {
                    run.truncate(size);
                }
                is_text
            }
            Self::Repeat { node, min: 1, max: Some(1) } => node.append_to(run),
            _ => false,
        }
    }
}

/// Bytes of a text that is worth looking for.
const NEEDED_SIZE_MIN: usize = 3;
/// Texts of which one expression needs one.
const NEEDED_MAX: usize = 64;

fn class(set: &ByteSet) -> Hir {
    let mut ranges = Vec::new();
    let mut start = None;
    for byte in 0..=u8::MAX {
        if set.contains(byte) {
            let first = *start.get_or_insert(byte);
            if byte == u8::MAX || !set.contains(byte + 1) {
                ranges.push(ClassBytesRange::new(first, byte));
                start = None;
            }
        }
    }
    Hir::class(Class::Bytes(ClassBytes::new(ranges)))
}
