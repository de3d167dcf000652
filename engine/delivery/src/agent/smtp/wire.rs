//! Content as it goes over the wire after DATA (RFC 5321 §4.5.2).

use mailrace_core::message::mime::TooDeep;
use mailrace_core::smtp::client::{DotStuffing, Downgrade};

/// The content of one message on its way to the server.
#[derive(Debug)]
pub(super) struct Content {
    wire: Wire,
    /// What makes it 7-bit, for a server that takes nothing else, and what that gave last.
    downgrade: Option<(Box<Downgrade>, Vec<u8>)>,
}

impl Content {
    pub(super) const fn new(line_length_limit: usize) -> Self {
        Self { wire: Wire::new(line_length_limit), downgrade: None }
    }

    /// Has it converted to 7 bits.
    pub(super) fn downgrade(&mut self) {
        self.downgrade = Some((Box::new(Downgrade::new()), Vec::new()));
    }

    /// Appends the next piece, as it is sent.
    ///
    /// # Errors
    /// [`TooDeep`]: it cannot be converted.
    pub(super) fn append(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), TooDeep> {
        match &mut self.downgrade {
            None => self.wire.append(piece, out),
            Some((downgrade, converted)) => {
                converted.clear();
                downgrade.append(piece, converted)?;
                self.wire.append(converted, out);
            }
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`TooDeep`]: it cannot be converted.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), TooDeep> {
        if let Some((downgrade, converted)) = &mut self.downgrade {
            converted.clear();
            downgrade.end(converted)?;
            self.wire.append(converted, out);
        }
        self.wire.end(out);
        Ok(())
    }
}

/// Doubles dots that begin a line, and breaks lines that are too long, in content that comes in pieces.
#[derive(Debug)]
struct Wire {
    stuffing: DotStuffing,
    /// Most bytes of a line without its end (`smtp_line_length_limit`); 0: no limit.
    limit: usize,
    /// Bytes of the present line so far.
    length: usize,
    /// The last byte was CR.
    is_after_cr: bool,
    /// Nothing was appended, or a line has just ended.
    is_at_line_start: bool,
}

impl Wire {
    const fn new(limit: usize) -> Self {
        Self { stuffing: DotStuffing::new(), limit, length: 0, is_after_cr: false, is_at_line_start: true }
    }

    /// Appends the next piece of content. A line that is too long goes on in the next line after a space, as Postfix has it,
    /// so that a field of the header stays one.
    fn append(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let (text, end) = line.split_at(text.strip_suffix(b"\r").unwrap_or(text).len());
            self.append_text(text, out);
            self.stuffing.append(end, out);
            self.is_at_line_start = end.ends_with(b"\n");
            self.is_after_cr = end == b"\r";
            if self.is_at_line_start {
                self.length = 0;
            }
        }
    }

    fn append_text(&mut self, mut text: &[u8], out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        // A CR at the end of the last piece was no end of a line.
        self.length += usize::from(self.is_after_cr);
        while self.limit > 0 && self.length + text.len() > self.limit {
            let (fits, rest) = text.split_at(self.limit.saturating_sub(self.length));
            self.stuffing.append(fits, out);
            self.stuffing.append(b"\r\n ", out);
            self.length = 1;
            text = rest;
        }
        self.stuffing.append(text, out);
        self.length += text.len();
    }

    /// Ends the content: its last line is ended if it is not.
    fn end(&mut self, out: &mut Vec<u8>) {
        if !self.is_at_line_start {
            out.extend_from_slice(if self.is_after_cr { b"\n" } else { b"\r\n" });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(limit: usize, pieces: &[&[u8]]) -> Vec<u8> {
        let (mut wire, mut out) = (Wire::new(limit), Vec::new());
        pieces.iter().for_each(|piece| wire.append(piece, &mut out));
        wire.end(&mut out);
        out
    }

    #[test]
    fn dots_are_doubled_and_the_last_line_is_ended() {
        assert_eq!(sent(0, &[b".a\r\n..\r\nb."]), b"..a\r\n...\r\nb.\r\n");
        assert_eq!(sent(0, &[b""]), b"");
        assert_eq!(sent(0, &[b"a\r"]), b"a\r\n");
        assert_eq!(sent(0, &[b"a\r\n", b"."]), b"a\r\n..\r\n");
    }

    #[test]
    fn lines_that_are_too_long_go_on_behind_a_space() {
        assert_eq!(sent(4, &[b"abcd\r\n"]), b"abcd\r\n");
        assert_eq!(sent(4, &[b"abcdefgh\r\n"]), b"abcd\r\n efg\r\n h\r\n");
        assert_eq!(sent(4, &[b".bcd.f\r\n"]), b"..bcd\r\n .f\r\n");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(content in "[a.\r\n]{0,40}", cut in 0..40usize, limit in 0..6usize) {
            let limit = if limit == 1 { 0 } else { limit };
            let content = content.replace("\r\n", "\n").replace('\r', "").replace('\n', "\r\n").into_bytes();
            let (first, second) = content.split_at(cut.min(content.len()));
            let whole = sent(limit, &[&content]);
            prop_assert_eq!(&sent(limit, &[first, second]), &whole);
            let longest = whole.split(|byte| *byte == b'\n').map(|line| line.len().saturating_sub(1)).max();
            // A dot that was doubled is not counted.
            prop_assert!(limit == 0 || longest.unwrap_or(0) <= limit + 1);
        }
    }
}
