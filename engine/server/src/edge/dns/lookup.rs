//! Lookups of one next hop: its MX records, and the addresses of its hosts.

use std::borrow::Cow;
use std::net::IpAddr;

use futures_util::future::{join, join_all};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use mailrace_delivery::hosts::{Exchanger, Found, Host, Miss, MissKind, Protocols};
use tokio::sync::Semaphore;

use super::system::{System, searched_names};
use super::{DnsSettings, NextHopName};

/// Maximum number of queries to name servers at once. Each has a socket.
pub(super) const QUERIES_MAX: usize = 100;

/// Maximum number of MX records of a domain, and of addresses of a host. Postfix stops there, too.
const RECORDS_MAX: usize = 100;

/// Maximum number of hosts of one next hop that are looked up at once, so that a domain with many does not delay others.
const HOSTS_AT_ONCE: usize = 5;

/// Looks up next hops.
pub(super) struct Lookups {
    pub(super) settings: DnsSettings,
    system: System,
    /// Queries that may be sent now.
    turns: Semaphore,
}

impl Lookups {
    pub(super) fn new(settings: DnsSettings) -> Self {
        let system = System::new(settings.system.clone());
        Self { settings, system, turns: Semaphore::new(QUERIES_MAX) }
    }

    /// Looks up what there is to know of a next hop.
    pub(super) async fn find(&self, question: &NextHopName) -> Found {
        let name = ascii_name(&question.host);
        let wants_mx = question.wants_mx && !self.settings.is_disabled;
        if wants_mx {
            match self.exchangers(&name).await {
                Ok(exchangers) => return Found::Exchangers(exchangers),
                Err(miss) if miss.leads_to_host(self.settings.hosts.ignores_mx_lookup_error) => {}
                Err(miss) => return Found::Failed(miss),
            }
        }
        Found::Host(self.host(&name, !wants_mx).await)
    }

    async fn exchangers(&self, domain: &str) -> Result<Vec<Exchanger>, Miss> {
        let mut records = self.exchanges(domain).await?;
        // Where there are too many, the ones that are tried first are kept.
        records.sort_by_key(|(preference, _)| *preference);
        records.truncate(RECORDS_MAX);
        let mut exchangers = Vec::with_capacity(records.len());
        for records in records.chunks(HOSTS_AT_ONCE) {
            let hosts = records.iter().map(async |(preference, name)| {
                let host = self.host(name, false).await;
                Exchanger { preference: *preference, host }
            });
            exchangers.extend(join_all(hosts).await);
        }
        Ok(exchangers)
    }

    /// The MX records of a domain, at least one.
    async fn exchanges(&self, domain: &str) -> Result<Vec<(u16, String)>, Miss> {
        let name = fully_qualified(domain).ok_or_else(|| Miss::invalid_name(domain))?;
        let lookup = self.query(name, domain, RecordType::MX).await?;
        let mut has_records = false;
        let mut exchanges = Vec::new();
        for record in lookup.answers() {
            let RData::MX(mx) = &record.data else { continue };
            has_records = true;
            let host = mx.exchange.to_ascii();
            let host = host.trim_end_matches('.');
            if host.is_empty() {
                return Err(Miss::null_mx(domain));
            }
            // Postfix takes an address for a host, too.
            if is_host_name(host) || host.parse::<IpAddr>().is_ok() {
                exchanges.push((mx.preference, host.to_owned()));
            }
        }
        if !exchanges.is_empty() {
            Ok(exchanges)
        } else if has_records {
            Err(Miss::invalid_record(domain, "MX"))
        } else {
            Err(Miss::no_record(domain, "MX"))
        }
    }

    /// A host with its addresses. `is_given`: its name comes from the configuration or a recipient, not from the DNS.
    async fn host(&self, name: &str, is_given: bool) -> Host {
        let mut addresses = self.addresses(name, is_given).await;
        if let Ok(addresses) = &mut addresses {
            addresses.truncate(RECORDS_MAX);
        }
        Host { name: name.into(), addresses }
    }

    async fn addresses(&self, name: &str, is_given: bool) -> Result<Vec<IpAddr>, Miss> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let lookup = self.settings.host_lookup;
        let dns = lookup.dns && !self.settings.is_disabled;
        let native = lookup.native || self.settings.is_disabled;
        if native
            && (is_given || !dns)
            && let Some(addresses) = self.system.host(name)
        {
            return Ok(addresses);
        }
        let appends_domain = self.settings.appends_domain || !dns;
        let searches_domains = self.settings.searches_domains || !dns;
        let names = searched_names(name, &self.system.search(), appends_domain, searches_domains);
        let mut miss = Miss::invalid_name(name);
        for searched in names {
            match self.addresses_in_dns(searched, name).await {
                Err(missed) if missed.kind == MissKind::NotFound => miss = missed,
                other => return other,
            }
        }
        if !dns {
            return Err(Miss::unknown_host(name));
        }
        let addresses = if native { self.system.host(name) } else { None };
        addresses.ok_or(miss)
    }

    /// The addresses of a host in the families in use. `shown`: its name in texts.
    async fn addresses_in_dns(&self, name: Name, shown: &str) -> Result<Vec<IpAddr>, Miss> {
        let a = self.records(name.clone(), shown, RecordType::A);
        let aaaa = self.records(name.clone(), shown, RecordType::AAAA);
        match self.settings.hosts.protocols {
            Protocols::Ipv4 => a.await,
            Protocols::Ipv6 => aaaa.await,
            Protocols::All => match join(a, aaaa).await {
                (Ok(mut addresses), Ok(others)) => {
                    addresses.extend(others);
                    Ok(addresses)
                }
                (Ok(addresses), Err(_)) | (Err(_), Ok(addresses)) => Ok(addresses),
                (Err(first), Err(second)) => Err(first.or(second)),
            },
        }
    }

    async fn records(&self, name: Name, shown: &str, record: RecordType) -> Result<Vec<IpAddr>, Miss> {
        let lookup = self.query(name, shown, record).await?;
        let addresses: Vec<IpAddr> =
            lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() {
            return Err(Miss::no_record(shown, type_name(record)));
        }
        Ok(addresses)
    }

    async fn query(&self, name: Name, shown: &str, record: RecordType) -> Result<Lookup, Miss> {
        let _turn = self.turns.acquire().await;
        let resolver = self.system.resolver();
        let resolver = resolver.ok_or_else(|| Miss::temporary(shown, type_name(record)))?;
        let lookup = resolver.lookup(name, record).await;
        lookup.map_err(|error| miss_of(&error, shown, type_name(record)))
    }
}

/// What a failed query means. glibc asks the next server after SERVFAIL, REFUSED and NOTIMP, and reports a temporary failure
/// when none is left: so does this.
fn miss_of(error: &NetError, name: &str, record: &str) -> Miss {
    let code = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
        NetError::Dns(DnsError::ResponseCode(code)) => *code,
        _ => return Miss::temporary(name, record),
    };
    match code {
        ResponseCode::NoError => Miss::no_record(name, record),
        ResponseCode::NXDomain => Miss::no_name(name, record),
        ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp => {
            Miss::temporary(name, record)
        }
        _ => Miss::refused(name, record),
    }
}

const fn type_name(record: RecordType) -> &'static str {
    match record {
        RecordType::MX => "MX",
        RecordType::AAAA => "AAAA",
        _ => "A",
    }
}

/// The name in which a domain is looked up: A-labels for U-labels (RFC 5891 §5).
fn ascii_name(name: &str) -> Cow<'_, str> {
    if name.is_ascii() {
        return name.into();
    }
    // What has no such form is no host name, and fails as that.
    idna::domain_to_ascii(name).map_or_else(|_| name.into(), Cow::Owned)
}

/// The name as it is looked up, without regard to the search list; `None` if it can be no host or domain.
pub(super) fn fully_qualified(name: &str) -> Option<Name> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut parsed = is_host_name(name).then(|| Name::from_ascii(name).ok()).flatten()?;
    parsed.set_fqdn(true);
    Some(parsed)
}

/// Whether Postfix's valid_hostname(3) takes a name: labels of letters, digits, hyphens and underscores, not all of digits.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 255
        && name.split('.').all(is_label)
        && !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}
