//! The servers of a next hop: from what lookups of its name have found to the addresses to try, in their order.
//!
//! This is Postfix's smtp_addr(3) without the lookups: MX hosts by preference (RFC 5321 §5.1), at random among equal ones, cut
//! where this host is one of them, and balanced between IPv4 and IPv6 within `smtp_mx_address_limit`. All that is not in the
//! arguments, such as chance, comes in as a value.

mod miss;
mod order;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use mailrace_io::Endpoint;

use crate::Cause;
use crate::route::Server;

pub use miss::{Miss, MissKind};

/// The servers of a next hop, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// At least one, in the order in which they are tried. A reason of class 4 defers, one of class 5 returns the mail.
    pub result: Result<Vec<Server>, Cause>,
    /// Whether this host is one of the next hop's MX hosts. Mail for it does not go to `smtp_fallback_relay`.
    pub has_self: bool,
}

/// A host and what the lookup of its addresses has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name that was looked up.
    pub name: Box<str>,
    /// Its addresses.
    pub addresses: Result<Vec<IpAddr>, Miss>,
}

/// A host that an MX record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanger {
    /// The lowest is tried first.
    pub preference: u16,
    /// The host.
    pub host: Host,
}

/// What the lookups of a next hop have found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The hosts of its MX records: at least one, in any order.
    Exchangers(Vec<Exchanger>),
    /// The next hop as a host. Either no MX record was to be looked up, or [`Miss::leads_to_host`] says so.
    Host(Host),
    /// The lookup of MX records failed, and nothing else is to be looked up.
    Failed(Miss),
}

/// Which family comes first among servers of one preference (`smtp_address_preference`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressPreference {
    /// Neither.
    #[default]
    Any,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The families in use (`inet_protocols`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocols {
    /// Both.
    #[default]
    All,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}

/// How servers are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// Maximum number of servers (`smtp_mx_address_limit`); 0: no limit.
    pub address_limit: usize,
    /// Whether servers of equal preference are tried in random order (`smtp_randomize_addresses`).
    pub is_random: bool,
    /// The family that comes first.
    pub preference: AddressPreference,
    /// Whether the limit leaves servers of both families (`smtp_balance_inet_protocols`).
    pub is_balanced: bool,
    /// The families in use.
    pub protocols: Protocols,
    /// The addresses at which this host receives mail (`inet_interfaces`, `proxy_interfaces`).
    pub own: Box<[IpAddr]>,
    /// Whether mail is deferred when no MX host has an address (`smtp_defer_if_no_mx_address_found`).
    pub defers_without_address: bool,
    /// Whether the next hop is looked up as a host when the lookup of MX records fails (`ignore_mx_lookup_error`).
    pub ignores_mx_lookup_error: bool,
}

/// The port at which servers are compared with this host. At others, something else may listen.
const SMTP_PORT: u16 = 25;

/// An address with what its order depends on.
#[derive(Clone, Debug)]
struct Candidate<'a> {
    preference: u16,
    name: &'a str,
    address: IpAddr,
}

/// Returns the servers of the next hop `name`, at `port`. `random`: chance, for `smtp_randomize_addresses`.
#[must_use]
pub fn servers(name: &str, port: u16, found: &Found, settings: &HostSettings, random: u64) -> Servers {
    let mut has_self = false;
    let chosen = match found {
        Found::Failed(miss) => Err(miss.mx_reason()),
        Found::Host(host) => of_host(name, port, host, settings),
        Found::Exchangers(exchangers) => of_exchangers(name, port, exchangers, settings, &mut has_self),
    };
    let result = chosen.map(|mut candidates| {
        let best = candidates.first().map(|candidate| candidate.preference);
        order::arrange(&mut candidates, settings, random);
        let server = |candidate: Candidate<'_>| Server {
            name: candidate.name.into(),
            endpoint: Endpoint::Inet(SocketAddr::new(candidate.address, port)),
            is_best: Some(candidate.preference) == best,
        };
        candidates.into_iter().map(server).collect()
    });
    Servers { result, has_self }
}

/// The addresses of a next hop that is a host. None if one of them is this host's: others may be that, too.
fn of_host<'a>(
    name: &str,
    port: u16,
    host: &'a Host,
    settings: &HostSettings,
) -> Result<Vec<Candidate<'a>>, Cause> {
    let mut misses = Misses::default();
    let candidates: Vec<_> = usable(host, 0, settings, &mut misses).collect();
    if candidates.is_empty() {
        return Err(misses.reason(name));
    }
    if port == SMTP_PORT && candidates.iter().any(|candidate| settings.own.contains(&candidate.address)) {
        return Err(loops_back(name));
    }
    Ok(candidates)
}

/// The addresses of MX hosts by preference, up to where this host is one of them.
fn of_exchangers<'a>(
    name: &str,
    port: u16,
    exchangers: &'a [Exchanger],
    settings: &HostSettings,
    has_self: &mut bool,
) -> Result<Vec<Candidate<'a>>, Cause> {
    let mut exchangers: Vec<_> = exchangers.iter().collect();
    exchangers.sort_by_key(|exchanger| exchanger.preference);
    let mut misses = Misses::default();
    let mut candidates = Vec::new();
    for exchanger in &exchangers {
        candidates.extend(usable(&exchanger.host, exchanger.preference, settings, &mut misses));
    }
    let Some(best_found) = candidates.first().map(|candidate| candidate.preference) else {
        let mut reason = misses.reason(name);
        if settings.defers_without_address {
            reason.status.class = 4;
        }
        return Err(reason);
    };
    let own = candidates.iter().find(|candidate| settings.own.contains(&candidate.address));
    if let Some(own) = own.filter(|_| port == SMTP_PORT).map(|own| own.preference) {
        *has_self = true;
        candidates.retain(|candidate| candidate.preference < own);
    }
    if candidates.is_empty() {
        let best = exchangers.first().map(|exchanger| exchanger.preference);
        // A better host that was not found may be there later.
        return Err(if best == Some(best_found) {
            loops_back(name)
        } else {
            Cause::new(4, 4, 4, format!("unable to find primary relay for {name}"))
        });
    }
    Ok(candidates)
}

fn loops_back(name: &str) -> Cause {
    Cause::new(5, 4, 6, format!("mail for {name} loops back to myself"))
}

/// The addresses of a host in the families in use; what it lacks goes to `misses`.
fn usable<'a>(
    host: &'a Host,
    preference: u16,
    settings: &HostSettings,
    misses: &mut Misses,
) -> impl Iterator<Item = Candidate<'a>> + use<'a> {
    let protocols = settings.protocols;
    let addresses = match &host.addresses {
        Ok(addresses) => addresses.as_slice(),
        Err(miss) => {
            misses.add(miss);
            &[]
        }
    };
    if host.addresses.is_ok() && !addresses.iter().any(|address| protocols.has(*address)) {
        misses.add(&Miss::without_address(&host.name));
    }
    let addresses = addresses.iter().filter(move |address| protocols.has(**address));
    addresses.map(move |address| Candidate { preference, name: &host.name, address: *address })
}

/// The failures of lookups of hosts. A temporary one makes the later ones temporary; the text is that of the last.
#[derive(Debug, Default)]
struct Misses {
    last: Option<Cause>,
}

impl Misses {
    fn add(&mut self, miss: &Miss) {
        let is_temporary = self.last.as_ref().is_some_and(|reason| reason.status.class == 4);
        self.last = Some(miss.host_reason(is_temporary));
    }

    fn reason(self, name: &str) -> Cause {
        self.last.unwrap_or_else(|| Miss::without_address(name).host_reason(false))
    }
}

impl Protocols {
    /// Whether an address is of a family in use.
    #[must_use]
    pub const fn has(self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }
}
