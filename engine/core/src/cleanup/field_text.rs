//! Text of a field: the form that tables see, truncation, and the form of new fields.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::message::header::{Field, find_crlf};

/// Maximum width of a line with more than one address.
const FOLD_COLUMN: usize = 70;

/// Returns the field as one text: no spaces between name and colon, a line feed for each line end but the last, and each
/// line (or `line_size_max` bytes of it) cut at a NUL. Omits lines that begin after `size_max`.
pub(super) fn logical<'a>(
    arena: &'a Bump,
    field: &Field<'a>,
    size_max: usize,
    line_size_max: usize,
) -> &'a [u8] {
    let raw = field.raw.strip_suffix(b"\r\n").unwrap_or(field.raw);
    let is_plain =
        field.colon == field.name_size && raw.len() <= size_max.min(line_size_max) && !field.has_nul;
    if is_plain {
        return if field.is_folded { with_line_feeds(arena, raw) } else { raw };
    }
    let mut out = ArenaVec::with_capacity_in(raw.len(), arena);
    let mut rest = raw;
    let mut is_first = true;
    loop {
        let end = find_crlf(rest).unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, b""));
        for (index, record) in records(line, line_size_max).enumerate() {
            if out.len() >= size_max && !(is_first && index == 0) {
                break;
            }
            if index == 0 && !is_first {
                out.push(b'\n');
            }
            let end = memchr::memchr(0, record).unwrap_or(record.len());
            let record = record.get(..end).unwrap_or_default();
            let (name, body) = record.split_at_checked(field.name_size).unwrap_or((record, b""));
            if is_first && index == 0 {
                out.extend_from_slice_copy(name);
                out.extend_from_slice_copy(body.get(field.colon - field.name_size..).unwrap_or_default());
            } else {
                out.extend_from_slice_copy(record);
            }
        }
        is_first = false;
        match behind.strip_prefix(b"\r\n") {
            Some(next) => rest = next,
            None => return out.into_bump_slice(),
        }
    }
}

/// Replaces each line end in `text` by a line feed.
fn with_line_feeds<'a>(arena: &'a Bump, text: &'a [u8]) -> &'a [u8] {
    let mut out = ArenaVec::with_capacity_in(text.len(), arena);
    let mut rest = text;
    while let Some(end) = find_crlf(rest) {
        let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, b""));
        out.extend_from_slice_copy(line);
        out.push(b'\n');
        rest = behind.get(2..).unwrap_or_default();
    }
    out.extend_from_slice_copy(rest);
    out.into_bump_slice()
}

/// Splits a line into pieces of `size_max` bytes; an empty line is one piece.
fn records(line: &[u8], size_max: usize) -> impl Iterator<Item = &[u8]> {
    let empty = line.is_empty().then_some(line);
    empty.into_iter().chain(line.chunks(size_max.max(1)))
}

/// Joins lines with spaces where they fit into one line.
pub(super) fn fold(text: &mut [u8]) {
    let mut line_start = 0;
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr(b'\n', rest)) {
        let feed = at + found;
        let next = feed + 1;
        let rest = text.get(next..).unwrap_or_default();
        let end = next + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        if end - line_start < FOLD_COLUMN {
            if let Some(octet) = text.get_mut(feed) {
                *octet = b' ';
            }
        } else {
            line_start = next;
        }
        at = next;
    }
}

/// Returns the field as stored in the queue: lines end with CRLF, continuation lines begin with white space or get a TAB,
/// and the field is truncated like any other.
pub(super) fn emitted<'a>(arena: &'a Bump, text: &[u8], size_max: usize) -> &'a [u8] {
    let mut out = ArenaVec::with_capacity_in(text.len() + text.len() / 32 + 8, arena);
    let mut start = 0;
    for (index, line) in text.split(|octet| *octet == b'\n').enumerate() {
        let is_over = start + line.len() > size_max;
        if is_over && start * 10 > size_max * 9 {
            break;
        }
        if index > 0 && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            out.push(b'\t');
        }
        let kept = if is_over { size_max.saturating_sub(start) } else { line.len() };
        out.extend_from_slice_copy(line.get(..kept).unwrap_or(line));
        out.extend_from_slice_copy(b"\r\n");
        if is_over {
            break;
        }
        start += line.len() + 1;
    }
    out.into_bump_slice()
}

/// Returns where a field is truncated, as in Postfix: at `limit` bytes with each line end counted as one, or at a line end
/// in the last tenth before that. `None`: the field is not truncated.
pub(super) fn cut_place(raw: &[u8], limit: usize) -> Option<usize> {
    if raw.len() <= limit {
        return None;
    }
    // `start` counts bytes of `raw`; `counted` counts each line end as one byte.
    let (mut start, mut counted) = (0, 0);
    let mut line_end = 0;
    loop {
        let rest = raw.get(start..)?;
        let line = find_crlf(rest);
        let size = line.unwrap_or(rest.len());
        if counted + size > limit {
            let is_near = start > 0 && line_end * 10 >= limit * 9;
            return Some(if is_near { start } else { start + (limit - counted) });
        }
        line?;
        line_end = counted + size;
        counted = line_end + 1;
        start += size + 2;
        if start >= raw.len() {
            return None;
        }
    }
}

/// Bytes at the start of the input that belong to the rest of a truncated field.
pub(super) struct Skipped {
    pub(super) octets: usize,
    pub(super) is_over: bool,
}

pub(super) fn rest_of_cut_field(input: &[u8], is_whole: bool) -> Skipped {
    let mut at = 0;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Some(line_end) = find_crlf(rest) else {
            // Leave a CR at the end unconsumed: it may be the first half of a line end.
            let kept = usize::from(rest.last() == Some(&b'\r') && !is_whole);
            let octets = if is_whole { input.len() } else { input.len() - kept };
            return Skipped { octets, is_over: is_whole };
        };
        let next = at + line_end + 2;
        match input.get(next) {
            Some(b' ' | b'\t') => at = next,
            Some(_) => return Skipped { octets: next, is_over: true },
            None if is_whole => return Skipped { octets: next, is_over: true },
            // The next byte decides whether the field continues, so leave the line end unconsumed.
            None => return Skipped { octets: next - 2, is_over: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::header::{Item, next_item};
    use alloc::string::String;

    fn logical_of(raw: &str, size_max: usize, line_size_max: usize) -> String {
        let arena = Bump::new();
        let Item::Field(field) = next_item(raw.as_bytes(), true) else { panic!("{raw:?} is no field") };
        String::from_utf8(logical(&arena, &field, size_max, line_size_max).to_vec()).unwrap()
    }

    #[test]
    fn unfolds_a_field() {
        assert_eq!(logical_of("A: b\r\n", 100, 100), "A: b");
        assert_eq!(logical_of("A \t: b\r\n c\r\n\td\r\n", 100, 100), "A: b\n c\n\td");
        assert_eq!(logical_of("A: b\0x\r\n c\0\r\n", 100, 100), "A: b\n c");
        assert_eq!(logical_of("A: 234567890\0x34567890\r\n c\r\n", 100, 10), "A: 23456789090\n c");
        assert_eq!(logical_of("A: b\r\n 345\r\n c\r\n d\r\n", 8, 100), "A: b\n 345");
    }

    #[test]
    fn joins_lines_up_to_the_maximum_column() {
        let long = "x".repeat(60);
        let mut text = alloc::format!("To: a,\nb,\n{long},\nc,\n").into_bytes();
        fold(&mut text);
        assert_eq!(String::from_utf8(text).unwrap(), alloc::format!("To: a, b,\n{long}, c, "));
    }

    #[test]
    fn folds_and_truncates_new_text() {
        let arena = Bump::new();
        assert_eq!(emitted(&arena, b"A: b,\nc,\n d", 100), b"A: b,\r\n\tc,\r\n d\r\n");
        assert_eq!(emitted(&arena, b"A: 45678\nc", 9), b"A: 45678\r\n");
        assert_eq!(emitted(&arena, b"A:\n4567890", 9), b"A:\r\n\t456789\r\n");
    }
}
