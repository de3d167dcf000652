//! Expressions of `regexp:` tables (regexp_table(5)): POSIX extended and basic ones, as the GNU C library reads them
//! in the C locale, which is what Postfix sees on Debian.
//!
//! POSIX leaves undefined what several spellings mean; here they mean what regcomp(3) of glibc makes of them. With
//! case ignored, glibc folds pattern and text to upper case before it looks at either: `[_-z]` is an empty range, and a
//! backslash before a small letter makes a letter that no text has.

mod bracket;

use super::tree::{ByteSet, Node, Place};

pub(super) use bracket::class;

/// How an expression is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syntax {
    /// Extended, not basic.
    pub(super) is_extended: bool,
    pub(super) ignores_case: bool,
    /// REG_NEWLINE: `^` and `$` know lines, `.` and `[^a]` match no line feed.
    pub(super) knows_lines: bool,
}

/// An expression, and how many groups it has.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) node: Node,
    pub(super) groups: usize,
    /// Spellings that other dialects take for something else, each as a sentence.
    pub(super) notes: Vec<String>,
}

/// Repetitions at most (RE_DUP_MAX).
const REPEAT_MAX: u32 = 0x7fff;
/// Groups within groups at most; glibc has no such bound but the stack.
const DEPTH_MAX: usize = 250;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// A byte that stands for itself; `is_raw`: its case was not folded.
    Byte {
        byte: u8,
        is_raw: bool,
    },
    Any,
    Bracket,
    Open,
    Close,
    Or,
    /// `*`, `+` and `?`.
    Star,
    Plus,
    Question,
    OpenInterval,
    CloseInterval,
    Place(Place),
    /// `\w` and so on: the class, and whether it is the other way round.
    Word(bool),
    Space(bool),
    BackReference(usize),
    /// A backslash at the end.
    Backslash,
    End,
}

/// Reads `pattern`.
///
/// # Errors
/// The sentence of regcomp(3), with the construct of Perl's that it comes from where there is one.
pub(super) fn parse(pattern: &[u8], syntax: Syntax) -> Result<Expression, String> {
    let folded = if syntax.ignores_case { pattern.to_ascii_uppercase() } else { pattern.to_vec() };
    let mut parser = Parser {
        raw: pattern,
        text: &folded,
        syntax,
        at: 0,
        token: Token::End,
        depth: 0,
        groups: 0,
        closed: Vec::new(),
        notes: Vec::new(),
    };
    parser.next(true);
    let node = parser.alternatives()?;
    if parser.token != Token::End {
        // Only a basic expression has one that opens nothing.
        return Err("Unmatched ) or \\)".to_owned());
    }
    let Parser { groups, notes, .. } = parser;
    Ok(Expression { node, groups, notes })
}

struct Parser<'p> {
    raw: &'p [u8],
    /// The same in upper case if case is ignored.
    text: &'p [u8],
    syntax: Syntax,
    /// What follows `token`.
    at: usize,
    token: Token,
    depth: usize,
    groups: usize,
    /// Whether each group is complete.
    closed: Vec<bool>,
    notes: Vec<String>,
}

impl Parser<'_> {
    /// Goes to the next token; `at_start`: a caret begins an expression here.
    fn next(&mut self, at_start: bool) {
        let (token, size) = self.peek(self.at, at_start);
        self.token = token;
        self.at += size;
    }

    fn peek(&self, at: usize, at_start: bool) -> (Token, usize) {
        let is_extended = self.syntax.is_extended;
        let Some(byte) = self.text.get(at).copied() else { return (Token::End, 0) };
        if byte == b'\\' {
            let Some(escaped) = self.raw.get(at + 1).copied() else { return (Token::Backslash, 1) };
            let token = match escaped {
                b'|' if !is_extended => Token::Or,
                b'(' if !is_extended => Token::Open,
                b')' if !is_extended => Token::Close,
                b'{' if !is_extended => Token::OpenInterval,
                b'}' if !is_extended => Token::CloseInterval,
                b'+' if !is_extended => Token::Plus,
                b'?' if !is_extended => Token::Question,
                b'1'..=b'9' => Token::BackReference(usize::from(escaped - b'0')),
                b'<' => Token::Place(Place::WordStart),
                b'>' => Token::Place(Place::WordEnd),
                b'b' => Token::Place(Place::WordEdge),
                b'B' => Token::Place(Place::NotWordEdge),
                b'`' => Token::Place(Place::TextStart),
                b'\'' => Token::Place(Place::TextEnd),
                b'w' => Token::Word(true),
                b'W' => Token::Word(false),
                b's' => Token::Space(true),
                b'S' => Token::Space(false),
                _ => Token::Byte { byte: escaped, is_raw: true },
            };
            return (token, 2);
        }
        let token = match byte {
            b'.' => Token::Any,
            b'[' => Token::Bracket,
            b'*' => Token::Star,
            b'+' if is_extended => Token::Plus,
            b'?' if is_extended => Token::Question,
            b'(' if is_extended => Token::Open,
            b')' if is_extended => Token::Close,
            b'|' if is_extended => Token::Or,
            b'{' if is_extended => Token::OpenInterval,
            b'}' if is_extended => Token::CloseInterval,
            b'^' if is_extended || at_start || at == 0 => Token::Place(self.line_start()),
            b'$' if is_extended || self.ends_basic(at + 1) => Token::Place(self.line_end()),
            _ => Token::Byte { byte, is_raw: false },
        };
        (token, 1)
    }

    /// Whether a dollar before `at` ends a basic expression.
    fn ends_basic(&self, at: usize) -> bool {
        at == self.text.len() || matches!(self.peek(at, false).0, Token::Or | Token::Close)
    }

    const fn line_start(&self) -> Place {
        if self.syntax.knows_lines { Place::LineStart } else { Place::TextStart }
    }

    const fn line_end(&self) -> Place {
        if self.syntax.knows_lines { Place::LineEnd } else { Place::TextEnd }
    }

    fn alternatives(&mut self) -> Result<Node, String> {
        // A branch sees the groups before all of them, and what follows sees the groups of all.
        let before = self.closed.clone();
        let mut nodes = vec![self.branch()?];
        while self.token == Token::Or {
            let mut after = before.clone();
            after.resize(self.closed.len(), false);
            let others = std::mem::replace(&mut self.closed, after);
            self.next(true);
            nodes.push(self.branch()?);
            self.closed.iter_mut().zip(others).for_each(|(closed, other)| *closed |= other);
        }
        Ok(match nodes.len() {
            1 => nodes.remove(0),
            _ => Node::Alternatives(nodes),
        })
    }

    fn branch(&mut self) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while !self.is_at_end_of_branch() {
            nodes.push(self.repeated()?);
        }
        Ok(match nodes.len() {
            0 => Node::Empty,
            1 => nodes.remove(0),
            _ => Node::Concat(nodes),
        })
    }

    fn is_at_end_of_branch(&self) -> bool {
        matches!(self.token, Token::Or | Token::End) || self.token == Token::Close && self.depth > 0
    }

    /// One part, and how often it is there.
    fn repeated(&mut self) -> Result<Node, String> {
        let is_extended = self.syntax.is_extended;
        // Nothing is repeated of an empty part or a place: what follows stands for itself, or is refused.
        let is_single = matches!(self.token, Token::Place(_) | Token::Or | Token::End);
        let mut node = self.part()?;
        if is_single {
            return Ok(node);
        }
        loop {
            let (min, max) = match self.token {
                Token::Star => (0, None),
                Token::Plus => (1, None),
                Token::Question => (0, Some(1)),
                Token::OpenInterval => self.interval()?,
                _ => return Ok(node),
            };
            if matches!(node, Node::Repeat { .. }) {
                self.note_twice();
            }
            self.next(false);
            node = match max {
                Some(0) => Node::Empty,
                _ => Node::Repeat { node: Box::new(node), min, max },
            };
            if !is_extended && matches!(self.token, Token::Star | Token::OpenInterval) {
                return Err(INVALID_PRECEDING.to_owned());
            }
        }
    }

    /// One part.
    fn part(&mut self) -> Result<Node, String> {
        let is_extended = self.syntax.is_extended;
        Ok(match self.token {
            Token::Byte { byte, is_raw } => {
                let set = self.set_of(byte, is_raw);
                self.note_other_dialects(byte, is_raw);
                self.next(false);
                Node::Byte(set)
            }
            Token::Open => self.group()?,
            Token::Bracket => {
                let set = self.bracket()?;
                self.next(false);
                Node::Byte(set)
            }
            Token::Any => {
                self.next(false);
                let mut set = ByteSet::ALL;
                if self.syntax.knows_lines {
                    set.remove(b'\n');
                }
                set.remove(0);
                Node::Byte(set)
            }
            Token::Word(is_in) => {
                self.next(false);
                Node::Byte(ByteSet::with(|byte| (byte.is_ascii_alphanumeric() || byte == b'_') == is_in))
            }
            Token::Space(is_in) => {
                self.next(false);
                Node::Byte(ByteSet::with(|byte| is_space(byte) == is_in))
            }
            Token::BackReference(number) => {
                if self.closed.get(number - 1) != Some(&true) {
                    return Err("Invalid back reference".to_owned());
                }
                self.next(false);
                Node::BackReference(number)
            }
            Token::Place(place) => {
                self.next(false);
                Node::Place(place)
            }
            Token::Star | Token::Plus | Token::Question if is_extended => {
                return Err(self.nothing_to_repeat());
            }
            Token::OpenInterval => return Err(self.nothing_to_repeat()),
            Token::Star => self.literal(b'*'),
            Token::Plus => self.literal(b'+'),
            Token::Question => self.literal(b'?'),
            Token::Close if is_extended => self.literal(b')'),
            Token::Close => return Err("Unmatched ) or \\)".to_owned()),
            Token::CloseInterval => self.literal(b'}'),
            Token::Backslash => return Err("Trailing backslash".to_owned()),
            Token::Or | Token::End => Node::Empty,
        })
    }

    fn literal(&mut self, byte: u8) -> Node {
        self.next(false);
        Node::Byte(ByteSet::of([byte]))
    }

    /// The bytes of a text that a byte of the pattern matches.
    fn set_of(&self, byte: u8, is_raw: bool) -> ByteSet {
        if !self.syntax.ignores_case {
            return ByteSet::of([byte]);
        }
        if is_raw && byte.is_ascii_lowercase() {
            // The text is in upper case when it is compared.
            return ByteSet::default();
        }
        ByteSet::folded(byte)
    }

    fn group(&mut self) -> Result<Node, String> {
        let is_perl = self.syntax.is_extended && self.text.get(self.at) == Some(&b'?');
        if is_perl {
            return Err(self.nothing_to_repeat());
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} nested groups"));
        }
        self.groups += 1;
        let number = self.groups;
        self.closed.push(false);
        self.next(true);
        let node = self.alternatives()?;
        if self.token != Token::Close {
            return Err("Unmatched ( or \\(".to_owned());
        }
        self.depth -= 1;
        self.next(false);
        if let Some(closed) = self.closed.get_mut(number - 1) {
            *closed = true;
        }
        Ok(Node::Group(number, Box::new(node)))
    }

    /// The interval that begins here; its closing brace is the token then.
    fn interval(&mut self) -> Result<(u32, Option<u32>), String> {
        self.next(false);
        let (start, after_start) = self.number();
        let comma = Token::Byte { byte: b',', is_raw: false };
        let start = match start {
            None if after_start == comma => Some(0),
            None => return Err(INVALID_INTERVAL.to_owned()),
            Some(Err(())) => None,
            Some(Ok(number)) => Some(number),
        };
        let mut end = start;
        let mut is_open = false;
        if start.is_some() && after_start == comma {
            self.next(false);
            let (number, _) = self.number();
            match number {
                None => is_open = true,
                Some(Err(())) => end = None,
                Some(Ok(number)) => end = Some(number),
            }
        }
        let (Some(start), Some(end)) = (start, end) else {
            return Err(
                if self.token == Token::End { "Unmatched { or \\{" } else { INVALID_INTERVAL }.to_owned()
            );
        };
        if !is_open && start > end || self.token != Token::CloseInterval {
            return Err(
                if self.token == Token::End { "Unmatched { or \\{" } else { INVALID_INTERVAL }.to_owned()
            );
        }
        if start.max(end) > REPEAT_MAX {
            return Err(TOO_BIG.to_owned());
        }
        Ok((start, (!is_open).then_some(end)))
    }

    /// A number, `Err` if something else is there, and the token after it.
    fn number(&mut self) -> (Option<Result<u32, ()>>, Token) {
        let mut number: Option<Result<u32, ()>> = None;
        loop {
            match self.token {
                Token::End => return (Some(Err(())), Token::End),
                Token::CloseInterval => return (number, self.token),
                Token::Byte { byte: b',', .. } => {
                    return (number, Token::Byte { byte: b',', is_raw: false });
                }
                Token::Byte { byte, is_raw: false } if byte.is_ascii_digit() && number != Some(Err(())) => {
                    let before = number.and_then(Result::ok).unwrap_or_default();
                    number = Some(Ok((before * 10 + u32::from(byte - b'0')).min(REPEAT_MAX + 1)));
                }
                _ => number = Some(Err(())),
            }
            self.next(false);
        }
    }

    fn nothing_to_repeat(&self) -> String {
        // A question mark after a parenthesis is Perl's way to begin a group of another kind.
        let rest = match self.token {
            Token::Open => self.raw.get(self.at - 1..),
            _ => None,
        };
        match rest {
            Some(rest) if self.syntax.is_extended => {
                let size = rest.iter().position(|byte| matches!(byte, b':' | b')')).map_or(3, |at| at + 1);
                let construct = String::from_utf8_lossy(rest.get(..size.min(8)).unwrap_or(rest)).into_owned();
                format!("{INVALID_PRECEDING}: {construct} is Perl syntax, which POSIX does not have")
            }
            _ => INVALID_PRECEDING.to_owned(),
        }
    }

    fn note_twice(&mut self) {
        let (sign, kind) = match self.token {
            Token::Question => ("?", "lazy"),
            Token::Plus => ("+", "possessive"),
            _ => return,
        };
        self.note(format!("{sign} after a repetition repeats it once more; only pcre has {kind} ones"));
    }

    /// Letters with a backslash that mean something to Perl only.
    fn note_other_dialects(&mut self, byte: u8, is_raw: bool) {
        let means = match byte {
            b'd' | b'D' => "a digit; write [0-9] or [^0-9]",
            b'h' | b'H' => "a space or tab; write [[:blank:]]",
            b'n' | b'r' | b't' | b'f' | b'e' | b'a' | b'v' => "a control character",
            b'Q' | b'E' => "quoting",
            b'A' | b'z' | b'Z' | b'G' => "an anchor; write ^ or $",
            b'p' | b'P' | b'x' | b'o' | b'g' | b'k' | b'K' | b'R' | b'N' | b'X' => "something else",
            _ => return,
        };
        if is_raw {
            let letter = char::from(byte);
            let never = if self.syntax.ignores_case && byte.is_ascii_lowercase() {
                ", which matches nothing while case is ignored"
            } else {
                ""
            };
            self.note(format!(
                "\\{letter} is the letter {letter} here{never}; only pcre takes it for {means}"
            ));
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

const INVALID_PRECEDING: &str = "Invalid preceding regular expression";
const INVALID_INTERVAL: &str = "Invalid content of \\{\\}";
pub(super) const TOO_BIG: &str = "Regular expression too big";

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}
