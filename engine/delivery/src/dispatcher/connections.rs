//! What happens on the connections to servers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mailrace_core::Timestamp;
use mailrace_io::{ConnectionId, Instant, Io, Operation, Piece, ReceiveEnd, Token};
use mailrace_spool::{Part, ReadEvent, Reads};

use super::handover::{Handover, Step};
use super::link::Link;
use super::{Attempt, Dispatcher, Observer, Queue};
use crate::agent::smtp::{Loss, SmtpDelivery, SmtpSettings};
use crate::hosts::Servers;
use crate::outcome::{Health, Outcome};
use crate::route::{Route, Server};

/// The connections, by the number that is the token of what happens on them and the tag of the read of their content.
#[derive(Debug)]
pub(super) struct Links<S> {
    pub(super) table: HashMap<u64, Link<S>>,
    pub(super) deadlines: BTreeSet<(Instant, u64)>,
    /// Jobs that wait for the servers of a name.
    pub(super) resolving: HashMap<u64, Handover<S>>,
    /// Connections that wait for another job, and the order in which they began to.
    kept: HashMap<Route, Vec<u64>>,
    kept_since: BTreeSet<(Instant, u64)>,
    /// The next number: of a connection, a name that is looked up, or another read.
    next: u64,
}

impl<S> Links<S> {
    pub(super) fn new() -> Self {
        Self {
            table: HashMap::new(),
            deadlines: BTreeSet::new(),
            resolving: HashMap::new(),
            kept: HashMap::new(),
            kept_since: BTreeSet::new(),
            next: 0,
        }
    }

    pub(super) const fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether no job is being done.
    pub(super) fn is_idle(&self) -> bool {
        self.resolving.is_empty() && self.table.len() == self.kept_since.len()
    }

    /// Takes a connection to a destination that waits for another job.
    fn take_kept(&mut self, route: &Route) -> Option<u64> {
        let serial = *self.kept.get(route)?.last()?;
        self.keep_no_longer(serial);
        Some(serial)
    }

    fn keep(&mut self, serial: u64, now: Instant) {
        if let Some(link) = self.table.get_mut(&serial)
            && link.kept_since.is_none()
        {
            link.kept_since = Some(now);
            self.kept.entry(link.route.clone()).or_default().push(serial);
            self.kept_since.insert((now, serial));
        }
    }

    fn keep_no_longer(&mut self, serial: u64) {
        let Some(link) = self.table.get_mut(&serial) else { return };
        let Some(since) = link.kept_since.take() else { return };
        self.kept_since.remove(&(since, serial));
        if let Some(serials) = self.kept.get_mut(&link.route) {
            serials.retain(|kept| *kept != serial);
            if serials.is_empty() {
                self.kept.remove(&link.route);
            }
        }
    }

    /// The connection that has waited for the longest, if there are more than `limit`.
    fn one_too_many(&self, limit: usize) -> Option<u64> {
        let (_, serial) = self.kept_since.first().filter(|_| self.kept_since.len() > limit)?;
        Some(*serial)
    }
}

impl<I: Io, R: Reads<I>, Q: Queue, O: Observer> Dispatcher<I, R, Q, O>
where
    R::Source: Clone,
{
    pub(super) fn client(&self, route: &Route) -> Arc<SmtpSettings> {
        let found = self.settings.transports.get(usize::from(route.transport));
        Arc::clone(found.expect("a route's transport is one of the settings"))
    }

    /// Begins a job: on a connection that was kept, or with the first server.
    pub(super) fn begin_handover(&mut self, handover: Handover<R::Source>) {
        match self.links.take_kept(&handover.job.route) {
            Some(serial) => {
                self.hand_over(serial, handover);
                self.go_on(serial);
            }
            None => self.next_server(handover),
        }
    }

    /// Begins a transaction on a connection that is idle.
    fn hand_over(&mut self, serial: u64, mut handover: Handover<R::Source>) {
        let wall = self.wall();
        let Some(link) = self.links.table.get_mut(&serial) else { return self.next_server(handover) };
        handover.times.ready = wall;
        handover.session_began();
        link.delivery.begin(handover.handed());
        link.read = Some(self.reader.begin(handover.source.0.clone(), serial));
        link.is_read_resting = false;
        link.handover = Some(handover);
    }

    /// Continues a job: with the next server, the servers of the next name, or not at all.
    pub(super) fn next_server(&mut self, mut handover: Handover<R::Source>) {
        let client = self.client(&handover.job.route);
        let step = handover.next(&client);
        self.take_step(handover, step, client);
    }

    fn take_step(&mut self, handover: Handover<R::Source>, step: Step, client: Arc<SmtpSettings>) {
        match step {
            Step::Connect(server) => self.connect(handover, server, client),
            Step::Resolve(name) => {
                let serial = self.links.next_number();
                self.links.resolving.insert(serial, handover);
                (self.paths.resolver)(serial, name);
            }
            Step::End => self.end_handover(handover, None, 0),
        }
    }

    /// The servers of a name are known, or there are none.
    pub(super) fn resolved(&mut self, serial: u64, servers: Servers) {
        let Some(mut handover) = self.links.resolving.remove(&serial) else { return };
        handover.resolved(servers);
        self.next_server(handover);
    }

    fn connect(&mut self, handover: Handover<R::Source>, server: Server, client: Arc<SmtpSettings>) {
        let serial = self.links.next_number();
        let (route, source) = (handover.job.route.clone(), handover.source.0.clone());
        let endpoint = server.endpoint.clone();
        let deadline = self.io.now().after(client.timeouts.connect);
        let delivery = SmtpDelivery::new(server, handover.handed(), client);
        let mut link = Link::new(route, delivery, handover, deadline);
        link.read = Some(self.reader.begin(source, serial));
        self.io.submit(Token(serial), Operation::Connect { server: endpoint, source: None });
        self.links.deadlines.insert((deadline, serial));
        self.links.table.insert(serial, link);
    }

    pub(super) fn connected(&mut self, serial: u64, result: std::io::Result<ConnectionId>) {
        let Some(link) = self.links.table.get_mut(&serial) else {
            // It was given up.
            if let Ok(connection) = result {
                self.io.submit(Token(serial), Operation::Close(connection));
            }
            return;
        };
        match result {
            Ok(connection) => {
                link.connection = Some(connection);
                self.io.submit(Token(serial), Operation::Receive(connection));
            }
            Err(error) => link.delivery.not_connected(&cause(&error)),
        }
        self.go_on(serial);
    }

    pub(super) fn received(&mut self, serial: u64, piece: Piece) {
        if let Some(link) = self.links.table.get_mut(&serial) {
            link.delivery.received(self.io.received(&piece));
        }
        self.io.recycle(piece);
        self.go_on(serial);
    }

    pub(super) fn receive_ended(&mut self, serial: u64, connection: ConnectionId, end: &ReceiveEnd) {
        match end {
            ReceiveEnd::OutOfBuffers if self.links.table.contains_key(&serial) => {
                self.io.submit(Token(serial), Operation::Receive(connection));
            }
            ReceiveEnd::OutOfBuffers | ReceiveEnd::Stopped => {}
            ReceiveEnd::Closed | ReceiveEnd::Failed(_) => self.lost(serial, Loss::Closed),
        }
    }

    pub(super) fn sent(&mut self, serial: u64, mut memory: Vec<u8>, is_whole: bool) {
        let Some(link) = self.links.table.get_mut(&serial) else { return };
        link.is_sending = false;
        if !is_whole {
            return self.lost(serial, Loss::Closed);
        }
        memory.clear();
        if link.delivery.output().is_empty() {
            *link.delivery.output() = memory;
        }
        self.go_on(serial);
    }

    /// A connection is of no use any more. What is being sent is lost with it.
    fn lost(&mut self, serial: u64, loss: Loss) {
        let Some(link) = self.links.table.get_mut(&serial) else { return };
        link.is_sending = false;
        link.delivery.output().clear();
        let is_stale = link.delivery.transactions() > 1 && !link.delivery.has_answered();
        if is_stale && let Some(mut handover) = link.handover.take() {
            // The server had closed the connection, or was about to: nothing was handed over.
            handover.again(link.delivery.server().clone());
            link.delivery.quit();
            self.close(serial);
            return self.next_server(handover);
        }
        link.delivery.lost(loss);
        self.go_on(serial);
    }

    pub(super) fn look_at_deadlines(&mut self) {
        let now = self.io.now();
        while let Some((deadline, serial)) = self.links.deadlines.first().copied()
            && deadline <= now
        {
            self.links.deadlines.pop_first();
            let Some(link) = self.links.table.get_mut(&serial).filter(|link| link.deadline == deadline)
            else {
                continue;
            };
            if link.kept_since.is_some() {
                self.links.keep_no_longer(serial);
                self.quit(serial);
            } else if link.connection.is_some() {
                self.lost(serial, Loss::TimedOut);
            } else {
                link.delivery.not_connected("Connection timed out");
                self.go_on(serial);
            }
        }
    }

    /// Does what follows from what has happened on a connection.
    pub(super) fn go_on(&mut self, serial: u64) {
        self.report(serial);
        while self.use_idle(serial) {
            self.report(serial);
        }
        self.exchange(serial);
    }

    /// Sends what is to be sent, asks for content, and ends what is over.
    fn exchange(&mut self, serial: u64) {
        let now = self.io.now();
        let Some(link) = self.links.table.get_mut(&serial) else { return };
        if let Some(connection) = link.connection
            && !link.is_sending
            && !link.delivery.output().is_empty()
        {
            let memory = std::mem::take(link.delivery.output());
            self.io.submit(Token(serial), Operation::Send(connection, memory));
            link.is_sending = true;
        }
        if link.delivery.wants_content()
            && !link.is_sending
            && link.is_read_resting
            && let Some(read) = link.read
        {
            link.is_read_resting = false;
            self.reader.ask(read);
        }
        let patience = link.delivery.patience();
        self.links.deadlines.remove(&(link.deadline, serial));
        if link.connection.is_some() {
            link.deadline = now.after(patience);
        }
        self.links.deadlines.insert((link.deadline, serial));
        if link.is_finished() {
            self.close(serial);
        }
    }

    /// Takes what a transaction has come to, if that is certain: the job is over, or continues with the next server.
    fn report(&mut self, serial: u64) {
        let wall = self.wall();
        let Some(link) = self.links.table.get_mut(&serial) else { return };
        let Some(handover) = link.handover.as_mut() else { return };
        if handover.times.ready == Timestamp::default() && link.delivery.is_ready() {
            handover.times.ready = wall;
            handover.session_began();
        }
        let Some(report) = link.delivery.report() else { return };
        let mut handover = link.handover.take().expect("it was just there");
        if let Some(read) = link.read.take() {
            self.reader.forget(read);
        }
        let relay = link.connection.map(|_| link.delivery.server().clone());
        let connection_use = link.delivery.transactions();
        handover.times.ended = wall;
        handover.take(report);
        self.tell(&mut handover, true, relay.as_ref(), connection_use);
        let client = self.client(&handover.job.route);
        let step = handover.next(&client);
        if matches!(step, Step::End) {
            return self.end_handover(handover, relay, connection_use);
        }
        let first = handover.left().next();
        if let Some(outcome) = first.and_then(|place| handover.outcome(place)) {
            self.observer.skipped(wall, handover.job.id, outcome.cause());
        }
        handover.times.ready = Timestamp::default();
        self.take_step(handover, step, client);
    }

    /// A job is over: tells of the recipients that no server has taken or refused for good.
    fn end_handover(
        &mut self,
        mut handover: Handover<R::Source>,
        relay: Option<Server>,
        connection_use: u32,
    ) {
        let wall = self.wall();
        handover.times.ended = wall;
        if handover.times.ready == Timestamp::default() {
            handover.times.ready = wall;
        }
        self.tell(&mut handover, false, relay.as_ref(), connection_use);
        let (job, outcomes, health): (_, Vec<Outcome>, Health) = handover.end();
        let is_soft = self.settings.manager.soft_bounce;
        let outcomes = if is_soft { outcomes.into_iter().map(Outcome::softened).collect() } else { outcomes };
        self.manager.finished(&job, outcomes, health, wall);
        self.tell_events(wall);
    }

    /// Tells of the recipients that were not told of, or only of those whose outcome no other server can change.
    fn tell(
        &mut self,
        handover: &mut Handover<R::Source>,
        is_certain: bool,
        relay: Option<&Server>,
        connection_use: u32,
    ) {
        let (envelope, id, times) = (Arc::clone(&handover.job.envelope), handover.job.id, handover.times);
        for (number, outcome) in handover.untold(is_certain) {
            let Some(recipient) = envelope.recipients.get(number as usize) else { continue };
            let is_soft = self.settings.manager.soft_bounce;
            let outcome = &if is_soft { outcome.softened() } else { outcome };
            let envelope = &envelope;
            self.observer.tried(&Attempt { id, envelope, recipient, relay, connection_use, times, outcome });
        }
    }

    /// Gives an idle connection the next job, keeps it, or ends it. Returns whether it has a job.
    fn use_idle(&mut self, serial: u64) -> bool {
        let Some(link) = self.links.table.get_mut(&serial) else { return false };
        if link.handover.is_some() || link.kept_since.is_some() || !link.delivery.is_idle() {
            return false;
        }
        let route = link.route.clone();
        let is_reusable = !self.client(&route).connection_cache_time.is_zero();
        if self.stop_at.is_none() && is_reusable {
            let wall = self.wall();
            if let Some(job) = self.manager.next_job_for(&route, wall) {
                let handover = self.handover_of(job);
                self.hand_over(serial, handover);
                return true;
            }
            if self.manager.has_waiting(&route) {
                let now = self.io.now();
                self.links.keep(serial, now);
                if let Some(oldest) = self.links.one_too_many(self.kept_max()) {
                    self.links.keep_no_longer(oldest);
                    self.quit(oldest);
                }
                return false;
            }
        }
        if let Some(link) = self.links.table.get_mut(&serial) {
            link.delivery.quit();
        }
        false
    }

    /// Most connections that wait for another job: as many as may have one.
    fn kept_max(&self) -> usize {
        let transports = &self.settings.manager.transports;
        transports.iter().map(|transport| transport.process_limit as usize).fold(0, usize::saturating_add)
    }

    fn quit(&mut self, serial: u64) {
        if let Some(link) = self.links.table.get_mut(&serial) {
            link.delivery.quit();
        }
        self.exchange(serial);
    }

    fn close(&mut self, serial: u64) {
        self.links.keep_no_longer(serial);
        let Some(link) = self.links.table.remove(&serial) else { return };
        self.links.deadlines.remove(&(link.deadline, serial));
        if let Some(connection) = link.connection {
            self.io.submit(Token(serial), Operation::Close(connection));
        }
        if let Some(read) = link.read {
            self.reader.forget(read);
        }
    }
}

/// Takes what the read of a link's content gives.
pub(super) fn take_content<S>(link: &mut Link<S>, event: ReadEvent<'_>) {
    match event {
        ReadEvent::Part(Part::Content { octets, is_last }) if link.delivery.wants_content() => {
            link.delivery.content(octets, is_last);
            link.is_read_resting = !is_last;
        }
        // The envelope is known.
        ReadEvent::Part(_) => link.is_read_resting = true,
        ReadEvent::Whole => link.read = None,
        ReadEvent::Gone => failed(link, "the message has moved"),
        ReadEvent::Damaged(_) => failed(link, "the message is damaged"),
        ReadEvent::Failed(error) => failed(link, &cause(&error)),
    }
}

fn failed<S>(link: &mut Link<S>, cause: &str) {
    link.read = None;
    link.delivery.content_failed(cause);
}

/// The words of a system error, without the number that Rust adds.
fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
