//! `mailrace-bench`: the figures of `docs/benchmarks.md`.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mailrace_bench::canned::{Canned, Log};
use mailrace_io::OsDisk;
use mailrace_io::uring::{Settings, Uring};
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Mailrace beside what bounds it and what it replaces.
#[derive(Debug, Parser)]
#[command(name = "mailrace-bench", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer fixed replies without parsing: the most that any server can reach here
    Canned(CannedOptions),
}

#[derive(Debug, Args)]
struct CannedOptions {
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:2526")]
    listen: SocketAddr,
    /// Copy content to a log in DIR, and answer when it is durable
    #[arg(long, value_name = "DIR")]
    durable: Option<PathBuf>,
    /// Run on this processor only
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// The listener's congestion control, such as reno
    #[arg(long, value_name = "NAME")]
    congestion_control: Option<String>,
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Canned(options) => canned(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mailrace-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn canned(options: &CannedOptions) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(cpu) = options.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set)?;
    }
    let socket = Socket::new(Domain::for_address(options.listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(name) = &options.congestion_control {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    socket.bind(&options.listen.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    let mut io = Uring::new(Settings { connections: CONNECTIONS, ..Settings::default() })?;
    let log = match &options.durable {
        Some(directory) => Some(Log::create(&OsDisk::new(directory)?, &mut io)?),
        None => None,
    };
    eprintln!("canned responder ready: {}", options.listen);
    match Canned::new(io, socket.into(), log, CONNECTIONS).run() {
        Ok(never) => match never {},
        Err(error) => Err(error.into()),
    }
}

const CONNECTIONS: u32 = 1024;
const LISTEN_BACKLOG: i32 = 4096;
