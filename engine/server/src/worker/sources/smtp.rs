//! Mail from clients: input of a connection goes through its session, and its messages go to the intake.

use std::net::SocketAddr;
use std::time::Duration;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::Origin;
use mailrace_core::envelope::Speaker;
use mailrace_core::smtp::{Context, Event, Session, Verdict, reply};
use mailrace_io::{ConnectionId, Instant, ReceiveEnd};
use mailrace_spool::Spool;

use crate::worker::accounts::{Accounts, CONNECTION_COST};
use crate::worker::connection::{Connection, Receiving};
use crate::worker::connections::BACKLOG_SIZE;
use crate::worker::engine::Engine;
use crate::worker::incoming::Incoming;
use crate::worker::intake::{Advance, Sender, Work};
use crate::worker::tag::Source;

/// Bytes of content in memory from which a chunk goes to the spool.
const CHUNK_SIZE: usize = 64 * 1024;
/// The same when half of the memory is in use.
pub(in crate::worker) const CHUNK_SIZE_PRESSED: usize = 4 * 1024;
/// Time for a message at its end before its client is examined again.
const VERDICT_PATIENCE: Duration = Duration::from_secs(10);
/// Time for a client to read the last reply.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

impl<S: Spool> Engine<S> {
    /// Handles a new connection.
    pub(in crate::worker) fn accepted(&mut self, id: ConnectionId, peer: SocketAddr) {
        let mut origin = Origin::new(peer.ip(), peer.port());
        origin.client_name = self.settings.clients.host_names.get(&peer.ip().to_canonical()).cloned();
        let is_charged = self.settings.clients.is_charged(peer.ip());
        if !is_charged {
            origin.speaker = Speaker::Connection;
        }
        let is_trusted = self.settings.clients.mynetworks.contains(peer.ip());
        self.telemetry.connected(&origin);
        let session = Session::new(origin, is_trusted);
        let deadline = self.now.after(self.settings.smtpd_timeout);
        let allowance = self.settings.client_allowance;
        let connections = self.accounts.connect(id.slot, peer.ip(), is_charged, allowance, self.now);
        let has_place = self.connections.placed() < self.settings.max_connections || self.make_room(id.slot);
        let mut connection = Box::new(Connection::new(id, session, deadline));
        self.connections.opened();
        self.timers.stand(id.slot, deadline);
        connection.replies = self.outbox.memory();
        let limit = self.settings.connection_count_limit;
        if !has_place || self.is_draining() {
            self.connections.turn_away(&mut connection);
            // Without a slot it cannot wait, even if it owes.
            self.accounts.charge(id.slot, CONNECTION_COST, allowance, self.now);
            self.accounts.leave(id.slot);
            self.turn_away(&mut connection, &reply::ALL_PORTS_BUSY);
        } else if is_charged && limit > 0 && connections > limit {
            self.telemetry.too_many_connections(connection.session.origin());
            // Delay the 421 if it owes: a client that is refused immediately reconnects immediately. It is not
            // counted meanwhile, so slots that its client gives back are free again.
            self.charge(&mut connection, CONNECTION_COST);
            self.accounts.leave(id.slot);
            self.turn_away(&mut connection, &reply::TOO_MANY_CONNECTIONS);
        } else {
            self.charge(&mut connection, CONNECTION_COST);
            let mut context = self.context(id.slot);
            connection.session.greet(&mut context, &mut connection.replies);
            if self.budget.is_choked {
                self.pause(&mut connection);
            }
        }
        self.put_back(connection);
    }

    /// Handles input of a client.
    pub(in crate::worker) fn received(&mut self, id: ConnectionId, input: &[u8]) {
        let Some(mut connection) = self.connections.take(id) else { return };
        // A client that does not read its replies, or is being refused, gets no further time for talking.
        if !connection.waits.for_send && !connection.waits.for_close {
            connection.deadline = self.now.after(self.settings.smtpd_timeout);
        }
        if self.accounts.has(id.slot) {
            self.charge_receive(&mut connection, input.len());
        }
        if connection.waits.for_close {
            // The session will not read it.
        } else if connection.is_ready() && connection.backlog.is_empty() {
            let rest = self.drive(&mut connection, input);
            self.stash(&mut connection, rest);
        } else {
            self.stash(&mut connection, input);
            self.go_on(&mut connection);
        }
        self.put_back(connection);
    }

    /// Handles the end of receiving.
    pub(in crate::worker) fn receive_ended(&mut self, id: ConnectionId, end: &ReceiveEnd) {
        let Some(mut connection) = self.connections.take(id) else { return };
        connection.waits.receiving = Receiving::No;
        match end {
            ReceiveEnd::Stopped => {}
            ReceiveEnd::OutOfBuffers => {
                self.telemetry.receive_buffers_ran_out();
                connection.waits.is_starved = true;
                self.pause(&mut connection);
            }
            ReceiveEnd::Closed => connection.waits.is_shut = true,
            ReceiveEnd::Failed(_) => {
                connection.waits.is_shut = true;
                self.lose(&mut connection);
            }
        }
        self.put_back(connection);
    }

    /// Handles the end of a send.
    pub(in crate::worker) fn sent(&mut self, id: ConnectionId, memory: Vec<u8>, is_sent: bool) {
        self.outbox.keep_memory(memory);
        let Some(mut connection) = self.connections.take(id) else { return };
        connection.waits.for_send = false;
        if !is_sent {
            self.lose(&mut connection);
        } else if !connection.waits.for_close {
            connection.deadline = self.now.after(self.settings.smtpd_timeout);
        }
        self.go_on(&mut connection);
        self.put_back(connection);
    }

    /// Drops a client that is gone.
    fn lose(&mut self, connection: &mut Connection<S::Draft>) {
        connection.waits.for_close = true;
        connection.waits.until = Instant::default();
        self.accounts.set_waiting(connection.id.slot, false);
        connection.replies.clear();
    }

    /// Retries what lacked room or an answer.
    pub(in crate::worker) fn retry_connection(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.take(id) else { return };
        connection.waits.for_answer = false;
        // That time was not the client's.
        connection.deadline = connection.deadline.max(self.now.after(self.settings.smtpd_timeout));
        if let Some(message) = connection.message.as_mut() {
            message.waiting.end(self.now);
        }
        if connection.is_at_end_of_message() {
            self.commit(&mut connection, &[]);
        } else {
            self.flush(&mut connection);
        }
        self.go_on(&mut connection);
        self.put_back(connection);
    }

    /// Handles the spool's answer about a connection's message.
    pub(in crate::worker) fn message_settled(&mut self, id: ConnectionId, is_durable: bool) {
        let Some(mut connection) = self.connections.take(id) else { return };
        let message = connection.message.as_ref().expect("a connection stays until its message is settled");
        assert!(message.waiting.is_settling(), "only what was committed settles");
        let verdict = if is_durable { Verdict::Queued(message.id) } else { Verdict::QueueWriteFailed };
        if is_durable {
            self.outgoing.arrived(message.id);
        }
        self.give_verdict(&mut connection, verdict);
        self.go_on(&mut connection);
        self.put_back(connection);
    }

    pub(in crate::worker) fn look_at(&mut self, connection: &mut Connection<S::Draft>) {
        if connection.waits.is_delayed() && connection.waits.until <= self.now {
            connection.waits.until = Instant::default();
            self.accounts.set_waiting(connection.id.slot, false);
            // That time was not the client's.
            let patience =
                if connection.waits.for_close { CLOSE_PATIENCE } else { self.settings.smtpd_timeout };
            connection.deadline = connection.deadline.max(self.now.after(patience));
            // In a group of commands with many errors the next delay may begin at once, and the client would see no reply for
            // as long as all delays together.
            self.outbox.send_replies(connection);
            self.go_on(connection);
        }
        if connection.deadline > self.now {
            return;
        }
        let is_ours = connection.waits.for_answer || connection.has_message_under_way();
        if is_ours || connection.waits.is_delayed() {
            // The client waits for the server, not the other way round.
            connection.deadline = self.now.after(VERDICT_PATIENCE);
        } else if connection.waits.for_send || connection.waits.for_close {
            // It does not read its replies, so sending more is useless.
            connection.replies.clear();
            connection.waits.for_send = false;
            connection.waits.for_close = true;
            self.telemetry.timed_out(connection.session.origin());
        } else {
            self.telemetry.timed_out(connection.session.origin());
            let mut context = self.context(connection.id.slot);
            connection.session.time_out(&mut context, &mut connection.replies);
            self.end_soon(connection);
        }
    }

    pub(in crate::worker) fn drain(&mut self, connection: &mut Connection<S::Draft>) {
        if !self.is_draining() || connection.message.is_some() {
            return;
        }
        if !connection.waits.for_close {
            let mut context = self.context(connection.id.slot);
            connection.session.shut_down(&mut context, &mut connection.replies);
            self.end_soon(connection);
        }
        self.end_wait(connection);
    }

    /// Gives the session its waiting input.
    fn go_on(&mut self, connection: &mut Connection<S::Draft>) {
        if !connection.is_ready() {
            return;
        }
        if !connection.backlog.is_empty() {
            while connection.is_ready()
                && let Some(chunk) = connection.backlog.take_first()
            {
                let left = self.drive(connection, chunk.rest()).len();
                let consumed = chunk.rest().len() - left;
                connection.backlog.put_back(chunk, consumed);
                if left > 0 {
                    break;
                }
            }
        } else if connection.session.is_at_chunk_end() {
            self.drive(connection, b"");
        } else if connection.session.takes_commands() {
            self.drain(connection);
        }
    }

    /// Lets the session take input until it has to wait, and returns the rest.
    fn drive<'i>(&mut self, connection: &mut Connection<S::Draft>, input: &'i [u8]) -> &'i [u8] {
        let mut rest = input;
        self.outbox.lend_memory(connection);
        let arena = self.intake.lend_arena();
        let mut pieces: ArenaVec<'_, &[u8]> = ArenaVec::new_in(&arena);
        while connection.is_ready() {
            let mut context = self.context(connection.id.slot);
            let step = connection.session.feed(&mut context, rest, &mut connection.replies);
            rest = rest.get(step.consumed..).unwrap_or_default();
            match step.event {
                Event::NeedInput => break,
                Event::SendReplies => self.outbox.send_replies(connection),
                Event::ContentBegin => self.begin_message(connection),
                Event::Content(piece) => pieces.push(piece),
                Event::ContentEnd => {
                    self.commit_in(connection, &pieces, &arena);
                    pieces.clear();
                }
                Event::ContentAbandon => {
                    pieces.clear();
                    self.abandon(connection);
                }
                Event::Ask(ticket) => {
                    connection.waits.for_answer = true;
                    self.ask(Source::Connection(connection.id), ticket);
                }
                event @ (Event::Delay { .. } | Event::Close) => self.obey(connection, &event),
            }
        }
        if !pieces.is_empty() {
            self.take(connection, &pieces, &arena);
        }
        drop(pieces);
        self.intake.take_arena_back(arena);
        let is_half_used = self.memory() > self.settings.content_memory / 2;
        let chunk_size = if is_half_used { CHUNK_SIZE_PRESSED } else { CHUNK_SIZE };
        if !connection.has_message_under_way()
            && connection.message.as_ref().is_some_and(|message| message.is_chunk_due(chunk_size))
        {
            self.flush(connection);
        }
        // A message that was dropped has ended nothing else.
        if self.is_draining() && connection.is_ready() && connection.session.takes_commands() {
            self.drain(connection);
        }
        if connection.waits.for_close { b"" } else { rest }
    }

    /// Returns the parameters of a call of the session in this slot.
    fn context(&mut self, slot: u32) -> Context<'_> {
        Context {
            settings: &self.settings.smtp,
            wall: self.wall,
            is_storage_low: self.budget.is_storage_low || self.accounts.exceeds_memory(slot),
            observer: &mut self.telemetry,
        }
    }

    fn begin_message(&mut self, connection: &mut Connection<S::Draft>) {
        let is_local = self.settings.clients.is_local_context(connection.session.origin().client_address);
        connection.message = Some(Box::new(self.intake.begin(self.wall, is_local)));
    }

    /// Takes content of an unfinished message.
    fn take(&mut self, connection: &mut Connection<S::Draft>, pieces: &[&[u8]], arena: &Bump) {
        let Some((sender, message)) = sender(&self.accounts, connection) else { return };
        let mut work = Work {
            settings: &self.settings.cleanup,
            telemetry: &mut self.telemetry,
            now: self.now,
            is_pressed: self.budget.is_pressed,
        };
        let advance = self.intake.take(&sender, message, pieces, arena, &mut work);
        self.advanced(connection.id, advance);
    }

    /// Gives the spool the kept content of the message.
    pub(in crate::worker) fn flush(&mut self, connection: &mut Connection<S::Draft>) {
        let Some((sender, message)) = sender(&self.accounts, connection) else { return };
        let mut work = Work {
            settings: &self.settings.cleanup,
            telemetry: &mut self.telemetry,
            now: self.now,
            is_pressed: self.budget.is_pressed,
        };
        let advance = self.intake.append(&sender, message, &mut work);
        self.advanced(connection.id, advance);
    }

    /// Handles a step of an unfinished message.
    fn advanced(&mut self, id: ConnectionId, advance: Advance) {
        match advance {
            Advance::Asks(ticket) => self.ask(Source::Connection(id), ticket),
            // A failure is reported at the end of the content.
            Advance::Taken | Advance::Waits | Advance::Discarded | Advance::Failed(_) => {}
        }
    }

    /// Commits the message whose content is complete.
    fn commit(&mut self, connection: &mut Connection<S::Draft>, pieces: &[&[u8]]) {
        let arena = self.intake.lend_arena();
        self.commit_in(connection, pieces, &arena);
        self.intake.take_arena_back(arena);
    }

    fn commit_in(&mut self, connection: &mut Connection<S::Draft>, pieces: &[&[u8]], arena: &Bump) {
        let (sender, message) =
            sender(&self.accounts, connection).expect("the end of content is that of a message");
        let id = message.id;
        let mut work = Work {
            settings: &self.settings.cleanup,
            telemetry: &mut self.telemetry,
            now: self.now,
            is_pressed: self.budget.is_pressed,
        };
        match self.intake.commit(&sender, message, pieces, arena, &mut work) {
            Advance::Taken | Advance::Waits => {}
            Advance::Asks(ticket) => self.ask(Source::Connection(connection.id), ticket),
            Advance::Discarded => self.give_verdict(connection, Verdict::Queued(id)),
            Advance::Failed(verdict) => self.give_verdict(connection, verdict),
        }
    }

    fn give_verdict(&mut self, connection: &mut Connection<S::Draft>, verdict: Verdict) {
        connection.deadline = self.now.after(self.settings.smtpd_timeout);
        if let Some(mut message) = connection.message.take() {
            match verdict {
                Verdict::Queued(_) => self.pay(connection),
                Verdict::Refused { .. } => self.charge(connection, message.cost),
                // A header field without end while memory is short.
                _ if message.was_shed() => self.charge(connection, message.cost),
                // This is not the client's fault.
                _ => {}
            }
            if let (Verdict::Queued(_), Some(envelope)) = (&verdict, connection.session.envelope()) {
                let latency = message.waiting.latency(self.now);
                self.telemetry.queued(connection.session.origin(), envelope, &message, latency);
            }
            self.intake.abandon(&mut message);
        }
        self.outbox.lend_memory(connection);
        let mut context = self.context(connection.id.slot);
        let event = connection.session.verdict(&mut context, verdict, &mut connection.replies);
        self.obey(connection, &event);
        self.drain(connection);
        // It had lent its slot.
        if connection.waits.is_turned_away && !connection.waits.for_close {
            self.turn_away(connection, &reply::PLACE_GIVEN_UP);
            self.end_soon(connection);
        }
    }

    fn obey(&mut self, connection: &mut Connection<S::Draft>, event: &Event<'_>) {
        match event {
            Event::Delay { milliseconds } => {
                let until = self.now.after(Duration::from_millis(u64::from(*milliseconds)));
                let until = until.max(connection.waits.until);
                connection.waits.until = until;
                self.timers.once(connection.id.slot, until);
            }
            Event::Close => {
                self.end_soon(connection);
            }
            _ => {}
        }
    }

    /// Ends the dialogue; the client has a little time to read the last replies.
    fn end_soon(&mut self, connection: &mut Connection<S::Draft>) {
        connection.waits.for_close = true;
        connection.deadline = self.now.after(CLOSE_PATIENCE);
        self.timers.once(connection.id.slot, connection.deadline);
    }

    fn abandon(&mut self, connection: &mut Connection<S::Draft>) {
        if let Some(mut message) = connection.message.take() {
            self.charge(connection, message.cost);
            self.intake.abandon(&mut message);
        }
    }

    /// Keeps input for later, and stops reading when there is too much.
    fn stash(&mut self, connection: &mut Connection<S::Draft>, input: &[u8]) {
        connection.backlog.push(input);
        if connection.backlog.len() > BACKLOG_SIZE {
            self.pause(connection);
        }
    }
}

/// Returns the message of a connection and its sender; [`None`] if it has no message.
fn sender<'c, D>(
    accounts: &Accounts,
    connection: &'c mut Connection<D>,
) -> Option<(Sender<'c>, &'c mut Incoming<D>)> {
    let message = connection.message.as_mut()?;
    let (origin, envelope) = connection.session.origin_and_envelope()?;
    let names = accounts.names(connection.id.slot).expect("a connection with a message has an account");
    Some((Sender { source: Source::Connection(connection.id), names, origin, envelope }, message))
}
