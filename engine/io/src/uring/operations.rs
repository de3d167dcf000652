//! Operations of the caller as entries of the ring.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::types::Fixed;

use super::buffers::BUFFER_GROUP;
use super::entry::{self, Address, Kind, UserData};
use super::region::Region;
use super::{
    ConnectUnderWay, Connection, Listener, ReadUnderWay, SendUnderWay, Uring, WriteUnderWay, index_of,
};
use crate::block::{BLOCK_ALIGNMENT, Registration};
use crate::{Block, Completion, ConnectionId, Endpoint, FileId, SOME, Token};

impl Uring {
    pub(super) fn accept(&mut self, socket: TcpListener) {
        let is_ipv6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
        self.listeners.push(Listener { socket, is_ipv6, is_accepting: false });
        self.arm_accepts();
    }

    pub(super) fn arm_accepts(&mut self) {
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if !listener.is_accepting {
                listener.is_accepting = true;
                let socket = io_uring::types::Fd(listener.socket.as_raw_fd());
                let accept = opcode::AcceptMulti::new(socket).allocate_file_index(true).build();
                self.push(&accept, UserData::new(Kind::Accept, self.listener_epoch, index_of(index)));
            }
        }
    }

    pub(super) fn stop_accepting(&mut self) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].is_accepting {
                self.cancel(UserData::new(Kind::Accept, self.listener_epoch, index_of(index)));
            }
        }
        // The cancelled accepts hold the sockets until the queue is next started, which is soon.
        self.listeners.clear();
        self.listener_epoch = (self.listener_epoch + 1) & entry::GENERATION_MAX;
    }

    pub(super) fn cancel(&mut self, what: UserData) {
        let cancel = opcode::AsyncCancel::new(what.number()).build();
        self.push(&cancel, UserData::new(Kind::Cancel, 0, 0));
    }

    /// Takes a slot that the kernel gave out.
    pub(super) fn open(&mut self, slot: u32) -> ConnectionId {
        let connection = &mut self.connections[slot as usize];
        assert!(!connection.is_open, "the kernel gave out a direct descriptor twice");
        let generation = connection.generation;
        *connection = Connection { generation, is_open: true, ..Connection::default() };
        self.open_connections += 1;
        ConnectionId { slot, generation }
    }

    pub(super) fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(id.slot as usize)?;
        (connection.is_open && connection.generation == id.generation).then_some(connection)
    }

    pub(super) fn connect(&mut self, token: Token, server: &Endpoint, source: Option<IpAddr>) {
        let address = match Address::try_from(server) {
            Ok(address) => address,
            Err(error) => return self.ready.push(Completion::Connected { token, result: Err(error) }),
        };
        let family = address.family();
        let source = source.filter(|_| family != entry::FAMILY_UNIX);
        let index = self.connects.insert(ConnectUnderWay {
            token,
            server: Box::new(address),
            source: source.map(|source| Box::new(Address::from(SocketAddr::new(source, 0)))),
            slot: None,
        });
        let socket = opcode::Socket::new(family, entry::SOCKET_STREAM, 0)
            .file_index(Some(io_uring::types::DestinationSlot::auto_target()))
            .build();
        self.push(&socket, UserData::new(Kind::Socket, 0, index));
    }

    pub(super) fn receive(&mut self, token: Token, id: ConnectionId, receives_some: bool) {
        let Some(connection) = self.connection(id) else { return };
        assert!(!connection.is_receiving, "receiving is under way already");
        connection.is_receiving = true;
        connection.receives_some = receives_some;
        connection.receive_token = token;
        let receive = if receives_some {
            entry::receive_some(id.slot, BUFFER_GROUP, SOME)
        } else {
            entry::receive(id.slot, BUFFER_GROUP)
        };
        self.push(&receive, UserData::of(Kind::Receive, id));
    }

    pub(super) fn stop_receiving(&mut self, id: ConnectionId) {
        if self.connection(id).is_some_and(|connection| connection.is_receiving) {
            self.cancel(UserData::of(Kind::Receive, id));
        }
    }

    pub(super) fn send(&mut self, token: Token, id: ConnectionId, memory: Vec<u8>) {
        if self.connection(id).is_none() {
            let result = Err(io::ErrorKind::NotConnected.into());
            self.ready.push(Completion::Sent { token, connection: id, memory, result });
            return;
        }
        let index = self.sends.insert(SendUnderWay { token, connection: id, memory, sent: 0 });
        let connection = &mut self.connections[id.slot as usize];
        assert!(connection.send.is_none(), "a send is under way already");
        connection.send = Some(index);
        self.submit_send(index);
    }

    pub(super) fn submit_send(&mut self, index: u32) {
        let Some(send) = self.sends.get(index) else { return };
        let rest = &send.memory[send.sent..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(Fixed(send.connection.slot), rest.as_ptr(), length)
            .flags(entry::SEND_WHOLE)
            .build();
        self.push(&send, UserData::new(Kind::Send, 0, index));
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        let (is_receiving, send) = (connection.is_receiving, connection.send.take());
        connection.is_open = false;
        connection.is_receiving = false;
        connection.generation = (connection.generation + 1) & entry::GENERATION_MAX;
        // Closing a direct descriptor ends neither a multishot receive nor a send that waits for a client.
        if is_receiving {
            self.cancel(UserData::of(Kind::Receive, id));
        }
        if let Some(send) = send {
            self.cancel(UserData::new(Kind::Send, 0, send));
        }
        self.push(&opcode::Close::new(Fixed(id.slot)).build(), UserData::of(Kind::Close, id));
    }

    pub(super) fn write(&mut self, token: Token, file: FileId, block: Block, offset: u64, is_durable: bool) {
        self.files.begin(file);
        let index = self.writes.insert(WriteUnderWay { token, file, block, offset, written: 0, is_durable });
        self.submit_write(index);
    }

    pub(super) fn submit_write(&mut self, index: u32) {
        let Some(write) = self.writes.get(index) else { return };
        let file = self.files.get_mut(write.file);
        let rest = &write.block.filled()[write.written..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let flags = if write.is_durable { entry::WRITE_DURABLE } else { 0 };
        let (file, offset) =
            (io_uring::types::Fd(file.file.as_raw_fd()), write.offset + write.written as u64);
        let write = match write.block.registration().filter(|registration| registration.ring == self.serial) {
            Some(Registration { index, .. }) => opcode::WriteFixed::new(file, rest.as_ptr(), length, index)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Write::new(file, rest.as_ptr(), length).offset(offset).rw_flags(flags).build(),
        };
        self.push(&write, UserData::new(Kind::Write, 0, index));
    }

    pub(super) fn read(&mut self, token: Token, file: FileId, buffer: Vec<u8>, offset: u64) {
        self.files.get_mut(file).kind.check_read();
        self.files.begin(file);
        let index = self.reads.insert(ReadUnderWay { token, file, buffer, offset, filled: 0 });
        self.submit_read(index);
    }

    /// Reads what is left. The kernel may write to the buffer until the completion; until then it stays in its place.
    pub(super) fn submit_read(&mut self, index: u32) {
        let Some(read) = self.reads.get_mut(index) else { return };
        let file = io_uring::types::Fd(self.files.get_mut(read.file).file.as_raw_fd());
        let rest = &mut read.buffer[read.filled..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let offset = read.offset + read.filled as u64;
        let read = opcode::Read::new(file, rest.as_mut_ptr(), length).offset(offset).build();
        self.push(&read, UserData::new(Kind::Read, 0, index));
    }

    /// Registers memory for `count` blocks, so that the kernel looks its pages up once instead of at each write. If the limit
    /// of locked memory forbids it, they are written as other memory is.
    pub(super) fn register_blocks(&mut self, count: usize, capacity: usize) -> Vec<Block> {
        let mut pieces = Region::pieces(count, capacity.next_multiple_of(BLOCK_ALIGNMENT));
        let buffers = pieces.iter_mut();
        let buffers =
            buffers.map(|piece| libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() });
        let buffers: Vec<libc::iovec> = buffers.collect();
        // SAFETY: the memory is a region's, which is never freed.
        let is_registered = unsafe { self.ring.submitter().register_buffers(&buffers) }.is_ok();
        let ring = self.serial;
        let registration = |index| {
            let index = is_registered.then(|| u16::try_from(index).ok()).flatten()?;
            Some(Registration { ring, index })
        };
        let pieces = pieces.into_iter().enumerate();
        pieces.map(|(index, piece)| Block::lasting(piece, registration(index))).collect()
    }
}
