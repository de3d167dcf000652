//! The operations of an [`Io`](crate::Io) and their completions.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Block;

/// The caller's name for an operation, returned in its completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// An attached file of one `Io`, until it is detached. No other file has the same name, in this `Io` or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Number of the file, counted in the process.
    pub(crate) serial: Serial,
    /// Index among the files of its `Io`.
    pub(crate) index: u32,
}

/// A connection of one `Io`. The generation makes a name that was used before a different one.
///
/// The `Io`s of the operating system begin each at generations of their own, so that the name of another one's connection is
/// taken for one of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Index in the connection table; below the configured number of connections.
    pub slot: u32,
    /// Number of earlier uses of the index, modulo 2^24.
    pub generation: u32,
}

/// Received bytes, lent until [`Io::recycle`](crate::Io::recycle); read with [`Io::received`](crate::Io::received).
///
/// Only the `Io` that lent it takes it back; another one panics.
#[derive(Debug)]
pub struct Piece {
    /// The `Io` that lent it.
    pub(crate) owner: Serial,
    pub(crate) buffer: u16,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// A number that is given out once in a process: tells what belongs to one `Io` from what belongs to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Serial(u64);

impl Serial {
    pub(crate) fn next() -> Self {
        // Counted up a billion times a second, it lasts for 500 years.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Where the generations of an `Io` with this number begin: far from those of the ones made shortly before and after.
    pub(crate) const fn first_generation(self) -> u32 {
        // The golden ratio of 2^23 spreads numbers evenly; the last bit leaves half of the 2^24 generations above.
        (self.0.wrapping_mul(5_184_341) & 0x7f_ffff) as u32
    }
}

impl Piece {
    /// Number of bytes, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a piece is never empty: end of stream is Closed")]
    pub fn len(&self) -> usize {
        self.length as usize
    }
}

/// How long no client is accepted after descriptors or memory ran out, unless a connection is closed before.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that [`Operation::ReceiveSome`] takes at most.
pub const SOME: u32 = 16 * 1024;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// A TCP port.
    Inet(SocketAddr),
    /// A stream socket in the file system, by its path of 1 to [`UNIX_PATH_SIZE_MAX`] bytes. A longer one fails to connect
    /// with ENAMETOOLONG, an empty one or one with a NUL with EINVAL.
    ///
    /// While the server's backlog is full, connecting fails with EAGAIN, or waits for the server to accept: that is up to the
    /// [`Io`](crate::Io).
    Unix(Box<Path>),
}

/// Greatest size in bytes of the path of a UNIX-domain socket: `sun_path` without the NUL at its end (unix(7)).
pub const UNIX_PATH_SIZE_MAX: usize = 107;

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

/// The bytes of a socket's path.
///
/// # Errors
/// ENAMETOOLONG or EINVAL when a `sockaddr_un` cannot hold it.
pub(crate) fn unix_path(path: &Path) -> io::Result<&[u8]> {
    let octets = path.as_os_str().as_bytes();
    if octets.len() > UNIX_PATH_SIZE_MAX {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    if octets.is_empty() || octets.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(octets)
}

/// A request to an [`Io`](crate::Io).
#[derive(Debug)]
pub enum Operation {
    /// Accept connections from a socket until [`Operation::StopAccepting`]: many [`Completion::Accepted`].
    Accept(TcpListener),
    /// Stop accepting connections on all sockets and close them.
    StopAccepting,
    /// Connect: one [`Completion::Connected`].
    Connect {
        /// The server's address.
        server: Endpoint,
        /// The local address, instead of the kernel's choice; without effect on a UNIX-domain socket. On the ring it needs
        /// Linux 6.11.
        source: Option<IpAddr>,
    },
    /// Receive until the stream ends or [`Operation::StopReceiving`]: many [`Completion::Received`], then
    /// [`Completion::ReceiveEnded`].
    Receive(ConnectionId),
    /// Receive once, at most [`SOME`] bytes: one [`Completion::Received`] and [`Completion::ReceiveEnded`] with
    /// [`ReceiveEnd::Stopped`] after it, or only the latter. [`Operation::StopReceiving`] ends this, too.
    ReceiveSome(ConnectionId),
    /// Pause receiving; pieces that were already received may still come before [`Completion::ReceiveEnded`].
    StopReceiving(ConnectionId),
    /// Send all of the bytes: one [`Completion::Sent`]. One send at a time per connection.
    Send(ConnectionId, Vec<u8>),
    /// Close and forget a connection, whatever is in progress on it. No completion names it afterwards, except
    /// that of a send in progress.
    Close(ConnectionId),
    /// Write `block`'s filled bytes at `offset`: one [`Completion::Written`].
    Write {
        /// The file.
        file: FileId,
        /// The data; filled to a multiple of the alignment for a direct file.
        block: Block,
        /// Offset in the file in bytes.
        offset: u64,
        /// Complete only when the bytes would survive a loss of power (RWF_DSYNC).
        is_durable: bool,
    },
    /// Fill `buffer` from `offset` on, up to its length or the end of the file: one [`Completion::Read`].
    ///
    /// Where a write to the same place is in progress, each sector has its old or its new bytes, and new ones need not
    /// survive a loss of power.
    Read {
        /// The file, which was opened with [`FileKind::Read`](crate::FileKind::Read). Another one is a panic: reads through the
        /// page cache and direct writes of one descriptor do not mix.
        file: FileId,
        /// The memory; its length is the number of bytes to read.
        buffer: Vec<u8>,
        /// Offset in the file in bytes.
        offset: u64,
    },
}

/// The outcome of an operation.
#[derive(Debug)]
pub enum Completion {
    /// A client connected.
    Accepted {
        /// The connection's id.
        connection: ConnectionId,
        /// The client's address.
        peer: SocketAddr,
    },
    /// A connection could not be accepted, for example because no descriptor was free; accepting continues.
    AcceptFailed {
        /// The cause.
        error: io::Error,
    },
    /// A connection was established, or failed.
    Connected {
        /// The operation's token.
        token: Token,
        /// The connection's id, or the cause of the failure.
        result: Result<ConnectionId, io::Error>,
    },
    /// Bytes were received.
    Received {
        /// The operation's token.
        token: Token,
        /// The connection.
        connection: ConnectionId,
        /// The bytes, to be recycled.
        piece: Piece,
    },
    /// Receiving has ended until it is asked for again.
    ReceiveEnded {
        /// The operation's token.
        token: Token,
        /// The connection.
        connection: ConnectionId,
        /// The cause.
        end: ReceiveEnd,
    },
    /// A send has ended.
    Sent {
        /// The operation's token.
        token: Token,
        /// The connection.
        connection: ConnectionId,
        /// The memory, for the next send.
        memory: Vec<u8>,
        /// Whether all bytes were sent.
        result: Result<(), io::Error>,
    },
    /// A write has ended.
    Written {
        /// The operation's token.
        token: Token,
        /// The memory.
        block: Block,
        /// Whether all bytes were written, and are durable if requested. A short write is an error.
        result: Result<(), io::Error>,
    },
    /// A read has ended.
    Read {
        /// The operation's token.
        token: Token,
        /// The memory, of the same length as before. What follows the bytes that were read is unspecified.
        buffer: Vec<u8>,
        /// Number of bytes read: fewer than the buffer's length only if the file ends there.
        result: Result<usize, io::Error>,
    },
}

/// Why receiving ended.
#[derive(Debug)]
pub enum ReceiveEnd {
    /// The client shut its sending side.
    Closed,
    /// Stopped on request.
    Stopped,
    /// All receive buffers are lent out: receive again after recycling some.
    OutOfBuffers,
    /// The connection failed.
    Failed(io::Error),
}
