//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use mailrace_bench::compare::CONTENDERS;
use mailrace_quantity::time;

/// Measures Mailrace, and compares it with Postfix and with the limits of the machine.
#[derive(Debug, Parser)]
#[command(name = "mailrace-bench", version)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Send the same load to Mailrace on the ring and on epoll, Postfix and the canned responders in turn
    Compare(CompareOptions),
    /// Measure Mailrace's memory with idle connections, and with large messages on slow ones
    Memory(MemoryOptions),
    /// Measure how misbehaving clients slow down others
    Hostile(HostileOptions),
    /// Measure how attackers that exhaust memory, connection slots, the spool or the log affect honest clients; requires
    /// root and iproute2
    Fair(FairOptions),
    /// Measure the file system's own time for a durable 4 KiB write
    Probe(ProbeOptions),
    /// Serve fixed replies without parsing, as the upper bound for any server on this machine
    Canned(CannedOptions),
}

#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// Only this workload (can be repeated); all of bench/workloads.toml otherwise
    #[arg(long, value_name = "NAME")]
    pub(crate) workload: Vec<String>,
    /// Number of runs of each server and workload
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Length of each run: 500ms, 2s, 1m; seconds without a unit
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    pub(crate) seconds: Duration,
    /// Omit a server (can be repeated)
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(CONTENDERS))]
    pub(crate) without: Vec<String>,
    /// Also measure another commit of Mailrace, whose programs are in DIR (its target/release)
    #[arg(long, value_name = "DIR")]
    pub(crate) against: Option<PathBuf>,
    /// Print the project's targets, and whether they are met
    #[arg(long)]
    pub(crate) targets: bool,
    /// Write every run and the ratios to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryOptions {
    /// Number of idle connections
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    pub(crate) idle: u32,
    /// Number of slow connections, with one message each
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) slow: u32,
    /// Bytes of a slow message; units K, M, G
    #[arg(long, value_name = "BYTES", default_value = "49M")]
    pub(crate) slow_size: String,
    /// Bytes per second on each slow connection; units K, M, G
    #[arg(long, value_name = "BYTES", default_value = "1M")]
    pub(crate) slow_rate: String,
    /// Write the figures to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
}

#[derive(Debug, Args)]
pub(crate) struct HostileOptions {
    /// Number of connections of misbehaving clients
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    pub(crate) hostile: u32,
    /// Only these kinds of misbehaving clients
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) kinds: Vec<String>,
    /// Number of connections of honest clients
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(crate) connections: u32,
    /// Number of runs without and with misbehaving clients
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Length of each run: 500ms, 2s, 1m; seconds without a unit
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub(crate) seconds: Duration,
    /// Time that misbehaving clients run before the run with them begins: 500ms, 2s, 1m; seconds without a unit
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = time)]
    pub(crate) settle: Duration,
    /// Write every run and the ratios to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
}

#[derive(Debug, Args)]
pub(crate) struct FairOptions {
    /// Only these kinds of attacks
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) kinds: Vec<String>,
    /// Numbers of attackers; several attackers are in one network
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,50", value_parser = clap::value_parser!(u8).range(1..=254))]
    pub(crate) attackers: Vec<u8>,
    /// Number of connections per attacker
    #[arg(long, value_name = "N", default_value_t = 80)]
    pub(crate) connections: usize,
    /// Number of honest clients
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) clients: usize,
    /// Messages per second that each honest client sends. If the machine cannot reach the rate while it also runs the
    /// attackers, the figures measure its processors rather than the server
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Number of runs without and with attackers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Length of each run: 500ms, 3s, 1m; seconds without a unit
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    pub(crate) seconds: Duration,
    /// Time that attackers run before the run with them begins
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    pub(crate) settle: Duration,
    /// A parameter of the server (can be repeated)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Write all figures to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeOptions {
    /// Length of the measurement: 500ms, 2s, 1m; seconds without a unit
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    pub(crate) seconds: Duration,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
}

#[derive(Debug, Args)]
pub(crate) struct PlaceOptions {
    /// Create queues in a temporary directory below DIR [default: the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Do not create a loop file system, even if that of DIR has no journal
    #[arg(long)]
    no_loop: bool,
    /// Run servers and load generator on any processor, instead of servers on 0 and the generator on 1
    #[arg(long)]
    no_pin: bool,
    /// Congestion control of the listeners of Mailrace and the canned responders; "system" for the system's
    #[arg(long, value_name = "NAME", default_value = "reno")]
    congestion_control: String,
}

impl PlaceOptions {
    pub(crate) fn may_make_file_system(&self) -> bool {
        !self.no_loop
    }

    pub(crate) fn server_cpu(&self) -> Option<usize> {
        (!self.no_pin).then_some(0)
    }

    pub(crate) fn load_cpu(&self) -> Option<usize> {
        (!self.no_pin).then_some(1)
    }

    pub(crate) fn congestion_control(&self) -> Option<String> {
        (self.congestion_control != "system").then(|| self.congestion_control.clone())
    }
}

#[derive(Debug, Args)]
pub(crate) struct CannedOptions {
    /// Address to listen on
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:2526")]
    pub(crate) listen: SocketAddr,
    /// Copy content to a log in DIR, and reply when it is durable
    #[arg(long, value_name = "DIR")]
    pub(crate) durable: Option<PathBuf>,
    /// Number of connections at once
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) connections: u32,
    /// Run on the processor with this number only
    #[arg(long, value_name = "CPU", value_parser = clap::value_parser!(u16).range(..1024))]
    pub(crate) cpu: Option<u16>,
    /// The listener's congestion control, such as reno
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion_control: Option<String>,
}
