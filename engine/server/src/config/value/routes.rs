//! Parameters that say where mail goes: transports and next hops.

use mailrace_core::smtp::client::Protocol;
use mailrace_delivery::NextHop;

use super::{Refusal, Setting};
use crate::config::reader::Raw;

/// Next hops over SMTP, as written; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHops(pub String);

impl Setting for NextHops {
    const KIND: &str = "next hops";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let text = match raw {
            Raw::List(places) => places.join(", "),
            raw => String::read(raw)?,
        };
        if text.is_empty() {
            return Ok(Self::default());
        }
        check_next_hops(&text, Protocol::Smtp)?;
        Ok(Self(text))
    }
}

/// A transport, with a next hop if it is not to be found otherwise: `TRANSPORT` or `TRANSPORT:NEXTHOP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportName {
    /// Name of the transport.
    pub transport: String,
    /// The next hop, or for `error`, `retry` and `discard` the reason; empty: not given.
    pub next_hop: String,
}

impl TransportName {
    /// Whether it is the transport with this name, without a next hop.
    #[must_use]
    pub fn is_plain(&self, transport: &str) -> bool {
        self.transport == transport && self.next_hop.is_empty()
    }
}

impl Setting for TransportName {
    const KIND: &str = "transport";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let text = String::read(raw)?;
        let (transport, next_hop) = text.split_once(':').unwrap_or((&text, ""));
        let is_name = !transport.is_empty()
            && transport.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
        if !is_name {
            let reason = format!("{text:?} does not begin with the name of a transport");
            return Err(Refusal::new(reason, "write \"smtp\", \"smtp:[192.0.2.1]:2525\" or another"));
        }
        let protocol = match transport {
            "smtp" | "relay" => Some(Protocol::Smtp),
            "lmtp" => Some(Protocol::Lmtp),
            _ => None,
        };
        if let Some(protocol) = protocol.filter(|_| !next_hop.is_empty()) {
            check_next_hops(next_hop, protocol)?;
        }
        Ok(Self { transport: transport.to_owned(), next_hop: next_hop.trim().to_owned() })
    }
}

fn check_next_hops(text: &str, protocol: Protocol) -> Result<(), Refusal> {
    match NextHop::parse_list(text, protocol, "") {
        Ok(_) => Ok(()),
        Err(error) => Err(Refusal::new(
            error.to_string(),
            "write for example \"mail.example.com\", \"[mail.example.com]:587\" or \"[192.0.2.1]:2525\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn next_hops_are_checked_and_kept_as_written() {
        for hops in ["", "example.com", "[Mail.example.com]:587", "[192.0.2.1]:2525, example.net"] {
            assert_eq!(NextHops::read(&text(hops)).unwrap().0, hops);
        }
        let list = Raw::List(vec!["[192.0.2.1]".to_owned(), "b.example".to_owned()]);
        assert_eq!(NextHops::read(&list).unwrap().0, "[192.0.2.1], b.example");
        for hops in ["[192.0.2.1", "a:nosuch", "a@b.example"] {
            assert!(NextHops::read(&text(hops)).unwrap_err().reason.contains("is not a next hop"), "{hops}");
        }
    }

    #[test]
    fn transports_have_names_and_may_have_next_hops() {
        for (given, transport, next_hop) in [
            ("smtp", "smtp", ""),
            ("smtp:", "smtp", ""),
            ("smtp:[192.0.2.1]:2525", "smtp", "[192.0.2.1]:2525"),
            ("lmtp:unix:/run/lmtp", "lmtp", "unix:/run/lmtp"),
            ("error:5.1.2 no such domain: sorry", "error", "5.1.2 no such domain: sorry"),
            ("my-filter.2:x", "my-filter.2", "x"),
        ] {
            let read = TransportName::read(&text(given)).unwrap();
            assert_eq!((&*read.transport, &*read.next_hop), (transport, next_hop), "{given}");
            assert_eq!(read.is_plain("smtp"), given.trim_end_matches(':') == "smtp", "{given}");
        }
        for given in ["", ":[192.0.2.1]", "a b:c", "smtp:[192.0.2.1", "smtp:unix:/run/lmtp"] {
            assert!(TransportName::read(&text(given)).is_err(), "{given}");
        }
    }
}
