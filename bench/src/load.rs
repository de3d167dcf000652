//! Runs `mailrace-load` against a server.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mailrace_peers::{sibling, spawn};
use serde::Deserialize;

use crate::error::BenchError;

/// Report of one run of the load generator.
#[derive(Clone, Debug, Deserialize)]
pub struct LoadReport {
    /// Accepted messages.
    pub messages: u64,
    /// Messages not accepted.
    pub failed: u64,
    /// Accepted messages per second.
    pub messages_per_second: f64,
    /// Processor time of the generator. If it is close to the length of the run, the generator was the bottleneck.
    pub client_cpu_seconds: f64,
    /// Length of the run in seconds.
    pub seconds: f64,
    latency_us: Latencies,
}

#[derive(Clone, Debug, Deserialize)]
struct Latencies {
    end_of_data: Option<Percentiles>,
}

#[derive(Clone, Debug, Deserialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

impl LoadReport {
    /// Returns the time from end of data to 250 in microseconds: median and 99th percentile.
    pub fn end_of_data_us(&self) -> Option<(f64, f64)> {
        self.latency_us.end_of_data.as_ref().map(|it| (it.p50, it.p99))
    }
}

/// Sends a load and waits for its end.
///
/// # Errors
/// [`BenchError::Peer`] also when a message was not accepted.
pub fn run(
    server: SocketAddr,
    arguments: &[String],
    time: Duration,
    cpu: Option<usize>,
) -> Result<LoadReport, BenchError> {
    let mut command = Command::new(sibling("mailrace-load")?);
    command.arg(server.to_string()).args(arguments).args([
        "--duration",
        &time.as_secs_f64().to_string(),
        "--json",
    ]);
    let child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), cpu)?;
    let output = child.wait_with_output().map_err(BenchError::at("waiting for mailrace-load"))?;
    let failed = |message: String| BenchError::failed("mailrace-load", message);
    if !output.status.success() {
        let message =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("");
        return Err(failed(message));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

/// Starts a load without waiting for it, so that the server can be observed meanwhile.
///
/// # Errors
/// [`BenchError::Peer`].
pub fn start(server: SocketAddr, arguments: &[&str], cpu: Option<usize>) -> Result<Child, BenchError> {
    let mut command = Command::new(sibling("mailrace-load")?);
    command.arg(server.to_string()).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    Ok(spawn(&mut command, cpu)?)
}
