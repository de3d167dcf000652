//! Postfix's protocol for tables over TCP (tcp_table(5)): `get KEY`, and a line with a code back.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use super::client::Protocol;
use super::stream::{Address, Stream};
use super::{ANSWER_SIZE_MAX, Answer};

pub(super) struct Tcp {
    address: Address,
}

impl Tcp {
    /// `host:port`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Address::inet(text).map(|address| Self { address })
    }
}

impl Protocol for Tcp {
    type Connection = Stream;
    type Question = Vec<u8>;

    fn question(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut request = b"get ".to_vec();
        encode(key, &mut request);
        request.push(b'\n');
        Some(request)
    }

    async fn connect(&self) -> Result<Stream, String> {
        self.address.connect().await
    }

    async fn ask(
        &self,
        mut stream: Stream,
        request: Vec<u8>,
        _key: &[u8],
    ) -> Result<(Stream, Option<Vec<u8>>), String> {
        let line = exchange(&mut stream, &request).await;
        let line = line.map_err(|error| format!("{}: {error}", self.address))?;
        Ok((stream, meaning(&line)?))
    }
}

async fn exchange(stream: &mut Stream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut line = Vec::new();
    stream.take(3 * ANSWER_SIZE_MAX as u64).read_until(b'\n', &mut line).await?;
    if line.pop() != Some(b'\n') {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the reply is incomplete"));
    }
    Ok(line)
}

/// `%XX` for a byte that is not printable, a space or `%`.
fn encode(text: &[u8], out: &mut Vec<u8>) {
    for octet in text {
        if octet.is_ascii_graphic() && *octet != b'%' {
            out.push(*octet);
        } else {
            out.extend_from_slice(format!("%{octet:02X}").as_bytes());
        }
    }
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.iter();
    while let Some(octet) = octets.next() {
        if *octet != b'%' {
            out.push(*octet);
            continue;
        }
        let digits = [*octets.next()?, *octets.next()?];
        let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        out.push(digit(digits[0])? << 4 | digit(digits[1])?);
    }
    Some(out)
}

fn meaning(line: &[u8]) -> Answer {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (code, text) = line.split_at_checked(4).unwrap_or((line, b""));
    let wrong = || Err(format!("the server said {:?}", String::from_utf8_lossy(line)));
    match code {
        b"200 " => decode(text).map_or_else(wrong, |text| Ok(Some(text))),
        b"500 " => Ok(None),
        _ => wrong(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_encoded() {
        let mut out = Vec::new();
        encode(b"a b%\xe4@x", &mut out);
        assert_eq!(out, b"a%20b%25%E4@x");
        assert_eq!(decode(&out).unwrap(), b"a b%\xe4@x");
        assert_eq!(decode(b"a%2"), None);
        assert_eq!(decode(b"a%2g"), None);
    }

    #[test]
    fn parses_replies() {
        assert_eq!(meaning(b"200 a%20b\r"), Ok(Some(b"a b".to_vec())));
        assert_eq!(meaning(b"500 not found"), Ok(None));
        assert!(meaning(b"400 later").is_err());
        assert!(meaning(b"200").is_err());
        assert!(meaning(b"").is_err());
    }
}
