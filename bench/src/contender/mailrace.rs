//! Owns Mailrace as a contender.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use super::{Contender, Foreground, Setting, free_address, output_of, sibling};
use crate::error::BenchError;

/// `mailrace serve` with one worker, as a gateway for example.com that trusts nobody.
pub struct Mailrace {
    address: SocketAddr,
    program: PathBuf,
    queue: PathBuf,
    server: Foreground,
}

impl Mailrace {
    /// Starts it.
    ///
    /// # Errors
    /// [`BenchError`] when it does not come up.
    pub fn start(setting: &Setting) -> Result<Self, BenchError> {
        let program = sibling("mailrace")?;
        let directory = setting.directory_of("mailrace")?;
        let queue = directory.join("queue");
        let address = free_address()?;
        let congestion_control = setting
            .congestion_control
            .as_ref()
            .map(|name| format!("congestion_control = \"{name}\"\n"))
            .unwrap_or_default();
        let configuration = directory.join("mailrace.toml");
        let text = format!(
            "myhostname = \"mx.example.com\"\nmydomain = \"example.com\"\nmyorigin = \"example.com\"\n\
             mydestination = [\"mx.example.com\", \"localhost\"]\nrelay_domains = [\"example.com\"]\n\
             mynetworks = []\nrecipient_delimiter = \"+\"\nmessage_size_limit = \"50MiB\"\n\n\
             [engine]\nlisten = [\"{address}\"]\nworkers = 1\nmetrics_listen = \"\"\n{congestion_control}\n\
             [queue]\ndirectory = \"queue\"\n"
        );
        std::fs::write(&configuration, text).map_err(BenchError::on(&configuration))?;
        let mut command = Command::new(&program);
        command.arg("serve").arg("--config").arg(&configuration);
        let mut server = Foreground::start(&mut command, setting.cpu, directory.join("output"), address)?;
        // It takes connections before it takes orders.
        server.wait_until(|| queue.join("control").exists())?;
        Ok(Self { address, program, queue, server })
    }
}

impl Contender for Mailrace {
    fn name(&self) -> &'static str {
        "mailrace"
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.server.child.id()
    }

    fn empty(&mut self) -> Result<(), BenchError> {
        output_of(Command::new(&self.program).args(["queue", "delete", "ALL", "--queue"]).arg(&self.queue))
            .map(drop)
    }

    fn held(&mut self) -> Result<Option<u64>, BenchError> {
        #[derive(Deserialize)]
        struct Stats {
            messages: u64,
        }
        let text = output_of(
            Command::new(&self.program).args(["queue", "stats", "--json", "--queue"]).arg(&self.queue),
        )?;
        let stats: Stats = serde_json::from_str(&text).map_err(|error| BenchError::Failed {
            program: "mailrace queue stats".to_owned(),
            message: error.to_string(),
        })?;
        Ok(Some(stats.messages))
    }
}
