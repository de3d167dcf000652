//! The outline of a PCRE pattern: an expression that matches wherever the pattern does, to rule out rules quickly.
//!
//! It is built from what this reader fully understands, each construct taken for as much as it could match: letters in
//! any case, a dot for any byte, a lookaround for nothing at all. What it does not know leaves the pattern without an
//! outline, and PCRE2 is asked each time.

use super::posix::class;
use super::tree::{ByteSet, Node, Place};

/// Groups within groups that are looked at.
const DEPTH_MAX: usize = 50;

/// The outline of `pattern`, if it has one; `knows_lines`: a caret matches after a line feed.
pub(super) fn outline(pattern: &[u8], knows_lines: bool) -> Option<Node> {
    let mut reader = Reader { rest: pattern, knows_lines, depth: 0 };
    let node = reader.alternatives()?;
    reader.rest.is_empty().then_some(node)
}

struct Reader<'p> {
    rest: &'p [u8],
    knows_lines: bool,
    depth: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn skip(&mut self, text: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn alternatives(&mut self) -> Option<Node> {
        let mut nodes = vec![self.branch()?];
        while self.skip(b"|") {
            nodes.push(self.branch()?);
        }
        Some(if nodes.len() == 1 { nodes.remove(0) } else { Node::Alternatives(nodes) })
    }

    fn branch(&mut self) -> Option<Node> {
        let mut nodes = Vec::new();
        while !matches!(self.rest.first(), None | Some(b'|' | b')')) {
            let node = self.part()?;
            nodes.push(self.repeated(node)?);
        }
        Some(if nodes.len() == 1 { nodes.remove(0) } else { Node::Concat(nodes) })
    }

    fn part(&mut self) -> Option<Node> {
        Some(match self.next()? {
            b'^' if self.knows_lines => Node::Empty,
            b'^' => Node::Place(Place::TextStart),
            b'$' => Node::Empty,
            b'.' => Node::Byte(ByteSet::ALL),
            b'[' => Node::Byte(self.class()?),
            b'(' => self.group()?,
            b'\\' => self.escaped()?,
            b'*' | b'+' | b'?' | b'{' => return None,
            byte => Node::Byte(ByteSet::folded(byte)),
        })
    }

    fn escaped(&mut self) -> Option<Node> {
        Some(match self.next()? {
            b'd' => Node::Byte(ByteSet::of(b'0'..=b'9')),
            b'w' => Node::Byte(ByteSet::with(|byte| byte.is_ascii_alphanumeric() || byte == b'_')),
            b's' => Node::Byte(class(b"space", false)?),
            b'h' => Node::Byte(ByteSet::of([b' ', b'\t', 0xa0])),
            b'D' | b'W' | b'S' | b'H' | b'V' | b'N' => Node::Byte(ByteSet::ALL),
            b'n' => Node::Byte(ByteSet::of([b'\n'])),
            b'r' => Node::Byte(ByteSet::of([b'\r'])),
            b't' => Node::Byte(ByteSet::of([b'\t'])),
            b'b' | b'B' | b'Z' | b'z' | b'G' | b'K' => Node::Empty,
            b'A' => Node::Place(Place::TextStart),
            byte if byte.is_ascii_punctuation() || byte == b' ' => Node::Byte(ByteSet::of([byte])),
            _ => return None,
        })
    }

    fn group(&mut self) -> Option<Node> {
        if self.rest.first() == Some(&b'*') {
            return None;
        }
        let mut matches_nothing = false;
        if self.skip(b"?") {
            if self.skip(b"#") {
                let end = self.rest.iter().position(|byte| *byte == b')')?;
                self.rest = self.rest.get(end + 1..)?;
                return Some(Node::Empty);
            }
            matches_nothing = [&b"="[..], b"!", b"<=", b"<!"].into_iter().any(|kind| self.skip(kind));
            let is_plain = matches_nothing || [&b":"[..], b">", b"|"].into_iter().any(|kind| self.skip(kind));
            let is_named = !is_plain && [&b"P<"[..], b"<"].into_iter().any(|kind| self.skip(kind));
            if is_named {
                let end = self.rest.iter().position(|byte| *byte == b'>')?;
                self.rest = self.rest.get(end + 1..)?;
            } else if !is_plain {
                // Case and dots are taken for what matches most.
                let size =
                    self.rest.iter().take_while(|byte| matches!(byte, b'i' | b's' | b'-' | b'U')).count();
                let (options, rest) = self.rest.split_at_checked(size)?;
                self.rest = rest;
                if options.is_empty() {
                    return None;
                }
                if self.skip(b")") {
                    return Some(Node::Empty);
                }
                if !self.skip(b":") {
                    return None;
                }
            }
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let node = self.alternatives()?;
        self.depth -= 1;
        self.skip(b")").then_some(if matches_nothing { Node::Empty } else { node })
    }

    fn repeated(&mut self, mut node: Node) -> Option<Node> {
        loop {
            let (min, max) = match self.rest.first() {
                Some(b'*') => (0, None),
                Some(b'+') => (1, None),
                Some(b'?') => (0, Some(1)),
                Some(b'{') => {
                    let end = self.rest.iter().position(|byte| *byte == b'}')?;
                    let bounds = std::str::from_utf8(self.rest.get(1..end)?).ok()?;
                    self.rest = self.rest.get(end..)?;
                    let number = |text: &str| {
                        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
                        text.parse::<u32>().ok().filter(|number| is_number && *number <= u32::from(u16::MAX))
                    };
                    match bounds.split_once(',') {
                        None => (number(bounds)?, Some(number(bounds)?)),
                        Some((min, "")) => (number(min)?, None),
                        Some((min, max)) => (number(min)?, Some(number(max)?)),
                    }
                }
                _ => return Some(node),
            };
            self.rest = self.rest.get(1..)?;
            // Lazy and possessive ones match no more than greedy ones.
            let _ = self.skip(b"?") || self.skip(b"+");
            node = Node::Repeat { node: Box::new(node), min, max };
        }
    }

    /// A class of plain bytes, ranges of letters or digits, and names; everything else is unknown.
    fn class(&mut self) -> Option<ByteSet> {
        let is_negated = self.skip(b"^");
        // What stands there as itself, and what names stand for at most.
        let (mut plain, mut named) = (ByteSet::default(), ByteSet::default());
        let mut is_empty = true;
        loop {
            let byte = self.next()?;
            if byte == b']' {
                if is_empty {
                    return None;
                }
                break;
            }
            is_empty = false;
            match byte {
                b'[' => {
                    let inner = self.rest.strip_prefix(b":")?;
                    let size = inner.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
                    let (name, rest) = inner.split_at_checked(size)?;
                    self.rest = rest.strip_prefix(b":]")?;
                    named = named.union(class(name, true)?);
                    continue;
                }
                b'\\' => {
                    // What is no byte out of a class is something else within one.
                    let Node::Byte(set) = self.escaped()? else { return None };
                    named = named.union(set);
                    if self.rest.first() == Some(&b'-') && self.rest.get(1) != Some(&b']') {
                        return None;
                    }
                    continue;
                }
                _ => {}
            }
            if self.rest.first() == Some(&b'-') && self.rest.get(1) != Some(&b']') {
                let end = *self.rest.get(1)?;
                if !byte.is_ascii_alphanumeric() || !end.is_ascii_alphanumeric() || byte > end {
                    return None;
                }
                self.rest = self.rest.get(2..)?;
                (byte..=end).for_each(|byte| plain.insert(byte));
            } else {
                plain.insert(byte);
            }
        }
        if is_negated {
            // Names may stand for less, and other cases count only where case is ignored.
            return Some(plain.complement());
        }
        let set = plain.union(named);
        Some(ByteSet::with(|byte| {
            set.contains(byte.to_ascii_lowercase()) || set.contains(byte.to_ascii_uppercase())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_known(pattern: &str) -> bool {
        outline(pattern.as_bytes(), false).is_some()
    }

    #[test]
    fn unknown_syntax_has_no_outline() {
        for pattern in
            ["^Subject: (a|b+?)\\.c{2,}$", "(?i)^x", "[^a-z@]", "(?<n>a)(?=b)", "[[:alpha:]_]", "a#b"]
        {
            assert!(is_known(pattern), "{pattern}");
        }
        for pattern in [
            "\\Qa\\E", "(*UTF)a", "(?m)^a", "(?x)a b", "(?R)", "(a)\\1", "[[.a.]]", "[]a]", "\\x41",
            "(?(1)a)", "a{,3}", "(?1)", "[a-\\d]", "[\\d-z]", "(?P=n)", "[!--]", "\\p{L}",
        ] {
            assert!(!is_known(pattern), "{pattern}");
        }
    }
}
