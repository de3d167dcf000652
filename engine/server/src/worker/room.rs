//! What an engine does when all places for connections are taken: the greediest makes room.

use std::time::Duration;

use mailrace_core::smtp::reply::{self, Reply};
use mailrace_spool::Spool;

use super::connection::Connection;
use super::engine::Engine;

impl<S: Spool> Engine<S> {
    /// Looks for a connection that has to make room for the newcomer in slot `newcomer`, and ends it. Returns whether one
    /// was found.
    ///
    /// One gives way whose network has more connections than the newcomer's will have, the greediest of those that are
    /// looked at first; within the newcomer's own network one whose client has more than the newcomer will have. Where it
    /// would come to the same, one gives way that owes or that has been silent for a while. One whose message is just being
    /// made durable goes when it has its reply, and lends its place until then; it does so only if no other can go.
    pub(super) fn make_room(&mut self, newcomer: u32) -> bool {
        let (mut best, mut looks) = (None, 0);
        for _ in 0..self.connections.slots() {
            let has_free = best.is_some_and(|(claim, _): (Claim, usize)| claim.is_free);
            if looks >= LOOKS_MAX || has_free && looks >= LOOKS_FOR_THE_BEST {
                break;
            }
            let slot = self.connections.next_slot();
            // The table has few more slots than there may be connections.
            looks += usize::from(self.connections.in_slot(slot).is_some());
            best = best.max(self.claim(newcomer, slot));
        }
        let Some(mut connection) = best.and_then(|(_, slot)| self.connections.take_from(slot)) else {
            return false;
        };
        if connection.is_at_end_of_message() {
            self.telemetry.gave_place_up();
            self.connections.turn_away(&mut connection);
            self.connections.put(connection);
        } else {
            self.end(connection, &reply::PLACE_GIVEN_UP);
        }
        true
    }

    /// What the newcomer's claim to the place of the connection in `slot` is worth, if it has one.
    fn claim(&self, newcomer: u32, slot: usize) -> Option<(Claim, usize)> {
        let connection = self.connections.in_slot(slot)?;
        if connection.waits.is_turned_away {
            return None;
        }
        let is_free = !connection.is_at_end_of_message();
        let (own_network, own_client) = self.accounts.names(newcomer)?;
        let (network, client) = self.accounts.names(connection.id.slot)?;
        let (network_slots, client_slots) = self.accounts.slots(connection.id.slot);
        // The newcomer's own are counted with it.
        let (own_network_slots, own_client_slots) = self.accounts.slots(newcomer);
        let surplus = match (network == own_network, client == own_client) {
            (false, _) => i64::from(network_slots) - i64::from(own_network_slots),
            (true, false) => i64::from(client_slots) - i64::from(own_client_slots),
            // One of the newcomer's client gives way to another of it.
            (true, true) => 0,
        };
        let is_idle = self.accounts.is_waiting(connection.id.slot) || self.is_silent(connection);
        let has_claim = surplus > 0 || surplus == 0 && is_idle;
        has_claim.then_some((Claim { is_free, network_slots, client_slots, is_idle }, slot))
    }

    /// Whether the client has said nothing for a while, with no message of its own under way in the engine.
    fn is_silent(&self, connection: &Connection<S::Draft>) -> bool {
        let end = self.now.after(self.settings.smtpd_timeout.saturating_sub(SILENCE));
        !connection.is_stuck() && connection.deadline < end
    }

    /// Ends a connection with a 421 (RFC 5321 §3.8), if the client reads what it is sent.
    pub(super) fn end(&mut self, mut connection: Box<Connection<S::Draft>>, reply: &'static Reply) {
        self.telemetry.gave_place_up();
        if !connection.waits.for_send {
            if !connection.waits.for_close {
                self.turn_away(&mut connection, reply);
            }
            if !connection.replies.is_empty() {
                let replies = std::mem::take(&mut connection.replies);
                // The kernel takes it at once, or not at all: nothing is waited for.
                self.outbox.send(connection.id, replies);
            }
        }
        self.close(connection);
    }
}

/// How much a connection is the one to give way; compared in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    /// It can end at once.
    is_free: bool,
    network_slots: u32,
    client_slots: u32,
    is_idle: bool,
}

/// Connections that are looked at for one that gives way.
const LOOKS_MAX: usize = 256;
/// Connections that are looked at for the best, when one was found before.
const LOOKS_FOR_THE_BEST: usize = 32;
/// A client that has been silent for so long gives way to one that is as little greedy: what Postfix allows under stress.
const SILENCE: Duration = Duration::from_secs(10);
