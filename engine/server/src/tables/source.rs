//! The text form of tables (Postfix's postmap(1)): `key value` lines.

use super::report::Report;
use super::string_table::StringTable;

/// Logical lines with the number of their first line: comments and empty lines left out, lines that begin with a
/// space joined to the one before.
pub(super) fn logical_lines(text: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let mut lines = text.split(|octet| *octet == b'\n').enumerate().peekable();
    let is_text = |line: &[u8]| {
        let first = line.trim_ascii_start().first().copied();
        !matches!(first, None | Some(b'#'))
    };
    std::iter::from_fn(move || {
        let (number, first) = lines.find(|(_, line)| is_text(line))?;
        let mut logical = first.trim_ascii_end().to_vec();
        while let Some((_, line)) = lines.peek() {
            let is_continuation = line.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
            if is_text(line) && !is_continuation {
                break;
            }
            if is_text(line) {
                logical.extend_from_slice(line.trim_ascii_end());
            }
            lines.next();
        }
        Some((number + 1, logical))
    })
}

/// Key and value of a line: the first blank outside of quotes separates them.
pub(super) fn split_entry(line: &[u8]) -> (&[u8], &[u8]) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let end = line.iter().position(|octet| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        match octet {
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b' ' | b'\t' => return !is_quoted,
            _ => {}
        }
        false
    });
    match end.and_then(|end| line.split_at_checked(end)) {
        Some((key, value)) => (key, value.trim_ascii()),
        None => (line, b""),
    }
}

/// The table in `text`; what is wrong with its lines goes into `report`.
pub(super) fn table(text: &[u8], report: &mut Report<'_>) -> StringTable {
    const SKIPPED: &str = "the line is skipped";
    let lines = memchr::memchr_iter(b'\n', text).count() + 1;
    let mut table = StringTable::with_capacity(lines, text.len());
    for (number, line) in logical_lines(text) {
        if line.first().is_some_and(u8::is_ascii_whitespace) {
            report.refuse(number, "begins with a space", "remove the space, or the line", SKIPPED);
            continue;
        }
        if line.contains(&0) {
            report.refuse(number, "has a NUL byte", "write the table as text", SKIPPED);
            continue;
        }
        let (key, value) = split_entry(&line);
        if value.is_empty() {
            report.refuse(number, "has no value", "write the key, a space and the value", SKIPPED);
            continue;
        }
        report.see_value(number, value, false);
        if !table.insert(key, value) {
            let key = String::from_utf8_lossy(key.get(..QUOTED_MAX).unwrap_or(key));
            report.note(number, &format!("duplicate key {key}; the first entry counts"));
        }
    }
    report.see_end(text);
    table
}

/// Bytes of a line that messages show.
pub(super) const QUOTED_MAX: usize = 200;

#[cfg(test)]
mod tests;
