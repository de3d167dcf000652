//! Values in log lines: what came from outside, as text that is harmless and as JSON that loses nothing.

/// Bytes of a value in a line of text at most.
pub(super) const TEXT_SIZE_MAX: usize = 512;
/// Bytes of a value in a line of JSON at most: more than any command or reply of SMTP has.
pub(super) const JSON_SIZE_MAX: usize = 4096;

/// Returns text from outside in the form that a log line may contain.
pub(crate) fn printable(text: &str) -> String {
    let mut buffer = Vec::with_capacity(text.len());
    push_text(&mut buffer, text.as_bytes(), TEXT_SIZE_MAX);
    String::from_utf8_lossy(&buffer).into_owned()
}

/// Adds `value`, cut if it is longer than `size_max`, with control characters and broken UTF-8 as `?`.
pub(super) fn push_text(buffer: &mut Vec<u8>, value: &[u8], size_max: usize) {
    let (value, rest) = value.split_at(value.len().min(size_max));
    // Without an end before the last byte, so that the compiler looks at many at once.
    if !value.iter().fold(false, |is_odd, byte| is_odd | !(b' '..0x7f).contains(byte)) {
        buffer.extend_from_slice(value);
    } else {
        for chunk in value.utf8_chunks() {
            for letter in chunk.valid().chars() {
                let is_harmless = !letter.is_control() && !is_misleading(letter);
                let letter = if is_harmless { letter } else { '?' };
                buffer.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            buffer.extend(chunk.invalid().iter().map(|_| b'?'));
        }
    }
    if !rest.is_empty() {
        buffer.extend_from_slice(b"...");
    }
}

/// What a string in a line of JSON does not show of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown<'v> {
    /// The part of the value that is in the string.
    pub(super) part: &'v [u8],
    /// It is UTF-8, so the string says all of it.
    pub(super) is_exact: bool,
}

/// Adds `value` as a JSON string: all of it when it is UTF-8 and not longer than `size_max`.
///
/// Control characters and those that mislead are escaped. Each invalid sequence of bytes is U+FFFD.
pub(super) fn push_json<'v>(buffer: &mut Vec<u8>, value: &'v [u8], size_max: usize) -> Shown<'v> {
    let part = front(value, size_max);
    let mut is_exact = true;
    buffer.push(b'"');
    if part.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        buffer.extend_from_slice(part);
    } else {
        for chunk in part.utf8_chunks() {
            chunk.valid().chars().for_each(|letter| push_letter(buffer, letter));
            if !chunk.invalid().is_empty() {
                is_exact = false;
                buffer.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    buffer.push(b'"');
    Shown { part, is_exact }
}

/// Returns the first `size_max` bytes at most, no character cut in two.
fn front(value: &[u8], size_max: usize) -> &[u8] {
    let Some(mut part) = value.get(..size_max) else { return value };
    // Bytes 10xxxxxx continue a character, which has four bytes at most.
    let is_inside = |at: usize| value.get(at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    if let Some(size) = (size_max.saturating_sub(3)..=size_max).rev().find(|at| !is_inside(*at)) {
        part = value.get(..size).unwrap_or(part);
    }
    part
}

fn push_letter(buffer: &mut Vec<u8>, letter: char) {
    match letter {
        '"' => buffer.extend_from_slice(b"\\\""),
        '\\' => buffer.extend_from_slice(b"\\\\"),
        '\n' => buffer.extend_from_slice(b"\\n"),
        '\r' => buffer.extend_from_slice(b"\\r"),
        '\t' => buffer.extend_from_slice(b"\\t"),
        // All of these are in the first plane: four digits name them.
        letter if letter.is_control() || is_misleading(letter) => {
            buffer.extend_from_slice(format!("\\u{:04x}", u32::from(letter)).as_bytes());
        }
        letter => buffer.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Adds `value` in hexadecimal digits.
pub(super) fn push_hex(buffer: &mut Vec<u8>, value: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
    buffer.extend(value.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
}

/// Characters that end a line for some programs, or turn the order of those that follow: a line would not show what it says.
const fn is_misleading(letter: char) -> bool {
    matches!(
        letter,
        '\u{61c}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Returns the digits of `number`; a line has several, and the formatting of the standard library costs as much as the rest.
pub(crate) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for (index, place) in digits.iter_mut().enumerate().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        start = index;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
