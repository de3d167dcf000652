//! Owns what an engine does when its memory for content is used up: it reads from nobody, gives the spool what it can, and
//! takes the rest back from clients that hold it for too long.

use std::time::Duration;

use mailrace_io::Disk;

use super::connection::Connection;
use super::engine::{CHUNK_SIZE_PRESSED, Engine};

impl<D: Disk> Engine<D> {
    /// Reads from nobody while memory is short, and from all again when it is not.
    pub(super) fn ration(&mut self) {
        let limit = self.settings.content_memory;
        if self.memory > limit && !self.is_choked {
            self.choke();
        }
        // Some room is made first, so that this does not happen at every turn.
        self.is_choked &= self.memory > limit / 4 * 3;
        if self.is_choked && self.choke_ends_at <= self.now {
            self.relieve();
            self.is_choked &= self.memory > limit / 4 * 3;
        }
        if !self.is_choked {
            for id in std::mem::take(&mut self.paused) {
                if let Some(mut connection) = self.take(id) {
                    connection.waits.is_paused = false;
                    self.put_back(connection);
                }
            }
        }
    }

    /// All memory for content is in use: reads from nobody, and gives the spool what it can have.
    fn choke(&mut self) {
        self.is_choked = true;
        self.choke_ends_at = self.now.after(CHOKE_PATIENCE);
        for slot in 0..self.connections.len() {
            let Some(id) = self.connections[slot].as_ref().map(|connection| connection.id) else { continue };
            let Some(mut connection) = self.take(id) else { continue };
            // Whoever owes gives its memory up: it would hold it for as long as it waits.
            let is_settling =
                connection.message.as_ref().is_some_and(|message| message.committed_at.is_some());
            if self.accounts.is_waiting(id.slot) && connection.memory() > 0 && !is_settling {
                self.telemetry.gave_place_up();
                self.close(connection);
                continue;
            }
            self.is_deaf[slot] = connection.waits.for_send;
            self.pause(&mut connection);
            if !(connection.waits.for_verdict || connection.waits.is_message_stuck()) {
                self.flush(&mut connection);
            }
            // A field without end stays in memory: whoever sends it now is told to come back.
            if !connection.waits.is_message_stuck()
                && let Some(message) = connection.message.as_mut()
                && message.memory() > CHUNK_SIZE_PRESSED
            {
                message.shed(&mut self.spool);
            }
            self.put_back(connection);
        }
    }

    /// What was in the spool's power has not made room: memory is held by clients, which may hold it for as long as they are
    /// given to speak. Those that have read nothing since, and those that have yet to show that they send mail, give it up.
    fn relieve(&mut self) {
        self.choke_ends_at = self.now.after(CHOKE_PATIENCE);
        for slot in 0..self.connections.len() {
            if self.memory <= self.settings.content_memory / 4 * 3 {
                break;
            }
            let may_end = |connection: &mut Box<Connection>| {
                // It waits for us.
                let is_settling = connection.waits.for_spool
                    || connection.message.as_ref().is_some_and(|message| message.committed_at.is_some());
                let is_suspect = self.is_deaf[slot] || self.accounts.is_unproven(connection.id.slot);
                is_suspect && connection.memory() > 0 && !is_settling
            };
            if let Some(connection) = self.connections[slot].take_if(may_end) {
                self.telemetry.gave_place_up();
                self.close(connection);
            } else if let Some(connection) = &self.connections[slot] {
                self.is_deaf[slot] = connection.waits.for_send;
            }
        }
    }
}

/// How long the spool and the clients have to make room when memory is used up.
const CHOKE_PATIENCE: Duration = Duration::from_secs(2);
