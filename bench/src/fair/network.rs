//! A separate network for a server, attackers and honest clients, each with its own addresses: three network namespaces on a
//! bridge, removed on drop.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::BenchError;

/// The server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
/// Address of a single attacker, in the honest client's network.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);
/// The honest client's address.
pub const HONEST: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 3);

/// Returns the addresses of attackers in one network, at most 254.
#[must_use]
pub fn strangers(count: u8) -> Vec<Ipv4Addr> {
    (1..=count).map(|number| Ipv4Addr::new(10, 66, 1, number)).collect()
}

/// Maximum number of connections in TIME-WAIT per namespace.
const CLOSED_KEPT: u32 = 1000;

/// One of the namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Has [`SERVER`].
    Server,
    /// Has [`STRANGER`] and the addresses of [`strangers`].
    Strangers,
    /// Has [`HONEST`].
    Honest,
}

/// The three namespaces.
#[derive(Debug)]
pub struct Network {
    /// Prefix of their names.
    prefix: String,
}

impl Network {
    /// Creates the namespaces. Requires root and iproute2.
    ///
    /// # Errors
    /// [`BenchError`] with the output of a failed command.
    pub fn make() -> Result<Self, BenchError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let network = Self { prefix: format!("mailrace-{}-{number}", std::process::id()) };
        let [server, strangers, honest] =
            [Side::Server, Side::Strangers, Side::Honest].map(|side| network.name(side));
        for name in [&server, &strangers, &honest] {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            // Thousands of connections in TIME-WAIT would occupy most ports of a client, and the search for a free port
            // would then cost more than the mail.
            let few = format!("echo {CLOSED_KEPT} >/proc/sys/net/ipv4/tcp_max_tw_buckets");
            ip(&["netns", "exec", name, "sh", "-c", &few])?;
        }
        ip(&["-n", &server, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &server, "addr", "add", &format!("{SERVER}/16"), "dev", "bridge"])?;
        ip(&["-n", &server, "link", "set", "bridge", "up"])?;
        for (name, port, address) in [(&strangers, "strangers", STRANGER), (&honest, "honest", HONEST)] {
            let peer = ["type", "veth", "peer", "name", "eth0", "netns", name];
            ip(&[&["-n", &server, "link", "add", port][..], &peer].concat())?;
            ip(&["-n", &server, "link", "set", port, "master", "bridge", "up"])?;
            ip(&["-n", name, "addr", "add", &format!("{address}/16"), "dev", "eth0"])?;
            ip(&["-n", name, "link", "set", "eth0", "up"])?;
        }
        // All addresses of the network belong to this namespace.
        ip(&["-n", &strangers, "route", "add", "local", "10.66.1.0/24", "dev", "lo"])?;
        Ok(network)
    }

    /// Runs `work` on a thread in a namespace; threads and processes that it starts are there as well.
    ///
    /// # Errors
    /// [`BenchError`] when the namespace cannot be entered.
    ///
    /// # Panics
    /// When `work` does.
    pub fn within<T: Send>(&self, side: Side, work: impl FnOnce() -> T + Send) -> Result<T, BenchError> {
        let path = format!("/run/netns/{}", self.name(side));
        let namespace = File::open(&path).map_err(BenchError::on(path.as_ref()))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|error| BenchError::on(path.as_ref())(error.into()))?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn name(&self, side: Side) -> String {
        let side = match side {
            Side::Server => "server",
            Side::Strangers => "strangers",
            Side::Honest => "honest",
        };
        format!("{}-{side}", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for side in [Side::Honest, Side::Strangers, Side::Server] {
            // A namespace that was not created cannot be deleted.
            let _ = Command::new("ip").args(["netns", "delete", &self.name(side)]).output();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), BenchError> {
    let output = Command::new("ip").args(arguments).output().map_err(BenchError::at("running ip"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let message = format!("{} failed: {said}", arguments.join(" "));
    Err(BenchError::failed("ip", message))
}
