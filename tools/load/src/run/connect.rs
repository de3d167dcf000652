//! Connections: how they are made, lost and closed, and what their clients do next.

use std::io::{ErrorKind, Write as _};

use mailrace_io::{ConnectionId, Endpoint, Io, Operation};

use super::{Load, token};
use crate::client::Stage;
use crate::options::Network;
use crate::retry;

impl<I: Io> Load<I> {
    pub(super) fn connect_some(&mut self) {
        while self.may_connect()
            && let Some(index) = self.unconnected.front().copied()
        {
            // No connection is made that would find all messages taken.
            if self.next_number.saturating_add(self.promised) >= self.end_number || self.is_over() {
                self.unconnected.pop_front();
                self.retire(index);
                continue;
            }
            if let Some(next) = self.retry.next_attempt() {
                if self.now < next {
                    break;
                }
                let random = self.io.random();
                self.retry.attempted(self.now, random);
            }
            self.unconnected.pop_front();
            self.connecting += 1;
            self.promised += 1;
            let client = &mut self.clients[index as usize];
            client.stage = Stage::Connecting;
            client.is_promised = true;
            client.connect_started = self.now;
            let source = self.options.source.as_mut().map(Network::next_address);
            self.io.submit(token(index), Operation::Connect { server: Endpoint::Inet(self.server), source });
        }
    }

    /// Not too many connects at once; and not more connections than that before the server has shown that it takes any.
    const fn may_connect(&self) -> bool {
        let unproven = if self.is_proven { 0 } else { self.unproven };
        self.connecting + unproven < CONNECTING_MAX
    }

    pub(super) fn connected(&mut self, index: u32, result: Result<ConnectionId, std::io::Error>) {
        let stage = self.clients[index as usize].stage;
        if stage != Stage::Connecting {
            // It took too long, and was counted as failed.
            if let Ok(connection) = result {
                self.io.submit(token(index), Operation::Close(connection));
            }
            if stage == Stage::Overdue {
                self.wake(index);
            }
            return;
        }
        self.connecting -= 1;
        match result {
            Ok(connection) => {
                self.statistics.connections += 1;
                self.unproven += 1;
                let client = &mut self.clients[index as usize];
                client.stage = Stage::Open;
                client.connection = Some(connection);
                client.waiting_since = self.now;
                client.messages_left = match self.options.per_connection {
                    0 => u64::MAX,
                    count => count,
                };
                self.io.submit(token(index), Operation::Receive(connection));
            }
            Err(error) => {
                let class = match error.kind() {
                    ErrorKind::ConnectionRefused => "refused",
                    ErrorKind::TimedOut => "timeout",
                    _ => "failed",
                };
                self.not_connected(index, class, &error.to_string());
                self.pause(index);
            }
        }
    }

    /// Connecting takes too long: it counts as failed, and its client comes back when it has ended.
    pub(super) fn overdue(&mut self, index: u32) {
        self.connecting -= 1;
        self.not_connected(index, "timeout", &format!("no answer for {:?}", self.options.timeout));
        self.pause(index);
        let client = &mut self.clients[index as usize];
        if client.stage == Stage::Resting {
            client.stage = Stage::Overdue;
            client.due = None;
        }
    }

    fn not_connected(&mut self, index: u32, class: &'static str, reason: &str) {
        if !std::mem::replace(&mut self.has_told_of_failure, true) {
            let _ = writeln!(std::io::stderr(), "mailrace-load: connecting to {}: {reason}", self.server);
        }
        self.last_failure = format!("connect: {reason}");
        self.statistics.connections_failed += 1;
        self.statistics.error("connect", class);
        self.redeem(index);
    }

    /// The connection ended: the server closed it, or it failed.
    pub(super) fn broken(&mut self, index: u32, error: Option<&std::io::Error>) {
        let phase = self.clients[index as usize].phase();
        self.last_failure = match error {
            None => format!("{phase}: the server closed the connection"),
            Some(error) => format!("{phase}: {error}"),
        };
        self.statistics.error(phase, if error.is_some() { "reset" } else { "closed" });
        self.lost(index);
    }

    /// Ends a connection before its time; why is counted.
    pub(super) fn lost(&mut self, index: u32) {
        self.statistics.connections_lost += 1;
        self.fail_all(index);
        let is_failure = !self.clients[index as usize].is_of_use;
        self.close(index);
        if self.options.idle.is_some() {
            self.retire(index);
        } else if is_failure {
            self.pause(index);
        } else {
            self.queue(index);
        }
    }

    /// Ends a connection after QUIT.
    pub(super) fn left(&mut self, index: u32) {
        self.of_use(index);
        self.close(index);
        self.queue(index);
    }

    fn close(&mut self, index: u32) {
        self.redeem(index);
        let client = &mut self.clients[index as usize];
        if let Some(connection) = client.connection {
            self.io.submit(token(index), Operation::Close(connection));
        }
        self.unproven -= usize::from(!client.is_proven);
        client.reset();
    }

    /// The messages that are being spoken of were not accepted.
    pub(super) fn fail_all(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        self.statistics.unknown +=
            u64::from(client.current.is_some() && client.session.is_content_unanswered());
        let upcoming = client.upcoming.take();
        self.failed(index);
        self.clients[index as usize].current = upcoming;
        self.failed(index);
    }

    /// The connection is or was of use.
    pub(super) fn of_use(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        client.is_of_use = true;
        if std::mem::take(&mut client.failures) > 0 {
            self.failing -= 1;
        }
        self.retry.succeeded();
    }

    /// After a connection that was of no use: its client pauses, unless it is time to give up.
    fn pause(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if client.failures == 0 {
            self.failing += 1;
        }
        client.failures = client.failures.saturating_add(1);
        let (began, failures) = (client.connect_started, client.failures);
        let random = self.io.random();
        let gives_up = self.retry.failed(began, self.now, random);
        // Connections that are held are not given up for one that cannot be made.
        self.has_given_up |= gives_up && self.idle == 0;
        if gives_up || !self.has_more() {
            return self.retire(index);
        }
        self.clients[index as usize].stage = Stage::Resting;
        self.resting += 1;
        self.call_back(index, retry::pause(failures, self.failing, random));
    }

    /// Its pause is over, or its connecting has ended at last.
    pub(super) fn wake(&mut self, index: u32) {
        self.resting -= 1;
        self.queue(index);
    }

    fn queue(&mut self, index: u32) {
        if self.has_more() {
            self.clients[index as usize].stage = Stage::Queued;
            self.unconnected.push_back(index);
        } else {
            self.retire(index);
        }
    }

    fn retire(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        client.stage = Stage::Done;
        if std::mem::take(&mut client.failures) > 0 {
            self.failing -= 1;
        }
        self.busy -= 1;
    }

    /// The message that a connection was made for is begun, or never will be.
    pub(super) fn redeem(&mut self, index: u32) {
        if std::mem::take(&mut self.clients[index as usize].is_promised) {
            self.promised -= 1;
        }
    }
}

/// Connects under way at once: a listener's queue is not endless, and an overflow costs a second.
const CONNECTING_MAX: usize = 256;
