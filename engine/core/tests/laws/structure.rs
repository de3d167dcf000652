//! The structure of content: a tree of parts is written as content, and each line of it is where it belongs.

use mailrace_core::message::mime::{Place, Structure};
use proptest::prelude::*;

/// A part of content.
#[derive(Clone, Debug)]
enum Part {
    Text(Vec<String>),
    /// The parts, and whether they are messages by default.
    Multipart(Vec<Self>, bool),
    Message(Box<Self>),
}

/// What a line is, and where the structure is when it comes.
#[derive(Clone, Debug)]
enum Line {
    /// The body of a Content-Type field.
    Type(String),
    /// The line that ends a header section.
    End,
    /// A line of a body, and whether it is a boundary.
    Body(String, bool),
}

/// Appends the lines of a part, each with its place; `depth` distinguishes boundaries.
fn lines(part: &Part, place: Place, is_message: bool, depth: &mut usize, out: &mut Vec<(Place, Line)>) {
    *depth += 1;
    // In a digest, a part without a type is a message: its own header section follows.
    let kind = match part {
        Part::Text(_) => " text/plain; charset=\"us-ascii\"".to_owned(),
        Part::Multipart(_, false) => format!(" Multipart/Mixed; x=y;\r\n\tboundary=b{depth}.x (why)"),
        Part::Multipart(_, true) => format!("multipart/DIGEST; boundary=\"b{depth}.x\""),
        Part::Message(_) if is_message => String::new(),
        Part::Message(_) => " message/rfc822".to_owned(),
    };
    if !kind.is_empty() {
        out.push((place, Line::Type(kind)));
    }
    out.push((place, Line::End));
    match part {
        Part::Text(text) => {
            out.extend(text.iter().map(|line| (Place::Body, Line::Body(line.clone(), false))));
        }
        Part::Message(inner) => lines(inner, Place::Nested, false, depth, out),
        Part::Multipart(parts, is_digest) => {
            let boundary = format!("--b{depth}.x");
            out.push((Place::Body, Line::Body("a preamble".to_owned(), false)));
            for part in parts {
                out.push((Place::Body, Line::Body(boundary.clone(), true)));
                lines(part, Place::Multipart, *is_digest, depth, out);
            }
            out.push((Place::Body, Line::Body(format!("{boundary}--"), true)));
            out.push((Place::Body, Line::Body("an epilogue".to_owned(), false)));
        }
    }
}

fn part() -> impl Strategy<Value = Part> {
    let text = prop::collection::vec("(-|--|--a|--b|b1|text|.){0,2}", 0..3).prop_map(Part::Text);
    text.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 1..4), any::<bool>())
                .prop_map(|(parts, is_digest)| Part::Multipart(parts, is_digest)),
            inner.prop_map(|part| Part::Message(Box::new(part))),
        ]
    })
}

proptest! {
    #[test]
    fn every_line_of_a_tree_of_parts_is_where_it_belongs(part in part()) {
        let (mut all, mut depth) = (Vec::new(), 0);
        lines(&part, Place::Primary, false, &mut depth, &mut all);
        let mut structure = Structure::new();
        for (place, line) in &all {
            // A part in the last line of a message is over when the boundary comes, whatever it is in.
            prop_assert_eq!(structure.place(), *place, "{:?} of {:?}", line, all);
            match line {
                Line::Type(body) => structure.content_type(body.as_bytes(), 100, 2048).unwrap(),
                Line::End => structure.end_of_header_section(true),
                Line::Body(text, is_boundary) => {
                    prop_assert_eq!(structure.line(text.as_bytes()), *is_boundary, "{} of {:?}", text, all);
                }
            }
        }
    }

    /// A multipart whose closing boundary is missing ends with the one around it.
    #[test]
    fn a_boundary_closes_all_that_is_in_it(depth in 1..8_usize, outer in 0..8_usize) {
        let outer = outer % depth;
        let mut structure = Structure::new();
        for level in 0..depth {
            structure.content_type(format!("multipart/mixed; boundary=level{level}").as_bytes(), 100, 2048).unwrap();
            structure.end_of_header_section(true);
            let boundary = format!("--level{level}");
            prop_assert!(structure.line(boundary.as_bytes()));
        }
        let closing = format!("--level{outer}--");
        prop_assert!(structure.line(closing.as_bytes()));
        for level in 0..depth {
            let boundary = format!("--level{level}");
            prop_assert_eq!(structure.clone().line(boundary.as_bytes()), level < outer, "level {}", level);
        }
        prop_assert_eq!(structure.is_flat(), outer == 0);
    }
}
