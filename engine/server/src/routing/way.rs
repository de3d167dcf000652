//! A transport with a next hop, as parameters and tables name it.

use std::fmt;

use mailrace_core::record::delivery::Status;

/// A transport and a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// Name of the transport.
    pub(crate) transport: Box<str>,
    /// The next hop, or for `error`, `retry` and `discard` the reason; empty: not given.
    pub(crate) next_hop: Box<str>,
}

impl Way {
    /// Parses `TRANSPORT` or `TRANSPORT:NEXTHOP`.
    pub(crate) fn parse(text: &str) -> Self {
        let (transport, next_hop) = text.split_once(':').unwrap_or((text, ""));
        Self { transport: transport.trim().into(), next_hop: next_hop.trim().into() }
    }

    /// Returns the way of mail that is returned with a reason.
    pub(super) fn error(reason: &str) -> Self {
        Self { transport: super::ERROR.into(), next_hop: reason.into() }
    }

    /// Returns the same way, with this next hop if it has none.
    pub(crate) fn or_next_hop(&self, next_hop: &str) -> Self {
        let reasons = self.takes_reason() && self.next_hop.is_empty();
        let next_hop = match &*self.next_hop {
            "" if reasons => NO_REASON,
            "" => next_hop,
            given => given,
        };
        Self { transport: self.transport.clone(), next_hop: next_hop.into() }
    }

    /// Whether what follows the transport is a reason rather than a place.
    fn takes_reason(&self) -> bool {
        matches!(&*self.transport, super::ERROR | super::RETRY)
    }

    /// Returns the next hop in the form in which next hops are compared: in lower case, except that a path stays as it is.
    pub(crate) fn comparable_next_hop(&self) -> String {
        if matches!(&*self.transport, super::ERROR | super::RETRY | "discard")
            || self.next_hop.contains("unix:")
        {
            self.next_hop.to_string()
        } else {
            self.next_hop.to_lowercase()
        }
    }
}

/// What `error` and `retry` say without a text.
const NO_REASON: &str = "Address is undeliverable";

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.transport)?;
        if self.next_hop.is_empty() { Ok(()) } else { write!(formatter, ":{}", self.next_hop) }
    }
}

/// Splits the enhanced status code (RFC 3463) from the front of a reason, as in `5.1.2 no such domain`.
pub(crate) fn split_status(reason: &str) -> (Option<Status>, &str) {
    let (front, text) = reason.split_once([' ', '\t']).unwrap_or((reason, ""));
    match status(front) {
        Some(status) => (Some(status), text.trim_start()),
        None => (None, reason),
    }
}

/// Parses an enhanced status code.
fn status(text: &str) -> Option<Status> {
    let (class, rest) = text.split_once('.')?;
    let (subject, detail) = rest.split_once('.')?;
    let class = match class {
        "2" => 2,
        "4" => 4,
        "5" => 5,
        _ => return None,
    };
    let number = |digits: &str| {
        let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number)
    };
    Some(Status { class, subject: number(subject)?, detail: number(detail)? })
}

/// A value of `transport_maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Empty transport: unchanged. Empty next hop: the recipient's domain if there is a transport, else unchanged.
    way: Way,
}

impl Entry {
    pub(super) fn parse(value: &[u8]) -> Self {
        Self { way: Way::parse(&String::from_utf8_lossy(value)) }
    }

    /// Returns what the entry makes of a way to `domain`.
    pub(super) fn apply(&self, before: Way, domain: &str) -> Way {
        let Way { transport, next_hop } = &self.way;
        match (&**transport, &**next_hop) {
            ("", "") => before,
            ("", next_hop) => Way { next_hop: next_hop.into(), ..before },
            _ => self.way.or_next_hop(domain),
        }
    }
}
