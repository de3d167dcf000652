//! Owns the table `[engine]`: what the process itself is set to.

use std::net::SocketAddr;
use std::time::Duration;

use super::choice::{IoChoice, LogFormat};
use super::document::Section;
use super::reader::settings;
use super::value::Octets;
use crate::tables::BadLines;

settings! {
    /// What the process itself is set to. None of it changes on reload.
    pub struct EngineSettings in Section::Engine, comes with None;

    /// Where to take connections; each worker has a socket for each.
    listen: Vec<SocketAddr> = "[\"127.0.0.1:2525\"]";
    /// Number of workers; 0: one for each core that the process may run on.
    workers: u16 = "0" in 0 ..= 1024;
    /// How workers reach the kernel: "ring" (io_uring), "epoll", or "auto": the ring where it is available.
    io: IoChoice = "\"auto\"";
    /// Connections at once, of all workers together.
    max_connections: u32 = "16384" in 1 ..= 1_000_000;
    /// What a client may take of each worker's time a minute without a message accepted; 0: anything.
    client_allowance: Duration = "\"2ms\"" in 0 ..= 60;
    /// Connections that the kernel keeps for a listening socket until they are taken.
    listen_backlog: u32 = "4096" in 1 ..= 65_535;
    /// User-space memory for connections and messages under way, of all workers together; 0: 256 MiB, or what it takes for
    /// each worker to have 48 MiB beside its fixed buffers.
    memory_limit: Octets = "0" in 0 ..= 1_099_511_627_776;
    /// Messages that were submitted on this machine and are under way at once; 256 KiB of memory each, beside memory_limit.
    submissions_in_flight: u32 = "64" in 1 ..= 1000;
    /// TCP_CONGESTION of the listening sockets; empty: the system's choice.
    congestion_control: String = "\"\"";
    /// How long sessions may take to end when the process is asked to.
    drain_timeout: Duration = "\"30s\"" in 0 ..= 3600;
    /// Where metrics are served over HTTP; empty: nowhere.
    metrics_listen: Option<SocketAddr> = "\"127.0.0.1:9925\"";
    /// How long the server of a lookup table may take to answer.
    lookup_timeout: Duration = "\"10s\"" in 1 ..= 600;
    /// Connections to the server of each lookup table.
    lookup_connections: u16 = "6" in 1 ..= 256;
    /// How long the answer of such a server is remembered.
    lookup_cache_time: Duration = "\"30s\"" in 10 ..= 86_400;
    /// Memory for such answers, for each table.
    lookup_cache_size: Octets = "\"16MiB\"" in 65_536 ..= 68_719_476_736;
    /// Questions about virtual aliases that one message may put to such servers, beside 20 for each recipient.
    alias_question_limit: u32 = "5000" in 100 ..= 10_000_000;
    /// How often files of lookup tables are looked at; one that changed and then stayed as it is so long is read.
    table_check_period: Duration = "\"5s\"" in 1 ..= 3600;
    /// What becomes of a table with lines that cannot be used: "refuse": it is not read; "warn": they are skipped, as in Postfix.
    table_errors: BadLines = "\"refuse\"";
    /// Octets of a table's file; a larger one is not read.
    table_size_limit: Octets = "\"1GiB\"" in 4096 ..= 68_719_476_736;
    /// How log lines look.
    log_format: LogFormat = "\"text\"";
    /// Also log each connect and disconnect.
    log_connections: bool = "false";
    /// Memory for log lines that are not written yet, for each worker; when it is full, lines are lost and counted.
    log_memory: Octets = "\"4MiB\"" in 65_536 ..= 1_073_741_824;
}
