//! `mailrace-sink`: takes mail over SMTP, and discards, counts or stores it.
//!
//! The other end of a test: it speaks Mailrace's own SMTP session, trusts every client, and keeps nothing that
//! it was not asked to keep. It has no timeouts and promises no durability.
#![forbid(unsafe_code)]

mod client;
mod line_end;
mod sink;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use mailrace_io::uring::{Settings, Uring};
use mailrace_quantity::milliseconds;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use signal_hook::consts::{SIGINT, SIGTERM};
use socket2::{Domain, Protocol, Socket, Type};

use sink::Sink;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Accepts mail over SMTP, and discards, counts or stores it.
///
/// Ends on SIGINT or SIGTERM, and prints what it received.
#[derive(Debug, Parser)]
#[command(name = "mailrace-sink", version)]
struct Options {
    /// Address to listen on
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:2527")]
    listen: SocketAddr,
    /// Write each message to DIR: content to ID.eml with CRLF line ends, envelope to ID.json
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Refuse a message with 550 if its content has a bare CR or bare LF, or its last line has no CRLF (RFC 5321 2.3.8), and
    /// a command like that with 500; slower, because every byte is examined
    #[arg(long)]
    strict: bool,
    /// Answer the end of content after TIME: 200ms, 5s, 2m, 1h; milliseconds without a unit
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = milliseconds)]
    delay: Duration,
    /// End after this number of messages
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Maximum number of simultaneous connections
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    connections: u32,
    /// Run only on the processor with this number
    #[arg(long, value_name = "CPU", value_parser = clap::value_parser!(u16).range(..1024))]
    cpu: Option<u16>,
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
        set.set(cpu.into());
        sched_setaffinity(None, &set).map_err(|error| format!("cannot run on processor {cpu}: {error}"))?;
    }
    if let Some(directory) = &options.store {
        std::fs::create_dir_all(directory)
            .map_err(|error| format!("cannot create the directory {}: {error}", directory.display()))?;
    }
    // Each connection takes a descriptor; where the limit stays, the ring says what is missing.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let stop = Arc::new(AtomicBool::new(false));
    let io = Uring::new(Settings { connections: options.connections, ..Settings::default() })?;
    let listener =
        listen(options.listen).map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    let address = listener.local_addr()?;
    let mut sink = Sink::new(io, listener, options.connections);
    sink.store_in(options.store.clone());
    sink.answer_after(options.delay);
    sink.be_strict(options.strict);
    sink.end_after(options.messages);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    eprintln!("mailrace-sink ready: {address}");
    let (counts, result) = sink.run(&stop);
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &counts)?;
        writeln!(out)?;
    } else {
        writeln!(
            out,
            "{} sessions, {} messages, {} recipients, {} bytes",
            counts.sessions, counts.messages, counts.recipients, counts.octets
        )?;
        if counts.not_stored + counts.refused > 0 {
            writeln!(
                out,
                "{} messages could not be stored, {} were refused because of their line ends",
                counts.not_stored, counts.refused
            )?;
        }
    }
    Ok(result?)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

const LISTEN_BACKLOG: i32 = 4096;
