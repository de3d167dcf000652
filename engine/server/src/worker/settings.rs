//! Owns what a worker is set to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use mailrace_core::{cleanup, smtp};

use crate::config::Networks;

/// What a worker is set to; replaced as a whole on reload.
#[derive(Clone, Debug)]
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
    /// Connections of this worker at once.
    pub max_connections: usize,
    /// Octets of content, envelopes and input that this worker keeps in memory at most; beyond, it does not read.
    pub content_memory: usize,
    /// Log each connect and disconnect.
    pub log_connections: bool,
}

impl WorkerSettings {
    /// Whether mail from `address` is completed as this system's own (`local_header_rewrite_clients`).
    #[must_use]
    pub fn is_local_context(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.is_own_address_local && self.own_addresses.binary_search(&address).is_ok()
            || self.is_mynetworks_local && self.mynetworks.contains(address)
    }
}
