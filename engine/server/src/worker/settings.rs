//! What a worker is set to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use mailrace_core::{cleanup, smtp};

use crate::networks::Networks;

/// What a worker is set to; replaced as a whole on reload. The default trusts no client and limits none. Its numbers of
/// workers and connections, its memory and its timeouts are 0: callers set these.
#[derive(Clone, Debug, Default)]
pub struct WorkerSettings {
    /// The session.
    pub smtp: smtp::Settings,
    /// The cleanup passes.
    pub cleanup: cleanup::Settings,
    /// Clients that may send anywhere.
    pub mynetworks: Networks,
    /// This machine's addresses; ascending.
    pub own_addresses: Vec<IpAddr>,
    /// The names of clients that this machine knows by itself.
    pub host_names: HashMap<IpAddr, Box<[u8]>>,
    /// Header sections from this machine are completed (`permit_inet_interfaces`).
    pub is_own_address_local: bool,
    /// Header sections from `mynetworks` are completed (`permit_mynetworks`).
    pub is_mynetworks_local: bool,
    /// How long a client may be silent.
    pub smtpd_timeout: Duration,
    /// How long sessions may take to end.
    pub drain_timeout: Duration,
    /// Connections of one client at once (`smtpd_client_connection_count_limit`); 0: no limit.
    pub connection_count_limit: u32,
    /// Clients that limits of one client do not bind (`smtpd_client_event_limit_exceptions`), besides this machine.
    pub event_limit_exceptions: Networks,
    /// What a client may take of this worker's time a minute without a message accepted; zero: anything.
    pub client_allowance: Duration,
    /// Number of workers, which share what is bounded for all.
    pub workers: usize,
    /// Connections of this worker at once.
    pub max_connections: usize,
    /// Octets of content, envelopes and input that this worker keeps in memory at most; beyond, it does not read.
    pub content_memory: usize,
    /// Log each connect and disconnect.
    pub log_connections: bool,
}

impl WorkerSettings {
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
