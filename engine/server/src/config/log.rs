//! Log and metrics.

use std::net::SocketAddr;

use super::reader::parameters;
use super::value::Octets;
use crate::log::LogFormat;

parameters! {
    /// What operators can read of the process.
    pub struct LogParameters titled "Log and metrics";

    /// Form of log lines.
    [engine] log_format: LogFormat = "text";
    /// Also logs each connect and disconnect.
    [engine] log_connections: bool = false;
    /// Memory for log lines that are not written yet, for each worker. When it is full, lines are lost and counted, first
    /// those about the client that has most of them ([shares](operations.md#shares)).
    [engine] log_memory: Octets = "4MiB" in 65_536 ..= 1_073_741_824;
    /// Address where metrics are served over HTTP; empty: nowhere.
    [engine] metrics_listen: Option<SocketAddr> = "127.0.0.1:9925";
}
