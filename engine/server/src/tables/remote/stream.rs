//! Connections to servers of tables, over TCP or a local socket.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite, BufStream};
use tokio::net::{TcpStream, UnixStream};

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Inet(String, u16),
    Unix(PathBuf),
}

/// Bytes both ways.
pub(super) trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Octets for S {}

/// A connection.
pub(super) type Stream = BufStream<Box<dyn Octets>>;

impl Address {
    /// `host:port`, an IPv6 address in brackets.
    pub(super) fn inet(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if host.is_empty() || (bare.is_none() && host.contains(':')) {
            return None;
        }
        Some(Self::Inet(host.to_owned(), port.parse().ok()?))
    }

    /// A local socket; relative to `base`.
    pub(super) fn unix(text: &str, base: &Path) -> Option<Self> {
        (!text.is_empty()).then(|| Self::Unix(base.join(text)))
    }

    /// A connection to it, or what to say of why there is none.
    pub(super) async fn connect(&self) -> Result<Stream, String> {
        self.try_to_connect().await.map_err(|error| format!("cannot connect to {self}: {error}"))
    }

    async fn try_to_connect(&self) -> io::Result<Stream> {
        let stream: Box<dyn Octets> = match self {
            Self::Inet(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        Ok(BufStream::new(stream))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet(host, port) if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Inet(host, port) => write!(formatter, "{host}:{port}"),
            Self::Unix(path) => write!(formatter, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_server_addresses() {
        assert_eq!(Address::inet("a.b:25").unwrap().to_string(), "a.b:25");
        assert_eq!(Address::inet("[::1]:25").unwrap(), Address::Inet("::1".to_owned(), 25));
        assert_eq!(Address::inet("[::1]:25").unwrap().to_string(), "[::1]:25");
        for wrong in ["", "a", "a:", ":1", "a:65536", "::1:2", "a:b"] {
            assert_eq!(Address::inet(wrong), None, "{wrong}");
        }
        let path = Address::unix("run/map", Path::new("/x")).unwrap();
        assert_eq!(path, Address::Unix("/x/run/map".into()));
    }
}
