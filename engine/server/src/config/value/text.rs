//! Parameters whose value is a text with a syntax of its own.

use super::{Refusal, Setting, is_host_name};
use crate::config::reader::Raw;

/// A host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(pub String);

impl Setting for HostName {
    const KIND: &str = "host name";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let name = String::read(raw)?;
        if is_host_name(&name) {
            return Ok(Self(name));
        }
        let remedy = "write a fully qualified name such as \"mx.example.com\"";
        Err(Refusal::new(format!("{name:?} is not a host name"), remedy))
    }
}

/// Characters, written with the escapes of C.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Characters(pub Vec<u8>);

impl Setting for Characters {
    const KIND: &str = "characters";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let text = String::read(raw)?;
        characters(&text).map(Self).ok_or_else(|| {
            let reason = format!("{text:?} has an unknown escape sequence");
            Refusal::new(reason, "write \\\\0 for NUL, \\\\\\\\ for a backslash")
        })
    }
}

/// Decodes C escapes. Returns `None` for an unknown escape.
fn characters(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next()? {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            digit @ b'0'..=b'7' => {
                let mut number = u32::from(digit - b'0');
                for _ in 0..2 {
                    if let Some(digit @ b'0'..=b'7') = bytes.peek().copied() {
                        number = number * 8 + u32::from(digit - b'0');
                        bytes.next();
                    }
                }
                u8::try_from(number).ok()?
            }
            letter if letter.is_ascii_alphanumeric() => return None,
            sign => sign,
        });
    }
    Some(out)
}
