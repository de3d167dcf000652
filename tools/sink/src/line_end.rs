//! Line ends as RFC 5321 2.3.8 wants them: CR and LF only together, and at the end of the last line, too.

use std::fmt;

/// Watches the bytes of one message's content as they come over the wire.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineEnds {
    last: Option<u8>,
    /// Lines that have ended.
    lines: u64,
    found: Option<LineEndFault>,
}

/// The first line end that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEndFault {
    /// LF without CR before it, in the line with this number.
    BareLf(u64),
    /// CR without LF after it, in the line with this number.
    BareCr(u64),
    /// The last line, which has this number, has no line end.
    Unterminated(u64),
}

impl LineEnds {
    /// Looks at the next bytes.
    pub(crate) fn look(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().copied() {
            let line = self.lines + 1;
            match (self.last, byte) {
                (Some(b'\r'), b'\n') => self.lines += 1,
                (Some(b'\r'), _) => self.fault(LineEndFault::BareCr(line)),
                (_, b'\n') => {
                    self.fault(LineEndFault::BareLf(line));
                    self.lines += 1;
                }
                _ => {}
            }
            self.last = Some(byte);
        }
    }

    /// What is wrong with content that ends here.
    pub(crate) const fn end(&self) -> Option<LineEndFault> {
        let line = self.lines + 1;
        match (self.found, self.last) {
            (Some(fault), _) => Some(fault),
            (None, None | Some(b'\n')) => None,
            (None, Some(b'\r')) => Some(LineEndFault::BareCr(line)),
            (None, Some(_)) => Some(LineEndFault::Unterminated(line)),
        }
    }

    fn fault(&mut self, fault: LineEndFault) {
        self.found.get_or_insert(fault);
    }
}

impl fmt::Display for LineEndFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareLf(line) => write!(out, "bare <LF> in line {line}"),
            Self::BareCr(line) => write!(out, "bare <CR> in line {line}"),
            Self::Unterminated(line) => write!(out, "no <CR><LF> at the end of line {line}, the last one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &[u8]) -> Option<LineEndFault> {
        let mut whole = LineEnds::default();
        whole.look(text);
        let mut single = LineEnds::default();
        text.chunks(1).for_each(|byte| single.look(byte));
        assert_eq!(whole.end(), single.end(), "{text:?}");
        whole.end()
    }

    #[test]
    fn only_cr_and_lf_together_end_a_line() {
        for clean in [&b""[..], b"\r\n", b"a\r\n", b"a\r\n\r\nb\r\n"] {
            assert_eq!(fault(clean), None, "{clean:?}");
        }
        for (text, expected) in [
            (&b"\n"[..], LineEndFault::BareLf(1)),
            (b"a\r\nb\n", LineEndFault::BareLf(2)),
            (b"a\n\r\n", LineEndFault::BareLf(1)),
            (b"\r", LineEndFault::BareCr(1)),
            (b"a\r\nb\rc\r\n", LineEndFault::BareCr(2)),
            (b"a\r\r\n", LineEndFault::BareCr(1)),
            (b"a\r\nb\r", LineEndFault::BareCr(2)),
            (b"a", LineEndFault::Unterminated(1)),
            (b"a\r\nb", LineEndFault::Unterminated(2)),
            // The first fault is the one that is reported.
            (b"a\nb\rc", LineEndFault::BareLf(1)),
        ] {
            assert_eq!(fault(text), Some(expected), "{text:?}");
        }
    }
}
