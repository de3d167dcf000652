//! Where a recipient's mail goes: the transport and the next hop.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use mailrace_core::address::literal_address;
use mailrace_core::lookup::Ticket;
use mailrace_core::smtp::client::Protocol;
use mailrace_io::Endpoint;

use crate::outcome::Outcome;

/// The way to a recipient. Recipients of one message with the same route go together, and a route has a queue of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Number of the transport, in the order of the settings.
    pub transport: u16,
    /// The next hop as configured, or the recipient's domain; in lower case.
    pub next_hop: Arc<str>,
    /// The address, without its extension, if each one has a queue of its own: where a transaction has one recipient.
    pub mailbox: Option<Arc<[u8]>>,
}

/// What a recipient's route has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed {
    /// It goes this way.
    To(Route),
    /// Nothing has to be tried: the transports `error`, `retry` and `discard`.
    Decided(Outcome),
    /// A table has not answered yet.
    Pending(Ticket),
}

/// A server that mail may be handed over to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its name as configured or found, or its address.
    pub name: Arc<str>,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Whether no server of the next hop is preferred to it.
    pub is_best: bool,
}

/// One of the places of a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// A server whose address is known.
    Server(Server),
    /// A name whose servers have to be looked up.
    Name(HostName),
}

/// The name of a host, or of a domain whose mail servers are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostName {
    /// The name.
    pub name: Arc<str>,
    /// Port of the servers.
    pub port: u16,
    /// Whether its MX records are looked for first (RFC 5321 §5.1).
    pub wants_mx: bool,
}

/// A text that names no next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHopError(String);

impl NextHop {
    /// Parses the places of a next hop, separated by commas or blanks: `DOMAIN`, `DOMAIN:PORT`, `[HOST]`, `[HOST]:PORT`,
    /// `[ADDRESS]:PORT`, for LMTP also `unix:PATH` and `inet:HOST:PORT`. A port may be the name of a service of mail.
    /// `own_name`: how log lines name this host, where a socket on it is meant.
    ///
    /// # Errors
    /// [`NextHopError`].
    pub fn parse_list(text: &str, protocol: Protocol, own_name: &str) -> Result<Vec<Self>, NextHopError> {
        let places = text.split([',', ' ', '\t']).filter(|place| !place.is_empty());
        let hops: Vec<Self> =
            places.map(|place| Self::parse(place, protocol, own_name)).collect::<Result<_, _>>()?;
        if hops.is_empty() { Err(NextHopError(text.to_owned())) } else { Ok(hops) }
    }

    fn parse(place: &str, protocol: Protocol, own_name: &str) -> Result<Self, NextHopError> {
        let invalid = || NextHopError(place.to_owned());
        let is_lmtp = protocol == Protocol::Lmtp;
        if let Some(path) = place.strip_prefix("unix:").filter(|_| is_lmtp) {
            if path.is_empty() {
                return Err(invalid());
            }
            let endpoint = Endpoint::Unix(Path::new(path).into());
            return Ok(Self::Server(Server { name: own_name.into(), endpoint, is_best: true }));
        }
        let place = place.strip_prefix("inet:").filter(|_| is_lmtp).unwrap_or(place);
        let bracket = place.starts_with('[').then(|| place.find(']')).flatten();
        let (host, port) = match bracket {
            Some(end) => place.split_at(end + 1),
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => default_port(protocol),
            Some(port) => port_number(port).ok_or_else(invalid)?,
            None => return Err(invalid()),
        };
        let bare =
            host.strip_prefix('[').map(|host| host.strip_suffix(']').ok_or_else(invalid)).transpose()?;
        let name = bare.unwrap_or(host);
        let literal = literal_address(host.as_bytes()).or_else(|| name.parse::<IpAddr>().ok());
        if let Some(ip) = literal {
            return Ok(Self::Server(Server::at(SocketAddr::new(ip, port))));
        }
        if name.is_empty() || name.bytes().any(|octet| matches!(octet, b'[' | b']' | b':' | b'/' | b'@')) {
            return Err(invalid());
        }
        let wants_mx = bare.is_none() && !is_lmtp;
        Ok(Self::Name(HostName { name: name.into(), port, wants_mx }))
    }
}

/// The port of a service of mail (IANA), or its number.
fn port_number(text: &str) -> Option<u16> {
    match text {
        "smtp" | "mail" => Some(25),
        "smtps" | "submissions" | "urd" => Some(465),
        "submission" => Some(587),
        "lmtp" => Some(24),
        _ if text.bytes().all(|octet| octet.is_ascii_digit()) => text.parse().ok().filter(|port| *port > 0),
        _ => None,
    }
}

const fn default_port(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Smtp => 25,
        Protocol::Lmtp => 24,
    }
}

impl Server {
    /// A server of which only the address is known.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { name: address.ip().to_string().into(), endpoint: Endpoint::Inet(address), is_best: true }
    }

    /// Name and address as log lines and reports show them: `mx.example.com[192.0.2.1]`.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.endpoint {
            Endpoint::Inet(address) => format!("{}[{}]", self.name, address.ip()),
            Endpoint::Unix(path) => format!("{}[{}]", self.name, path.display()),
        }
    }
}

/// The value of `relay=`: `mx.example.com[192.0.2.1]:25`.
impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.host())?;
        match &self.endpoint {
            Endpoint::Inet(address) => write!(formatter, ":{}", address.port()),
            Endpoint::Unix(_) => Ok(()),
        }
    }
}

impl fmt::Display for NextHopError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} is not a next hop: expected DOMAIN, [HOST] or [ADDRESS], with :PORT if need be",
            self.0
        )
    }
}

impl std::error::Error for NextHopError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, protocol: Protocol) -> Result<String, NextHopError> {
        let hops = NextHop::parse_list(text, protocol, "own.example")?;
        let shown = hops.iter().map(|hop| match hop {
            NextHop::Server(server) => server.to_string(),
            NextHop::Name(HostName { name, port, wants_mx: true }) => format!("mx {name}:{port}"),
            NextHop::Name(HostName { name, port, .. }) => format!("a {name}:{port}"),
        });
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn parses_places() {
        let smtp = [
            ("[192.0.2.1]", "192.0.2.1[192.0.2.1]:25"),
            ("[192.0.2.1]:2525", "192.0.2.1[192.0.2.1]:2525"),
            ("192.0.2.1:2525", "192.0.2.1[192.0.2.1]:2525"),
            ("[ipv6:2001:db8::1]:26", "2001:db8::1[2001:db8::1]:26"),
            ("[2001:db8::1]", "2001:db8::1[2001:db8::1]:25"),
            ("example.com", "mx example.com:25"),
            ("example.com:submission", "mx example.com:587"),
            ("[mail.example.com]:smtps", "a mail.example.com:465"),
            ("a.example, [b.example] c.example:26", "mx a.example:25 a b.example:25 mx c.example:26"),
        ];
        for (text, expected) in smtp {
            assert_eq!(parsed(text, Protocol::Smtp).as_deref(), Ok(expected), "{text}");
        }
        let lmtp = [
            ("unix:/run/lmtp", "own.example[/run/lmtp]"),
            ("unix:private/lmtp", "own.example[private/lmtp]"),
            ("inet:mail.example:2003", "a mail.example:2003"),
            ("mail.example", "a mail.example:24"),
            ("[127.0.0.1]:2003", "127.0.0.1[127.0.0.1]:2003"),
        ];
        for (text, expected) in lmtp {
            assert_eq!(parsed(text, Protocol::Lmtp).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn names_what_is_no_place() {
        let texts = ["", ", ", "[192.0.2.1", "[]", "[192.0.2.1]:", "[192.0.2.1]:0", "[192.0.2.1]:65536"];
        for text in texts.into_iter().chain(["[192.0.2.1]:+25", "[192.0.2.1]25", "x[192.0.2.1]", "a:nosuch"])
        {
            assert!(parsed(text, Protocol::Smtp).is_err(), "{text}");
        }
        assert!(parsed("unix:/run/lmtp", Protocol::Smtp).is_err(), "only for LMTP");
        assert!(parsed("unix:", Protocol::Lmtp).is_err());
        let error = parsed("a b:nosuch", Protocol::Smtp).unwrap_err().to_string();
        assert!(error.starts_with("\"b:nosuch\" is not a next hop"), "{error}");
    }
}
