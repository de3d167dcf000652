//! Completions of the ring: their meaning for the caller.

use std::io;

use io_uring::cqueue;

use super::entry::{self, Kind, UserData};
use super::{ConnectUnderWay, SendUnderWay, Uring};
use crate::operation::ACCEPT_PAUSE;
use crate::{Completion, ConnectionId, ReceiveEnd};

impl Uring {
    /// One kernel completion; what it means to the caller goes to `completions`.
    pub(super) fn complete(&mut self, entry: &cqueue::Entry, completions: &mut Vec<Completion>) {
        let (kind, id, index) = UserData::parse(entry.user_data());
        let (result, flags) = (entry.result(), entry.flags());
        match kind {
            Kind::Accept if id.generation == self.listener_epoch => {
                self.accepted(index, result, flags, completions)
            }
            Kind::Accept => self.accepted_late(result),
            Kind::PeerName => self.peer_named(id, result, completions),
            Kind::Receive => self.received_some(id, result, flags, completions),
            Kind::Send => self.sent(index, result, completions),
            Kind::Write => self.written(index, result, completions),
            Kind::Read => self.read_some(index, result, completions),
            Kind::Socket => self.socket_made(index, result, completions),
            Kind::Bind => self.bound(index, result, completions),
            Kind::Connect => self.connected(index, result, completions),
            Kind::Close => {
                self.open_connections -= 1;
                self.arm_accepts();
            }
            Kind::Wake => {
                self.wake.clear();
                if !cqueue::more(flags) {
                    self.arm_wake();
                }
            }
            Kind::Cancel => {}
        }
    }

    fn accepted(&mut self, index: u32, result: i32, flags: u32, completions: &mut Vec<Completion>) {
        let Some(listener) = self.listeners.get_mut(index as usize) else { return };
        listener.is_accepting = cqueue::more(flags);
        let is_ipv6 = listener.is_ipv6;
        if let Ok(slot) = u32::try_from(result) {
            let id = self.open(slot);
            let query = self.addresses.query(slot, is_ipv6);
            self.push(&query, UserData::of(Kind::PeerName, id));
            self.arm_accepts();
            return;
        }
        // With the table full (ENFILE), or the system short of something, accepting again would fail at once, over and over.
        // Of the table the next close makes a place; the system does not say when it has room again. Anything else is
        // this one connection's trouble.
        if !matches!(-result, entry::ENFILE | entry::EMFILE | entry::ENOBUFS | entry::ENOMEM) {
            self.arm_accepts();
        } else if (self.open_connections as usize) < self.connections.len() {
            self.accept_at = Some(self.now.after(ACCEPT_PAUSE));
        }
        completions.push(Completion::AcceptFailed { error: io::Error::from_raw_os_error(-result) });
    }

    /// A connection that came to a listener that was closed meanwhile is turned away.
    fn accepted_late(&mut self, result: i32) {
        if let Ok(slot) = u32::try_from(result) {
            let id = self.open(slot);
            self.close(id);
        }
    }

    fn peer_named(&mut self, id: ConnectionId, result: i32, completions: &mut Vec<Completion>) {
        let peer = if result < 0 { None } else { self.addresses.read(id.slot) };
        match peer {
            Some(peer) => completions.push(Completion::Accepted { connection: id, peer }),
            // ENOTCONN: it is gone already.
            None => self.close(id),
        }
    }

    fn received_some(
        &mut self,
        id: ConnectionId,
        result: i32,
        flags: u32,
        completions: &mut Vec<Completion>,
    ) {
        let piece = match (u32::try_from(result), cqueue::buffer_select(flags)) {
            (Ok(length), Some(buffer)) if length > 0 => {
                Some(self.buffers.lend(buffer, length, cqueue::buffer_more(flags)))
            }
            _ => None,
        };
        let has_more = cqueue::more(flags);
        let Some(connection) = self.connection(id) else {
            // A late completion of a connection that was closed.
            if let Some(piece) = piece {
                self.buffers.recycle(piece);
            }
            return;
        };
        let (token, receives_some) = (connection.receive_token, connection.receives_some);
        connection.is_receiving = has_more;
        if let Some(piece) = piece {
            completions.push(Completion::Received { token, connection: id, piece });
        }
        if !has_more {
            let end = match -result {
                0 => ReceiveEnd::Closed,
                entry::ENOBUFS => ReceiveEnd::OutOfBuffers,
                entry::ECANCELED => ReceiveEnd::Stopped,
                error if error < 0 && receives_some => ReceiveEnd::Stopped,
                // The kernel ended the multishot with bytes in hand: the caller asks again.
                error if error < 0 => ReceiveEnd::OutOfBuffers,
                error => ReceiveEnd::Failed(io::Error::from_raw_os_error(error)),
            };
            completions.push(Completion::ReceiveEnded { token, connection: id, end });
        }
    }

    fn sent(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Some(send) = self.sends.get_mut(index) else { return };
        let outcome = match usize::try_from(result) {
            Ok(count) => {
                send.sent += count;
                if send.sent < send.memory.len() && count > 0 && self.is_sending(index) {
                    self.submit_send(index);
                    return;
                }
                let send = self.sends.get(index).expect("looked up above");
                if send.sent == send.memory.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
            }
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        let send = self.sends.take(index).expect("looked up above");
        if let Some(connection) = self.connection(send.connection) {
            connection.send = None;
        }
        let SendUnderWay { token, connection, memory, .. } = send;
        completions.push(Completion::Sent { token, connection, memory, result: outcome });
    }

    /// Whether the send's connection is still open.
    fn is_sending(&mut self, index: u32) -> bool {
        let connection = self.sends.get(index).map(|send| send.connection);
        connection.is_some_and(|id| self.connection(id).is_some())
    }

    fn written(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Some(write) = self.writes.get_mut(index) else { return };
        let outcome = match usize::try_from(result) {
            // A short write to a file means that there is no room for the rest.
            Ok(count) if count < write.block.len() - write.written => Err(io::ErrorKind::StorageFull.into()),
            Ok(_) => Ok(()),
            Err(_) if matches!(-result, entry::EINTR | entry::EAGAIN) => {
                self.submit_write(index);
                return;
            }
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        let write = self.writes.take(index).expect("looked up above");
        self.files.end(write.file);
        completions.push(Completion::Written { token: write.token, block: write.block, result: outcome });
    }

    fn read_some(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Some(read) = self.reads.get_mut(index) else { return };
        let outcome = match usize::try_from(result) {
            Ok(count) => {
                read.filled += count;
                // A short read need not mean that the file ends; one of nothing does.
                if count > 0 && read.filled < read.buffer.len() {
                    self.submit_read(index);
                    return;
                }
                Ok(read.filled)
            }
            Err(_) if matches!(-result, entry::EINTR | entry::EAGAIN) => {
                self.submit_read(index);
                return;
            }
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        let read = self.reads.take(index).expect("looked up above");
        self.files.end(read.file);
        completions.push(Completion::Read { token: read.token, buffer: read.buffer, result: outcome });
    }

    fn socket_made(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Ok(slot) = u32::try_from(result) else {
            let Some(connect) = self.connects.take(index) else { return };
            let result = Err(io::Error::from_raw_os_error(-result));
            completions.push(Completion::Connected { token: connect.token, result });
            return;
        };
        self.open(slot);
        let Some(connect) = self.connects.get_mut(index) else { return };
        connect.slot = Some(slot);
        let (operation, kind) = match &connect.source {
            Some(source) => (source.bind(slot), Kind::Bind),
            None => (connect.server.connect(slot), Kind::Connect),
        };
        if connect.server.family() != entry::FAMILY_UNIX {
            self.push(&entry::no_delay(slot), UserData::new(Kind::Cancel, 0, 0));
        }
        self.push(&operation, UserData::new(kind, 0, index));
    }

    fn bound(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        match self.connects.get_mut(index) {
            Some(ConnectUnderWay { server, slot: Some(slot), .. }) if result >= 0 => {
                let operation = server.connect(*slot);
                self.push(&operation, UserData::new(Kind::Connect, 0, index));
            }
            // It ends as if it had failed to connect.
            _ => self.connected(index, result, completions),
        }
    }

    fn connected(&mut self, index: u32, result: i32, completions: &mut Vec<Completion>) {
        let Some(ConnectUnderWay { token, slot: Some(slot), .. }) = self.connects.take(index) else { return };
        let id = ConnectionId { slot, generation: self.connections[slot as usize].generation };
        let result = if result < 0 {
            self.close(id);
            Err(io::Error::from_raw_os_error(-result))
        } else {
            Ok(id)
        };
        completions.push(Completion::Connected { token, result });
    }
}
