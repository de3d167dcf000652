//! Owns the canned responder as a peer.

use std::net::SocketAddr;
use std::process::Command;

use crate::{Foreground, Peer, PeerError, Setting, free_address, sibling, spawn};

/// This program's own responder, as a process of its own.
pub struct Canned {
    name: &'static str,
    address: SocketAddr,
    server: Foreground,
}

impl Canned {
    /// Starts one, with a log or without.
    ///
    /// # Errors
    /// [`PeerError`] when it does not come up.
    pub fn start(setting: &Setting, is_durable: bool) -> Result<Self, PeerError> {
        let name = if is_durable { "canned-durable" } else { "canned" };
        let directory = setting.directory_of(name)?;
        let address = free_address()?;
        let mut command = Command::new(sibling("mailrace-bench")?);
        command.args(["canned", "--listen", &address.to_string()]);
        if is_durable {
            command.arg("--durable").arg(&directory);
        }
        if let Some(congestion_control) = &setting.congestion_control {
            command.args(["--congestion-control", congestion_control]);
        }
        let mut server =
            Foreground::start(&mut command, directory.join("output"), |command| spawn(command, setting.cpu))?;
        server.wait_for_connection(address)?;
        Ok(Self { name, address, server })
    }
}

impl Peer for Canned {
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
        Ok(())
    }

    fn held(&mut self) -> Result<Option<u64>, PeerError> {
        Ok(None)
    }
}
