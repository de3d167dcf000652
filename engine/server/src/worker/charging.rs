//! Charges clients for their work, and makes those wait that cause too much.

use std::time::Duration;

use mailrace_core::smtp::reply::Reply;
use mailrace_io::{Instant, Operation};
use mailrace_spool::Spool;

use super::accounts::receive_cost;
use super::connection::{Connection, Receiving};
use super::engine::Engine;

impl<S: Spool> Engine<S> {
    /// Ends a connection before its dialogue starts.
    pub(super) fn turn_away(&self, connection: &mut Connection<S::Draft>, reply: &'static Reply) {
        reply.write(&mut connection.replies, &self.settings.smtp.myhostname);
        connection.waits.for_close = true;
    }

    /// Charges work to the client; if it owes, the connection is not read from for a while.
    pub(super) fn charge(&mut self, connection: &mut Connection<S::Draft>, cost: Duration) {
        let allowance = self.settings.client_allowance;
        let Some(wait) = self.accounts.charge(connection.id.slot, cost, allowance, self.now) else { return };
        let waits = &mut connection.waits;
        if waits.for_close {
            // It is not read from in any case.
            return;
        }
        waits.until = waits.until.max(self.now.after(wait));
        self.timers.once(connection.id.slot, waits.until);
        if !self.accounts.set_waiting(connection.id.slot, true) {
            self.telemetry.made_to_wait();
            // A limited receive brings at most its limit.
            if waits.receiving == Receiving::All && !waits.is_paused {
                self.outbox.push(Operation::StopReceiving(connection.id));
            }
        }
    }

    /// A message was accepted, which settles the client's debt and ends this connection's wait.
    pub(super) fn pay(&mut self, connection: &mut Connection<S::Draft>) {
        self.accounts.settle(connection.id.slot, self.settings.client_allowance);
        self.end_wait(connection);
    }

    /// The client's debt no longer delays this connection.
    pub(super) fn end_wait(&mut self, connection: &mut Connection<S::Draft>) {
        if self.accounts.set_waiting(connection.id.slot, false) {
            connection.waits.until = Instant::default();
        }
    }

    /// Charges a receive, either immediately or with the message whose content it is.
    pub(super) fn charge_receive(&mut self, connection: &mut Connection<S::Draft>, size: usize) {
        let cost = receive_cost(size);
        match connection.message.as_mut() {
            // It may still become a message. But tiny pieces of content are no way to send mail, and under load a client
            // that received much without an accepted message yields to the others.
            Some(message) if size >= CRUMB_SIZE && !self.connections.reading.is_crowded => {
                message.cost += cost
            }
            _ => self.charge(connection, cost),
        }
    }
}

/// Bytes of content in one receive below which it is charged immediately.
const CRUMB_SIZE: usize = 128;
