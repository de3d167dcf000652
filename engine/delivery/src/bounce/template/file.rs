//! The parser of a file of templates.

use mailrace_core::message::header::field_name;

use super::{Problem, Template, Templates, macros};
use crate::bounce::Kind;
use crate::bounce::text::append_printable;

/// Names of templates.
const NAMES: [(&str, Kind); 4] = [
    ("failure_template", Kind::Failure),
    ("delay_template", Kind::Delay),
    ("success_template", Kind::Success),
    ("verify_template", Kind::Verify),
];

/// A line of the file: its number, from 1, and its bytes without the line end.
#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    text: &'a [u8],
}

/// The lines between `NAME = <<MARKER` and the marker.
struct Section<'a> {
    name: &'static str,
    kind: Kind,
    /// The number of the line with the name.
    start: usize,
    lines: Vec<Line<'a>>,
}

/// Replaces the templates that `content` has.
///
/// # Errors
/// The number of the first invalid line and what is invalid there.
pub(super) fn read(
    templates: &mut Templates,
    content: &[u8],
    lookup: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Result<(), (usize, Problem)> {
    let mut lines = content
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(index, line)| Line { number: index + 1, text: line.strip_suffix(b"\r").unwrap_or(line) });
    let mut names: Vec<&str> = Vec::new();
    while let Some(line) = lines.next() {
        let text = line.text.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        let section = read_section(line, &mut lines)?;
        if names.contains(&section.name) {
            return Err((section.start, Problem::RepeatedTemplate(section.name.into())));
        }
        names.push(section.name);
        let template = read_template(&section, templates.of(section.kind), lookup)?;
        *templates.of_mut(section.kind) = template;
    }
    Ok(())
}

/// Reads `NAME = <<MARKER` and the lines up to the marker.
fn read_section<'a>(
    line: Line<'a>,
    lines: &mut impl Iterator<Item = Line<'a>>,
) -> Result<Section<'a>, (usize, Problem)> {
    let invalid = |problem| Err((line.number, problem));
    let Some(equals) = line.text.iter().position(|byte| *byte == b'=') else {
        return invalid(Problem::NoTemplate);
    };
    let (name, value) = line.text.split_at_checked(equals).unwrap_or_default();
    let name = name.trim_ascii();
    let Some((name, kind)) = NAMES.into_iter().find(|(known, _)| known.as_bytes() == name) else {
        return invalid(Problem::UnknownTemplate(shown(name)));
    };
    let marker = value.get(1..).unwrap_or_default().trim_ascii().strip_prefix(b"<<").map(<[u8]>::trim_ascii);
    let is_word = |text: &&[u8]| {
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    let Some(marker) = marker.filter(is_word) else { return invalid(Problem::NoMarker(name.into())) };
    let mut section = Section { name, kind, start: line.number, lines: Vec::new() };
    for line in lines {
        if line.text == marker {
            return Ok(section);
        }
        section.lines.push(line);
    }
    invalid(Problem::Unterminated(shown(marker)))
}

/// Reads fields and text. Fields that are missing are as in `default`.
fn read_template(
    section: &Section<'_>,
    default: &Template,
    lookup: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Result<Template, (usize, Problem)> {
    let mut template = Template { text: Box::default(), ..default.clone() };
    let mut lines = section.lines.as_slice();
    let mut names: Vec<&str> = Vec::new();
    while let Some((line, rest)) = lines.split_first() {
        if line.text.is_empty() {
            lines = rest;
            break;
        }
        if !names.is_empty() && matches!(line.text.first(), Some(b' ' | b'\t')) {
            return Err((line.number, Problem::FoldedField));
        }
        let Some((name_size, colon)) = field_name(line.text) else { break };
        let name = line.text.get(..name_size).unwrap_or_default();
        let value = line.text.get(colon + 1..).unwrap_or_default().trim_ascii();
        let name =
            read_field(&mut template, section.kind, name, value).map_err(|problem| (line.number, problem))?;
        if names.contains(&name) {
            return Err((line.number, Problem::RepeatedField(name.into())));
        }
        names.push(name);
        lines = rest;
    }
    if lines.is_empty() {
        return Err((section.start, Problem::NoText(section.name.into())));
    }
    let mut text = Vec::new();
    for line in lines {
        append_text(line.text, template.is_us_ascii(), lookup, &mut text)
            .map_err(|problem| (line.number, problem))?;
    }
    template.text = text.into();
    Ok(template)
}

/// Sets the field with this name, and returns the name as it is written.
fn read_field(
    template: &mut Template,
    kind: Kind,
    name: &[u8],
    value: &[u8],
) -> Result<&'static str, Problem> {
    let fields = [
        ("Charset", &mut template.charset),
        ("From", &mut template.from),
        ("Subject", &mut template.subject),
        ("Postmaster-Subject", &mut template.postmaster_subject),
    ];
    let field = fields.into_iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
    let Some((name, field)) = field else { return Err(Problem::UnknownField(shown(name))) };
    if name == "Postmaster-Subject" && !kind.is_trouble() {
        return Err(Problem::NoPostmasterCopy);
    }
    if value.is_empty() {
        return Err(Problem::EmptyField(name.into()));
    }
    if !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Problem::NonAsciiField(name.into()));
    }
    *field = value.into();
    Ok(name)
}

/// Appends a line of text with values in place of names.
fn append_text(
    line: &[u8],
    is_us_ascii: bool,
    lookup: &dyn Fn(&str) -> Option<Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Problem::ControlCharacter);
    }
    if is_us_ascii && !line.is_ascii() {
        return Err(Problem::NonAsciiText);
    }
    let printable = |name: &str| {
        let mut value = Vec::new();
        append_printable(&lookup(name)?, true, &mut value);
        Some(value)
    };
    macros::expand(line, &printable, out)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Text of the file as errors show it.
fn shown(text: &[u8]) -> Box<str> {
    text.escape_ascii().to_string().into()
}
