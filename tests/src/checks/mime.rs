//! Properties of MIME parsing: the start of a line is enough, and the state is bounded.

use mailrace_core::message::header::{Item, next_item};
use mailrace_core::message::mime::{Place, Structure, TooDeep};

use super::front;

/// Checks a message whose lines end in LF. The first byte is the limit of open multiparts, the second the compared length of
/// a boundary.
///
/// # Panics
/// A property does not hold.
pub fn check(octets: &[u8]) {
    let ([depth_max, boundary_size_max], text) = front(octets);
    let (depth_max, boundary_size_max) =
        (usize::from(depth_max % 8), usize::from(boundary_size_max % 80) + 1);
    let content = text.split(|octet| *octet == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
    let mut whole = Structure::new();
    let mut fronts = Structure::new();
    let mut rest = &content[..];
    while !rest.is_empty() {
        let place = whole.place();
        if place == Place::Body {
            let size = mailrace_core::message::header::find_crlf(rest).map_or(rest.len(), |end| end + 2);
            let (line, behind) = rest.split_at(size);
            rest = behind;
            let is_boundary = whole.line(line);
            // The hyphens on both sides, and the text that may be between them.
            let front = &line[..line.len().min(boundary_size_max + 4)];
            assert_eq!(fronts.line(front), is_boundary, "the front of a line is enough");
            assert!(line.starts_with(b"--") || !is_boundary);
            assert!(is_boundary || whole.place() == Place::Body, "only a boundary ends a body");
            assert!(!(is_boundary && whole.is_flat()) || line.starts_with(b"--"));
        } else {
            match next_item(rest, true) {
                Item::Field(field) => {
                    rest = &rest[field.raw.len()..];
                    take_field(&mut whole, field.name(), field.body(), depth_max, boundary_size_max);
                    take_field(&mut fronts, field.name(), field.body(), depth_max, boundary_size_max);
                    assert_eq!(whole.place(), place, "a field ends no header section");
                }
                Item::End(size) => {
                    rest = &rest[size..];
                    end_section(&mut whole, &mut fronts, true);
                }
                Item::Body => end_section(&mut whole, &mut fronts, false),
                Item::Incomplete => panic!("nothing follows, so that all is there"),
            }
        }
        let (state, other) = (format!("{whole:?}"), format!("{fronts:?}"));
        assert_eq!(state, other);
        // At most one more than may be open, and each `boundary=` of the current field counts.
        let open = state.matches("Boundary {").count();
        assert!(open <= depth_max + 1, "{open} multiparts are open where {depth_max} may be");
        let is_nested = matches!(whole.place(), Place::Body) == (whole.place() == Place::Body);
        assert!(is_nested);
    }
}

fn end_section(whole: &mut Structure, fronts: &mut Structure, is_clean: bool) {
    whole.end_of_header_section(is_clean);
    fronts.end_of_header_section(is_clean);
    assert!(matches!(whole.place(), Place::Body | Place::Nested), "a body or a message follows");
    assert!(is_clean || whole.place() == Place::Body);
}

fn take_field(structure: &mut Structure, name: &[u8], body: &[u8], depth_max: usize, size_max: usize) {
    if name.eq_ignore_ascii_case(b"content-type") {
        let before = format!("{structure:?}").matches("Boundary {").count();
        let taken = structure.content_type(body, depth_max, size_max);
        assert!(taken.is_ok() || before + body.len() > depth_max, "{TooDeep:?} only where it is deep");
    } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
        structure.content_transfer_encoding(body);
    }
    let _ = (structure.is_seven_bit(), structure.is_encoding_improper());
}
