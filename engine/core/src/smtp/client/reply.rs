//! Finds replies in received bytes (RFC 5321 §4.2).

use alloc::vec::Vec;
use core::fmt;

/// Splits received bytes into replies. Keeps only what a reply needs that has not been received to its end, so that
/// most replies are slices of the input.
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// Lines of the reply before its last one, with their line ends.
    earlier: Vec<u8>,
    /// Start of a line whose end has not been received, or the whole last line of the reply that was returned.
    partial: Vec<u8>,
    /// The reply in `earlier` and `partial` has been returned.
    is_returned: bool,
    /// Something invalid was received: where the next reply begins is unknown.
    has_failed: bool,
}

/// A whole reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    code: u16,
    line: &'a [u8],
    earlier: &'a [u8],
}

/// An enhanced status code (RFC 3463), such as 5.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// What the status is about, at most 999.
    pub subject: u16,
    /// The precise status, at most 999.
    pub detail: u16,
}

/// Received bytes that are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidReply<'a> {
    /// The rule that they break.
    pub violation: Violation,
    /// The line at fault without its line end, at most [`LINE_SIZE_MAX`] bytes of it.
    pub got: &'a [u8],
}

/// A rule that received bytes break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The line does not begin with a code from 200 to 599 that a space, a hyphen or the line's end follows.
    NoCode,
    /// The line is longer than [`LINE_SIZE_MAX`].
    LineTooLong,
    /// The lines of the reply are longer than [`REPLY_SIZE_MAX`] together.
    ReplyTooLong,
}

impl ReplyReader {
    /// Returns the next reply in `input`, which is advanced past it; `None` when all input was consumed.
    ///
    /// # Errors
    /// [`InvalidReply`]. All input after that is ignored until [`ReplyReader::reset`].
    pub fn read<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Option<Result<Reply<'a>, InvalidReply<'a>>> {
        if self.has_failed {
            *input = &[];
            return None;
        }
        if self.is_returned {
            self.is_returned = false;
            self.earlier.clear();
            self.partial.clear();
        }
        let (line, parsed) = loop {
            let Some((line, rest)) =
                memchr::memchr(b'\n', input).and_then(|at| input.split_at_checked(at + 1))
            else {
                let start = core::mem::take(input);
                if self.partial.len() + start.len() < LINE_SIZE_MAX {
                    self.partial.extend_from_slice(start);
                    return None;
                }
                break (start, Err(Violation::LineTooLong));
            };
            *input = rest;
            if self.partial.len() + line.len() > LINE_SIZE_MAX {
                break (line, Err(Violation::LineTooLong));
            }
            let whole = if self.partial.is_empty() {
                line
            } else {
                self.partial.extend_from_slice(line);
                &self.partial
            };
            match parse(whole) {
                Err(violation) => break (line, Err(violation)),
                Ok(_) if self.earlier.len() + whole.len() > REPLY_SIZE_MAX => {
                    break (line, Err(Violation::ReplyTooLong));
                }
                Ok((code, true)) => break (line, Ok(code)),
                Ok((_, false)) => {
                    self.earlier.extend_from_slice(whole);
                    self.partial.clear();
                }
            }
        };
        Some(self.finished(line, parsed))
    }

    /// `line` is the last line, or its end where `partial` has the start.
    fn finished<'a>(
        &'a mut self,
        line: &'a [u8],
        parsed: Result<u16, Violation>,
    ) -> Result<Reply<'a>, InvalidReply<'a>> {
        self.is_returned = true;
        match parsed {
            Ok(code) => {
                let line = if self.partial.is_empty() { line } else { &self.partial };
                Ok(Reply { code, line: without_line_end(line), earlier: &self.earlier })
            }
            Err(violation) => {
                self.has_failed = true;
                if violation == Violation::LineTooLong && !self.partial.is_empty() {
                    let room = LINE_SIZE_MAX - self.partial.len();
                    self.partial.extend(line.iter().take(room));
                }
                let line = if self.partial.is_empty() { line } else { &self.partial };
                let got = without_line_end(line.get(..LINE_SIZE_MAX).unwrap_or(line));
                Err(InvalidReply { violation, got })
            }
        }
    }

    /// Forgets an unfinished reply and everything invalid: the next bytes are those of a new connection.
    pub fn reset(&mut self) {
        self.earlier.clear();
        self.partial.clear();
        self.is_returned = false;
        self.has_failed = false;
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Returns the code of a line, and whether the line is the last one of its reply.
fn parse(line: &[u8]) -> Result<(u16, bool), Violation> {
    let [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = line else {
        return Err(Violation::NoCode);
    };
    let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    match rest {
        [b'-', ..] => Ok((code, false)),
        [b' ' | b'\n', ..] | [b'\r', b'\n'] => Ok((code, true)),
        _ => Err(Violation::NoCode),
    }
}

impl<'a> Reply<'a> {
    /// Three digits, of the last line where lines differ.
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// Whether the code is 2xx.
    #[must_use]
    pub const fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// The last line with its code, without its line end.
    #[must_use]
    pub const fn line(&self) -> &'a [u8] {
        self.line
    }

    /// All lines with their codes, without line ends.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let earlier = self.earlier.split_inclusive(|byte| *byte == b'\n').map(without_line_end);
        earlier.chain([self.line])
    }

    /// What follows the code in each line, without line ends.
    pub fn texts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.lines().map(|line| line.get(4..).unwrap_or_default())
    }

    /// The enhanced status code at the start of the last line's text, if its class is the code's (RFC 2034 §4).
    #[must_use]
    pub fn status(&self) -> Option<EnhancedStatus> {
        let word = self.line.get(4..)?.split(|byte| *byte == b' ').next()?;
        EnhancedStatus::parse(word).filter(|status| u16::from(status.class) == self.code / 100)
    }
}

impl EnhancedStatus {
    /// Parses `class.subject.detail` (RFC 3463 §2).
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        let mut parts = word.split(|byte| *byte == b'.');
        let class = match parts.next()? {
            [class @ (b'2' | b'4' | b'5')] => class - b'0',
            _ => return None,
        };
        let (subject, detail) = (number(parts.next()?)?, number(parts.next()?)?);
        parts.next().is_none().then_some(Self { class, subject, detail })
    }
}

/// One to three digits.
fn number(digits: &[u8]) -> Option<u16> {
    let is_valid = matches!(digits.len(), 1..=3) && digits.iter().all(u8::is_ascii_digit);
    is_valid.then(|| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCode => out.write_str("not a reply"),
            Self::LineTooLong => write!(out, "a line of a reply longer than {LINE_SIZE_MAX} bytes"),
            Self::ReplyTooLong => write!(out, "a reply longer than {REPLY_SIZE_MAX} bytes"),
        }
    }
}

/// Bytes of a line with its line end. RFC 5321 §4.5.3.1.5 allows 512; some servers send more.
pub const LINE_SIZE_MAX: usize = 4096;
/// Bytes of all lines of a reply.
pub const REPLY_SIZE_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_received_in_one_piece_takes_no_memory() {
        let mut reader = ReplyReader::default();
        let mut input = &b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"[..];
        while let Some(reply) = reader.read(&mut input) {
            assert!(reply.is_ok());
        }
        assert_eq!((reader.earlier.capacity(), reader.partial.capacity()), (0, 0));
    }
}
