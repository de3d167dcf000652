//! `mailrace-sink`: takes mail over SMTP, and discards, counts or stores it.
//!
//! The other end of a test: it speaks Mailrace's own SMTP session, trusts every client, and keeps nothing that
//! it was not asked to keep. It has no timeouts and promises no durability.
#![forbid(unsafe_code)]

mod client;
mod sink;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use mailrace_io::uring::{Settings, Uring};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use signal_hook::consts::{SIGINT, SIGTERM};
use socket2::{Domain, Protocol, Socket, Type};

use sink::Sink;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes mail over SMTP, and discards, counts or stores it.
///
/// Ends at SIGINT or SIGTERM, and prints what it took.
#[derive(Debug, Parser)]
#[command(name = "mailrace-sink", version)]
struct Options {
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:2527")]
    listen: SocketAddr,
    /// Write each message to DIR: content to ID.eml with CRLF line ends, envelope to ID.json
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Answer the end of content so many milliseconds late
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u32,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    connections: u32,
    /// Run on this processor only
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Print the counts as one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mailrace-sink: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(cpu) = options.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).map_err(|error| format!("cannot run on processor {cpu}: {error}"))?;
    }
    if let Some(directory) = &options.store {
        std::fs::create_dir_all(directory)?;
    }
    // Each connection takes a descriptor; where the limit stays, the ring says what is missing.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let stop = Arc::new(AtomicBool::new(false));
    let io = Uring::new(Settings { connections: options.connections, ..Settings::default() })?;
    let socket = Socket::new(Domain::for_address(options.listen), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&options.listen.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    let mut sink = Sink::new(io, listener, options.connections);
    sink.store_in(options.store.clone());
    sink.answer_after(Duration::from_millis(u64::from(options.delay)));
    sink.end_after(options.messages);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    eprintln!("mailrace-sink ready: {address}");
    let counts = sink.run(&stop)?;
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &counts)?;
        writeln!(out)?;
    } else {
        writeln!(
            out,
            "{} sessions, {} messages, {} recipients, {} octets",
            counts.sessions, counts.messages, counts.recipients, counts.octets
        )?;
    }
    Ok(())
}

const LISTEN_BACKLOG: i32 = 4096;
