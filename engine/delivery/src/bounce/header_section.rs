//! The header section of a message that comes in pieces.

use mailrace_core::message::header::field_name;

/// Most bytes at the front of a line that are held until it is known whether the line is a field. A longer one without a
/// colon begins the body.
const NAME_SIZE_MAX: usize = 1000;

/// Copies the header section from a message that comes in pieces, however it is cut. Neither the empty line after the section
/// nor what follows is copied.
#[derive(Debug, Default)]
pub(super) struct HeaderSection {
    place: Place,
    /// The front of the line, while it may be a field or something else.
    held: Vec<u8>,
    /// A line was copied: a line with a space in front continues it.
    has_field: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At the front of a line.
    #[default]
    LineStart,
    /// In a line that is copied.
    Line,
    /// After the section.
    Body,
}

impl HeaderSection {
    /// Whether the section has ended: no further piece is needed.
    pub(super) fn is_over(&self) -> bool {
        self.place == Place::Body
    }

    /// Appends the part of `piece` that belongs to the section, after the bytes that were held.
    pub(super) fn copy(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        while !rest.is_empty() && self.place != Place::Body {
            let end = match self.place {
                Place::Line => rest.iter().position(|byte| *byte == b'\n'),
                _ if self.held.is_empty() && matches!(rest.first(), Some(b' ' | b'\t')) => Some(0),
                _ => rest.iter().position(|byte| matches!(byte, b':' | b'\n')),
            };
            let (taken, left) =
                rest.split_at_checked(end.map_or(rest.len(), |end| end + 1)).unwrap_or((rest, b""));
            rest = left;
            if self.place == Place::Line {
                out.extend_from_slice(taken);
                if end.is_some() {
                    self.place = Place::LineStart;
                }
                continue;
            }
            let room = (NAME_SIZE_MAX + 1).saturating_sub(self.held.len());
            self.held.extend_from_slice(taken.get(..room).unwrap_or(taken));
            let is_too_long = self.held.len() > NAME_SIZE_MAX;
            if end.is_some() || is_too_long {
                self.decide(out);
            }
        }
    }

    /// Copies what is held if it begins a field or continues one, and ends the section otherwise.
    fn decide(&mut self, out: &mut Vec<u8>) {
        let is_continuation = self.has_field && matches!(self.held.first(), Some(b' ' | b'\t'));
        if is_continuation || field_name(&self.held).is_some() {
            out.extend_from_slice(&self.held);
            self.has_field = true;
            self.place = Place::Line;
        } else {
            self.place = Place::Body;
        }
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copied<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
        let mut section = HeaderSection::default();
        let mut out = Vec::new();
        for piece in pieces {
            section.copy(piece, &mut out);
            assert!(section.held.len() <= NAME_SIZE_MAX);
        }
        (out, section.is_over())
    }

    #[test]
    fn ends_before_the_empty_line() {
        let message = b"Subject: a\r\n folded: b\r\n\tc\r\nX-Y : z\r\n\r\nA: body\r\n";
        assert_eq!(copied([&message[..]]), (message[..37].to_vec(), true));
        for (message, size, is_over) in [
            (&b"A: b\r\nno field\r\nC: d\r\n"[..], 6, true),
            (b"no field\r\nC: d\r\n", 0, true),
            (b" space first\r\nC: d\r\n", 0, true),
            (b"\r\nC: d\r\n", 0, true),
            (b"A: b\r\nC", 6, false),
            (b"A: b", 4, false),
            (b"A: b\r\n: c\r\n", 6, true),
            (b"A: b\r\nc d: e\r\n", 6, true),
            (b"", 0, false),
        ] {
            assert_eq!(
                copied([message]),
                (message[..size].to_vec(), is_over),
                "{:?}",
                message.escape_ascii()
            );
        }
    }

    #[test]
    fn a_line_without_a_colon_is_not_held_without_end() {
        let line = [b'x'; 300];
        assert_eq!(copied([&line[..]; 3]), (Vec::new(), false));
        assert_eq!(copied([&line[..]; 4]), (Vec::new(), true));
        let name = [b'x'; NAME_SIZE_MAX - 1];
        let field = [&name[..], b": y\r\n"].concat();
        assert_eq!(copied(field.chunks(7)).0, field);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            lines in prop::collection::vec(
                prop::sample::select(vec!["A: b\r\n", " c\r\n", "\r\n", "D\r\n", "E:\r\n", "F g: h\r\n", "G : h\r\n", "\t\r\n"]), 0..8),
            sizes in prop::collection::vec(1..5usize, 1..30),
        ) {
            let message = lines.concat().into_bytes();
            let mut pieces = Vec::new();
            let mut rest = &message[..];
            for size in sizes.iter().cycle() {
                let (piece, left) = rest.split_at(rest.len().min(*size));
                pieces.push(piece);
                rest = left;
                if rest.is_empty() { break }
            }
            let (section, is_over) = copied([&message[..]]);
            prop_assert!(message.starts_with(&section));
            prop_assert_eq!(copied(pieces), (section, is_over));
        }
    }
}
