//! Decodes content on the wire: line ends, dots, and its end (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! CRs outside line ends become spaces, as in Postfix (`cleanup_replace_stray_cr_lf`). Of the CRs before
//! an LF, one belongs to the line end; where bare newlines are accepted, all of them do. An empty line with an extra CR
//! is therefore a line with a space, and does not end a header section.
//!
//! Most content is clean: CRLF after each line, no CR or LF anywhere else. Two vectorised passes find such a stretch,
//! which is returned in place, in the receive buffer. Anything else is decoded byte by byte.

use super::settings::BareNewline;

/// Reads the content of one message, in pieces of any size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    place: Place,
    bare_newline: BareNewline,
    /// Whether dots are stuffed: DATA, not BDAT.
    has_dots: bool,
    saw_bare_newline: bool,
    /// Content was returned.
    has_begun: bool,
    /// The content begins with a stuffed dot, or with a CR that became a space.
    has_odd_start: bool,
    /// Bytes left to decode line by line, after a pass that found something odd. Otherwise, content that is odd throughout
    /// would cost a pass over a whole window for each of its lines.
    odd: usize,
}

/// Position of the next byte in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the first byte; the line before ended in a bare LF.
    Start { after_bare: bool },
    /// After a first dot.
    Dot { after_bare: bool },
    /// After a first dot and CR.
    DotCr { after_bare: bool },
    /// Inside the line.
    Middle,
    /// After this number of CRs that were not returned yet; more than one only where bare newlines are accepted.
    Cr { count: u64 },
    /// Inside the line, with this number of spaces to return for CRs.
    Blanks { count: u64 },
}

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoded<'a> {
    /// Content, with CRLF line ends, without stuffed dots.
    Piece(&'a [u8]),
    /// All of the input is used.
    Nothing,
    /// The line with the single dot was read.
    End,
}

const CRLF: &[u8] = b"\r\n";
/// Spaces that are returned at once.
const BLANKS: &[u8] = &[b' '; 64];
/// Bytes that are scanned before anything is returned.
const WINDOW: usize = 8192;

impl Decoder {
    pub(super) const fn new(bare_newline: BareNewline, has_dots: bool) -> Self {
        let place = Place::Start { after_bare: false };
        Self {
            place,
            bare_newline,
            has_dots,
            saw_bare_newline: false,
            has_begun: false,
            has_odd_start: false,
            odd: 0,
        }
    }

    /// Whether a line ended in a bare LF where that is to be refused.
    pub(super) fn is_refused(&self) -> bool {
        self.saw_bare_newline && self.bare_newline == BareNewline::Reject
    }

    /// Whether the first byte returned was not the first received, so that Postfix saw another first byte.
    pub(super) const fn has_odd_start(&self) -> bool {
        self.has_odd_start
    }

    /// Returns what the last line lacks, one piece per call: spaces for CRs at its end, and its line end.
    pub(super) fn finish(&mut self) -> &'static [u8] {
        if let Place::Cr { count } = self.place {
            self.place = Place::Blanks { count };
        }
        match self.place {
            Place::Blanks { count } => self.blanks(count),
            Place::Middle => {
                self.place = Place::Start { after_bare: false };
                CRLF
            }
            Place::Start { .. } | Place::Dot { .. } | Place::DotCr { .. } | Place::Cr { .. } => b"",
        }
    }

    /// Decodes a part of `input`; returns its size and its meaning.
    pub(super) fn step<'a>(&mut self, input: &'a [u8]) -> (usize, Decoded<'a>) {
        let mut consumed = 0;
        while let Some(octet) = input.get(consumed).copied() {
            let rest = input.get(consumed..).unwrap_or_default();
            match self.place {
                Place::Start { after_bare } if self.has_dots && octet == b'.' => {
                    self.place = Place::Dot { after_bare };
                    consumed += 1;
                }
                Place::Start { .. } | Place::Middle => {
                    let mut size = self.clean_stretch(rest);
                    if size == 0 {
                        size = self.stretch(rest);
                        self.odd = self.odd.saturating_sub(size.max(1));
                    }
                    if size > 0 {
                        self.has_begun = true;
                        return (consumed + size, Decoded::Piece(rest.get(..size).unwrap_or_default()));
                    }
                    consumed += 1;
                    if octet == b'\r' {
                        self.place = Place::Cr { count: 1 };
                    } else {
                        return (consumed, Decoded::Piece(self.bare_line_end()));
                    }
                }
                Place::Dot { after_bare } => {
                    let (size, is_end) = self.after_dot(octet, after_bare);
                    consumed += size;
                    if is_end {
                        return (consumed, Decoded::End);
                    }
                }
                Place::DotCr { after_bare } => {
                    let (size, is_end) = self.after_dot_and_cr(octet, after_bare);
                    consumed += size;
                    if is_end {
                        return (consumed, Decoded::End);
                    }
                }
                Place::Cr { .. } if octet == b'\n' => {
                    self.has_begun = true;
                    self.place = Place::Start { after_bare: false };
                    return (consumed + 1, Decoded::Piece(CRLF));
                }
                Place::Cr { count } if octet == b'\r' && self.bare_newline == BareNewline::Accept => {
                    self.place = Place::Cr { count: count + 1 };
                    consumed += 1;
                }
                // Later readers of the message cannot take a space for a line end.
                Place::Cr { count } => self.place = Place::Blanks { count },
                Place::Blanks { count } => return (consumed, Decoded::Piece(self.blanks(count))),
            }
        }
        (consumed, Decoded::Nothing)
    }

    /// Decodes what follows the dot at the front of a line. Returns the number of bytes used, and whether the content ends.
    #[inline]
    fn after_dot(&mut self, octet: u8, after_bare: bool) -> (usize, bool) {
        match octet {
            b'\r' => {
                self.place = Place::DotCr { after_bare };
                (1, false)
            }
            b'\n' => {
                // Where such a line ends nothing, it is dropped, because its writer did not mean it as text.
                let _ = self.bare_line_end();
                (1, self.bare_newline == BareNewline::Accept)
            }
            // The dot was stuffed.
            _ => {
                self.has_odd_start |= !self.has_begun;
                self.place = Place::Middle;
                (0, false)
            }
        }
    }

    /// Decodes what follows such a dot and a CR. Returns the same.
    #[inline]
    fn after_dot_and_cr(&mut self, octet: u8, after_bare: bool) -> (usize, bool) {
        if octet != b'\n' {
            // A dot and several CRs never end content.
            self.has_odd_start |= !self.has_begun;
            self.place = Place::Cr { count: 1 };
            return (0, false);
        }
        if !after_bare || self.bare_newline == BareNewline::Accept {
            return (1, true);
        }
        self.place = Place::Start { after_bare: false };
        (1, false)
    }

    fn blanks(&mut self, count: u64) -> &'static [u8] {
        self.has_odd_start |= !self.has_begun;
        self.has_begun = true;
        let size = usize::try_from(count).unwrap_or(usize::MAX).min(BLANKS.len());
        let left = count - size as u64;
        self.place = if left > 0 { Place::Blanks { count: left } } else { Place::Middle };
        BLANKS.get(..size).unwrap_or_default()
    }

    fn bare_line_end(&mut self) -> &'static [u8] {
        self.has_begun = true;
        self.saw_bare_newline = true;
        self.place = Place::Start { after_bare: true };
        CRLF
    }

    /// Returns the number of bytes before the next line that begins with a dot, if all of their line ends are
    /// CRLF; else 0.
    fn clean_stretch(&mut self, rest: &[u8]) -> usize {
        if self.odd > 0 {
            return 0;
        }
        let rest = rest.get(..rest.len().min(WINDOW)).unwrap_or_default();
        let dot = if self.has_dots { memchr::memmem::find(rest, b"\n.") } else { None };
        let mut size = dot.map_or(rest.len(), |place| place + 1);
        let is_cut = rest.get(size.wrapping_sub(1)) == Some(&b'\r');
        size -= usize::from(is_cut);
        let stretch = rest.get(..size).unwrap_or_default();
        let Some(last) = stretch.last() else { return 0 };
        if stretch.first() == Some(&b'\n') || *last == b'\r' || !is_clean(stretch) {
            self.odd = WINDOW;
            return 0;
        }
        self.place = if *last == b'\n' { Place::Start { after_bare: false } } else { Place::Middle };
        size
    }

    /// Returns the number of bytes before the first CR or LF.
    fn stretch(&mut self, rest: &[u8]) -> usize {
        let size = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        if size > 0 {
            self.place = Place::Middle;
        }
        size
    }
}

/// Whether each LF but one at the front follows a CR, and each CR but one at the end precedes an LF.
///
/// The compiler vectorises this to 32 bytes per step; a test of each line end takes three times as long.
fn is_clean(stretch: &[u8]) -> bool {
    const STEP: usize = 1024;
    let behind = stretch.get(1..).unwrap_or_default();
    stretch.chunks(STEP).zip(behind.chunks(STEP)).all(|(octets, behind)| {
        let pairs = octets.iter().zip(behind);
        !pairs.fold(false, |is_odd, (octet, next)| is_odd | ((*octet == b'\r') ^ (*next == b'\n')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Returns the content of `input`, given in pieces of `piece` bytes, and the input after its end.
    fn decode(mut decoder: Decoder, input: &[u8], piece: usize) -> (Vec<u8>, Option<usize>, bool) {
        let mut out = Vec::new();
        let mut given = 0;
        for part in input.chunks(piece.max(1)) {
            let mut used = 0;
            loop {
                let (consumed, decoded) = decoder.step(&part[used..]);
                used += consumed;
                match decoded {
                    Decoded::Piece(octets) => {
                        assert!(consumed > 0 || octets.iter().all(|octet| *octet == b' '), "no progress");
                        out.extend_from_slice(octets);
                    }
                    Decoded::Nothing => break,
                    Decoded::End => return (out, Some(given + used), decoder.saw_bare_newline),
                }
            }
            assert_eq!(used, part.len());
            given += part.len();
        }
        loop {
            let octets = decoder.finish();
            if octets.is_empty() {
                return (out, None, decoder.saw_bare_newline);
            }
            out.extend_from_slice(octets);
        }
    }

    /// The same from the rules, a line after the other.
    fn decode_slowly(mode: BareNewline, has_dots: bool, input: &[u8]) -> (Vec<u8>, Option<usize>, bool) {
        let (mut out, mut saw_bare, mut after_bare, mut start) = (Vec::new(), false, false, 0);
        while start < input.len() {
            let end = input[start..].iter().position(|octet| *octet == b'\n').map(|place| start + place);
            let next = end.map_or(input.len(), |end| end + 1);
            let line = &input[start..end.unwrap_or(input.len())];
            let has_cr = end.is_some() && line.ends_with(b"\r");
            let is_bare = end.is_some() && !has_cr;
            let line = if has_cr { &line[..line.len() - 1] } else { line };
            saw_bare |= is_bare;
            let was_after_bare = after_bare;
            after_bare = is_bare;
            start = next;
            if has_dots && line == b"." && end.is_some() {
                if mode == BareNewline::Accept || !(is_bare || was_after_bare) {
                    return (out, Some(next), saw_bare);
                }
                continue;
            }
            if has_dots && end.is_none() && matches!(line, b"." | b".\r") {
                break;
            }
            let line = if has_dots { line.strip_prefix(b".").unwrap_or(line) } else { line };
            let line = match (has_cr, mode) {
                (true, BareNewline::Accept) => {
                    &line[..line.iter().rposition(|octet| *octet != b'\r').map_or(0, |last| last + 1)]
                }
                _ => line,
            };
            out.extend(line.iter().map(|octet| if *octet == b'\r' { b' ' } else { *octet }));
            out.extend_from_slice(CRLF);
        }
        (out, None, saw_bare)
    }

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop::sample::select(
            &["\r\n", "\r\n", "\n", "\r", "\r\r\n", ".", "..", "a", "text ", "\r\n.", "\r\n.\r\n"][..],
        );
        prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat().into_bytes())
    }

    fn modes() -> impl Strategy<Value = BareNewline> {
        prop::sample::select(&[BareNewline::Accept, BareNewline::Normalize, BareNewline::Reject][..])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_fast_scan_equals_the_slow_one(input in octets(), mode in modes(), has_dots: bool, piece in 1usize..40) {
            let expected = decode_slowly(mode, has_dots, &input);
            prop_assert_eq!(&decode(Decoder::new(mode, has_dots), &input, piece), &expected);
            prop_assert_eq!(&decode(Decoder::new(mode, has_dots), &input, 4096), &expected);
        }

        #[test]
        fn only_crlf_ends_a_line(input in octets(), mode in modes()) {
            let (out, ..) = decode(Decoder::new(mode, true), &input, 4096);
            let odd = out.windows(2).filter(|pair| (pair[0] == b'\r') != (pair[1] == b'\n')).count();
            prop_assert_eq!(odd, 0);
        }
    }

    fn content(mode: BareNewline, has_dots: bool, input: &str) -> alloc::string::String {
        let (out, ..) = decode(Decoder::new(mode, has_dots), input.as_bytes(), usize::MAX);
        for piece in 1..input.len() {
            assert_eq!(
                decode(Decoder::new(mode, has_dots), input.as_bytes(), piece).0,
                out,
                "{piece} {input:?}"
            );
        }
        alloc::string::String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_cr_belongs_to_a_line_end_and_others_become_spaces() {
        for (input, data, chunk) in [
            ("a\r\r\nb\r\n", "a \r\nb\r\n", "a \r\nb\r\n"),
            ("A: b\r\n\r\r\nC: d\r\n", "A: b\r\n \r\nC: d\r\n", "A: b\r\n \r\nC: d\r\n"),
            ("a\r\r\r\r\n", "a   \r\n", "a   \r\n"),
            ("a\rb\r\n", "a b\r\n", "a b\r\n"),
            (".\r\r\na\r\n", " \r\na\r\n", ". \r\na\r\n"),
            (".\ra\r\n", " a\r\n", ". a\r\n"),
            ("a\r", "a \r\n", "a \r\n"),
            ("a\r\r", "a  \r\n", "a  \r\n"),
            ("\r", " \r\n", " \r\n"),
            ("\r\n", "\r\n", "\r\n"),
        ] {
            for mode in [BareNewline::Normalize, BareNewline::Reject] {
                assert_eq!(content(mode, true, input), data, "{input:?}");
                assert_eq!(content(mode, false, input), chunk, "{input:?}");
            }
        }
    }

    #[test]
    fn all_crs_belong_to_a_line_end_where_bare_newlines_are_accepted() {
        for (input, data, chunk) in [
            ("a\r\r\nb\r\n", "a\r\nb\r\n", "a\r\nb\r\n"),
            ("A: b\r\n\r\r\nC: d\r\n", "A: b\r\n\r\nC: d\r\n", "A: b\r\n\r\nC: d\r\n"),
            ("a\r\rb\r\n", "a  b\r\n", "a  b\r\n"),
            ("a\r\n.\r\r\nb\r\n", "a\r\n\r\nb\r\n", "a\r\n.\r\nb\r\n"),
            ("a\r\n.\r\rb\r\n", "a\r\n  b\r\n", "a\r\n.  b\r\n"),
            ("a\r\r", "a  \r\n", "a  \r\n"),
        ] {
            assert_eq!(content(BareNewline::Accept, true, input), data, "{input:?}");
            assert_eq!(content(BareNewline::Accept, false, input), chunk, "{input:?}");
        }
        let many = alloc::format!("a{}", "\r".repeat(1000));
        assert_eq!(content(BareNewline::Accept, true, &alloc::format!("{many}\n")), "a\r\n");
        assert_eq!(content(BareNewline::Accept, true, &many), alloc::format!("a{}\r\n", " ".repeat(1000)));
    }

    #[test]
    fn an_unusual_start_is_recognised_in_the_first_piece() {
        for (input, is_odd) in [
            ("\rA: b\r\n", true),
            ("\r\r\nA: b\r\n", true),
            (". A: b\r\n", true),
            (".\r\r\n", true),
            ("\r\n\rA: b\r\n", false),
            ("A: b\r\n.c\r\n", false),
            (" A: b\r\n", false),
            ("\n\rA: b\r\n", false),
        ] {
            for piece in 1..=input.len() {
                let mut decoder = Decoder::new(BareNewline::Normalize, true);
                let is_found = input.as_bytes().chunks(piece).any(|part| {
                    let (_, decoded) = decoder.step(part);
                    matches!(decoded, Decoded::Piece(_))
                });
                assert!(is_found, "{input:?}");
                assert_eq!(decoder.has_odd_start(), is_odd, "{input:?}");
            }
        }
    }

    #[test]
    fn clean_content_is_one_piece() {
        let input = b"Subject: x\r\n\r\nline\r\nline\r\n.\r\nQUIT\r\n";
        let mut decoder = Decoder::new(BareNewline::Normalize, true);
        let (consumed, decoded) = decoder.step(input);
        assert_eq!(decoded, Decoded::Piece(&input[..26]));
        assert_eq!(decoder.step(&input[consumed..]), (3, Decoded::End));
    }
}
