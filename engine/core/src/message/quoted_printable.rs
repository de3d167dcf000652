//! Quoted-printable (RFC 2045 §6.7), encoded line by line as Postfix does.

use alloc::vec::Vec;

/// A line that grows beyond this number of bytes is broken before its next byte. With a last escape and the `=` of the
/// break it has at most 76 (RFC 2045 §6.7 rule 5).
const LINE_FULL: usize = 72;

/// Encodes text that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuotedPrintable {
    /// Bytes of the current line of output, `space` among them.
    column: usize,
    /// A space or tab that is escaped if the line ends after it.
    space: Option<u8>,
}

impl QuotedPrintable {
    /// Before the first line.
    #[must_use]
    pub const fn new() -> Self {
        Self { column: 0, space: None }
    }

    /// Encodes a piece of a line. A line end in it is data.
    pub fn append(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for byte in piece {
            out.extend(self.space.take());
            if self.column > LINE_FULL {
                out.extend_from_slice(b"=\r\n");
                self.column = 0;
            }
            match byte {
                b' ' | b'\t' => {
                    self.space = Some(*byte);
                    self.column += 1;
                }
                b'=' => self.escape(*byte, out),
                b'!'..=b'~' => {
                    out.push(*byte);
                    self.column += 1;
                }
                _ => self.escape(*byte, out),
            }
        }
    }

    /// Ends the line.
    pub fn end_line(&mut self, out: &mut Vec<u8>) {
        if let Some(space) = self.space.take() {
            self.escape(space, out);
        }
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + (value - 10) };
        out.extend_from_slice(&[b'=', digit(byte >> 4), digit(byte & 15)]);
        self.column += 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(lines: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut out) = (QuotedPrintable::new(), Vec::new());
        for line in lines {
            line.chunks(5).for_each(|piece| encoder.append(piece, &mut out));
            encoder.end_line(&mut out);
        }
        out
    }

    #[test]
    fn escapes_what_a_line_of_seven_bits_cannot_hold() {
        assert_eq!(encoded(&["Gr\u{fc}n = \t".as_bytes()]), b"Gr=C3=BCn =3D =09\r\n");
        assert_eq!(encoded(&[b"a\r\n\0\x7f~", b"", b" "]), b"a=0D=0A=00=7F~\r\n\r\n=20\r\n");
    }

    #[test]
    fn breaks_lines_where_postfix_does() {
        let x = |count: usize| alloc::vec![b'x'; count];
        let line = |count, end: &[u8]| encoded(&[&[&x(count), end].concat()]);
        assert_eq!(line(73, b""), [&x(73)[..], b"\r\n"].concat());
        assert_eq!(line(74, b""), [&x(73)[..], b"=\r\nx\r\n"].concat());
        assert_eq!(line(72, b" "), [&x(72)[..], b"=20\r\n"].concat());
        assert_eq!(line(73, b" "), [&x(73)[..], b"=\r\n=20\r\n"].concat());
        assert_eq!(line(72, b" x"), [&x(72)[..], b" =\r\nx\r\n"].concat());
        assert_eq!(line(72, b"=="), [&x(72)[..], b"=3D=\r\n=3D\r\n"].concat());
    }
}
