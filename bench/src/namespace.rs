//! Owns another machine in miniature: a network namespace with an address of its own, from which the server sees a
//! stranger.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use crate::contender::output_of;
use crate::error::BenchError;

/// A network namespace and a link to it, until dropped. Needs root.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The address of this side of the link (TEST-NET-1).
    pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// Makes it.
    ///
    /// # Errors
    /// [`BenchError`] where `ip` is not installed or may not do that.
    pub fn new() -> Result<Self, BenchError> {
        let (name, link) = (format!("mailrace-{}", std::process::id()), format!("mr{}", std::process::id()));
        let peer = format!("{link}p");
        ip(&["netns", "add", &name])?;
        // From here on it is removed whatever fails, and its links with it.
        let namespace = Self { name };
        let name = namespace.name.as_str();
        ip(&["link", "add", &link, "type", "veth", "peer", "name", &peer, "netns", name])?;
        ip(&["address", "add", "192.0.2.1/30", "dev", &link])?;
        ip(&["link", "set", &link, "up"])?;
        ip(&["-n", name, "address", "add", "192.0.2.2/30", "dev", &peer])?;
        ip(&["-n", name, "link", "set", &peer, "up"])?;
        Ok(namespace)
    }

    /// `program` inside it.
    #[must_use]
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), BenchError> {
    output_of(Command::new("ip").args(arguments)).map(drop)
}
