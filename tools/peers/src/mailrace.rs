//! Owns Mailrace as a peer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::{Foreground, Peer, PeerError, Program, Setting, free_address, spawn};

/// The name of a Mailrace of another commit.
pub const OTHER: &str = "mailrace-other";

/// How Mailrace reaches the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// On io_uring, or not at all.
    Ring,
    /// On epoll.
    Epoll,
}

impl Kernel {
    /// The contender's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "mailrace",
            Self::Epoll => "mailrace-epoll",
        }
    }

    const fn option(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Epoll => "epoll",
        }
    }
}

/// `mailrace serve` with one worker, as a gateway for example.com that trusts no client.
pub struct Mailrace {
    name: &'static str,
    address: SocketAddr,
    program: Program,
    queue: PathBuf,
    server: Foreground,
}

impl Mailrace {
    /// Starts it.
    ///
    /// # Errors
    /// [`PeerError`] when it does not come up.
    pub fn start(setting: &Setting, kernel: Kernel) -> Result<Self, PeerError> {
        Self::start_program(setting, kernel.name(), Program::find(None)?, &["--io", kernel.option()])
    }

    /// Starts the one of another commit, whose programs are in the directory `other`. It takes what it uses by default,
    /// which is io_uring where that works: the first commits have no other choice and so no option.
    ///
    /// # Errors
    /// [`PeerError`] when it does not come up.
    pub fn start_other(setting: &Setting, other: &Path) -> Result<Self, PeerError> {
        Self::start_program(setting, OTHER, Program::find(Some(other.join("mailrace")))?, &[])
    }

    fn start_program(
        setting: &Setting,
        name: &'static str,
        program: Program,
        options: &[&str],
    ) -> Result<Self, PeerError> {
        let directory = setting.directory_of(name)?;
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
        std::fs::write(&configuration, text).map_err(PeerError::on(&configuration))?;
        let mut command = Command::new(program.path());
        command.arg("serve").arg("--config").arg(&configuration).args(options);
        let mut server =
            Foreground::start(&mut command, directory.join("output"), |command| spawn(command, setting.cpu))?;
        server.wait_for_connection(address)?;
        // It takes connections before it takes orders.
        server.wait_until(|_| queue.join("control").exists())?;
        Ok(Self { name, address, program, queue, server })
    }
}

impl Peer for Mailrace {
    fn name(&self) -> &'static str {
        self.name
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.server.child.id()
    }

    fn empty(&mut self) -> Result<(), PeerError> {
        self.program.queue(&self.queue, ["delete", "ALL"]).map(drop)
    }

    fn held(&mut self) -> Result<Option<u64>, PeerError> {
        #[derive(Deserialize)]
        struct Stats {
            messages: u64,
        }
        let output = self.program.queue(&self.queue, ["stats", "--json"])?;
        let stats: Stats = serde_json::from_slice(&output).map_err(|error| PeerError::Failed {
            program: "mailrace queue stats".to_owned(),
            message: error.to_string(),
        })?;
        Ok(Some(stats.messages))
    }
}
