//! The table of connections, and what each is armed for between two turns.

use mailrace_io::{ConnectionId, Operation};
use mailrace_spool::Spool;

use super::connection::{Connection, Receiving};
use super::engine::Engine;
use super::reading::Reading;

/// The connections of a worker by their slots.
#[derive(Debug)]
pub(super) struct Connections<D> {
    slots: Vec<Option<Box<Connection<D>>>>,
    open: usize,
    /// Connections among them that are being refused and will be closed.
    turned_away: usize,
    /// The next slot to examine for a connection that may make room.
    hand: usize,
    pub(super) reading: Reading,
    /// No new ones are accepted, and those between messages end.
    pub(super) is_draining: bool,
}

impl<D> Connections<D> {
    /// Returns a table of this number of slots.
    pub(super) fn new(slots: usize) -> Self {
        let slots = std::iter::repeat_with(|| None).take(slots).collect();
        Self { slots, open: 0, turned_away: 0, hand: 0, reading: Reading::default(), is_draining: false }
    }

    /// Number of slots.
    pub(super) const fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Number of open connections.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// Number of connections that are not being refused.
    pub(super) const fn placed(&self) -> usize {
        self.open - self.turned_away
    }

    /// Counts a connection that will be put in its slot.
    pub(super) const fn opened(&mut self) {
        self.open += 1;
    }

    /// Counts a closed connection that is not in its slot.
    pub(super) fn closed(&mut self, connection: &Connection<D>) {
        self.open -= 1;
        self.turned_away -= usize::from(connection.waits.is_turned_away);
    }

    /// Counts a connection as being refused: it will be closed soon.
    pub(super) fn turn_away(&mut self, connection: &mut Connection<D>) {
        assert!(!connection.waits.is_turned_away, "a place is given up once");
        connection.waits.is_turned_away = true;
        self.turned_away += 1;
    }

    /// The next slot for one that may make room.
    pub(super) fn next_slot(&mut self) -> usize {
        self.hand = (self.hand + 1) % self.slots.len();
        self.hand
    }

    /// Whether the connection is there.
    pub(super) fn has(&self, id: ConnectionId) -> bool {
        self.slots.get(id.slot as usize).and_then(Option::as_ref).is_some_and(|there| there.id == id)
    }

    /// The connection in this slot.
    pub(super) fn in_slot(&self, slot: usize) -> Option<&Connection<D>> {
        self.slots.get(slot)?.as_deref()
    }

    /// The name of the connection in this slot.
    pub(super) fn id_in(&self, slot: usize) -> Option<ConnectionId> {
        self.in_slot(slot).map(|connection| connection.id)
    }

    /// All that are in their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection<D>> {
        self.slots.iter().flatten().map(|connection| &**connection)
    }

    /// Takes a connection out of its slot, to be put back or closed.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Box<Connection<D>>> {
        self.slots.get_mut(id.slot as usize)?.take_if(|connection| connection.id == id)
    }

    /// Like [`Connections::take`], for the connection in this slot.
    pub(super) fn take_from(&mut self, slot: usize) -> Option<Box<Connection<D>>> {
        self.slots.get_mut(slot)?.take()
    }

    /// Puts a connection into its slot.
    pub(super) fn put(&mut self, connection: Box<Connection<D>>) {
        let slot = connection.id.slot as usize;
        self.slots[slot] = Some(connection);
    }
}

impl<S: Spool> Engine<S> {
    /// Stops reading from a client until [`Engine::tick`] finds that it may go on.
    pub(super) fn pause(&mut self, connection: &mut Connection<S::Draft>) {
        if !connection.waits.is_paused
            && let Some(names) = self.accounts.names(connection.id.slot)
        {
            connection.waits.is_paused = true;
            self.connections.reading.paused.push(names, connection.id);
            if connection.waits.receiving != Receiving::No && !self.accounts.is_waiting(connection.id.slot) {
                self.outbox.push(Operation::StopReceiving(connection.id));
            }
        }
    }

    /// Ends the handling of a connection: sends, closes or arms it as needed.
    pub(super) fn put_back(&mut self, mut connection: Box<Connection<S::Draft>>) {
        let id = connection.id;
        // Replies before a verdict or during a delay are sent with later ones, or before the end; a client that owes
        // waits for those, too.
        let is_last = connection.waits.for_close && !self.accounts.is_waiting(id.slot);
        let is_at_end = connection.is_at_end_of_message();
        if is_last || !(is_at_end || connection.waits.is_delayed()) {
            self.outbox.send_replies(&mut connection);
        }
        let is_ready = connection.is_ready();
        let waits = &mut connection.waits;
        waits.for_close |= waits.is_shut && is_ready && connection.backlog.is_empty();
        if waits.for_close && !waits.for_send && !is_at_end && !waits.is_delayed() {
            self.close(connection);
            return;
        }
        let waits = connection.waits;
        let (memory, content) = (connection.memory() as u64, connection.content_in_spool());
        self.accounts.hold(id.slot, memory, content);
        // A connection that holds more than its share while memory is short has no input waiting; one that does not receive
        // would overtake those that wait in line. Under load, clients that have yet to send mail wait in a line.
        let is_greedy = !is_ready && self.accounts.exceeds_memory(id.slot);
        let is_in_line = self.connections.reading.has_more_paused
            || self.connections.reading.is_crowded && self.accounts.is_unproven(id.slot);
        if is_greedy || is_in_line && waits.receiving == Receiving::No {
            self.pause(&mut connection);
        }
        let waits = &mut connection.waits;
        let is_held = waits.is_paused || waits.for_close || self.accounts.is_waiting(id.slot);
        let may_read = connection.backlog.len() <= BACKLOG_SIZE && !is_held;
        if may_read && waits.receiving == Receiving::No && !waits.is_shut {
            let is_bounded = !self.settings.client_allowance.is_zero() && self.accounts.is_unproven(id.slot);
            // One that found no receive buffer comes before the others, and takes only some of the buffers.
            let receives_some = is_bounded || std::mem::take(&mut waits.is_starved) || self.budget.is_pressed;
            let (receiving, receive) = if receives_some {
                (Receiving::Some, Operation::ReceiveSome(id))
            } else {
                (Receiving::All, Operation::Receive(id))
            };
            waits.receiving = receiving;
            self.outbox.push(receive);
        }
        if !waits.for_send && connection.replies.is_empty() && connection.replies.capacity() > 0 {
            // An idle connection holds no memory for replies.
            let memory = std::mem::take(&mut connection.replies);
            self.outbox.keep_memory(memory);
        }
        self.connections.put(connection);
    }

    pub(super) fn close(&mut self, mut connection: Box<Connection<S::Draft>>) {
        if let Some(mut message) = connection.message.take() {
            self.accounts.charge(connection.id.slot, message.cost, self.settings.client_allowance, self.now);
            self.intake.abandon(&mut message);
        }
        self.accounts.disconnect(connection.id.slot);
        self.connections.closed(&connection);
        self.telemetry.disconnected(connection.session.origin());
        self.outbox.keep_memory(std::mem::take(&mut connection.replies));
        self.outbox.push(Operation::Close(connection.id));
    }
}

/// Bytes of waiting input at which a connection is no longer read from.
pub(super) const BACKLOG_SIZE: usize = 16 * 1024;
