//! Makes room when all slots for connections are taken: the greediest gives way.

use std::time::Duration;

use mailrace_core::smtp::reply::{self, Reply};
use mailrace_spool::Spool;

use super::connection::Connection;
use super::engine::Engine;

impl<S: Spool> Engine<S> {
    /// Ends a connection to make room for the newcomer in slot `newcomer`. Returns whether one
    /// was found.
    ///
    /// A connection gives way if its network has more connections than the newcomer's will have, the greediest of those
    /// examined first; within the newcomer's network, one whose client has more than the newcomer will have. Among
    /// equals, one gives way that owes or has been silent for a while. One whose message is just becoming
    /// durable ends after its reply and lends its slot until then, but only if no other can end.
    pub(super) fn make_room(&mut self, newcomer: u32) -> bool {
        let (mut best, mut looks) = (None, 0);
        for _ in 0..self.connections.slots() {
            let has_free = best.is_some_and(|(claim, _): (Claim, usize)| claim.is_free);
            if looks >= LOOKS_MAX || has_free && looks >= LOOKS_FOR_THE_BEST {
                break;
            }
            let slot = self.connections.next_slot();
            // The table has a few more slots than the limit of connections.
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

    /// Returns the newcomer's claim to the slot of the connection in `slot`, if it has one.
    fn claim(&self, newcomer: u32, slot: usize) -> Option<(Claim, usize)> {
        let connection = self.connections.in_slot(slot)?;
        if connection.waits.is_turned_away {
            return None;
        }
        let is_free = !connection.is_at_end_of_message();
        let (own_network, own_client) = self.accounts.names(newcomer)?;
        let (network, client) = self.accounts.names(connection.id.slot)?;
        let (network_slots, client_slots) = self.accounts.slots(connection.id.slot);
        // The counts include the newcomer.
        let (own_network_slots, own_client_slots) = self.accounts.slots(newcomer);
        let surplus = match (network == own_network, client == own_client) {
            (false, _) => i64::from(network_slots) - i64::from(own_network_slots),
            (true, false) => i64::from(client_slots) - i64::from(own_client_slots),
            // A connection of the newcomer's client gives way to the newcomer.
            (true, true) => 0,
        };
        let is_idle = self.accounts.is_waiting(connection.id.slot) || self.is_silent(connection);
        let has_claim = surplus > 0 || surplus == 0 && is_idle;
        has_claim.then_some((Claim { is_free, network_slots, client_slots, is_idle }, slot))
    }

    /// Whether the client has been silent for a while, with no message of its own in progress.
    fn is_silent(&self, connection: &Connection<S::Draft>) -> bool {
        let end = self.now.after(self.settings.smtpd_timeout.saturating_sub(SILENCE));
        !connection.is_stuck() && connection.deadline < end
    }

    /// Ends a connection with a 421 (RFC 5321 §3.8), if the client reads its replies.
    pub(super) fn end(&mut self, mut connection: Box<Connection<S::Draft>>, reply: &'static Reply) {
        self.telemetry.gave_place_up();
        if !connection.waits.for_send {
            if !connection.waits.for_close {
                self.turn_away(&mut connection, reply);
            }
            if !connection.replies.is_empty() {
                let replies = std::mem::take(&mut connection.replies);
                // The kernel takes it immediately or not at all, so there is nothing to wait for.
                self.outbox.send(connection.id, replies);
            }
        }
        self.close(connection);
    }
}

/// Priority of a connection for giving way; compared in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    /// It can end at once.
    is_free: bool,
    network_slots: u32,
    client_slots: u32,
    is_idle: bool,
}

/// Most connections examined for one that gives way.
const LOOKS_MAX: usize = 256;
/// Most connections examined for a better one, after one was found.
const LOOKS_FOR_THE_BEST: usize = 32;
/// Silence after which a client gives way to an equally modest one: the timeout of Postfix under stress.
const SILENCE: Duration = Duration::from_secs(10);
