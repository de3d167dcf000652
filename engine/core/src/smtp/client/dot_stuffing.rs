//! Dot stuffing for content after DATA (RFC 5321 §4.5.2).

use alloc::vec::Vec;

/// Doubles the dots that begin a line, in content that comes in pieces.
#[derive(Clone, Copy, Debug)]
pub struct DotStuffing {
    is_at_line_start: bool,
}

impl DotStuffing {
    /// At the start of content.
    #[must_use]
    pub const fn new() -> Self {
        Self { is_at_line_start: true }
    }

    /// Appends the next piece of content, whose line ends are CRLF.
    pub fn append(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.is_at_line_start && line.starts_with(b".") {
                out.push(b'.');
            }
            out.extend_from_slice(line);
            self.is_at_line_start = line.ends_with(b"\n");
        }
    }
}

impl Default for DotStuffing {
    fn default() -> Self {
        Self::new()
    }
}
