//! Settings of a worker.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use mailrace_core::{cleanup, smtp};

use crate::networks::Networks;

/// Settings of a worker, replaced as a whole on reload. The default trusts no client and limits none. Its numbers of
/// workers and connections, its memory and its timeouts are 0: callers set these.
#[derive(Clone, Debug, Default)]
pub struct WorkerSettings {
    /// The session.
    pub smtp: smtp::Settings,
    /// The cleanup passes.
    pub cleanup: cleanup::Settings,
    /// The same for mail of the system itself: without checks, blind copies and the search for UTF-8.
    pub internal_cleanup: cleanup::Settings,
    /// Clients that are treated specially.
    pub clients: KnownClients,
    /// Timeout for a silent client.
    pub smtpd_timeout: Duration,
    /// Timeout for sessions to end.
    pub drain_timeout: Duration,
    /// Concurrent connections of one client (`smtpd_client_connection_count_limit`); 0: no limit.
    pub connection_count_limit: u32,
    /// Time of this worker per minute that a client may take without an accepted message; zero: no limit.
    pub client_allowance: Duration,
    /// Number of workers, which share the global limits.
    pub workers: usize,
    /// Concurrent connections of this worker.
    pub max_connections: usize,
    /// Most bytes of content, envelopes and input in memory; beyond that, the worker does not read.
    pub content_memory: usize,
    /// Log each connect and disconnect.
    pub log_connections: bool,
}

/// Clients that are known by their addresses. The default knows none.
#[derive(Clone, Debug, Default)]
pub struct KnownClients {
    /// Clients that may relay to any destination.
    pub mynetworks: Networks,
    /// This machine's addresses; ascending.
    pub own_addresses: Vec<IpAddr>,
    /// Names of clients that are known without DNS.
    pub host_names: HashMap<IpAddr, Box<[u8]>>,
    /// Header sections from this machine are completed (`permit_inet_interfaces`).
    pub is_own_address_local: bool,
    /// Header sections from `mynetworks` are completed (`permit_mynetworks`).
    pub is_mynetworks_local: bool,
    /// Clients exempt from limits per client (`smtpd_client_event_limit_exceptions`), besides this machine.
    pub event_limit_exceptions: Networks,
}

impl KnownClients {
    /// Whether the work of a client is charged to it, and its connections are counted.
    #[must_use]
    pub fn is_charged(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.own_addresses.binary_search(&address).is_err() && !self.event_limit_exceptions.contains(address)
    }

    /// Whether mail from `address` is completed as this system's own (`local_header_rewrite_clients`).
    #[must_use]
    pub fn is_local_context(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.is_own_address_local && self.own_addresses.binary_search(&address).is_ok()
            || self.is_mynetworks_local && self.mynetworks.contains(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(item: &str) -> Networks {
        Networks::parse(&[item.to_owned()]).unwrap()
    }

    fn clients() -> KnownClients {
        KnownClients {
            mynetworks: networks("192.0.2.0/24"),
            own_addresses: vec!["127.0.0.1".parse().unwrap(), "198.51.100.1".parse().unwrap()],
            event_limit_exceptions: networks("203.0.113.0/24"),
            ..KnownClients::default()
        }
    }

    #[test]
    fn neither_this_machine_nor_an_exception_is_charged() {
        let clients = clients();
        for (address, is_charged) in [
            ("192.0.2.1", true),
            ("198.51.100.2", true),
            ("2001:db8::1", true),
            ("198.51.100.1", false),
            ("::ffff:198.51.100.1", false),
            ("203.0.113.9", false),
            ("::ffff:203.0.113.9", false),
        ] {
            assert_eq!(clients.is_charged(address.parse().unwrap()), is_charged, "{address}");
        }
    }

    #[test]
    fn whose_mail_is_completed_is_as_it_is_configured() {
        let (own, near, far) = ("198.51.100.1", "::ffff:192.0.2.1", "203.0.113.9");
        for (is_own_address_local, is_mynetworks_local) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let clients = KnownClients { is_own_address_local, is_mynetworks_local, ..clients() };
            let local = [own, near, far].map(|address| clients.is_local_context(address.parse().unwrap()));
            assert_eq!(local, [is_own_address_local, is_mynetworks_local, false]);
        }
    }
}
