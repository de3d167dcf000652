//! xtext (RFC 3461 §4): how any text is a parameter's value.

use alloc::vec::Vec;

/// Appends `text` as xtext: what is not printable ASCII, `+` and `=` as `+` and two hex digits.
///
/// `is_utf8`: bytes above 127 stay as they are (RFC 6533 §3, where SMTPUTF8 was offered).
pub fn append_xtext(text: &[u8], is_utf8: bool, out: &mut Vec<u8>) {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + (value - 10) };
    for byte in text {
        let is_plain = match byte {
            b'+' | b'=' => false,
            b'!'..=b'~' => true,
            _ => is_utf8 && !byte.is_ascii(),
        };
        if is_plain {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'+', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_a_parameter_cannot_hold() {
        let encoded = |text: &[u8], is_utf8| {
            let mut out = Vec::new();
            append_xtext(text, is_utf8, &mut out);
            out
        };
        assert_eq!(encoded(b"a+b=c d\r\x7f", false), b"a+2Bb+3Dc+20d+0D+7F");
        assert_eq!(encoded("é".as_bytes(), false), b"+C3+A9");
        assert_eq!(encoded("é".as_bytes(), true), "é".as_bytes());
    }
}
