//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::ConnectionParameters;

use super::error::StartError;

/// Opens one socket per address and worker.
pub(super) fn listen(
    parameters: &ConnectionParameters,
    workers: u16,
) -> Result<Vec<Vec<TcpListener>>, StartError> {
    let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for address in &parameters.listen {
        let failed = |source| StartError::Listen { address: *address, source };
        let mut address = *address;
        refuse_in_use(address).map_err(failed)?;
        for sockets in &mut sockets {
            let socket = socket(parameters, address).map_err(failed)?;
            // With port 0, all sockets of an address share the port that the kernel chooses.
            address = socket.local_addr().map_err(failed)?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// Fails if another program listens on `address`. The workers' sockets share their port, and another program that shares it too
/// would get some of the connections.
fn refuse_in_use(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn socket(parameters: &ConnectionParameters, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Connections inherit both options.
    socket.set_tcp_nodelay(true)?;
    if !parameters.congestion_control.is_empty() {
        rustix::net::sockopt::set_tcp_congestion(socket.as_fd(), &parameters.congestion_control)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(parameters.listen_backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

pub(super) fn addresses_of(sockets: &[TcpListener]) -> Vec<String> {
    sockets.iter().filter_map(|socket| socket.local_addr().ok()).map(|address| address.to_string()).collect()
}

#[cfg(test)]
mod tests;
