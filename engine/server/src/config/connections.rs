//! Connections: where they are accepted, which clients are trusted, and what a client may use.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::machine::{host_names, own_addresses};
use super::reader::parameters;
use super::{Configuration, Tables};
use crate::networks::Networks;
use crate::worker::WorkerSettings;

parameters! {
    /// Where connections are accepted, which clients are trusted, and what a client may use.
    pub struct ConnectionParameters titled "Connections";

    /// Addresses to listen on; each worker has a socket for each.
    [engine] listen: Vec<SocketAddr> = ["127.0.0.1:2525"];
    /// Connections that the kernel keeps for a listening socket until a worker accepts them.
    [engine] listen_backlog: u32 = 4096 in 1 ..= 65_535;
    /// `TCP_CONGESTION` of the listening sockets; empty: the system's choice.
    [engine] congestion_control: String = "";
    /// Connections at once, of all workers together.
    [engine] max_connections: u32 = 16384 in 1 ..= 1_000_000;
    /// Processor time that a client may take from each worker per minute without a message accepted; 0: no limit.
    [engine] client_allowance: Duration = "2ms" in 0 ..= 60;
    /// Time that sessions have to end when the process stops.
    [engine] drain_timeout: Duration = "30s" in 0 ..= 3600;
    /// Clients that may send mail anywhere. Tables and files are not supported.
    mynetworks: Networks = ["127.0.0.0/8", "[::1]/128"];
    /// Connections of one client at once, for each worker; 0: no limit.
    smtpd_client_connection_count_limit: u32 = 50 in 0 ..= 1_000_000;
    /// Clients that the limits per client do not apply to. They do not apply to this machine's own addresses either.
    smtpd_client_event_limit_exceptions: Networks = "$mynetworks";
    /// Time that a client may be silent.
    smtpd_timeout: Duration = "300s" in 1 ..= 86_400;
    /// Looks up the names of clients in `/etc/hosts`. The DNS is not supported yet.
    smtpd_peername_lookup: bool = true;
}

impl Configuration {
    /// The settings of the workers. A reload may change all but the totals of the table `[engine]`.
    #[must_use]
    pub fn worker_settings(&self, workers: u16, tables: &Tables) -> WorkerSettings {
        let own_addresses = own_addresses();
        let rewriting = Arc::new(self.address_rewriting());
        let destinations = Arc::new(self.destinations(own_addresses.clone(), tables));
        let local_clients = self.rewriting.local_header_rewrite_clients;
        let workers = usize::from(workers).max(1);
        WorkerSettings {
            smtp: self.session_settings(&rewriting, &destinations),
            cleanup: self.cleanup_settings(rewriting, destinations, tables),
            mynetworks: self.connections.mynetworks.clone(),
            host_names: if self.connections.smtpd_peername_lookup { host_names() } else { HashMap::new() },
            own_addresses,
            is_own_address_local: local_clients.inet_interfaces,
            is_mynetworks_local: local_clients.mynetworks,
            smtpd_timeout: self.connections.smtpd_timeout,
            drain_timeout: self.connections.drain_timeout,
            connection_count_limit: self.connections.smtpd_client_connection_count_limit,
            event_limit_exceptions: self.connections.smtpd_client_event_limit_exceptions.clone(),
            client_allowance: self.connections.client_allowance,
            workers,
            max_connections: (self.connections.max_connections as usize).div_ceil(workers),
            content_memory: self.content_memory(workers),
            log_connections: self.log.log_connections,
        }
    }
}
