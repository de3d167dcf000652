//! The notation for bytes in cases.

/// Text with `\r \n \t \0 \s \\ \xHH`, and `\{N:text}` for N times the text.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let (octets, rest) = unescape_until(text.as_bytes(), false)?;
    assert!(rest.is_empty(), "all is read when no brace ends it");
    Ok(octets)
}

fn unescape_until(text: &[u8], in_braces: bool) -> Result<(Vec<u8>, &[u8]), String> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((octet, behind)) = rest.split_first() {
        rest = behind;
        match octet {
            b'}' if in_braces => return Ok((out, rest)),
            b'\\' => {
                let (escape, behind) = rest.split_first().ok_or("a backslash at the end")?;
                rest = behind;
                match escape {
                    b'r' => out.push(b'\r'),
                    b'n' => out.push(b'\n'),
                    b't' => out.push(b'\t'),
                    b'0' => out.push(0),
                    b's' => out.push(b' '),
                    b'\\' | b'}' => out.push(*escape),
                    b'x' => {
                        let (digits, behind) = rest.split_at_checked(2).ok_or("\\x needs two digits")?;
                        rest = behind;
                        let digits = str::from_utf8(digits).map_err(|error| error.to_string())?;
                        out.push(u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?);
                    }
                    b'{' => {
                        let colon =
                            rest.iter().position(|octet| *octet == b':').ok_or("\\{ needs a colon")?;
                        let count = String::from_utf8_lossy(&rest[..colon]).parse();
                        let count: usize = count.map_err(|_| "expected a number after \\{")?;
                        let (repeated, behind) = unescape_until(&rest[colon + 1..], true)?;
                        rest = behind;
                        out.extend(repeated.repeat(count));
                    }
                    other => return Err(format!("unknown escape \\{}", char::from(*other))),
                }
            }
            octet => out.push(*octet),
        }
    }
    if in_braces { Err("a brace that does not end".to_owned()) } else { Ok((out, rest)) }
}
