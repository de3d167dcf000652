//! What an engine does with clients that cause too much work: it charges them and lets them wait.

use std::time::Duration;

use mailrace_core::smtp::reply::Reply;
use mailrace_io::{Instant, Operation};
use mailrace_spool::Spool;

use super::accounts::receive_cost;
use super::connection::{Connection, Receiving};
use super::engine::Engine;

impl<S: Spool> Engine<S> {
    /// Ends a connection before its dialogue has begun.
    pub(super) fn turn_away(&self, connection: &mut Connection<S::Draft>, reply: &'static Reply) {
        reply.write(&mut connection.replies, &self.settings.smtp.myhostname);
        connection.waits.for_close = true;
    }

    /// Charges work to the client; if it owes, nothing is read from the connection for a while.
    pub(super) fn charge(&mut self, connection: &mut Connection<S::Draft>, cost: Duration) {
        let allowance = self.settings.client_allowance;
        let Some(wait) = self.accounts.charge(connection.id.slot, cost, allowance, self.now) else { return };
        let waits = &mut connection.waits;
        if waits.for_close {
            // It is not read from any more as it is.
            return;
        }
        waits.until = waits.until.max(self.now.after(wait));
        self.timers.once(connection.id.slot, waits.until);
        if !self.accounts.set_waiting(connection.id.slot, true) {
            self.telemetry.made_to_wait();
            // Of a receive of some octets no more than those can come.
            if waits.receiving == Receiving::All && !waits.is_paused {
                self.outbox.push(Operation::StopReceiving(connection.id));
            }
        }
    }

    /// A message was accepted: its client owes nothing, and this connection waits no longer.
    pub(super) fn pay(&mut self, connection: &mut Connection<S::Draft>) {
        self.accounts.settle(connection.id.slot, self.settings.client_allowance);
        self.end_wait(connection);
    }

    /// What its client owes holds this connection up no longer.
    pub(super) fn end_wait(&mut self, connection: &mut Connection<S::Draft>) {
        if self.accounts.set_waiting(connection.id.slot, false) {
            connection.waits.until = Instant::default();
        }
    }

    /// Charges a receive: at once, or with the message whose content it is.
    pub(super) fn charge_receive(&mut self, connection: &mut Connection<S::Draft>, size: usize) {
        let cost = receive_cost(size);
        match connection.message.as_mut() {
            // It may become a message yet. But content in crumbs is no way to send mail, and in a crowd whoever has
            // had much and no message accepted lets the others go first.
            Some(message) if size >= CRUMB_SIZE && !self.reading.is_crowded => message.cost += cost,
            _ => self.charge(connection, cost),
        }
    }
}

/// Octets of content of which fewer in one receive are charged at once.
const CRUMB_SIZE: usize = 128;
