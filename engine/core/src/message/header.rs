//! Owns the fields of a header section as slices of the content (RFC 5322 §2.2).

/// The next thing in a header section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole field, folded lines and last line end included.
    Field(Field<'a>),
    /// The empty line that ends the header section; so many octets.
    End(usize),
    /// A line that is no field: the body begins here, without an empty line.
    Body,
    /// The field is not whole yet.
    Incomplete,
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// All octets of the field, with its line ends.
    pub raw: &'a [u8],
    /// Octets of the name, at the front of `raw`.
    pub name_size: usize,
    /// Where the colon stands in `raw`; past the name if blanks are between them.
    pub colon: usize,
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
pub fn next_item(input: &[u8], is_whole: bool) -> Item<'_> {
    let Some(line_end) = line_end(input, 0, is_whole) else {
        return if can_become_field(input) { Item::Incomplete } else { Item::Body };
    };
    let line = input.get(..line_end).unwrap_or_default();
    if line == b"\r\n" || line.is_empty() {
        return Item::End(line_end);
    }
    let Some((name_size, colon)) = field_name(line) else { return Item::Body };
    let mut end = line_end;
    loop {
        match input.get(end) {
            Some(b' ' | b'\t') => match self::line_end(input, end, is_whole) {
                Some(next) => end = next,
                None => return Item::Incomplete,
            },
            Some(_) => break,
            None if is_whole => break,
            // Whether the field goes on is told by the next octet.
            None => return Item::Incomplete,
        }
    }
    Item::Field(Field { raw: input.get(..end).unwrap_or_default(), name_size, colon })
}

/// Octets of the field name at the front of a line and the place of the colon; `None` if the line is no field.
///
/// A name is printable ASCII without blank and colon; blanks may stand before the colon.
#[must_use]
pub fn field_name(line: &[u8]) -> Option<(usize, usize)> {
    let name_size = line.iter().position(|octet| !matches!(octet, 33..=57 | 59..=126))?;
    if name_size == 0 {
        return None;
    }
    let rest = line.get(name_size..)?;
    let blanks = rest.iter().position(|octet| !matches!(octet, b' ' | b'\t'))?;
    (rest.get(blanks) == Some(&b':')).then_some((name_size, name_size + blanks))
}

/// Whether the front of a line, its end not seen, can still turn out to be a field or the empty line.
fn can_become_field(line: &[u8]) -> bool {
    let name_size = line.iter().take_while(|octet| matches!(octet, 33..=57 | 59..=126)).count();
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

/// Where the line that holds `from` ends, its CRLF included.
fn line_end(input: &[u8], from: usize, is_whole: bool) -> Option<usize> {
    let mut at = from;
    while let Some(found) = memchr::memchr(b'\n', input.get(at..)?) {
        let feed = at + found;
        // A bare LF is data: only binary content has one.
        if feed > from && input.get(feed - 1) == Some(&b'\r') {
            return Some(feed + 1);
        }
        at = feed + 1;
    }
    is_whole.then_some(input.len())
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
    fn a_field_is_whole_when_the_next_line_is_seen() {
        assert_eq!(next_item(b"A: b\r\n", false), Item::Incomplete);
        assert!(matches!(next_item(b"A: b\r\n", true), Item::Field(_)));
        assert!(matches!(next_item(b"A: b\r\nC", false), Item::Field(_)));
        assert!(matches!(next_item(b"A: b", true), Item::Field(_)));
    }
}
