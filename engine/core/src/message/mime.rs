//! The structure of content: where the header sections and bodies of its parts are (RFC 2045, RFC 2046).
//!
//! Boundaries are matched as Postfix matches them: text after one does not matter, a part whose closing boundary is
//! missing ends at the next one of an outer multipart, and each `boundary=` of a Content-Type counts.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// Where in the structure the next line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the message's own header section.
    Primary,
    /// In the header section of a part.
    Multipart,
    /// In the header section of an attached message.
    Nested,
    /// In a body.
    Body,
}

/// How a body is encoded (RFC 2045 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `7bit`.
    SevenBit,
    /// `8bit`.
    EightBit,
    /// `binary`.
    Binary,
    /// `base64`.
    Base64,
    /// `quoted-printable`.
    QuotedPrintable,
}

impl Encoding {
    /// What the bytes are without the encoding.
    const fn domain(self) -> Self {
        match self {
            Self::Base64 | Self::QuotedPrintable => Self::SevenBit,
            same => same,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentType {
    Text,
    Multipart,
    MessageRfc822,
    MessageGlobal,
    /// Cannot be encoded (RFC 2046 §5.2.2, §5.2.3).
    MessagePartialOrExternal,
    MessageOther,
    Other,
}

/// The structure of one message so far.
#[derive(Clone, Debug)]
pub struct Structure {
    place: Place,
    content_type: ContentType,
    encoding: Encoding,
    domain: Encoding,
    /// Outermost first.
    boundaries: Vec<Boundary>,
}

#[derive(Clone, Debug)]
struct Boundary {
    text: Box<[u8]>,
    /// Parts are messages unless they say otherwise (multipart/digest).
    is_digest: bool,
}

/// A limit of the structure was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MIME nesting exceeds safety limit")
    }
}

impl Default for Structure {
    fn default() -> Self {
        Self::new()
    }
}

impl Structure {
    /// Before the first field.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            place: Place::Primary,
            content_type: ContentType::Text,
            encoding: Encoding::SevenBit,
            domain: Encoding::SevenBit,
            boundaries: Vec::new(),
        }
    }

    /// Where the next line is.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Whether nothing but body can come.
    #[must_use]
    pub const fn is_flat(&self) -> bool {
        matches!(self.place, Place::Body) && self.boundaries.is_empty()
    }

    /// Whether the current body has to be ASCII.
    #[must_use]
    pub fn is_seven_bit(&self) -> bool {
        self.encoding == Encoding::SevenBit
    }

    /// Takes what follows the colon of a Content-Type field. `depth_max` multiparts may be open, of each boundary
    /// `boundary_size_max` bytes count.
    ///
    /// # Errors
    /// [`TooDeep`]: a multipart was not opened.
    pub fn content_type(
        &mut self,
        body: &[u8],
        depth_max: usize,
        boundary_size_max: usize,
    ) -> Result<(), TooDeep> {
        let mut words = Words { text: body };
        let Some(first) = words.next_item() else {
            self.content_type = ContentType::Other;
            return Ok(());
        };
        let [kind, slash, subtype] = first;
        let is_subtype = |name| slash == Word::Sign(b'/') && subtype.is(name);
        self.content_type = if kind.is(b"text") {
            ContentType::Text
        } else if kind.is(b"message") {
            match () {
                () if is_subtype(b"rfc822") => ContentType::MessageRfc822,
                () if is_subtype(b"global") => ContentType::MessageGlobal,
                () if is_subtype(b"partial") || is_subtype(b"external-body") => {
                    ContentType::MessagePartialOrExternal
                }
                () => ContentType::MessageOther,
            }
        } else if kind.is(b"multipart") {
            ContentType::Multipart
        } else {
            ContentType::Other
        };
        let is_digest = is_subtype(b"digest");
        let mut result = Ok(());
        while self.content_type == ContentType::Multipart
            && let Some(parameter) = words.next_item()
        {
            let (value, is_quoted) = match parameter {
                [name, Word::Sign(b'='), Word::Text(value)] if name.is(b"boundary") => (value, false),
                [name, Word::Sign(b'='), Word::Quoted(value)] if name.is(b"boundary") => (value, true),
                _ => continue,
            };
            if self.boundaries.len() > depth_max {
                result = Err(TooDeep);
            } else {
                let mut text = if is_quoted { unquoted(value) } else { value.to_vec() };
                text.truncate(boundary_size_max);
                self.boundaries.push(Boundary { text: text.into(), is_digest });
            }
        }
        result
    }

    /// Takes what follows the colon of a Content-Transfer-Encoding field.
    pub fn content_transfer_encoding(&mut self, body: &[u8]) {
        let mut words = Words { text: body };
        let Some(first) = words.next_item() else { return };
        let [Word::Text(name), ..] = first else { return };
        let known: [(&[u8], Encoding); 5] = [
            (b"7bit", Encoding::SevenBit),
            (b"8bit", Encoding::EightBit),
            (b"binary", Encoding::Binary),
            (b"base64", Encoding::Base64),
            (b"quoted-printable", Encoding::QuotedPrintable),
        ];
        if let Some((_, encoding)) = known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) {
            self.encoding = encoding;
            self.domain = encoding.domain();
        }
    }

    /// Whether the current part declares content that 7 bits cannot hold (`8bit`, `binary`).
    #[must_use]
    pub const fn exceeds_seven_bits(&self) -> bool {
        matches!(self.domain, Encoding::EightBit | Encoding::Binary)
    }

    /// Whether the current part consists of parts with encodings of their own, so that the whole must not be encoded
    /// (RFC 2045 §6.4). A message/global may be (RFC 6532 §3.7).
    #[must_use]
    pub const fn has_parts(&self) -> bool {
        matches!(self.content_type, ContentType::Multipart | ContentType::MessageRfc822)
    }

    /// Whether the current part is encoded though it must not be (RFC 2045 §6.4).
    #[must_use]
    pub fn is_encoding_improper(&self) -> bool {
        match self.content_type {
            ContentType::MessagePartialOrExternal => self.domain != Encoding::SevenBit,
            ContentType::MessageRfc822 | ContentType::Multipart => self.encoding != self.domain,
            _ => false,
        }
    }

    /// A header section is over. `is_clean`: by an empty line; else by a line that is no field.
    pub fn end_of_header_section(&mut self, is_clean: bool) {
        self.place = Place::Body;
        match self.content_type {
            _ if !is_clean => {}
            // Even if it claims to be encoded, as in Postfix: a check of nested fields cannot be avoided that way.
            ContentType::MessageRfc822 | ContentType::MessageGlobal => {
                self.begin(Place::Nested, ContentType::Text);
            }
            ContentType::Multipart => self.begin(Place::Body, ContentType::Other),
            _ => {}
        }
    }

    /// A header section is over, and its body has no parts, whatever its type is: only an outer boundary ends it.
    pub const fn begin_leaf(&mut self) {
        self.place = Place::Body;
    }

    /// Takes the start of a line of a body, at least all of a boundary; whether it was one.
    pub fn line(&mut self, line: &[u8]) -> bool {
        let Some(rest) = line.strip_prefix(b"--").filter(|rest| !rest.is_empty()) else { return false };
        let found = self.boundaries.iter().rposition(|boundary| rest.starts_with(&boundary.text));
        let Some(index) = found else { return false };
        self.boundaries.truncate(index + 1);
        let Some(Boundary { text, is_digest }) = self.boundaries.last() else { return false };
        if rest.get(text.len()..).is_some_and(|end| end.starts_with(b"--")) {
            self.boundaries.pop();
            self.begin(Place::Body, ContentType::Other);
        } else {
            let default = if *is_digest { ContentType::MessageRfc822 } else { ContentType::Text };
            self.begin(Place::Multipart, default);
        }
        true
    }

    const fn begin(&mut self, place: Place, content_type: ContentType) {
        self.place = place;
        self.content_type = content_type;
        self.encoding = Encoding::SevenBit;
        self.domain = Encoding::SevenBit;
    }
}

/// A word of a structured field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word<'a> {
    None,
    Text(&'a [u8]),
    /// What stands between quotes, as it is spelled.
    Quoted(&'a [u8]),
    Sign(u8),
}

impl Word<'_> {
    /// Whether it is this text, in any case.
    fn is(self, text: &[u8]) -> bool {
        matches!(self, Self::Text(word) if word.eq_ignore_ascii_case(text))
    }
}

/// The words of an item that count.
type Item<'a> = [Word<'a>; 3];

/// Reads items that `;` separates (RFC 2045 §5.1).
struct Words<'a> {
    text: &'a [u8],
}

impl<'a> Words<'a> {
    /// The first words of the next item; `None` at the end.
    fn next_item(&mut self) -> Option<Item<'a>> {
        let mut words = [Word::None; 3];
        let mut count = 0;
        while let Some((octet, rest)) = self.text.split_first() {
            let start = self.text;
            self.text = rest;
            let word = match octet {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b';' => return Some(words),
                b'(' => {
                    self.skip_comment();
                    continue;
                }
                b'"' => Word::Quoted(self.quoted()),
                octet if is_sign(*octet) => Word::Sign(*octet),
                _ => {
                    let size = rest.iter().position(|octet| is_sign(*octet) || *octet == b' ');
                    let (word, behind) = start.split_at_checked(1 + size.unwrap_or(rest.len()))?;
                    self.text = behind;
                    Word::Text(word)
                }
            };
            if let Some(place) = words.get_mut(count) {
                *place = word;
                count += 1;
            }
        }
        (count > 0).then_some(words)
    }

    fn next(&mut self) -> Option<u8> {
        let (octet, rest) = self.text.split_first()?;
        self.text = rest;
        Some(*octet)
    }

    fn skip_comment(&mut self) {
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some(b'(') => depth += 1,
                Some(b')') => depth -= 1,
                Some(b'\\') => {
                    self.next();
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// What stands up to the closing quotes, which are skipped.
    fn quoted(&mut self) -> &'a [u8] {
        let start = self.text;
        loop {
            let size = start.len() - self.text.len();
            match self.next() {
                None | Some(b'"') => return start.get(..size).unwrap_or_default(),
                Some(b'\\') => {
                    self.next();
                }
                Some(_) => {}
            }
        }
    }
}

/// What quotes mean: folded lines in one, without the blanks before a fold.
fn unquoted(spelled: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(spelled.len());
    let mut octets = spelled.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' if octets.as_slice().first() == Some(&b'\n') => {}
            b'\n' => {
                let size = text.trim_ascii_end().len();
                text.truncate(size);
            }
            b'\\' => text.extend(octets.next()),
            octet => text.push(*octet),
        }
    }
    text
}

/// RFC 2045 §5.1 tspecials, and controls.
const fn is_sign(octet: u8) -> bool {
    octet.is_ascii_control()
        || matches!(
            octet,
            b'(' | b')'
                | b'<'
                | b'>'
                | b'@'
                | b','
                | b';'
                | b':'
                | b'\\'
                | b'"'
                | b'/'
                | b'['
                | b']'
                | b'?'
                | b'='
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(fields: &[(&str, &str)]) -> Structure {
        let mut structure = Structure::new();
        for (name, body) in fields {
            match *name {
                "type" => structure.content_type(body.as_bytes(), 100, 2048).unwrap(),
                _ => structure.content_transfer_encoding(body.as_bytes()),
            }
        }
        structure.end_of_header_section(true);
        structure
    }

    #[test]
    fn finds_parts() {
        let mut structure = after(&[("type", " multipart/mixed; charset=x;\r\n boundary=\"a \\\"b\" (c)")]);
        assert_eq!(structure.place(), Place::Body);
        assert!(!structure.line(b"--a"));
        assert!(structure.line(b"--a \"b and more"));
        assert_eq!(structure.place(), Place::Multipart);
        structure.content_type(b" message/rfc822", 100, 2048).unwrap();
        structure.end_of_header_section(true);
        assert_eq!(structure.place(), Place::Nested);
        structure.content_type(b"multipart/digest; boundary=in", 100, 2048).unwrap();
        structure.end_of_header_section(true);
        assert!(structure.line(b"--in"));
        structure.end_of_header_section(true);
        assert_eq!(structure.place(), Place::Nested, "a part of a digest is a message");
        structure.end_of_header_section(true);
        assert!(structure.line(b"--a \"b--"), "the inner one is closed with the outer one");
        assert!(structure.is_flat());
    }

    #[test]
    fn looks_into_attached_messages_whatever_their_encoding() {
        for kind in ["message/rfc822", "message/global"] {
            for encoding in ["7bit", "8bit", "base64", "quoted-printable", "x-other"] {
                let structure = after(&[("type", kind), ("encoding", encoding)]);
                assert_eq!(structure.place(), Place::Nested, "{kind} {encoding}");
            }
        }
        assert_eq!(after(&[("type", "message/partial")]).place(), Place::Body);
    }

    #[test]
    fn classifies_encodings() {
        assert!(!after(&[("type", "text/plain"), ("encoding", "8bit")]).is_seven_bit());
        let mut structure = Structure::new();
        structure.content_type(b"multipart/mixed; boundary=b", 100, 2048).unwrap();
        structure.content_transfer_encoding(b" (why) Base64");
        assert!(structure.is_encoding_improper());
        structure.content_transfer_encoding(b"8bit");
        assert!(!structure.is_encoding_improper());
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let mut structure = Structure::new();
        assert_eq!(structure.content_type(b"multipart/x; boundary=abc; boundary=abd", 0, 2), Err(TooDeep));
        structure.end_of_header_section(true);
        assert!(structure.line(b"--abx"), "two octets count");
    }

    proptest! {
        #[test]
        fn parses_any_input_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut structure = Structure::new();
            let _ = structure.content_type(&octets, 2, 10);
            structure.content_transfer_encoding(&octets);
            structure.end_of_header_section(true);
            structure.line(&octets);
        }
    }
}
