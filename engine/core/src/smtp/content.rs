//! Owns how content is read off the wire: line ends, dots, and where it stops (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! Most content is clean: CRLF after each line, no CR or LF anywhere else. Such a stretch is found with two
//! vectorised looks at it and handed out as it lies in the receive buffer. Anything else goes octet by octet.

use super::settings::BareNewline;

/// Reads the content of one message, in pieces of any size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    place: Place,
    bare_newline: BareNewline,
    /// Whether dots mean something: DATA, not BDAT.
    has_dots: bool,
    saw_bare_newline: bool,
    /// Octets that go line by line: those behind a look that found something odd. Else content that is odd all over would
    /// cost a look at a whole window for each of its lines.
    odd: usize,
}

/// Where in a line the next octet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the first octet; the line before ended in a bare LF.
    Start { after_bare: bool },
    /// Behind a first dot.
    Dot { after_bare: bool },
    /// Behind a first dot and CR.
    DotCr { after_bare: bool },
    /// Further on.
    Middle,
    /// Behind so many CRs that were not handed out.
    Cr { count: u16 },
}

/// What a step found.
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
/// For so many CRs in a row; further ones are no part of a line end.
const BLANKS: &[u8] = &[b' '; 64];
/// Octets that are looked at before anything is handed out.
const WINDOW: usize = 8192;

impl Decoder {
    pub(super) const fn new(bare_newline: BareNewline, has_dots: bool) -> Self {
        let place = Place::Start { after_bare: false };
        Self { place, bare_newline, has_dots, saw_bare_newline: false, odd: 0 }
    }

    /// Whether a line ended in a bare LF where that is to be refused.
    pub(super) fn is_refused(&self) -> bool {
        self.saw_bare_newline && self.bare_newline == BareNewline::Reject
    }

    /// The line end that the last line lacks.
    pub(super) const fn finish(&mut self) -> &'static [u8] {
        match self.place {
            Place::Middle | Place::Cr { .. } => CRLF,
            Place::Start { .. } | Place::Dot { .. } | Place::DotCr { .. } => b"",
        }
    }

    /// Takes some of `input`: how much, and what it was.
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
                        return (consumed + size, Decoded::Piece(rest.get(..size).unwrap_or_default()));
                    }
                    consumed += 1;
                    if octet == b'\r' {
                        self.place = Place::Cr { count: 1 };
                    } else {
                        return (consumed, Decoded::Piece(self.bare_line_end()));
                    }
                }
                Place::Dot { after_bare } => match octet {
                    b'\r' => {
                        self.place = Place::DotCr { after_bare };
                        consumed += 1;
                    }
                    b'\n' => {
                        consumed += 1;
                        // Where it ends nothing, such a line is dropped: to whoever wrote it, it was no text.
                        let _ = self.bare_line_end();
                        if self.bare_newline == BareNewline::Accept {
                            return (consumed, Decoded::End);
                        }
                    }
                    // The dot was stuffed.
                    _ => self.place = Place::Middle,
                },
                Place::DotCr { after_bare } => {
                    if octet != b'\n' {
                        self.place = Place::Cr { count: 1 };
                        continue;
                    }
                    consumed += 1;
                    if !after_bare || self.bare_newline == BareNewline::Accept {
                        return (consumed, Decoded::End);
                    }
                    self.place = Place::Start { after_bare: false };
                }
                // All CRs before an LF are of the line end, as in Postfix; but a dot and more than one end nothing.
                Place::Cr { .. } if octet == b'\n' => {
                    self.place = Place::Start { after_bare: false };
                    return (consumed + 1, Decoded::Piece(CRLF));
                }
                Place::Cr { count } if octet == b'\r' && usize::from(count) < BLANKS.len() => {
                    self.place = Place::Cr { count: count + 1 };
                    consumed += 1;
                }
                Place::Cr { count } => {
                    // A CR without LF is written as a blank (Postfix: cleanup_replace_stray_cr_lf), so that nobody
                    // behind us can take it for a line end.
                    self.place = Place::Middle;
                    let blanks = BLANKS.get(..usize::from(count)).unwrap_or_default();
                    return (consumed, Decoded::Piece(blanks));
                }
            }
        }
        (consumed, Decoded::Nothing)
    }

    fn bare_line_end(&mut self) -> &'static [u8] {
        self.saw_bare_newline = true;
        self.place = Place::Start { after_bare: true };
        CRLF
    }

    /// Octets at the front of `rest`, up to the next line that begins with a dot, if all of their line ends are
    /// CRLF; else none.
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

    /// Octets at the front of `rest` without CR and LF.
    fn stretch(&mut self, rest: &[u8]) -> usize {
        let size = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        if size > 0 {
            self.place = Place::Middle;
        }
        size
    }
}

/// Whether each LF but one at the front has a CR before it, and each CR but one at the end an LF behind it.
///
/// Written so that the compiler makes it 32 octets a step; a test for each line end takes three times as long.
fn is_clean(stretch: &[u8]) -> bool {
    const STEP: usize = 1024;
    let behind = stretch.get(1..).unwrap_or_default();
    stretch.chunks(STEP).zip(behind.chunks(STEP)).all(|(octets, behind)| {
        let odd = octets
            .iter()
            .zip(behind)
            .fold(0u8, |odd, (octet, next)| odd | (u8::from(*octet == b'\r') ^ u8::from(*next == b'\n')));
        odd == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// All content of `input`, given in pieces of `piece` octets, and what is left behind the end.
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
        out.extend_from_slice(decoder.finish());
        (out, None, decoder.saw_bare_newline)
    }

    /// The same from the rules, a line after the other.
    fn decode_slowly(mode: BareNewline, has_dots: bool, input: &[u8]) -> (Vec<u8>, Option<usize>, bool) {
        let (mut out, mut saw_bare, mut after_bare, mut start) = (Vec::new(), false, false, 0);
        while start < input.len() {
            let end = input[start..].iter().position(|octet| *octet == b'\n').map(|place| start + place);
            let next = end.map_or(input.len(), |end| end + 1);
            let line = &input[start..end.unwrap_or(input.len())];
            let (line, is_bare) = match (end, line.strip_suffix(b"\r")) {
                (Some(_), Some(line)) => (line, false),
                (Some(_), None) => (line, true),
                (None, Some(line)) => (line, false),
                (None, None) => (line, false),
            };
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
            if has_dots
                && end.is_none()
                && (input.ends_with(b"\n.") || input.ends_with(b"\n.\r") || input == b"." || input == b".\r")
            {
                break;
            }
            let line = if has_dots { line.strip_prefix(b".").unwrap_or(line) } else { line };
            let end = line.iter().rposition(|octet| *octet != b'\r').map_or(0, |last| last + 1);
            let line = if is_bare { line } else { &line[..end] };
            out.extend(line.iter().map(|octet| if *octet == b'\r' { b' ' } else { *octet }));
            out.extend_from_slice(CRLF);
        }
        (out, None, saw_bare)
    }

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop::sample::select(
            &["\r\n", "\r\n", "\n", "\r", ".", "..", "a", "text ", "\r\n.", "\r\n.\r\n"][..],
        );
        prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat().into_bytes())
    }

    fn modes() -> impl Strategy<Value = BareNewline> {
        prop::sample::select(&[BareNewline::Accept, BareNewline::Normalize, BareNewline::Reject][..])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn fast_is_as_slow(input in octets(), mode in modes(), has_dots: bool, piece in 1usize..40) {
            let expected = decode_slowly(mode, has_dots, &input);
            prop_assert_eq!(&decode(Decoder::new(mode, has_dots), &input, piece), &expected);
            prop_assert_eq!(&decode(Decoder::new(mode, has_dots), &input, 4096), &expected);
        }

        #[test]
        fn nothing_but_crlf_ends_a_line(input in octets(), mode in modes()) {
            let (out, ..) = decode(Decoder::new(mode, true), &input, 4096);
            let odd = out.windows(2).filter(|pair| (pair[0] == b'\r') != (pair[1] == b'\n')).count();
            prop_assert_eq!(odd, 0);
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
