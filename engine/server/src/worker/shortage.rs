//! Handles a shortage of memory or of room in the spool: holds back clients that hold more than their
//! share, and reclaims from the greediest first.
//!
//! Depending on the part of `content_memory` in use:
//!
//! - from five eighths on, a client that holds more than its share is not read from while its session cannot take the
//!   input, and its MAIL and RCPT get 452. Other clients do not notice.
//! - above three quarters its messages go to the spool, a header field without end is given up (452 at the end of the
//!   content), and then its connections are ended (421), until five eighths are in use. What waits for the spool stays.
//! - above all of it, which the disk's slowness brings about and not a client, nothing is read until there is room again.
//!
//! Content in the spool of unfinished messages may take as much as is free on the file system. Beyond that, the
//! messages of the greediest clients are dropped (452 at the end of the content).

use std::time::Duration;

use mailrace_core::smtp::reply;
use mailrace_spool::Spool;

use super::connection::Connection;
use super::engine::Engine;
use super::sources::smtp::CHUNK_SIZE_PRESSED;

impl<S: Spool> Engine<S> {
    /// Finds the shares that hold in this turn.
    pub(super) fn find_shares(&mut self) {
        let memory = self.shared_memory() / 8 * 5;
        self.budget.is_pressed = self.memory() > memory;
        let content = if self.is_content_short() { self.budget.free_octets / 4 * 3 } else { u64::MAX };
        self.accounts.set_targets(memory as u64, content);
    }

    /// Whether memory has to be reclaimed.
    pub(super) fn is_memory_short(&self) -> bool {
        self.memory() > self.shared_memory() / 4 * 3
    }

    /// Bytes that clients share: an amount that one dialogue would fill is not worth sharing.
    fn shared_memory(&self) -> usize {
        self.settings.content_memory.max(SHARED_MEMORY_MIN)
    }

    /// Whether the memory in use keeps a worker that has stopped reading from resuming.
    fn is_nearly_full(&self) -> bool {
        self.memory() > self.settings.content_memory / 4 * 3
    }

    fn is_content_short(&self) -> bool {
        self.budget.free_octets > 0 && self.accounts.content() > self.budget.free_octets
    }

    /// Reclaims memory when it is short, stops all reading while none is left, and resumes it afterwards.
    pub(super) fn ration(&mut self) {
        if self.is_content_short() {
            self.take_content_back();
        }
        if self.is_memory_short() && self.budget.relief_at <= self.now {
            self.take_memory_back();
        }
        if self.memory() > self.settings.content_memory && !self.budget.is_choked {
            self.choke();
        }
        // Some room must be made first, so that this does not happen in every turn.
        self.budget.is_choked &= self.is_nearly_full();
        if self.budget.is_choked && self.budget.choke_ends_at <= self.now {
            self.relieve();
            self.budget.is_choked &= self.is_nearly_full();
        }
        if !self.budget.is_choked && !self.connections.reading.paused.is_empty() {
            self.resume();
        }
    }

    /// Resumes reading from paused connections, in turns of networks and clients and before all others: the buffers that
    /// they lacked would otherwise go to those that took them. Their input makes the next turn long, so only some resume.
    fn resume(&mut self) {
        self.outbox.begin_front();
        self.connections.reading.has_more_paused = false;
        // Those whose turn it is keep their place in the line.
        self.connections.reading.is_crowded = false;
        let mut room = RESUMED_MAX;
        let mut in_line = self.connections.reading.paused.len();
        while in_line > 0
            && room > 0
            && let Some(id) = self.connections.reading.paused.pop()
        {
            in_line -= 1;
            let Some(mut connection) = self.connections.take(id) else { continue };
            if !connection.is_ready() && self.accounts.exceeds_memory(id.slot) {
                let names = self.accounts.names(id.slot).expect("a paused connection has an account");
                self.connections.reading.paused.push(names, id);
                self.connections.put(connection);
                continue;
            }
            room -= 1;
            connection.waits.is_paused = false;
            self.put_back(connection);
        }
        self.connections.reading.has_more_paused = in_line > 0;
        self.outbox.end_front();
    }

    /// Reclaims memory from clients that hold more than their share.
    fn take_memory_back(&mut self) {
        self.find_shares();
        let target = self.shared_memory() / 8 * 5;
        let mut holders = Vec::new();
        for slot in 0..self.connections.slots() {
            let Some(id) = self.connections.id_in(slot) else { continue };
            if !self.accounts.exceeds_memory(id.slot) || self.accounts.memory_of(id.slot) == 0 {
                continue;
            }
            let Some(mut connection) = self.connections.take(id) else { continue };
            self.give_to_spool(&mut connection);
            if may_end(&connection) {
                holders.push((self.accounts.greed_for_memory(id.slot), slot));
            }
            self.put_back(connection);
        }
        holders.sort_unstable_by(|one, other| other.cmp(one));
        for (_, slot) in holders {
            if self.memory() <= target {
                break;
            }
            self.end_holder(slot, |accounts, slot| accounts.exceeds_memory(slot));
        }
        if self.is_memory_short() {
            // The rest waits for the spool.
            self.budget.relief_at = self.now.after(RELIEF_PAUSE);
        }
    }

    /// Gives the spool what it can take of the message in progress. A header field without end cannot be taken: the message
    /// is dropped, and the client gets 452 at the end of the content.
    fn give_to_spool(&mut self, connection: &mut Connection<S::Draft>) {
        if !(connection.waits.for_answer || connection.has_message_under_way()) {
            self.flush(connection);
        }
        if !connection.is_stuck()
            && let Some(message) = connection.message.as_mut()
            && message.memory() > CHUNK_SIZE_PRESSED
        {
            self.intake.shed(message);
        }
    }

    /// Ends the connection in `slot` if it may be ended and `is_greedy` still holds for its client.
    fn end_holder(&mut self, slot: usize, is_greedy: impl Fn(&super::accounts::Accounts, u32) -> bool) {
        let is_ended = self.connections.in_slot(slot).is_some_and(|connection| {
            may_end(connection) && connection.memory() > 0 && is_greedy(&self.accounts, connection.id.slot)
        });
        if is_ended && let Some(connection) = self.connections.take_from(slot) {
            self.end(connection, &reply::SHORT_OF_MEMORY);
        }
    }

    /// Drops messages whose content takes more than their clients' share of the spool's room.
    fn take_content_back(&mut self) {
        self.find_shares();
        let mut holders: Vec<([u64; 3], usize)> = Vec::new();
        for slot in 0..self.connections.slots() {
            let Some(id) = self.connections.id_in(slot) else { continue };
            if self.accounts.content_of(id.slot) > 0 && self.accounts.exceeds_content(id.slot) {
                holders.push((self.accounts.greed_for_content(id.slot), slot));
            }
        }
        holders.sort_unstable_by(|one, other| other.cmp(one));
        for (_, slot) in holders {
            let Some(id) = self.connections.id_in(slot) else { continue };
            if self.accounts.exceeds_content(id.slot)
                && let Some(mut connection) = self.connections.take(id)
            {
                if let Some(message) = connection.message.as_mut() {
                    self.intake.shed(message);
                }
                self.put_back(connection);
            }
        }
    }

    /// All memory is in use: stops reading from all clients, and gives the spool what it can take.
    fn choke(&mut self) {
        self.budget.is_choked = true;
        self.budget.choke_ends_at = self.now.after(CHOKE_PATIENCE);
        for slot in 0..self.connections.slots() {
            let Some(id) = self.connections.id_in(slot) else { continue };
            let Some(mut connection) = self.connections.take(id) else { continue };
            // A client that owes loses its memory, which it would hold while it waits.
            if self.accounts.is_waiting(id.slot) && connection.memory() > 0 && !connection.is_settling() {
                self.end(connection, &reply::SHORT_OF_MEMORY);
                continue;
            }
            self.pause(&mut connection);
            self.give_to_spool(&mut connection);
            self.put_back(connection);
        }
    }

    /// The spool could not make room: clients hold the memory, and may hold it until their timeouts.
    /// The greediest lose it.
    fn relieve(&mut self) {
        self.budget.choke_ends_at = self.now.after(CHOKE_PATIENCE);
        let holders = self.connections.iter().map(|connection| {
            let slot = connection.id.slot;
            (self.accounts.greed_for_memory(slot), slot as usize)
        });
        let mut holders: Vec<_> = holders.collect();
        holders.sort_unstable_by(|one, other| other.cmp(one));
        for (_, slot) in holders {
            if !self.is_nearly_full() {
                break;
            }
            self.end_holder(slot, |_, _| true);
        }
    }
}

/// Whether the client could hold its memory for as long as it likes. Content that the spool will take is held no longer
/// than the disk needs.
fn may_end<D>(connection: &Connection<D>) -> bool {
    !connection.waits_for_room() && !connection.is_settling()
}

/// Time for the spool and the clients to make room when memory is exhausted.
const CHOKE_PATIENCE: Duration = Duration::from_secs(2);
/// Least amount that clients share; any configuration gives a worker eight times as much.
const SHARED_MEMORY_MIN: usize = 512 * 1024;
/// Connections resumed in one turn: their input is handled before the next command of any other client.
pub(super) const RESUMED_MAX: usize = 16;
/// Time for the spool between two attempts to reclaim memory.
const RELIEF_PAUSE: Duration = Duration::from_millis(20);
