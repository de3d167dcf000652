//! The protocol of Sendmail's socket maps (Postfix's socketmap_table(5)): netstrings both ways.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use super::client::Protocol;
use super::stream::{Address, Stream};
use super::{ANSWER_SIZE_MAX, Answer};

pub(super) struct Socketmap {
    address: Address,
    /// The map's name, which begins each request.
    name: String,
}

/// Digits of a netstring's length at most.
const LENGTH_SIZE_MAX: usize = 9;

impl Socketmap {
    /// `inet:host:port:name` or `unix:path:name`.
    pub(super) fn parse(text: &str, base: &std::path::Path) -> Option<Self> {
        let (server, name) = text.rsplit_once(':')?;
        let (family, server) = server.split_once(':')?;
        let address = match family {
            "inet" => Address::inet(server)?,
            "unix" => Address::unix(server, base)?,
            _ => return None,
        };
        (!name.is_empty()).then(|| Self { address, name: name.to_owned() })
    }
}

impl Protocol for Socketmap {
    type Connection = Stream;
    type Question = Vec<u8>;

    fn question(&self, key: &[u8]) -> Option<Vec<u8>> {
        Some(netstring(&self.name, key))
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
        let reply = exchange(&mut stream, &request).await;
        let reply = reply.map_err(|error| format!("{}: {error}", self.address))?;
        Ok((stream, meaning(reply)?))
    }
}

fn netstring(name: &str, key: &[u8]) -> Vec<u8> {
    let mut request = format!("{}:{name} ", name.len() + 1 + key.len()).into_bytes();
    request.extend_from_slice(key);
    request.push(b',');
    request
}

async fn exchange(stream: &mut Stream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut length = Vec::new();
    (&mut *stream).take(LENGTH_SIZE_MAX as u64).read_until(b':', &mut length).await?;
    let digits = length.strip_suffix(b":").and_then(|digits| std::str::from_utf8(digits).ok());
    let length: usize = digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| wrong("the reply does not begin as a netstring"))?;
    if length > ANSWER_SIZE_MAX {
        return Err(wrong("the reply is too long"));
    }
    let mut reply = vec![0; length + 1];
    stream.read_exact(&mut reply).await?;
    if reply.pop() != Some(b',') {
        return Err(wrong("the reply does not end as a netstring"));
    }
    Ok(reply)
}

fn meaning(reply: Vec<u8>) -> Answer {
    let end = reply.iter().position(|octet| *octet == b' ').unwrap_or(reply.len());
    let (status, rest) = reply.split_at(end);
    match status {
        b"OK" => Ok(Some(rest.get(1..).unwrap_or_default().to_vec())),
        b"NOTFOUND" => Ok(None),
        _ => Err(format!("the server said {:?}", String::from_utf8_lossy(&reply))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn parses_map_names() {
        let base = Path::new("/base");
        let map = Socketmap::parse("inet:localhost:99:aliases", base).unwrap();
        assert_eq!((map.address.to_string().as_str(), map.name.as_str()), ("localhost:99", "aliases"));
        let map = Socketmap::parse("unix:run/map:x", base).unwrap();
        assert_eq!(map.address.to_string(), "/base/run/map");
        for wrong in ["", "inet:host:99", "unix:/x", "tcp:a:1:b", "inet:a:b:c", "unix:/x:"] {
            assert!(Socketmap::parse(wrong, base).is_none(), "{wrong}");
        }
    }

    #[test]
    fn encodes_requests_and_parses_replies() {
        assert_eq!(netstring("map", b"a b"), b"7:map a b,");
        assert_eq!(meaning(b"OK a b".to_vec()), Ok(Some(b"a b".to_vec())));
        assert_eq!(meaning(b"OK ".to_vec()), Ok(Some(Vec::new())));
        assert_eq!(meaning(b"NOTFOUND ".to_vec()), Ok(None));
        for wrong in ["TEMP later", "TIMEOUT ", "PERM no", "", "ok x"] {
            assert!(meaning(wrong.into()).is_err(), "{wrong}");
        }
    }
}
