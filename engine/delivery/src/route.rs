//! Where a recipient's mail goes: the next hop.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use mailrace_core::address::literal_address;

/// A next hop, as configured (`[192.0.2.1]:2525`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    /// The server's address.
    pub address: SocketAddr,
}

/// A text that names no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHopError;

/// The port of SMTP.
const SMTP_PORT: u16 = 25;

impl NextHop {
    /// Parses `[ADDRESS]`, `[ADDRESS]:PORT`; an IPv6 address as `[ipv6:ADDRESS]` or `[ADDRESS]`.
    ///
    /// # Errors
    /// [`NextHopError`].
    pub fn parse(text: &str) -> Result<Self, NextHopError> {
        let end = text.find(']').ok_or(NextHopError)? + 1;
        let (host, port) = text.split_at(end);
        let bare = || host.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
        let ip = literal_address(host.as_bytes()).or_else(bare).ok_or(NextHopError)?;
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => SMTP_PORT,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or(NextHopError)?
            }
            _ => return Err(NextHopError),
        };
        Ok(Self { address: SocketAddr::new(ip, port) })
    }

    /// Host and address as log lines and reports show them: `192.0.2.1[192.0.2.1]`.
    #[must_use]
    pub fn host(&self) -> String {
        let ip = self.address.ip();
        format!("{ip}[{ip}]")
    }
}

/// The value of `relay=`: `192.0.2.1[192.0.2.1]:25`.
impl fmt::Display for NextHop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host(), self.address.port())
    }
}

impl fmt::Display for NextHopError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("expected an address in brackets, with a port if it is not 25: [192.0.2.1]:2525")
    }
}

impl std::error::Error for NextHopError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses_in_brackets() {
        let told = |text| NextHop::parse(text).map(|hop| hop.address.to_string());
        assert_eq!(told("[192.0.2.1]"), Ok("192.0.2.1:25".to_owned()));
        assert_eq!(told("[192.0.2.1]:2525"), Ok("192.0.2.1:2525".to_owned()));
        assert_eq!(told("[ipv6:2001:db8::1]:26"), Ok("[2001:db8::1]:26".to_owned()));
        assert_eq!(told("[2001:db8::1]"), Ok("[2001:db8::1]:25".to_owned()));
        for text in
            ["", "192.0.2.1", "[192.0.2.1", "[]", "[mail.example.com]", "[192.0.2.1]:", "[192.0.2.1]:0"]
        {
            assert_eq!(told(text), Err(NextHopError), "{text}");
        }
        for text in ["[192.0.2.1]:65536", "[192.0.2.1]:+25", "[192.0.2.1]25", "x[192.0.2.1]"] {
            assert_eq!(told(text), Err(NextHopError), "{text}");
        }
    }

    #[test]
    fn is_named_as_in_log_lines() {
        assert_eq!(NextHop::parse("[192.0.2.1]:26").unwrap().to_string(), "192.0.2.1[192.0.2.1]:26");
    }
}
