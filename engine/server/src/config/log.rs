//! Log and metrics.

use std::net::SocketAddr;

use super::reader::parameters;
use super::value::Octets;
use crate::log::LogFormat;

parameters! {
    /// Log format, log memory and the metrics endpoint.
    pub struct LogParameters titled "Log and metrics";

    /// Format of log lines.
    [engine] log_format: LogFormat = "text";
    /// Also logs each connect and disconnect.
    [engine] log_connections: bool = false;
    /// Memory per worker for log lines that are waiting to be written. When it is full, lines are dropped and counted,
    /// starting with those about the client that has the most ([shares](operations.md#shares)).
    [engine] log_memory: Octets = "4MiB" in 65_536 ..= 1_073_741_824;
    /// Address on which metrics are served over HTTP; empty: no metrics endpoint.
    [engine] metrics_listen: Option<SocketAddr> = "127.0.0.1:9925";
}
