//! Matching expressions with back references, which no automaton can: by trying, with a bounded number of steps.

use super::matcher::Span;
use super::tree::{ByteSet, Node, Place};

/// The steps of one search were used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepLimit;

/// Steps of one search.
const STEPS_MAX: u32 = 1_000_000;

#[derive(Debug)]
enum Instruction {
    Byte(ByteSet),
    Place(Place),
    /// The bytes that the group matched.
    BackReference(usize),
    /// Notes the position in this slot.
    Save(usize),
    /// Goes on at the first, or else at the second.
    Split(usize, usize),
    Jump(usize),
    /// Fails if the position is the one noted in this slot: a repetition of nothing has no end.
    Progress(usize),
    Match,
}

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Program {
    instructions: Vec<Instruction>,
    /// Two for each group, the whole match included, and one for each loop.
    slots: usize,
    groups: usize,
    ignores_case: bool,
}

/// What is tried when the way under way fails.
enum Choice {
    Try { instruction: usize, position: usize },
    Restore { slot: usize, position: usize },
}

/// A slot that holds no position.
const UNSET: usize = usize::MAX;

impl Program {
    pub(super) fn new(node: &Node, groups: usize, ignores_case: bool) -> Self {
        let mut program =
            Self { instructions: Vec::new(), slots: (groups + 1) * 2, groups: groups + 1, ignores_case };
        program.compile(node);
        program.instructions.push(Instruction::Match);
        program
    }

    fn compile(&mut self, node: &Node) {
        match node {
            Node::Empty => {}
            Node::Byte(set) => self.instructions.push(Instruction::Byte(*set)),
            Node::Place(place) => self.instructions.push(Instruction::Place(*place)),
            Node::BackReference(number) => self.instructions.push(Instruction::BackReference(*number)),
            Node::Group(number, node) => {
                self.instructions.push(Instruction::Save(number * 2));
                self.compile(node);
                self.instructions.push(Instruction::Save(number * 2 + 1));
            }
            Node::Concat(nodes) => nodes.iter().for_each(|node| self.compile(node)),
            Node::Alternatives(nodes) => {
                let mut ends = Vec::new();
                for (index, node) in nodes.iter().enumerate() {
                    if index + 1 == nodes.len() {
                        self.compile(node);
                        break;
                    }
                    let split = self.reserve();
                    self.compile(node);
                    ends.push(self.reserve());
                    self.instructions[split] = Instruction::Split(split + 1, self.instructions.len());
                }
                for end in ends {
                    self.instructions[end] = Instruction::Jump(self.instructions.len());
                }
            }
            Node::Repeat { node, min, max } => {
                (0..*min).for_each(|_| self.compile(node));
                match max {
                    Some(max) => {
                        let splits: Vec<usize> = (*min..*max)
                            .map(|_| {
                                let split = self.reserve();
                                self.compile(node);
                                split
                            })
                            .collect();
                        for split in splits {
                            self.instructions[split] = Instruction::Split(split + 1, self.instructions.len());
                        }
                    }
                    None => {
                        let slot = self.slots;
                        self.slots += 1;
                        let split = self.reserve();
                        self.instructions.push(Instruction::Save(slot));
                        self.compile(node);
                        self.instructions.push(Instruction::Progress(slot));
                        self.instructions.push(Instruction::Jump(split));
                        self.instructions[split] = Instruction::Split(split + 1, self.instructions.len());
                    }
                }
            }
        }
    }

    /// A place for an instruction that is known later.
    fn reserve(&mut self) -> usize {
        self.instructions.push(Instruction::Match);
        self.instructions.len() - 1
    }

    pub(super) fn is_match(&self, text: &[u8]) -> Result<bool, StepLimit> {
        let mut steps = STEPS_MAX;
        for start in 0..=text.len() {
            if self.run(text, start, false, &mut steps)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn groups(&self, text: &[u8]) -> Result<Option<Vec<Option<Span>>>, StepLimit> {
        let mut steps = STEPS_MAX;
        for start in 0..=text.len() {
            if let Some(slots) = self.run(text, start, true, &mut steps)? {
                let groups = slots.chunks_exact(2).take(self.groups).map(|slots| match slots {
                    [start, end] if *start != UNSET && *end != UNSET => Some((*start, *end)),
                    _ => None,
                });
                return Ok(Some(groups.collect()));
            }
        }
        Ok(None)
    }

    /// The slots of the first match that begins at `start`, or of the first that is as long as any.
    fn run(
        &self,
        text: &[u8],
        start: usize,
        is_longest: bool,
        steps: &mut u32,
    ) -> Result<Option<Vec<usize>>, StepLimit> {
        let mut best: Option<Vec<usize>> = None;
        let mut slots = vec![UNSET; self.slots];
        let mut choices = vec![Choice::Try { instruction: 0, position: start }];
        while let Some(choice) = choices.pop() {
            let (mut at, mut position) = match choice {
                Choice::Try { instruction, position } => (instruction, position),
                Choice::Restore { slot, position } => {
                    slots[slot] = position;
                    continue;
                }
            };
            loop {
                *steps = steps.checked_sub(1).ok_or(StepLimit)?;
                match &self.instructions[at] {
                    Instruction::Byte(set) => match text.get(position) {
                        Some(byte) if set.contains(*byte) => position += 1,
                        _ => break,
                    },
                    Instruction::Place(place) if !is_at(text, position, *place) => break,
                    Instruction::Place(_) => {}
                    Instruction::BackReference(number) => {
                        let span = (slots[number * 2], slots[number * 2 + 1]);
                        let Some(end) = self.repeated(text, span, position) else { break };
                        position = end;
                    }
                    Instruction::Save(slot) => {
                        choices.push(Choice::Restore { slot: *slot, position: slots[*slot] });
                        slots[*slot] = position;
                    }
                    Instruction::Split(first, second) => {
                        choices.push(Choice::Try { instruction: *second, position });
                        at = *first;
                        continue;
                    }
                    Instruction::Jump(to) => {
                        at = *to;
                        continue;
                    }
                    Instruction::Progress(slot) if slots[*slot] == position => break,
                    Instruction::Progress(_) => {}
                    Instruction::Match => {
                        if best.as_ref().is_none_or(|best| best[1] < position) {
                            let mut found = slots.clone();
                            (found[0], found[1]) = (start, position);
                            best = Some(found);
                        }
                        if !is_longest || position == text.len() {
                            return Ok(best);
                        }
                        break;
                    }
                }
                at += 1;
            }
        }
        Ok(best)
    }

    /// If what a group matched stands at `position` again, returns where it ends.
    fn repeated(&self, text: &[u8], (from, to): Span, position: usize) -> Option<usize> {
        if from == UNSET || to == UNSET || to < from {
            return None;
        }
        let given = &text[from..to];
        let end = position + given.len();
        let found = text.get(position..end)?;
        let is_same = if self.ignores_case { found.eq_ignore_ascii_case(given) } else { found == given };
        is_same.then_some(end)
    }
}

fn is_at(text: &[u8], position: usize, place: Place) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let before = position.checked_sub(1).and_then(|before| text.get(before));
    let after = text.get(position);
    match place {
        Place::TextStart => before.is_none(),
        Place::TextEnd => after.is_none(),
        Place::LineStart => before.is_none_or(|byte| *byte == b'\n'),
        Place::LineEnd => after.is_none_or(|byte| *byte == b'\n'),
        Place::WordStart => !is_word(before) && is_word(after),
        Place::WordEnd => is_word(before) && !is_word(after),
        Place::WordEdge => is_word(before) != is_word(after),
        Place::NotWordEdge => is_word(before) == is_word(after),
    }
}
