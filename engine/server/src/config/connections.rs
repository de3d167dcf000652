//! Connections: listening addresses, trusted clients, limits per client.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::machine::{host_names, own_addresses};
use super::reader::parameters;
use super::{Configuration, Tables};
use crate::networks::Networks;
use crate::worker::{KnownClients, WorkerSettings};

parameters! {
    /// Listening addresses, trusted clients, and limits per client.
    pub struct ConnectionParameters titled "Connections";

    /// Addresses to listen on. Each worker opens one socket per address.
    [engine] listen: Vec<SocketAddr> = ["127.0.0.1:2525"];
    /// Maximum number of connections that wait in the kernel, per listening socket, until a worker accepts them.
    [engine] listen_backlog: u32 = 4096 in 1 ..= 65_535;
    /// Congestion control algorithm (`TCP_CONGESTION`) of the listening sockets; empty: the system default.
    [engine] congestion_control: String = "";
    /// Maximum number of simultaneous connections, for all workers together.
    [engine] max_connections: u32 = 16384 in 1 ..= 1_000_000;
    /// Processor time per minute that a client may use on each worker without having a message accepted; 0: no limit.
    [engine] client_allowance: Duration = "2ms" in 0 ..= 60;
    /// Time allowed for sessions to end when the engine is stopped.
    [engine] drain_timeout: Duration = "30s" in 0 ..= 3600;
    /// Clients that may relay to any destination. Tables and files are not supported.
    mynetworks: Networks = ["127.0.0.0/8", "[::1]/128"];
    /// Maximum number of simultaneous connections per client and worker; 0: no limit.
    smtpd_client_connection_count_limit: u32 = 50 in 0 ..= 1_000_000;
    /// Clients that are exempt from the limits per client. This machine's own addresses are always exempt.
    smtpd_client_event_limit_exceptions: Networks = "$mynetworks";
    /// Time after which an idle connection is closed.
    smtpd_timeout: Duration = "300s" in 1 ..= 86_400;
    /// Looks up client names in `/etc/hosts`. DNS lookups are not supported yet.
    smtpd_peername_lookup: bool = true;
}

impl Configuration {
    /// Returns the settings of the workers. A reload may change all of them except the totals in the table `[engine]`.
    #[must_use]
    pub fn worker_settings(&self, workers: u16, tables: &Tables) -> WorkerSettings {
        let own_addresses = own_addresses();
        let rewriting = Arc::new(self.address_rewriting());
        let destinations = Arc::new(self.destinations(own_addresses.clone(), tables));
        let workers = usize::from(workers).max(1);
        let smtp = self.session_settings(&rewriting, &destinations, tables);
        let cleanup = self.cleanup_settings(rewriting, destinations, tables);
        WorkerSettings {
            smtp,
            internal_cleanup: cleanup.internal(),
            cleanup,
            clients: self.known_clients(own_addresses),
            smtpd_timeout: self.connections.smtpd_timeout,
            drain_timeout: self.connections.drain_timeout,
            connection_count_limit: self.connections.smtpd_client_connection_count_limit,
            client_allowance: self.connections.client_allowance,
            workers,
            max_connections: (self.connections.max_connections as usize).div_ceil(workers),
            content_memory: self.content_memory(workers),
            log_connections: self.log.log_connections,
        }
    }

    fn known_clients(&self, own_addresses: Vec<IpAddr>) -> KnownClients {
        let local_clients = self.rewriting.local_header_rewrite_clients;
        KnownClients {
            mynetworks: self.connections.mynetworks.clone(),
            own_addresses,
            host_names: if self.connections.smtpd_peername_lookup { host_names() } else { HashMap::new() },
            is_own_address_local: local_clients.inet_interfaces,
            is_mynetworks_local: local_clients.mynetworks,
            event_limit_exceptions: self.connections.smtpd_client_event_limit_exceptions.clone(),
        }
    }
}
