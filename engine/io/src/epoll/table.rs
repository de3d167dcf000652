//! The table of connections: what each waits for, and what its socket is known to be ready for.

use std::os::fd::OwnedFd;

use crate::operation::Serial;
use crate::{ConnectionId, Token};

/// Greatest generation of a place.
const GENERATION_MAX: u32 = (1 << 24) - 1;

/// Places for connections, of which each has a name that is not used again soon.
pub(super) struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    generation: u32,
    connection: Option<Connection>,
}

/// An open connection.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// Receiving was asked for, and its end not told yet.
    pub(super) receive: Option<Token>,
    /// It ends after one piece.
    pub(super) receives_some: bool,
    /// The end of receiving was asked for, too.
    pub(super) is_stopping: bool,
    /// The send that the socket had no room for.
    pub(super) send: Option<SendUnderWay>,
    /// It is not connected yet.
    pub(super) connect: Option<Token>,
    pub(super) input: Input,
    /// The socket has had room since the last send that found none.
    pub(super) has_room: bool,
    /// The kernel tells of room. Few sends ever find none, so it is asked to only then.
    pub(super) is_room_watched: bool,
    /// It is in the queue of those that can continue.
    pub(super) is_queued: bool,
}

/// A send of which bytes are left.
pub(super) struct SendUnderWay {
    pub(super) token: Token,
    pub(super) memory: Vec<u8>,
    pub(super) sent: usize,
}

/// What is known of a socket's input. Events tell only of what is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing, until an event.
    Empty,
    /// Bytes; none any more after a receive that got fewer than it asked for.
    Octets,
    /// Also the end of the stream, an error or urgent bytes, before which a receive stops short: only one that finds
    /// nothing tells that nothing is left.
    OctetsAndMore,
}

impl Connection {
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            receive: None,
            receives_some: false,
            is_stopping: false,
            send: None,
            connect: None,
            input: Input::Empty,
            has_room: false,
            is_room_watched: false,
            is_queued: false,
        }
    }

    /// Whether something that was asked for can be done now.
    pub(super) fn can_go_on(&self) -> bool {
        let can_receive = self.receive.is_some() && (self.is_stopping || self.input != Input::Empty);
        can_receive || self.has_room && (self.send.is_some() || self.connect.is_some())
    }
}

impl Table {
    pub(super) fn new(size: u32) -> Self {
        let generation = Serial::next().first_generation();
        let mut places = Vec::new();
        places.resize_with(size as usize, || Place { generation, connection: None });
        Self { places, free: (0..size).rev().collect() }
    }

    /// The name that [`Table::open`] would give now; `None` when the table is full.
    pub(super) fn next(&self) -> Option<ConnectionId> {
        let slot = *self.free.last()?;
        Some(ConnectionId { slot, generation: self.places[slot as usize].generation })
    }

    /// Takes a connection in, under the name that [`Table::next`] gave.
    pub(super) fn open(&mut self, connection: Connection) -> ConnectionId {
        let id = self.next().expect("the caller has asked for a name");
        self.free.pop();
        self.places[id.slot as usize].connection = Some(connection);
        id
    }

    /// Takes a connection out. Its name means nothing from now on.
    pub(super) fn close(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        let place = &mut self.places[id.slot as usize];
        place.generation = (place.generation + 1) & GENERATION_MAX;
        self.free.push(id.slot);
        place.connection.take()
    }

    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let place = self.places.get_mut(id.slot as usize)?;
        if place.generation == id.generation { place.connection.as_mut() } else { None }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn open_count(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
