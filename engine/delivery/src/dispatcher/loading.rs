//! Messages that come to the active queue: they are found, read and routed.

use std::sync::Arc;
use std::time::Duration;

use mailrace_core::record::delivery::Progress;
use mailrace_core::{Envelope, QueueId, Timestamp};
use mailrace_io::Io;
use mailrace_spool::Reads;

use super::messages::{Held, Load, Loading};
use super::{Dispatcher, Observer, Queue};
use crate::bounce::Kind;
use crate::manager::{Loaded, kind_of, mark_reported};
use crate::outcome::Outcome;
use crate::route::{Route, Routed};

/// Most times that a message is looked for again because it had moved.
const MOVES_MAX: u32 = 3;
/// How long a report waits whose message was not read yet.
const REPORT_WAIT: Duration = Duration::from_secs(1);

impl<I: Io, R: Reads<I>, Q: Queue, O: Observer> Dispatcher<I, R, Q, O>
where
    R::Source: Clone,
{
    /// Asks for the messages that are to be read.
    pub(super) fn load(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        let wall = self.wall();
        while let Some(id) = self.manager.next_load(wall) {
            let held = Held { source: None, loading: Some(Loading::default()), active: wall };
            self.messages.held.insert(id, held);
            self.queue.find(self.messages.home(id), id);
        }
    }

    /// A worker said where a message is that is to be read.
    pub(super) fn found(&mut self, id: QueueId, found: Option<(R::Source, u64)>, wall: Timestamp) {
        let Some(held) = self.messages.held.get_mut(&id) else { return };
        let Some(loading) = held.loading.as_mut() else { return };
        let Some((source, size)) = found else {
            self.manager.forget(id);
            return self.let_go(id);
        };
        if loading.moves > MOVES_MAX {
            self.manager.put_off(id, wall);
            return self.let_go(id);
        }
        let number = self.links.next_number();
        loading.read = Some(self.reader.begin(source.clone(), number));
        held.source = Some((source, size));
        self.messages.loads.insert(number, id);
    }

    /// The read of an envelope has given this.
    pub(super) fn loaded(&mut self, id: QueueId, load: Load, tag: u64, wall: Timestamp) {
        let held = self.messages.held.get_mut(&id).expect("a message is held while it is being read");
        let loading = held.loading.as_mut().expect("it is loading while its envelope is being read");
        if let (Load::GoesOn, Some(read)) = (&load, loading.read) {
            self.reader.ask(read);
            return;
        }
        self.messages.loads.remove(&tag);
        match load {
            Load::GoesOn | Load::Failed => {
                self.manager.put_off(id, wall);
                self.let_go(id);
            }
            Load::Moved => {
                loading.moves += 1;
                self.queue.find(self.messages.home(id), id);
            }
            Load::Read(envelope, progress) => {
                if let Some(read) = loading.read.take() {
                    self.reader.forget(read);
                }
                self.was_read(id, envelope, &progress, wall);
            }
        }
    }

    /// A message was read. If it is a report of an earlier run, the message that it is about comes first, because that is not
    /// noted as reported yet; and if there may be a report about it, that is looked for.
    fn was_read(&mut self, id: QueueId, envelope: Arc<Envelope>, progress: &Progress, wall: Timestamp) {
        if envelope.reports.is_some_and(|about| self.manager.may_have_report(about)) {
            self.manager.put_off_for(id, REPORT_WAIT, wall);
            return self.let_go(id);
        }
        let states = progress.states(envelope.numbered().count());
        let states = states.expect("it was checked when it was read").into_iter().cloned().collect();
        let loaded = Loaded {
            id,
            envelope,
            states,
            is_warned: progress.is_warned,
            is_changed: progress.report.is_some(),
        };
        let held = self.messages.held.get_mut(&id).expect("a message is held while it is being read");
        let loading = held.loading.as_mut().expect("it is loading until it was routed");
        loading.loaded = Some(loaded);
        if let Some((action, report)) = progress.report {
            let workers = self.queue.exists(id, report);
            loading.asked = Some((workers, kind_of(action)));
            return;
        }
        self.route(id, wall);
    }

    /// A worker said whether there is a report about a message that was read.
    pub(super) fn report_exists(&mut self, about: QueueId, is_there: bool, wall: Timestamp) {
        let Some(held) = self.messages.held.get_mut(&about) else { return };
        let Some(loading) = held.loading.as_mut() else { return };
        let Some((workers, kind)) = loading.asked.as_mut() else { return };
        *workers -= 1;
        let (is_last, kind) = (*workers == 0, *kind);
        if let Some(loaded) = loading.loaded.as_mut().filter(|_| is_there) {
            mark_reported(&mut loaded.states, kind);
            loaded.is_warned |= kind == Kind::Delay;
        }
        if is_last {
            loading.asked = None;
            self.route(about, wall);
        }
    }

    /// Finds the ways of a message's recipients, and gives it to the manager once all are known.
    fn route(&mut self, id: QueueId, wall: Timestamp) {
        let Some(held) = self.messages.held.get_mut(&id) else { return };
        let Some(loading) = held.loading.as_mut() else { return };
        let Some(loaded) = &loading.loaded else { return };
        let mut ways: Vec<(u32, Result<Route, Outcome>)> = Vec::new();
        let states = loaded.envelope.recipients.iter().zip(&loaded.states);
        for (number, (recipient, state)) in (0..).zip(states) {
            if !state.is_open() {
                continue;
            }
            match (self.paths.router)(&loaded.envelope, recipient) {
                Routed::To(route) => ways.push((number, Ok(route))),
                Routed::Decided(outcome) => ways.push((number, Err(outcome))),
                Routed::Pending(_) => return self.messages.pending_routes.push(id),
            }
        }
        let size = held.source.as_ref().map_or(0, |(_, size)| *size);
        let loaded = loading.loaded.take().expect("it was just there");
        held.loading = None;
        self.observer.active(wall, id, &loaded.envelope, size);
        self.manager.loaded(loaded, ways, wall);
        self.let_go(id);
        self.tell_events(wall);
    }

    /// Routes again what waited for a table.
    pub(super) fn route_pending(&mut self, wall: Timestamp) {
        for id in std::mem::take(&mut self.messages.pending_routes) {
            self.route(id, wall);
        }
    }
}
