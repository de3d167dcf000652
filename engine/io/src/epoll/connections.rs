//! Connections: made, received from, sent to, closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::accepting::Pause;
use super::table::{Connection, Input, SendUnderWay};
use super::{EpollIo, Watched};
use crate::operation::unix_path;
use crate::{Completion, ConnectionId, Endpoint, ReceiveEnd, SOME, Token};

impl EpollIo {
    pub(super) fn connect(&mut self, token: Token, server: &Endpoint, source: Option<IpAddr>) {
        match self.begin_connect(server, source) {
            Ok(id) => {
                let connection = self.table.get(id).expect("opened above");
                connection.connect = Some(token);
                connection.is_room_watched = true;
            }
            Err(error) => self.ready.push(Completion::Connected { token, result: Err(error) }),
        }
    }

    fn begin_connect(&mut self, server: &Endpoint, source: Option<IpAddr>) -> io::Result<ConnectionId> {
        let id = self.table.next().ok_or(Errno::NFILE)?;
        let socket = match server {
            Endpoint::Inet(server) => connecting_to_port(*server, source)?,
            Endpoint::Unix(path) => connecting_to_path(path)?,
        };
        // Watched from now on, it also tells of what has happened before.
        let events = input_events() | EventFlags::OUT;
        epoll::add(&self.epoll, &socket, Watched::Connection(id).data(), events)?;
        Ok(self.table.open(Connection::new(socket)))
    }

    pub(super) fn receive(&mut self, token: Token, id: ConnectionId, receives_some: bool) {
        let Some(connection) = self.table.get(id) else { return };
        assert!(connection.receive.is_none(), "receiving is under way already");
        connection.receive = Some(token);
        connection.receives_some = receives_some;
        self.line_up(id);
    }

    pub(super) fn stop_receiving(&mut self, id: ConnectionId) {
        if let Some(connection) = self.table.get(id) {
            connection.is_stopping = connection.receive.is_some();
            self.line_up(id);
        }
    }

    pub(super) fn send(&mut self, token: Token, id: ConnectionId, memory: Vec<u8>) {
        let Some(connection) = self.table.get(id) else {
            let result = Err(io::ErrorKind::NotConnected.into());
            self.ready.push(Completion::Sent { token, connection: id, memory, result });
            return;
        };
        assert!(connection.send.is_none(), "a send is under way already");
        connection.send = Some(SendUnderWay { token, memory, sent: 0 });
        let sent = self.go_on_sending(id);
        self.ready.extend(sent);
    }

    /// Sends until nothing is left, or the socket has no room.
    fn go_on_sending(&mut self, id: ConnectionId) -> Option<Completion> {
        let connection = self.table.get(id)?;
        let mut send = connection.send.take()?;
        let result = loop {
            match rustix::net::send(&connection.socket, &send.memory[send.sent..], SendFlags::NOSIGNAL) {
                Ok(0) if send.sent < send.memory.len() => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    send.sent += count;
                    if send.sent == send.memory.len() {
                        break Ok(());
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    connection.has_room = false;
                    let data = Watched::Connection(id).data();
                    let events = input_events() | EventFlags::OUT;
                    // An edge comes when there is room, or at once if there is by now.
                    if !connection.is_room_watched
                        && let Err(error) = epoll::modify(&self.epoll, &connection.socket, data, events)
                    {
                        break Err(error.into());
                    }
                    connection.is_room_watched = true;
                    connection.send = Some(send);
                    return None;
                }
                Err(error) => break Err(error.into()),
            }
        };
        let SendUnderWay { token, memory, .. } = send;
        Some(Completion::Sent { token, connection: id, memory, result })
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        // The last descriptor of a socket takes it out of the epoll instance when it is closed.
        let Some(Connection { send, .. }) = self.table.close(id) else { return };
        if let Some(SendUnderWay { token, memory, .. }) = send {
            let result = Err(Errno::CANCELED.into());
            self.ready.push(Completion::Sent { token, connection: id, memory, result });
        }
        self.pause = Pause::No;
    }

    /// Queues a connection if it can continue.
    pub(super) fn line_up(&mut self, id: ConnectionId) {
        if let Some(connection) = self.table.get(id)
            && !connection.is_queued
            && connection.can_go_on()
        {
            connection.is_queued = true;
            self.line.push_back(id);
        }
    }

    /// Makes progress on a connection whose turn it is.
    pub(super) fn go_on(&mut self, id: ConnectionId, completions: &mut Vec<Completion>) {
        let Some(connection) = self.table.get(id) else { return };
        connection.is_queued = false;
        if connection.has_room {
            if let Some(token) = connection.connect.take() {
                let outcome = sockopt::socket_error(&connection.socket).and_then(|outcome| outcome);
                let result = outcome.map(|()| id).map_err(io::Error::from);
                if result.is_err() {
                    self.close(id);
                }
                completions.push(Completion::Connected { token, result });
                return;
            }
            let sent = self.go_on_sending(id);
            completions.extend(sent);
        }
        self.go_on_receiving(id, completions);
        self.line_up(id);
    }

    /// One receive, if there is something to receive.
    fn go_on_receiving(&mut self, id: ConnectionId, completions: &mut Vec<Completion>) {
        let Some(connection) = self.table.get(id) else { return };
        let Some(token) = connection.receive else { return };
        let end = if connection.is_stopping {
            ReceiveEnd::Stopped
        } else if connection.input == Input::Empty {
            return;
        } else if let Some(room) = self.buffers.room() {
            let asked = if connection.receives_some { room.len().min(SOME as usize) } else { room.len() };
            let room = &mut room[..asked];
            match rustix::net::recv(&connection.socket, room, RecvFlags::empty()) {
                Ok((0, _)) => ReceiveEnd::Closed,
                Ok((length, _)) => {
                    if length < asked && connection.input == Input::Octets {
                        connection.input = Input::Empty;
                    }
                    let piece = self.buffers.lend(length);
                    completions.push(Completion::Received { token, connection: id, piece });
                    if !connection.receives_some {
                        return;
                    }
                    ReceiveEnd::Stopped
                }
                Err(Errno::AGAIN) => {
                    connection.input = Input::Empty;
                    return;
                }
                Err(Errno::INTR) => return,
                Err(error) => ReceiveEnd::Failed(error.into()),
            }
        } else {
            ReceiveEnd::OutOfBuffers
        };
        connection.receive = None;
        connection.is_stopping = false;
        completions.push(Completion::ReceiveEnded { token, connection: id, end });
    }
}

/// A socket that connects to a TCP port.
fn connecting_to_port(server: SocketAddr, source: Option<IpAddr>) -> io::Result<OwnedFd> {
    let family = if server.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SOCKET_FLAGS, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(source) = source {
        rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    }
    match rustix::net::connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// A socket that is connected to a UNIX-domain one: that is done at once, or fails with EAGAIN.
fn connecting_to_path(path: &Path) -> io::Result<OwnedFd> {
    let server = SocketAddrUnix::new(unix_path(path)?)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SOCKET_FLAGS, None)?;
    rustix::net::connect(&socket, &server)?;
    Ok(socket)
}

/// The flags of sockets that are made here.
const SOCKET_FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// The events watched on a connection from its beginning.
pub(super) fn input_events() -> EventFlags {
    EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP | EventFlags::ET
}
