//! The fields of a header section as slices of the content (RFC 5322 §2.2).

/// The next thing in a header section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole field, folded lines and last line end included.
    Field(Field<'a>),
    /// The empty line that ends the header section; its length in bytes.
    End(usize),
    /// A line that is no field: the body begins here, without an empty line.
    Body,
    /// The field is not whole yet.
    Incomplete,
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// All bytes of the field, with its line ends.
    pub raw: &'a [u8],
    /// Bytes of the name, at the front of `raw`.
    pub name_size: usize,
    /// The offset of the colon in `raw`; past the name if spaces are between them.
    pub colon: usize,
    /// It goes over several lines.
    pub is_folded: bool,
    /// A NUL is in it.
    pub has_nul: bool,
}

impl<'a> Field<'a> {
    /// The name as the client spelled it.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.raw.get(..self.name_size).unwrap_or_default()
    }

    /// What follows the colon, without the last line end.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        let body = self.raw.get(self.colon + 1..).unwrap_or_default();
        body.strip_suffix(b"\r\n").unwrap_or(body)
    }

    /// Whether the name is `name`, in any case.
    #[must_use]
    pub fn is(&self, name: &[u8]) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }
}

/// Reads the next item of a header section from the front of `input`; lines end with CRLF.
///
/// `is_whole`: nothing follows `input`, so that its last line is complete without a line end.
#[must_use]
#[inline(always)] // An item that goes through memory costs as much as finding it.
pub fn next_item(input: &[u8], is_whole: bool) -> Item<'_> {
    let name_size = name_size(input);
    let Some(colon) = colon_after(input, name_size) else { return no_field(input, is_whole) };
    let mut end = colon + 1;
    let (mut is_folded, mut has_nul) = (false, false);
    loop {
        let Some(next) = line_end(input, end, is_whole, &mut has_nul) else { return Item::Incomplete };
        end = next;
        match input.get(end) {
            Some(b' ' | b'\t') => is_folded = true,
            Some(_) => break,
            None if is_whole => break,
            // The next byte says whether the field continues.
            None => return Item::Incomplete,
        }
    }
    Item::Field(Field { raw: input.get(..end).unwrap_or_default(), name_size, colon, is_folded, has_nul })
}

/// What is at the front of `input`, where no name and colon are.
fn no_field(input: &[u8], is_whole: bool) -> Item<'_> {
    match line_end(input, 0, is_whole, &mut true) {
        Some(end) if end == 0 || input.starts_with(b"\r\n") => Item::End(end),
        Some(_) => Item::Body,
        None if can_become_field(input) => Item::Incomplete,
        None => Item::Body,
    }
}

/// Bytes of the field name at the front of a line and the place of the colon; `None` if the line is no field.
///
/// A name is printable ASCII without blank and colon; blanks may stand before the colon.
#[must_use]
pub fn field_name(line: &[u8]) -> Option<(usize, usize)> {
    let name_size = name_size(line);
    colon_after(line, name_size).map(|colon| (name_size, colon))
}

/// The offset of the colon after a name of `name_size` bytes.
fn colon_after(line: &[u8], name_size: usize) -> Option<usize> {
    if name_size == 0 {
        return None;
    }
    match line.get(name_size)? {
        b':' => Some(name_size),
        b' ' | b'\t' => {
            let rest = line.get(name_size..)?;
            let blanks = rest.iter().position(|octet| !matches!(octet, b' ' | b'\t'))?;
            (rest.get(blanks) == Some(&b':')).then_some(name_size + blanks)
        }
        _ => None,
    }
}

/// Bytes at the front of `line` that a field name may have, eight looked at at once.
fn name_size(line: &[u8]) -> usize {
    let mut size = 0;
    let mut rest = line;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let others = others_than_name(u64::from_le_bytes(*word));
        if others != 0 {
            return size + others.trailing_zeros() as usize / 8;
        }
        size += 8;
        rest = behind;
    }
    size + rest.iter().position(|octet| !is_name_octet(*octet)).unwrap_or(rest.len())
}

/// RFC 5322 §3.6.8: 33 to 126 without the colon.
const fn is_name_octet(octet: u8) -> bool {
    matches!(octet, 33..=57 | 59..=126)
}

/// [`is_name_octet`] for eight bytes: the highest bit of each that is none. No sum of two bytes carries over, since
/// their highest bits are left out.
const fn others_than_name(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * EACH);
    let is_printable = low + (128 - 33) * EACH;
    let is_delete = low + EACH;
    let is_no_colon = (low ^ (b':' as u64 * EACH)) + 0x7f * EACH;
    (!is_printable | is_delete | !is_no_colon | word) & (0x80 * EACH)
}

/// Whether the front of a line, its end not seen, can still turn out to be a field or the empty line.
fn can_become_field(line: &[u8]) -> bool {
    let name_size = name_size(line);
    let rest = line.get(name_size..).unwrap_or_default();
    let after_blanks = rest.iter().find(|octet| !matches!(octet, b' ' | b'\t'));
    match after_blanks {
        Some(b':') => name_size > 0,
        Some(b'\r') => name_size == 0 && rest == b"\r",
        Some(_) => false,
        None => name_size > 0 || rest.is_empty(),
    }
}

/// Where the first CRLF is.
#[must_use]
pub fn find_crlf(input: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\n', input.get(at..)?) {
        let feed = at + found;
        if feed > 0 && input.get(feed - 1) == Some(&b'\r') {
            return Some(feed - 1);
        }
        at = feed + 1;
    }
    None
}

/// Where the line that holds `from` ends, its CRLF included. Sets `has_nul` if a NUL stands before.
fn line_end(input: &[u8], from: usize, is_whole: bool, has_nul: &mut bool) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = input.get(at..)?;
        let found = if *has_nul { memchr::memchr(b'\n', rest) } else { memchr::memchr2(b'\n', 0, rest) };
        let Some(found) = found else { return is_whole.then_some(input.len()) };
        let place = at + found;
        at = place + 1;
        if input.get(place) == Some(&0) {
            *has_nul = true;
        } else if place > from && input.get(place - 1) == Some(&b'\r') {
            // A bare LF is data: only binary content has one.
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_field_is_one_item() {
        let Item::Field(field) = next_item(b"To : a,\r\n\tb\r\nX", false) else { panic!() };
        assert_eq!(
            (field.name(), field.raw, field.body()),
            (&b"To"[..], &b"To : a,\r\n\tb\r\n"[..], &b" a,\r\n\tb"[..])
        );
    }

    #[test]
    fn reports_properties_of_a_field() {
        let told = |input: &[u8]| match next_item(input, true) {
            Item::Field(field) => (field.raw.len(), field.is_folded, field.has_nul),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(b"A: b\r\nC: \0"), (6, false, false));
        assert_eq!(told(b"A: b\0\n\0\r\n\tc\r\n"), (13, true, true));
        assert_eq!(told(b"A: b\r\n c\0\r\n"), (11, true, true));
        assert_eq!(told(b"A:\r\n"), (4, false, false));
    }

    #[test]
    fn finds_the_same_names_bytewise_and_by_words() {
        for octet in 0..=u8::MAX {
            for place in 0..8 {
                let mut line = *b"abcdefgh";
                line[place] = octet;
                let size = if is_name_octet(octet) { 8 } else { place };
                assert_eq!(name_size(&line), size, "{octet} at {place}");
                assert_eq!(name_size(&line[..=place]), size.min(place + 1), "{octet} at {place}");
            }
        }
    }

    #[test]
    fn what_is_not_a_field_is_body() {
        for line in ["no colon here\r\n", ": no name\r\n", "two words: x\r\n", "caf\u{e9}: x\r\n"] {
            assert_eq!(next_item(line.as_bytes(), true), Item::Body, "{line}");
        }
        assert_eq!(next_item(b"\r\nbody", false), Item::End(2));
        assert_eq!(next_item(b"", true), Item::End(0));
    }

    #[test]
    fn a_line_that_cannot_become_a_field_is_body_at_once() {
        for line in ["two words", " blank", ":", "caf\u{e9}", "\rx"] {
            assert_eq!(next_item(line.as_bytes(), false), Item::Body, "{line}");
        }
        for line in ["", "\r", "Nam", "Name ", "Name: text", "Name :"] {
            assert_eq!(next_item(line.as_bytes(), false), Item::Incomplete, "{line}");
        }
    }

    #[test]
    fn a_field_is_complete_when_the_next_line_begins() {
        assert_eq!(next_item(b"A: b\r\n", false), Item::Incomplete);
        assert!(matches!(next_item(b"A: b\r\n", true), Item::Field(_)));
        assert!(matches!(next_item(b"A: b\r\nC", false), Item::Field(_)));
        assert!(matches!(next_item(b"A: b", true), Item::Field(_)));
    }
}
