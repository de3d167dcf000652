//! The contents of submission entries beyond the crate's builders: names, addresses, constants.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};

use super::region::Region;
use crate::operation::unix_path;
use crate::{ConnectionId, Endpoint, UNIX_PATH_SIZE_MAX};

// Numbers of the kernel's interface on Linux, the same for all architectures that Rust's io-uring serves.
pub(super) const EPERM: i32 = 1;
pub(super) const EINTR: i32 = 4;
pub(super) const EAGAIN: i32 = 11;
pub(super) const ENOMEM: i32 = 12;
pub(super) const EACCES: i32 = 13;
pub(super) const EBUSY: i32 = 16;
pub(super) const EINVAL: i32 = 22;
pub(super) const ENFILE: i32 = 23;
pub(super) const EMFILE: i32 = 24;
pub(super) const ENOSYS: i32 = 38;
pub(super) const ETIME: i32 = 62;
pub(super) const ENOBUFS: i32 = 105;
pub(super) const ECANCELED: i32 = 125;
pub(super) const POLL_IN: u32 = 1;
pub(super) const FAMILY_UNIX: i32 = 1;
pub(super) const FAMILY_IPV4: i32 = 2;
pub(super) const FAMILY_IPV6: i32 = 10;
pub(super) const SOCKET_STREAM: i32 = 1;
/// MSG_NOSIGNAL and MSG_WAITALL: the kernel goes on after a short send by itself.
pub(super) const SEND_WHOLE: i32 = 0x4000 | 0x100;
/// RWF_DSYNC.
pub(super) const WRITE_DURABLE: i32 = 2;
const SOL_SOCKET: u32 = 1;
const SO_PEERNAME: u32 = 28;
const IPPROTO_TCP: u32 = 6;
const TCP_NODELAY: u32 = 1;
/// SOCKET_URING_OP_GETSOCKOPT: same layout as the crate's SETSOCKOPT but for this number.
const GET_SOCKET_OPTION: u32 = 2;
/// IORING_RECVSEND_POLL_FIRST.
const POLL_FIRST: u16 = 1;
/// The priority is the upper half of an entry's first word.
const PRIORITY_SHIFT: u32 = 16;
/// Where the entry's `cmd_op` stands, in 32-bit words.
const COMMAND_WORD: usize = 2;

/// Greatest generation of a connection's place.
pub(super) const GENERATION_MAX: u32 = (1 << 24) - 1;

/// What a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept,
    PeerName,
    Receive,
    Send,
    Write,
    Read,
    Socket,
    Bind,
    Connect,
    Close,
    Wake,
    Cancel,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Accept,
        Self::PeerName,
        Self::Receive,
        Self::Send,
        Self::Write,
        Self::Read,
        Self::Socket,
        Self::Bind,
        Self::Connect,
        Self::Close,
        Self::Wake,
        Self::Cancel,
    ];
}

/// The name that an entry's completions carry: kind (8 bits), generation (24), slot or index (32).
#[derive(Clone, Copy)]
pub(super) struct UserData(u64);

impl UserData {
    pub(super) const fn new(kind: Kind, generation: u32, index: u32) -> Self {
        Self(((kind as u64) << 56) | ((generation as u64 & GENERATION_MAX as u64) << 32) | index as u64)
    }

    pub(super) const fn of(kind: Kind, id: ConnectionId) -> Self {
        Self::new(kind, id.generation, id.slot)
    }

    pub(super) const fn number(self) -> u64 {
        self.0
    }

    /// Kind, connection (where it is about one) and index.
    pub(super) fn parse(number: u64) -> (Kind, ConnectionId, u32) {
        let kind =
            Kind::ALL.get((number >> 56) as usize).copied().expect("only entries of this module complete");
        let index = u32::try_from(number & u64::from(u32::MAX)).expect("masked");
        let generation = u32::try_from((number >> 32) & u64::from(GENERATION_MAX)).expect("masked");
        (kind, ConnectionId { slot: index, generation }, index)
    }
}

/// Bytes of the greatest address, a `sockaddr_un`: family, path and the NUL at its end.
const SOCKADDR_SIZE_MAX: usize = 2 + UNIX_PATH_SIZE_MAX + 1;

/// `struct sockaddr_in`, `sockaddr_in6` or `sockaddr_un` as the kernel lays them out.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Address {
    octets: [u8; SOCKADDR_SIZE_MAX],
    length: u32,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let mut octets = [0; SOCKADDR_SIZE_MAX];
        octets[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, length) = match address {
            SocketAddr::V4(address) => {
                octets[4..8].copy_from_slice(&address.ip().octets());
                (2u16, 16)
            }
            SocketAddr::V6(address) => {
                octets[4..8].copy_from_slice(&address.flowinfo().to_be_bytes());
                octets[8..24].copy_from_slice(&address.ip().octets());
                octets[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
                (10u16, 28)
            }
        };
        octets[0..2].copy_from_slice(&family.to_ne_bytes());
        Self { octets, length }
    }
}

impl TryFrom<&Endpoint> for Address {
    type Error = io::Error;

    /// # Errors
    /// Those of a path that no address holds.
    fn try_from(endpoint: &Endpoint) -> io::Result<Self> {
        let path = match endpoint {
            Endpoint::Inet(address) => return Ok(Self::from(*address)),
            Endpoint::Unix(path) => unix_path(path)?,
        };
        let mut octets = [0; SOCKADDR_SIZE_MAX];
        octets[0..2].copy_from_slice(&1u16.to_ne_bytes());
        octets[2..2 + path.len()].copy_from_slice(path);
        let length =
            u32::try_from(2 + path.len() + 1).expect("a path is at most UNIX_PATH_SIZE_MAX bytes long");
        Ok(Self { octets, length })
    }
}

impl Address {
    /// Family of its socket.
    pub(super) fn family(&self) -> i32 {
        i32::from(u16::from_ne_bytes([self.octets[0], self.octets[1]]))
    }

    /// Gives the socket in `slot` this address as its own, which stays in place until then.
    pub(super) fn bind(&self, slot: u32) -> squeue::Entry {
        opcode::Bind::new(Fixed(slot), self.octets.as_ptr().cast(), self.length).build()
    }

    /// Connects the socket in `slot` to this address, which stays in place until then.
    pub(super) fn connect(&self, slot: u32) -> squeue::Entry {
        opcode::Connect::new(Fixed(slot), self.octets.as_ptr().cast(), self.length).build()
    }
}

/// Receives from the connection in `slot` until the stream ends, once there is something: a client that was just
/// accepted or answered has not spoken yet, and looking costs a call into its socket (IORING_RECVSEND_POLL_FIRST).
pub(super) fn receive(slot: u32, buffer_group: u16) -> squeue::Entry {
    let entry = opcode::RecvMulti::new(Fixed(slot), buffer_group).build();
    // SAFETY: a submission entry is 64 bytes of plain data, whatever their values.
    let mut words = unsafe { std::mem::transmute::<squeue::Entry, [u32; 16]>(entry) };
    words[0] |= u32::from(POLL_FIRST) << PRIORITY_SHIFT;
    // SAFETY: as above; the bit is one of a receive's own flags, which are in the entry's priority.
    unsafe { std::mem::transmute::<[u32; 16], squeue::Entry>(words) }
}

/// Receives from the connection in `slot` once, at most `size` bytes; looks first as [`receive`] does.
pub(super) fn receive_some(slot: u32, buffer_group: u16, size: u32) -> squeue::Entry {
    opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), size)
        .buf_group(buffer_group)
        .ioprio(POLL_FIRST)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
}

/// The address in a `sockaddr` that the kernel filled in.
fn parse_address(octets: &[u8; ADDRESS_SIZE]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([octets[2], octets[3]]);
    match i32::from(u16::from_ne_bytes([octets[0], octets[1]])) {
        FAMILY_IPV4 => {
            let ip = <[u8; 4]>::try_from(&octets[4..8]).ok()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port))
        }
        FAMILY_IPV6 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&octets[8..24]).ok()?);
            // A client of an IPv4 network on a listener for both.
            Some(SocketAddr::new(ip.to_canonical(), port))
        }
        _ => None,
    }
}

/// Bytes of a place for an address.
const ADDRESS_SIZE: usize = 32;

/// A place for each connection's peer address, for the kernel to fill in.
pub(super) struct AddressTable {
    memory: Region,
    count: u32,
}

impl AddressTable {
    pub(super) fn new(count: u32) -> Self {
        Self { memory: Region::new(count as usize * ADDRESS_SIZE), count }
    }

    /// Asks for the peer of the socket in `slot`.
    pub(super) fn query(&self, slot: u32, is_ipv6: bool) -> squeue::Entry {
        // The kernel refuses a length greater than the address has.
        let length = if is_ipv6 { 28 } else { 16 };
        let place = self.place(slot).cast();
        let entry = opcode::SetSockOpt::new(Fixed(slot), SOL_SOCKET, SO_PEERNAME, place, length).build();
        // SAFETY: a submission entry is 64 bytes of plain data, whatever their values.
        let mut words = unsafe { std::mem::transmute::<squeue::Entry, [u32; 16]>(entry) };
        words[COMMAND_WORD] = GET_SOCKET_OPTION;
        // SAFETY: as above; and the get command has the layout of the set command.
        unsafe { std::mem::transmute::<[u32; 16], squeue::Entry>(words) }
    }

    /// What the kernel filled in for `slot`.
    pub(super) fn read(&self, slot: u32) -> Option<SocketAddr> {
        let place = self.place(slot).cast::<[u8; ADDRESS_SIZE]>();
        // SAFETY: the place lies in the table (checked by `place`), which is never freed; the kernel wrote it
        // before the completion that the caller saw and does not until the next query of this slot.
        parse_address(&unsafe { place.read() })
    }

    fn place(&self, slot: u32) -> *mut u8 {
        assert!(slot < self.count, "a slot outside of the table");
        // SAFETY: the region has `count` places and the slot is below that.
        unsafe { self.memory.start.as_ptr().add(slot as usize * ADDRESS_SIZE) }
    }
}

/// TCP_NODELAY for the socket in `slot`.
pub(super) fn no_delay(slot: u32) -> squeue::Entry {
    static ONE: i32 = 1;
    let value = std::ptr::from_ref(&ONE).cast();
    opcode::SetSockOpt::new(Fixed(slot), IPPROTO_TCP, TCP_NODELAY, value, 4).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_reads_back() {
        let id = ConnectionId { slot: 77, generation: GENERATION_MAX };
        let (kind, parsed, index) = UserData::parse(UserData::of(Kind::Close, id).number());
        assert_eq!((kind, parsed, index), (Kind::Close, id, 77));
    }

    #[test]
    fn kinds_stand_at_their_numbers() {
        for (number, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, number);
        }
    }

    #[test]
    fn addresses_read_back() {
        for text in ["192.0.2.7:25", "[2001:db8::9]:2525"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut octets = [0; ADDRESS_SIZE];
            octets[..28].copy_from_slice(&Address::from(address).octets[..28]);
            assert_eq!(parse_address(&octets), Some(address));
        }
    }
}
