//! Owns what happens between completions and operations: the whole engine of one core, without its kernel.
//!
//! Nothing here waits, locks or calls the kernel. What is to be done is left in `operations`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::envelope::Speaker;
use mailrace_core::lookup::Ticket;
use mailrace_core::smtp::{Context, Event, Session, Verdict};
use mailrace_core::{Origin, QueueId, Sharer, Timestamp};
use mailrace_io::{Block, ConnectionId, Disk, Instant, Operation, ReceiveEnd, Token};
use mailrace_spool::{SegmentSpool, Shared};

use super::accounts::{Accounts, CONNECTION_COST};
use super::connection::{Connection, Receiving, Waits};
use super::control::{MARK_TAG, Markings};
use super::incoming::{Incoming, Progress, Surroundings};
use super::line::Line;
use super::room::PLACES_BUSY;
use super::settings::WorkerSettings;
use super::submission::{Submissions, submission_of};
use super::telemetry::{CheckLog, Telemetry};
use super::timers::Timers;

/// Octets of content that a message may hold in memory before they go to the spool as a chunk.
const CHUNK_SIZE: usize = 64 * 1024;
/// The same when half of the memory is in use.
pub(super) const CHUNK_SIZE_PRESSED: usize = 4 * 1024;
/// Octets of input that may wait in a connection before it is not read from any more.
const BACKLOG_SIZE: usize = 16 * 1024;
/// How long a message at its end may take before its client is looked at again.
const VERDICT_PATIENCE: Duration = Duration::from_secs(10);

/// One core's engine.
pub(crate) struct Engine<D: Disk> {
    pub(super) settings: Arc<WorkerSettings>,
    pub(super) spool: SegmentSpool<D>,
    pub(super) telemetry: Telemetry,
    pub(super) operations: Vec<(Token, Operation)>,
    pub(super) connections: Vec<Option<Box<Connection>>>,
    open: usize,
    /// Of these, connections that got no place and are about to be closed.
    pub(super) turned_away: usize,
    pub(super) accounts: Accounts,
    /// Where to look next for a connection that may make room for another.
    pub(super) hand: usize,
    pub(super) timers: Timers,
    /// Connections that wait for room in the spool for the end of a message.
    pub(super) commits_waiting: Line,
    /// Those that wait for it for a chunk of a message.
    pub(super) chunks_waiting: Line,
    /// The connection whose turn it is at that: if it finds too little room it stays the first.
    has_turn: Option<ConnectionId>,
    /// Connections that wait for the answer of a lookup table.
    pub(super) waiting_for_answer: HashMap<Ticket, Vec<ConnectionId>>,
    /// Connections that are to be read from again.
    pub(super) paused: Line,
    /// Not all of those were looked at in this turn: the next one begins at once.
    pub(super) has_more_paused: bool,
    /// Empty between uses; kept for its memory.
    pub(super) operations_behind: Vec<(Token, Operation)>,
    pub(super) markings: Markings,
    /// Messages of this machine that are under way.
    pub(super) submissions: Submissions,
    send_memory: Vec<Vec<u8>>,
    pub(super) arena: Bump,
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
    pub(super) is_storage_low: bool,
    /// So many clients want something at once that each waits for the others.
    pub(super) is_crowded: bool,
    /// Octets free on the queue's file system for each worker; zero: unknown.
    pub(super) free_octets: u64,
    /// No memory is left for more: nothing is read until there is.
    pub(super) is_choked: bool,
    /// More memory is in use than all may have: those that hold more than their share are held back.
    pub(super) is_pressed: bool,
    /// When clients are to have made room.
    pub(super) choke_ends_at: Instant,
    /// When memory may be taken back from clients again.
    pub(super) relief_at: Instant,
    is_draining: bool,
}

impl<D: Disk> Engine<D> {
    /// `slots`: places of the connection table.
    pub(crate) fn new(
        settings: Arc<WorkerSettings>,
        spool: SegmentSpool<D>,
        telemetry: Telemetry,
        slots: usize,
    ) -> Self {
        let mut engine = Self {
            settings: Arc::clone(&settings),
            spool,
            telemetry,
            operations: Vec::new(),
            connections: std::iter::repeat_with(|| None).take(slots).collect(),
            open: 0,
            turned_away: 0,
            accounts: Accounts::new(slots),
            hand: 0,
            timers: Timers::new(slots),
            commits_waiting: Line::default(),
            chunks_waiting: Line::default(),
            has_turn: None,
            waiting_for_answer: HashMap::new(),
            paused: Line::default(),
            has_more_paused: false,
            operations_behind: Vec::new(),
            markings: Markings::default(),
            submissions: Submissions::default(),
            send_memory: Vec::new(),
            arena: Bump::new(),
            now: Instant::default(),
            wall: Timestamp::default(),
            is_storage_low: false,
            is_crowded: false,
            free_octets: 0,
            is_choked: false,
            is_pressed: false,
            choke_ends_at: Instant::default(),
            relief_at: Instant::default(),
            is_draining: false,
        };
        engine.set_settings(settings);
        engine
    }

    /// Begins a turn of the loop.
    ///
    /// `completions`: how many the turn has to deal with.
    pub(super) fn begin_turn(&mut self, now: Instant, wall: Timestamp, storage: &Shared, completions: usize) {
        self.is_crowded = completions >= CROWD;
        self.now = now;
        self.wall = wall;
        self.is_storage_low = storage.is_storage_low();
        self.free_octets = storage.free_octets() / self.settings.workers.max(1) as u64;
        self.find_shares();
        self.telemetry.begin_turn(wall);
    }

    /// Ends a turn.
    pub(super) fn end_turn(&mut self) {
        let (blocks, stats) = (self.spool.blocks_in_use(), self.spool.stats());
        self.telemetry.end_turn(self.spool.is_idle(), self.open, self.memory(), blocks, stats);
    }

    /// When something has to be done without a completion.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let choke_ends_at = self.is_choked.then_some(self.choke_ends_at);
        let relief_at = self.is_memory_short().then_some(self.relief_at);
        let resume_at = (self.has_more_paused && !self.is_choked).then_some(self.now);
        self.timers.next().into_iter().chain(choke_ends_at).chain(relief_at).chain(resume_at).min()
    }

    /// A client connected.
    pub(super) fn accepted(&mut self, id: ConnectionId, peer: SocketAddr) {
        let mut origin = Origin::new(peer.ip(), peer.port());
        origin.client_name = self.settings.host_names.get(&peer.ip().to_canonical()).cloned();
        let is_charged = self.settings.is_charged(peer.ip());
        if !is_charged {
            origin.speaker = Speaker::Connection;
        }
        let is_trusted = self.settings.mynetworks.contains(peer.ip());
        self.telemetry.connected(&origin);
        let session = Session::new(origin, is_trusted);
        let deadline = self.now.after(self.settings.smtpd_timeout);
        let allowance = self.settings.client_allowance;
        let connections = self.accounts.connect(id.slot, peer.ip(), is_charged, allowance, self.now);
        let has_place =
            self.open - self.turned_away < self.settings.max_connections || self.make_room(id.slot);
        let mut connection = Box::new(Connection::new(id, session, deadline));
        self.open += 1;
        self.timers.stand(id.slot, deadline);
        connection.replies = self.send_memory.pop().unwrap_or_default();
        let limit = self.settings.connection_count_limit;
        if !has_place || self.is_draining {
            connection.waits.is_turned_away = true;
            self.turned_away += 1;
            // There is no slot in which it could wait if it owes.
            self.accounts.charge(id.slot, CONNECTION_COST, allowance, self.now);
            self.accounts.leave(id.slot);
            self.turn_away(&mut connection, b"421 4.3.2 ", b" All server ports are busy");
        } else if is_charged && limit > 0 && connections > limit {
            self.telemetry.too_many_connections(connection.session.origin());
            // If it owes, it is told so when it has waited: a client that is refused at once reconnects at once. It is not
            // counted while it does: places that its client has given back are free again.
            self.charge(&mut connection, CONNECTION_COST);
            self.accounts.leave(id.slot);
            self.turn_away(&mut connection, b"421 4.7.0 ", b" Error: too many connections");
        } else {
            self.charge(&mut connection, CONNECTION_COST);
            let mut context = self.context(id.slot);
            connection.session.greet(&mut context, &mut connection.replies);
            if self.is_choked {
                self.pause(&mut connection);
            }
        }
        self.put_back(connection);
    }

    /// Octets came from a client.
    pub(super) fn received(&mut self, id: ConnectionId, input: &[u8]) {
        let Some(mut connection) = self.take(id) else { return };
        // Who does not read its replies, or is to go, has no more time for talking on.
        if !connection.waits.for_send && !connection.waits.for_close {
            connection.deadline = self.now.after(self.settings.smtpd_timeout);
        }
        if self.accounts.has(id.slot) {
            self.charge_receive(&mut connection, input.len());
        }
        if connection.waits.for_close {
            // Nobody is going to read it.
        } else if connection.waits.is_ready() && connection.backlog.is_empty() {
            let rest = self.drive(&mut connection, input);
            self.stash(&mut connection, rest);
        } else {
            self.stash(&mut connection, input);
            self.go_on(&mut connection);
        }
        self.put_back(connection);
    }

    /// No more octets come from a client for now.
    pub(super) fn receive_ended(&mut self, id: ConnectionId, end: &ReceiveEnd) {
        let Some(mut connection) = self.take(id) else { return };
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

    /// A send is over.
    pub(super) fn sent(&mut self, id: ConnectionId, mut memory: Vec<u8>, is_sent: bool) {
        memory.clear();
        self.keep_send_memory(memory);
        let Some(mut connection) = self.take(id) else { return };
        connection.waits.for_send = false;
        if !is_sent {
            self.lose(&mut connection);
        } else if !connection.waits.for_close {
            connection.deadline = self.now.after(self.settings.smtpd_timeout);
        }
        self.go_on(&mut connection);
        self.put_back(connection);
    }

    /// The client is gone: nothing reaches it, and nothing is waited for on its behalf.
    fn lose(&mut self, connection: &mut Connection) {
        connection.waits.for_close = true;
        connection.waits.until = Instant::default();
        self.accounts.set_waiting(connection.id.slot, false);
        connection.replies.clear();
    }

    /// A write of the spool is over.
    pub(super) fn written(&mut self, token: Token, block: Block, result: std::io::Result<()>) {
        self.telemetry.batch_written(block.len(), &result);
        self.spool.completed(token, block, result);
    }

    /// Gives the spool's answers to their sessions, and whatever waited for room another try.
    pub(super) fn settle(&mut self) {
        while let Some((tag, result)) = self.spool.next_settled() {
            self.settled(tag, result.is_ok());
        }
        // A connection that found less room than it needs stays the first, or those that need less would overtake it for
        // ever.
        while self.spool.has_room()
            && let Some(id) = self.commits_waiting.pop()
        {
            self.retry_in_turn(id);
            if self.commits_waiting.has_first() {
                break;
            }
        }
        while self.has_room_for_chunks()
            && let Some(id) = self.chunks_waiting.pop()
        {
            self.retry_in_turn(id);
            if self.chunks_waiting.has_first() {
                break;
            }
        }
        self.submissions_may_have_room();
    }

    /// A lookup table has answered.
    pub(super) fn answered(&mut self, ticket: Ticket) {
        for id in self.waiting_for_answer.remove(&ticket).unwrap_or_default() {
            let Some(mut connection) = self.take(id) else { continue };
            connection.waits.for_answer = false;
            if let Some(message) = connection.message.as_mut() {
                message.answered(self.now);
            }
            self.retry(connection);
        }
        self.submissions_answered(ticket);
    }

    /// The same for a connection whose turn it is at the spool.
    fn retry_in_turn(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.take(id) else { return };
        connection.waits.for_spool = false;
        self.has_turn = Some(id);
        self.retry(connection);
    }

    /// Does again what could not be done about a message.
    fn retry(&mut self, mut connection: Box<Connection>) {
        // So long it was not the client that was waited for.
        connection.deadline = connection.deadline.max(self.now.after(self.settings.smtpd_timeout));
        if connection.waits.for_verdict {
            self.commit(&mut connection, &[]);
        } else {
            self.flush(&mut connection);
        }
        // What it sent behind that waits like everybody else's.
        self.has_turn = None;
        self.go_on(&mut connection);
        self.put_back(connection);
    }

    fn settled(&mut self, tag: u64, is_durable: bool) {
        if let Some(number) = submission_of(tag) {
            return self.submission_settled(number, is_durable);
        }
        if tag & MARK_TAG != 0 {
            self.markings.settled(tag, is_durable);
            return;
        }
        let Some(mut connection) = self.take(connection_of(tag)) else { return };
        let message = connection.message.as_ref().expect("a connection stays until its message is settled");
        assert!(message.committed_at.is_some(), "only what was committed settles");
        let id = message.id;
        self.give_verdict(
            &mut connection,
            if is_durable { Verdict::Queued(id) } else { Verdict::QueueWriteFailed },
        );
        self.go_on(&mut connection);
        self.put_back(connection);
    }

    /// Looks at connections whose time has come, and arms those that are to be read from again.
    pub(super) fn tick(&mut self) {
        while let Some(slot) = self.timers.due(self.now) {
            let Some(id) = self.connections[slot as usize].as_ref().map(|connection| connection.id) else {
                continue;
            };
            let Some(mut connection) = self.take(id) else { continue };
            self.look_at(&mut connection);
            let waits = &connection.waits;
            if waits.is_delayed() {
                self.timers.once(slot, waits.until);
            } else if waits.for_close {
                self.timers.once(slot, connection.deadline);
            }
            self.timers.stand(slot, connection.deadline.max(self.now.after(Duration::from_millis(1))));
            self.put_back(connection);
        }
        self.ration();
    }

    fn look_at(&mut self, connection: &mut Connection) {
        if connection.waits.is_delayed() && connection.waits.until <= self.now {
            connection.waits.until = Instant::default();
            self.accounts.set_waiting(connection.id.slot, false);
            // So long it was not the client that was waited for.
            let patience =
                if connection.waits.for_close { CLOSE_PATIENCE } else { self.settings.smtpd_timeout };
            connection.deadline = connection.deadline.max(self.now.after(patience));
            self.go_on(connection);
        }
        if connection.deadline > self.now {
            return;
        }
        let waits = &connection.waits;
        if waits.for_verdict || waits.is_message_stuck() || waits.is_delayed() {
            // The client waits for us, not we for it.
            connection.deadline = self.now.after(VERDICT_PATIENCE);
        } else if connection.waits.for_send || connection.waits.for_close {
            // It does not read what it was sent: no use in sending more.
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

    /// Bytes of content, envelopes and input in memory.
    pub(super) fn memory(&self) -> usize {
        usize::try_from(self.accounts.memory()).unwrap_or(usize::MAX)
    }

    /// Goes on with other settings.
    pub(super) fn set_settings(&mut self, settings: Arc<WorkerSettings>) {
        self.telemetry.log_connections = settings.log_connections;
        self.settings = settings;
    }

    /// Whether it is being drained.
    pub(super) const fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Stops taking connections and ends the sessions that are between messages.
    pub(super) fn begin_drain(&mut self) {
        self.is_draining = true;
        self.put_submissions_off();
        self.operations.push((Token::default(), Operation::StopAccepting));
        for slot in 0..self.connections.len() {
            let Some(id) = self.connections[slot].as_ref().map(|connection| connection.id) else { continue };
            let Some(mut connection) = self.take(id) else { continue };
            self.drain(&mut connection);
            self.put_back(connection);
        }
    }

    /// Ends all sessions, whatever they are at.
    pub(super) fn end_all(&mut self) {
        for slot in 0..self.connections.len() {
            if let Some(mut connection) = self.connections[slot].take() {
                let is_turned_away = connection.waits.is_turned_away;
                connection.waits = Waits { for_close: true, is_turned_away, ..Waits::default() };
                connection.replies.clear();
                self.put_back(connection);
            }
        }
    }

    fn drain(&mut self, connection: &mut Connection) {
        if !self.is_draining || connection.message.is_some() {
            return;
        }
        if !connection.waits.for_close {
            let mut context = self.context(connection.id.slot);
            connection.session.shut_down(&mut context, &mut connection.replies);
            self.end_soon(connection);
        }
        self.end_wait(connection);
    }

    /// Gives the session what waited for it.
    fn go_on(&mut self, connection: &mut Connection) {
        if !connection.waits.is_ready() {
            return;
        }
        if !connection.backlog.is_empty() {
            while connection.waits.is_ready()
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

    /// Lets the session take input until it waits for something, and returns the rest.
    fn drive<'i>(&mut self, connection: &mut Connection, input: &'i [u8]) -> &'i [u8] {
        let mut rest = input;
        let arena = std::mem::take(&mut self.arena);
        let mut pieces: ArenaVec<'_, &[u8]> = ArenaVec::new_in(&arena);
        while connection.waits.is_ready() {
            let mut context = self.context(connection.id.slot);
            let step = connection.session.feed(&mut context, rest, &mut connection.replies);
            rest = rest.get(step.consumed..).unwrap_or_default();
            match step.event {
                Event::NeedInput => break,
                Event::SendReplies => self.send(connection),
                Event::ContentBegin => self.begin_message(connection),
                Event::Content(piece) => pieces.push(piece),
                Event::ContentEnd => {
                    connection.waits.for_verdict = true;
                    self.commit_in_turn(connection, &pieces, &arena);
                    pieces.clear();
                }
                Event::ContentAbandon => {
                    pieces.clear();
                    self.abandon(connection);
                }
                Event::Ask(ticket) => self.ask(connection, ticket),
                event @ (Event::Delay { .. } | Event::Close) => self.obey(connection, &event),
            }
        }
        if !pieces.is_empty()
            && let Some(message) = connection.message.as_mut()
        {
            message.keep(&self.settings.cleanup, &arena, &pieces);
        }
        drop(pieces);
        self.put_arena_back(arena);
        let is_half_used = self.memory() > self.settings.content_memory / 2;
        let chunk_size = if is_half_used { CHUNK_SIZE_PRESSED } else { CHUNK_SIZE };
        let is_taken = connection.waits.for_verdict || connection.waits.is_message_stuck();
        if !is_taken && connection.message.as_ref().is_some_and(|message| message.is_chunk_due(chunk_size)) {
            self.flush(connection);
        }
        // A message that was given up on has ended nothing else.
        if self.is_draining && connection.waits.is_ready() && connection.session.takes_commands() {
            self.drain(connection);
        }
        if connection.waits.for_close { b"" } else { rest }
    }

    /// What a call of the session in this slot needs.
    fn context(&mut self, slot: u32) -> Context<'_> {
        Context {
            settings: &self.settings.smtp,
            wall: self.wall,
            is_storage_low: self.is_storage_low || self.accounts.exceeds_memory(slot),
            observer: &mut self.telemetry,
        }
    }

    fn begin_message(&mut self, connection: &mut Connection) {
        let id = self.spool.next_id(self.wall);
        let draft = self.spool.begin(id);
        let is_local = self.settings.is_local_context(connection.session.origin().client_address);
        connection.message = Some(Box::new(Incoming::new(id, draft, is_local)));
    }

    /// Whether the spool is to take another chunk. While memory is short, whatever makes room comes first.
    fn has_room_for_chunks(&self) -> bool {
        if self.is_pressed { self.spool.has_room() } else { self.spool.has_room_for_chunks() }
    }

    /// Gives what the message keeps to the spool, when it is its turn.
    pub(super) fn flush(&mut self, connection: &mut Connection) {
        let Some(message) = connection.message.as_mut() else { return };
        let Some((origin, envelope)) = connection.session.origin_and_envelope() else { return };
        let is_in_turn = self.has_turn == Some(connection.id) || self.chunks_waiting.is_empty();
        if !is_in_turn || !self.has_room_for_chunks() {
            return self.wait_for_spool(connection);
        }
        let arena = std::mem::take(&mut self.arena);
        let progress = self.clean(message.id, origin.sharer(), &arena, |surroundings| {
            message.flush(surroundings, origin, envelope)
        });
        self.put_arena_back(arena);
        match progress {
            Progress::Wait => self.wait_for_spool(connection),
            Progress::Ask(ticket) => self.ask_for_message(connection, ticket),
            // A failure is told at the end of the content.
            Progress::Done | Progress::Discarded | Progress::Failed(_) => {}
        }
    }

    /// Commits the message whose content is whole.
    fn commit(&mut self, connection: &mut Connection, pieces: &[&[u8]]) {
        let arena = std::mem::take(&mut self.arena);
        self.commit_in(connection, pieces, &arena);
        self.put_arena_back(arena);
    }

    /// The same of content that has just come: those whose message waits for the spool come first.
    fn commit_in_turn<'a>(&mut self, connection: &mut Connection, pieces: &[&'a [u8]], arena: &'a Bump) {
        match connection.message.as_mut() {
            Some(message) if !self.commits_waiting.is_empty() => {
                message.keep(&self.settings.cleanup, arena, pieces);
                self.wait_for_spool(connection);
            }
            _ => self.commit_in(connection, pieces, arena),
        }
    }

    fn commit_in<'a>(&mut self, connection: &mut Connection, pieces: &[&'a [u8]], arena: &'a Bump) {
        let tag = tag_of(connection.id);
        let (Some(message), Some((origin, envelope))) =
            (connection.message.as_mut(), connection.session.origin_and_envelope())
        else {
            return;
        };
        let progress = self.clean(message.id, origin.sharer(), arena, |surroundings| {
            message.commit(surroundings, origin, envelope, pieces, tag)
        });
        match progress {
            Progress::Done => message.committed_at = Some(self.now),
            Progress::Wait => self.wait_for_spool(connection),
            Progress::Discarded => {
                let id = message.id;
                self.give_verdict(connection, Verdict::Queued(id));
            }
            Progress::Ask(ticket) => self.ask_for_message(connection, ticket),
            Progress::Failed(verdict) => self.give_verdict(connection, verdict),
        }
    }

    /// Lets `work` clean the message called `id`, which counts for `sharer`.
    pub(super) fn clean(
        &mut self,
        id: QueueId,
        sharer: Sharer,
        arena: &Bump,
        work: impl FnOnce(&mut Surroundings<'_, D>) -> Progress,
    ) -> Progress {
        work(&mut Surroundings {
            arena,
            settings: &self.settings.cleanup,
            spool: &mut self.spool,
            observer: &mut CheckLog { telemetry: &mut self.telemetry, id, sharer },
        })
    }

    /// Keeps the arena for the next message, unless this one needed uncommonly much of it.
    pub(super) fn put_arena_back(&mut self, mut arena: Bump) {
        if arena.allocated_bytes() <= ARENA_SIZE_KEPT {
            arena.reset();
            self.arena = arena;
        }
    }

    fn wait_for_spool(&mut self, connection: &mut Connection) {
        // Twice in the line it would be committed twice.
        assert!(!connection.waits.for_spool, "a connection waits for the spool once");
        connection.waits.for_spool = true;
        let id = connection.id;
        let line =
            if connection.waits.for_verdict { &mut self.commits_waiting } else { &mut self.chunks_waiting };
        if self.has_turn == Some(id) {
            line.push_first(id);
        } else if let Some(names) = self.accounts.names(id.slot) {
            line.push(names, id);
        }
    }

    /// The passes ask for the message; if they have waited too long for answers already, it is given up.
    fn ask_for_message(&mut self, connection: &mut Connection, ticket: Ticket) {
        let Some(message) = connection.message.as_mut() else { return };
        if message.may_ask(self.now) {
            return self.ask(connection, ticket);
        }
        message.give_up_asking(&mut self.spool);
        if connection.waits.for_verdict {
            self.give_verdict(connection, Verdict::QueueWriteFailed);
        }
    }

    /// Nothing is done on the connection until the table has answered.
    fn ask(&mut self, connection: &mut Connection, ticket: Ticket) {
        assert!(!connection.waits.for_answer, "a connection waits for one answer");
        connection.waits.for_answer = true;
        let waiting = self.waiting_for_answer.entry(ticket).or_default();
        if waiting.len() == waiting.capacity() {
            // Clients that come, ask and go must not make it grow for as long as the table is silent.
            let connections = &self.connections;
            waiting.retain(|id| {
                let place = connections.get(id.slot as usize).and_then(Option::as_ref);
                place.is_some_and(|connection| connection.id == *id)
            });
        }
        waiting.push(connection.id);
    }

    fn give_verdict(&mut self, connection: &mut Connection, verdict: Verdict) {
        connection.waits.for_verdict = false;
        connection.deadline = self.now.after(self.settings.smtpd_timeout);
        if let Some(mut message) = connection.message.take() {
            match verdict {
                Verdict::Queued(_) => self.pay(connection),
                Verdict::Refused { .. } => self.charge(connection, message.cost),
                // A header field that has no end while memory is short.
                _ if message.was_shed() => self.charge(connection, message.cost),
                // Not the client's fault.
                _ => {}
            }
            if let (Verdict::Queued(_), Some(envelope)) = (&verdict, connection.session.envelope()) {
                let latency = message.committed_at.map(|start| self.now.since(start)).unwrap_or_default();
                self.telemetry.queued(connection.session.origin(), envelope, &message, latency);
            }
            message.abandon(&mut self.spool);
        }
        let mut context = self.context(connection.id.slot);
        let event = connection.session.verdict(&mut context, verdict, &mut connection.replies);
        self.obey(connection, &event);
        self.drain(connection);
        // It lent its place.
        if connection.waits.is_turned_away && !connection.waits.for_close {
            self.turn_away(connection, PLACES_BUSY.0, PLACES_BUSY.1);
            self.end_soon(connection);
        }
    }

    fn obey(&mut self, connection: &mut Connection, event: &Event<'_>) {
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

    /// The dialogue is over: the client has a little time to read what it is yet to be told.
    fn end_soon(&mut self, connection: &mut Connection) {
        connection.waits.for_close = true;
        connection.deadline = self.now.after(CLOSE_PATIENCE);
        self.timers.once(connection.id.slot, connection.deadline);
    }

    fn abandon(&mut self, connection: &mut Connection) {
        if let Some(mut message) = connection.message.take() {
            self.charge(connection, message.cost);
            message.abandon(&mut self.spool);
        }
    }

    /// Keeps input for later, and stops reading when there is too much of it.
    fn stash(&mut self, connection: &mut Connection, input: &[u8]) {
        connection.backlog.push(input);
        if connection.backlog.len() > BACKLOG_SIZE {
            self.pause(connection);
        }
    }

    /// Stops reading from a client until [`Engine::tick`] finds that it may go on.
    pub(super) fn pause(&mut self, connection: &mut Connection) {
        if !connection.waits.is_paused
            && let Some(names) = self.accounts.names(connection.id.slot)
        {
            connection.waits.is_paused = true;
            self.paused.push(names, connection.id);
            if connection.waits.receiving != Receiving::No && !self.accounts.is_waiting(connection.id.slot) {
                self.operations.push((Token::default(), Operation::StopReceiving(connection.id)));
            }
        }
    }

    fn keep_send_memory(&mut self, memory: Vec<u8>) {
        if self.send_memory.len() < SEND_MEMORY_KEPT && memory.capacity() <= SEND_MEMORY_SIZE_MAX {
            self.send_memory.push(memory);
        }
    }

    /// Sends what was written, if nothing is being sent.
    fn send(&mut self, connection: &mut Connection) {
        if !connection.waits.for_send && !connection.replies.is_empty() {
            let memory = self.send_memory.pop().unwrap_or_default();
            let replies = std::mem::replace(&mut connection.replies, memory);
            connection.waits.for_send = true;
            self.operations.push((Token::default(), Operation::Send(connection.id, replies)));
        }
    }

    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let place = self.connections.get_mut(id.slot as usize)?;
        if place.as_ref()?.id != id {
            return None;
        }
        place.take()
    }

    /// Ends the handling of a connection: sends, closes or arms as it now needs.
    pub(super) fn put_back(&mut self, mut connection: Box<Connection>) {
        let id = connection.id;
        let waits = &connection.waits;
        // Replies before a verdict or during a delay leave with those that follow, or before the end; a client that owes
        // waits for those, too.
        let is_last = waits.for_close && !self.accounts.is_waiting(id.slot);
        if is_last || !(waits.for_verdict || waits.is_delayed()) {
            self.send(&mut connection);
        }
        let waits = &mut connection.waits;
        if waits.is_shut && waits.is_ready() && connection.backlog.is_empty() {
            waits.for_close = true;
        }
        if waits.for_close && !waits.for_send && !waits.for_verdict && !waits.is_delayed() {
            self.close(connection);
            return;
        }
        let waits = connection.waits;
        let (memory, content) = (connection.memory() as u64, connection.content_in_spool());
        self.accounts.hold(id.slot, memory, content);
        // One that holds more than its share while memory is short has no input waiting; one that nothing is received from
        // would go before those that wait in line for it. In a crowd, clients that have yet to send mail make a line.
        let is_greedy = !waits.is_ready() && self.accounts.exceeds_memory(id.slot);
        let is_in_line = self.has_more_paused || self.is_crowded && self.accounts.is_unproven(id.slot);
        if is_greedy || is_in_line && waits.receiving == Receiving::No {
            self.pause(&mut connection);
        }
        let waits = &mut connection.waits;
        let is_held = waits.is_paused || waits.for_close || self.accounts.is_waiting(id.slot);
        let may_read = connection.backlog.len() <= BACKLOG_SIZE && !is_held;
        if may_read && waits.receiving == Receiving::No && !waits.is_shut {
            let is_bounded = !self.settings.client_allowance.is_zero() && self.accounts.is_unproven(id.slot);
            // One that found no receive buffer is asked before the others now, and takes some of them only.
            let receives_some = is_bounded || std::mem::take(&mut waits.is_starved) || self.is_pressed;
            let (receiving, receive) = if receives_some {
                (Receiving::Some, Operation::ReceiveSome(id))
            } else {
                (Receiving::All, Operation::Receive(id))
            };
            waits.receiving = receiving;
            self.operations.push((Token::default(), receive));
        }
        if !waits.for_send && connection.replies.is_empty() && connection.replies.capacity() > 0 {
            // An idle connection holds no memory for replies.
            let memory = std::mem::take(&mut connection.replies);
            self.keep_send_memory(memory);
        }
        self.connections[id.slot as usize] = Some(connection);
    }

    pub(super) fn close(&mut self, mut connection: Box<Connection>) {
        if let Some(mut message) = connection.message.take() {
            self.accounts.charge(connection.id.slot, message.cost, self.settings.client_allowance, self.now);
            message.abandon(&mut self.spool);
        }
        self.accounts.disconnect(connection.id.slot);
        self.open -= 1;
        self.turned_away -= usize::from(connection.waits.is_turned_away);
        self.telemetry.disconnected(connection.session.origin());
        self.operations.push((Token::default(), Operation::Close(connection.id)));
    }

    /// Whether all sessions are over and all messages settled.
    pub(super) fn is_finished(&self) -> bool {
        self.open == 0 && self.markings.is_empty() && self.spool.is_idle()
    }
}

/// Completions of one turn that make it a crowded one.
pub(super) const CROWD: usize = 256;
/// How long a client may take to read the last reply.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// Octets of an arena that is kept; more is given back.
const ARENA_SIZE_KEPT: usize = 2 << 20;
/// Send memory that is kept for the next sends.
const SEND_MEMORY_KEPT: usize = 256;
/// Octets of it; more is given back.
const SEND_MEMORY_SIZE_MAX: usize = 4096;

const fn tag_of(id: ConnectionId) -> u64 {
    ((id.generation as u64) << 32) | id.slot as u64
}

#[expect(clippy::cast_possible_truncation, reason = "takes apart what tag_of put together")]
const fn connection_of(tag: u64) -> ConnectionId {
    ConnectionId { slot: tag as u32, generation: (tag >> 32) as u32 }
}
