//! Listening sockets, and the clients that wait at them.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::time::Timespec;

use super::connections::input_events;
use super::table::Connection;
use super::{EpollIo, Watched};
use crate::operation::ACCEPT_PAUSE;
use crate::{Completion, ConnectionId, Instant, IoError};

/// Connections that one wait accepts from a listener; the next one accepts the rest.
const ACCEPTS_MAX: usize = 128;

pub(super) struct Listener {
    pub(super) socket: TcpListener,
    /// Clients may wait.
    pub(super) has_clients: bool,
}

/// Whether clients are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    No,
    /// The table is full.
    UntilClose,
    /// Descriptors or memory ran out, perhaps through other processes: retry at that time, or at the next close.
    Until(Instant),
}

impl EpollIo {
    pub(super) fn listen(&mut self, socket: TcpListener) {
        let data = Watched::Listener(self.listeners.len()).data();
        let watched = socket
            .set_nonblocking(true)
            .and_then(|()| Ok(epoll::add(&self.epoll, &socket, data, EventFlags::IN | EventFlags::ET)?));
        if let Err(source) = watched {
            self.failure = Some(IoError::Epoll { operation: "watching a listening socket", source });
        }
        self.listeners.push(Listener { socket, has_clients: false });
    }

    /// Whether a client waits that may be accepted.
    pub(super) fn can_accept(&self) -> bool {
        let may_accept = match self.pause {
            Pause::No => !self.table.is_full(),
            Pause::UntilClose => false,
            Pause::Until(end) => end <= self.now,
        };
        may_accept && self.has_clients()
    }

    pub(super) fn has_clients(&self) -> bool {
        self.listeners.iter().any(|listener| listener.has_clients)
    }

    pub(super) fn accept(&mut self, completions: &mut Vec<Completion>) {
        self.pause = Pause::No;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_MAX {
                let (Some(id), Pause::No) = (self.table.next(), self.pause) else { return };
                match self.accept_one(index, id) {
                    Ok(Some((socket, peer))) => {
                        let connection = self.table.open(Connection::new(socket));
                        completions.push(Completion::Accepted { connection, peer });
                    }
                    Ok(None) => {}
                    Err(Errno::AGAIN) => {
                        self.listeners[index].has_clients = false;
                        break;
                    }
                    // Trying again would fail at once, over and over.
                    Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                        // The kernel takes a descriptor before it looks for a client.
                        self.listeners[index].has_clients = is_readable(&self.listeners[index].socket);
                        if self.listeners[index].has_clients {
                            self.pause = Pause::Until(self.now.after(ACCEPT_PAUSE));
                            completions.push(Completion::AcceptFailed { error: error.into() });
                        }
                        break;
                    }
                    // This one client's trouble.
                    Err(error) => {
                        completions.push(Completion::AcceptFailed { error: error.into() });
                        break;
                    }
                }
            }
        }
    }

    /// Accepts the next client of a listener, which will be called `id`; `None` for one that has no address.
    fn accept_one(&self, index: usize, id: ConnectionId) -> Result<Option<(OwnedFd, SocketAddr)>, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, peer) =
            rustix::io::retry_on_intr(|| rustix::net::acceptfrom_with(&self.listeners[index].socket, flags))?;
        let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { return Ok(None) };
        epoll::add(&self.epoll, &socket, Watched::Connection(id).data(), input_events())?;
        Ok(Some((socket, peer)))
    }
}

/// Whether a listening socket has a client. If poll fails, a client is assumed to wait: accept will tell.
fn is_readable(socket: &TcpListener) -> bool {
    let mut sockets = [PollFd::new(socket, PollFlags::IN)];
    rustix::event::poll(&mut sockets, Some(&Timespec::default())) != Ok(0)
}
