//! Limits of single transports (`smtp_destination_recipient_limit`), whose names begin with that of the transport.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reader::{Bounds, Reader, nearest};

/// Limits of the transports that have their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransportLimits(BTreeMap<String, Limits>);

/// Limits of one transport; `None`: the default of all transports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// `NAME_destination_concurrency_limit`
    pub(super) concurrency: Option<u32>,
    /// `NAME_destination_recipient_limit`
    pub(super) recipients: Option<u32>,
    /// `NAME_initial_destination_concurrency`
    pub(super) initial: Option<u32>,
    /// `NAME_destination_concurrency_failed_cohort_limit`
    pub(super) failed_cohorts: Option<u32>,
    /// `NAME_destination_rate_delay`
    pub(super) rate_delay: Option<Duration>,
}

/// What a parameter limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Concurrency,
    Recipients,
    Initial,
    FailedCohorts,
    RateDelay,
}

const SUFFIXES: [(&str, Limit); 5] = [
    ("_destination_concurrency_limit", Limit::Concurrency),
    ("_destination_recipient_limit", Limit::Recipients),
    ("_initial_destination_concurrency", Limit::Initial),
    ("_destination_concurrency_failed_cohort_limit", Limit::FailedCohorts),
    ("_destination_rate_delay", Limit::RateDelay),
];

/// Transports whose limits are accepted. Not all of them deliver yet.
const NAMES: [&str; 8] = ["discard", "error", "lmtp", "local", "relay", "retry", "smtp", "virtual"];

/// Returns the transport and its limit that a parameter has the name of.
pub(super) fn limit_of(parameter: &str) -> Option<(&str, Limit)> {
    SUFFIXES.into_iter().find_map(|(suffix, limit)| {
        let transport = parameter.strip_suffix(suffix).filter(|name| NAMES.contains(name))?;
        Some((transport, limit))
    })
}

/// Returns whether `parameter` limits a transport that is not accepted, and is not misspelt.
pub(super) fn is_of_another_transport(parameter: &str) -> bool {
    let transports = SUFFIXES.into_iter().filter_map(|(suffix, _)| parameter.strip_suffix(suffix));
    let is_known = |name: &str| nearest(name, NAMES.into_iter().chain(["default"])).is_some();
    transports.into_iter().any(|transport| !transport.is_empty() && !is_known(transport))
}

impl Limit {
    const fn bounds(self) -> Bounds {
        let (least, most) = match self {
            Self::Concurrency | Self::FailedCohorts => (0, 100_000),
            Self::Initial => (1, 100_000),
            Self::Recipients => (0, 1_000_000),
            Self::RateDelay => (0, 86_400),
        };
        Bounds { least, most, other: None }
    }
}

impl TransportLimits {
    /// Reads the limits of all transports; the reader has the errors.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut transports = Self::default();
        for (name, given) in reader.undeclared().collect::<Vec<_>>() {
            let Some((transport, limit)) = limit_of(name) else { continue };
            let limits = transports.0.entry(transport.to_owned()).or_default();
            let bounds = limit.bounds();
            match limit {
                Limit::Concurrency => limits.concurrency = reader.read_undeclared(name, given, bounds),
                Limit::Recipients => limits.recipients = reader.read_undeclared(name, given, bounds),
                Limit::Initial => limits.initial = reader.read_undeclared(name, given, bounds),
                Limit::FailedCohorts => limits.failed_cohorts = reader.read_undeclared(name, given, bounds),
                Limit::RateDelay => limits.rate_delay = reader.read_undeclared(name, given, bounds),
            }
        }
        transports
    }

    /// Returns the limits of a transport.
    pub(super) fn of(&self, transport: &str) -> Limits {
        self.0.get(transport).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_known_transports() {
        for (name, limit) in [
            ("smtp_destination_recipient_limit", Some(("smtp", Limit::Recipients))),
            ("local_destination_concurrency_limit", Some(("local", Limit::Concurrency))),
            ("lmtp_initial_destination_concurrency", Some(("lmtp", Limit::Initial))),
            ("relay_destination_rate_delay", Some(("relay", Limit::RateDelay))),
            ("virtual_destination_concurrency_failed_cohort_limit", Some(("virtual", Limit::FailedCohorts))),
            ("slow_destination_rate_delay", None),
            ("default_destination_rate_delay", None),
            ("_destination_rate_delay", None),
        ] {
            assert_eq!(limit_of(name), limit, "{name}");
        }
    }
}
