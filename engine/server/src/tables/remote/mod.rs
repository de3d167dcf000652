//! Tables on servers: which server is asked, which answers are cached, and which workers learn of an answer.
//!
//! A worker that asks gets a cached answer, or a ticket and the place where the answer will be (`Slot`). The question waits
//! in a bounded queue, which all clients share, for one of a few connections to the server, on the lookups thread. The
//! answer goes to its place, from which all transactions that asked take it, and all holders of tickets are notified.
//! It is cached, too, for other transactions.

mod cache;
mod client;
#[cfg(any(feature = "sqlite", feature = "pgsql", feature = "ldap"))]
mod database;
mod questions;
mod slot;
mod socketmap;
mod stream;
mod tcp;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bumpalo::Bump;
use crossbeam::channel::{self, Receiver};
use mailrace_core::Sharer;
use mailrace_core::lookup::{Asker, LookupError, LookupTable, Ticket};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use cache::Cache;
use client::{Client, client};
use questions::{PLACES_MAX, Question, Questions};

use crate::log::{EventName, Log, name, printable};

use super::{Spec, TableError};

/// Limits of remote tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// How long a server may take to answer one question.
    pub timeout: Duration,
    /// Connections to one server for one table.
    pub connections: usize,
    /// How long an answer is cached.
    pub memory_time: Duration,
    /// Bytes of answers cached per table.
    pub memory: usize,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        let [timeout, memory_time] = [10, 30].map(Duration::from_secs);
        Self { timeout, connections: 6, memory_time, memory: 16 << 20 }
    }
}

/// How long a failure is cached: for this time no message waits for a server that does not answer.
const FAILURE_TIME: Duration = Duration::from_secs(2);
/// Largest answer in bytes.
const ANSWER_SIZE_MAX: usize = 100_000;

/// The thread on which remote tables are asked; it starts with the first of them.
#[derive(Clone, Default)]
pub struct Lookups(Arc<Shared>);

#[derive(Default)]
struct Shared {
    runtime: Mutex<Option<Handle>>,
    tell: OnceLock<Box<dyn Fn(Ticket) + Send + Sync>>,
    log: OnceLock<Log>,
    next_ticket: AtomicU64,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Lookups")
    }
}

impl Lookups {
    /// From now on `tell` is called with the ticket of each question that was answered; it must not wait. Only the
    /// first call counts.
    pub fn tell(&self, tell: impl Fn(Ticket) + Send + Sync + 'static) {
        // A second one would be a mistake of ours, and do no harm.
        let _ = self.0.tell.set(Box::new(tell));
    }

    /// The tickets of questions that were answered, for the workers that wait for them.
    #[must_use]
    pub fn answers(&self) -> Receiver<Ticket> {
        let (sender, receiver) = channel::unbounded();
        self.tell(move |ticket| {
            // The worker that asked may have ended.
            let _ = sender.send(ticket);
        });
        receiver
    }

    /// From now on servers that do not answer are reported in `log`, and not on standard error. Only the first call counts.
    pub(crate) fn log_to(&self, log: Log) {
        let _ = self.0.log.set(log);
    }

    /// Reports something about a table that an operator may want to change.
    pub(super) fn warn(&self, event: EventName, message: &str) {
        match self.0.log.get() {
            Some(log) => drop(log.warning(event, message)),
            None => report_directly(&format!("warning: {message}")),
        }
    }

    fn report(&self, table: &str, reason: Option<&str>) {
        // The server may have written it.
        let reason = reason.map(printable);
        let message = match &reason {
            Some(reason) => format!("{table}: {reason}; mail that needs it gets 451 4.3.0 until it answers"),
            None => format!("{table}: answers again"),
        };
        match (self.0.log.get(), reason) {
            (Some(log), Some(reason)) => {
                log.error(name::TABLE_UNAVAILABLE, message).text("table", table).text("reason", reason);
            }
            (Some(log), None) => drop(log.info(name::TABLE_AVAILABLE, message).text("table", table)),
            // A command for people.
            (None, _) => report_directly(&message),
        }
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.0.next_ticket.fetch_add(1, Ordering::Relaxed))
    }

    fn runtime(&self) -> io::Result<Handle> {
        let mut place = self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*place {
            return Ok(handle.clone());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("lookups".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        *place = Some(handle.clone());
        Ok(handle)
    }

    fn answered(&self, ticket: Ticket) {
        // Questions may come before there is a worker to notify.
        (self.0.tell.wait())(ticket);
    }
}

/// A server's answer: a value, that there is none, or why there is no answer.
type Answer = Result<Option<Vec<u8>>, String>;

/// A table on a server.
pub(super) struct RemoteTable {
    lookups: Lookups,
    memory: Arc<Memory>,
}

/// The state that a table's connections and workers share.
struct Memory {
    lookups: Lookups,
    /// As configured.
    table: String,
    settings: RemoteSettings,
    state: Mutex<State>,
    /// A question waits, or none will any more.
    asked: Notify,
    /// A question made room for another, or none will any more.
    given_up: Notify,
    /// The last question got no answer, and that was said.
    is_failing: AtomicBool,
}

struct State {
    cache: Cache,
    questions: Questions,
    /// Questions can no longer come.
    is_closed: bool,
}

impl fmt::Debug for RemoteTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("RemoteTable").field(&self.memory.table).finish()
    }
}

impl RemoteTable {
    /// The table, its connections not made yet.
    pub(super) fn open(
        spec: &Spec<'_>,
        text: &[u8],
        lookups: &Lookups,
        settings: RemoteSettings,
    ) -> Result<Self, TableError> {
        let client = client(spec, text, settings.timeout)?;
        let runtime = lookups.runtime().map_err(|error| {
            spec.error(format!("cannot start the thread for lookups: {error}"), "allow more threads")
        })?;
        let connections = settings.connections.max(1);
        let memory = Arc::new(Memory {
            lookups: lookups.clone(),
            table: spec.text.to_owned(),
            settings,
            state: Mutex::new(State {
                cache: Cache::new(settings.memory),
                questions: Questions::new(PLACES_MAX, connections),
                is_closed: false,
            }),
            asked: Notify::new(),
            given_up: Notify::new(),
            is_failing: AtomicBool::new(false),
        });
        for _ in 0..connections {
            runtime.spawn(answer_all(Arc::clone(&memory), client.another()));
        }
        runtime.spawn(tell_given_up(Arc::clone(&memory)));
        Ok(Self { lookups: lookups.clone(), memory })
    }
}

impl LookupTable for RemoteTable {
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        sharer: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        self.ask(arena, key, sharer.into())
    }

    fn ask<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        asker: Asker<'_>,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let key = super::string_table::folded(key);
        let mut state = self.memory.state();
        match state.cache.find(&key, Instant::now()) {
            Some(Ok(value)) => return Ok(value.map(|value| &*arena.alloc_slice_copy(value))),
            Some(Err(())) => return Err(LookupError::Unavailable),
            None => {}
        }
        let mut is_new = false;
        let asked = state.questions.ask(&key, asker.sharer(), || {
            is_new = true;
            self.lookups.ticket()
        });
        let has_given_up = state.questions.has_given_up();
        drop(state);
        if is_new {
            self.memory.asked.notify_one();
        }
        if has_given_up {
            self.memory.given_up.notify_one();
        }
        Err(asked.map_or(LookupError::Unavailable, |(ticket, slot)| asker.wait_for(ticket, slot)))
    }

    fn may_wait(&self) -> bool {
        true
    }
}

impl Drop for RemoteTable {
    fn drop(&mut self) {
        self.memory.state().is_closed = true;
        self.memory.asked.notify_one();
        self.memory.given_up.notify_one();
    }
}

impl Memory {
    /// The question whose turn it is, when there is one; `None` when none will come any more.
    async fn next(&self) -> Option<Question> {
        loop {
            let (question, is_over) = {
                let mut state = self.state();
                (state.questions.next(), state.is_closed && state.questions.is_empty())
            };
            if question.is_some() || is_over {
                // One call may stand for several questions, and the end concerns all connections.
                self.asked.notify_one();
                return question;
            }
            self.asked.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change leaves it consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, key: Box<[u8]>, answer: Answer) {
        let time = if answer.is_ok() { self.settings.memory_time } else { FAILURE_TIME };
        match &answer {
            Ok(_) if self.is_failing.swap(false, Ordering::Relaxed) => {
                self.lookups.report(&self.table, None);
            }
            Err(reason) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                self.lookups.report(&self.table, Some(reason));
            }
            _ => {}
        }
        let value = answer.map(|value| value.map(Vec::into_boxed_slice)).map_err(drop);
        let mut state = self.state();
        let slot = state.questions.answered(&key);
        slot.fill(value.clone());
        state.cache.remember(key, value, Instant::now() + time);
    }
}

#[expect(clippy::print_stderr, reason = "commands have no log")]
fn report_directly(message: &str) {
    eprintln!("mailrace: {message}");
}

/// One connection's life: it ends when questions can no longer come and all earlier ones have an answer.
async fn answer_all(memory: Arc<Memory>, mut client: Box<dyn Client>) {
    while let Some(Question { key, ticket }) = memory.next().await {
        let answer = answer(client.as_mut(), &key, memory.settings.timeout).await;
        memory.remember(key, answer);
        memory.lookups.answered(ticket);
    }
}

/// Tells those whose questions made room for others': they may ask again, and nothing is remembered of it.
async fn tell_given_up(memory: Arc<Memory>) {
    loop {
        let (tickets, is_closed) = {
            let mut state = memory.state();
            (state.questions.take_given_up(), state.is_closed)
        };
        tickets.into_iter().for_each(|ticket| memory.lookups.answered(ticket));
        if is_closed {
            return;
        }
        memory.given_up.notified().await;
    }
}

/// Asks, and once more if the connection is one that the server may have closed meanwhile.
async fn answer(client: &mut dyn Client, key: &[u8], limit: Duration) -> Answer {
    let is_used = client.is_connected();
    let answer = match tokio::time::timeout(limit, client.ask(key)).await {
        Ok(Err(_)) if is_used => tokio::time::timeout(limit, client.ask(key)).await,
        answer => answer,
    };
    match answer {
        Ok(Ok(Some(value))) if value.len() > ANSWER_SIZE_MAX => {
            Err(format!("its answer has {} bytes; at most {ANSWER_SIZE_MAX} are allowed", value.len()))
        }
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

#[cfg(test)]
mod tests;
