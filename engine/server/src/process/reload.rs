//! Settings that change while the engine runs: the configuration, tables whose files change, the time zone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use mailrace_core::message::date::Zone;
use mailrace_spool::Shared;

use crate::config::{ConfigErrors, Configuration, Sources, Tables, zone_now};
use crate::delivery::Routing;
use crate::door::DispatcherDoor;
use crate::log::{Log, name};
use crate::tables::{Files, Lookups};
use crate::worker::{Control, Workers};

use super::report::report_notes;

/// Current settings, and the sources to reload them from.
pub(super) struct Current {
    pub(super) sources: Sources,
    pub(super) in_force: Mutex<InForce>,
    pub(super) workers: Workers,
    pub(super) lookups: Lookups,
    /// Next hops, if mail is delivered.
    pub(super) routing: Option<Routing>,
    pub(super) dispatcher: Option<DispatcherDoor>,
    pub(super) log: Log,
    pub(super) spool: Arc<Shared>,
    /// Queue trouble that was reported last.
    pub(super) trouble: Mutex<Option<String>>,
}

/// Settings that workers currently use.
pub(super) struct InForce {
    configuration: Configuration,
    tables: Tables,
    /// Table files as they were when last read, successfully or not.
    seen: Files,
    /// Changed table files that may still be being written, and the number of checks that have found them in this state.
    changing: Option<(Files, u32)>,
    zone: Zone,
}

impl Current {
    /// Reloads the configuration and its tables (SIGHUP). Waits for a text file that is being written.
    fn reload(&self) {
        let patience_ends = Instant::now() + WRITING_PATIENCE;
        let next = loop {
            let next = self.load();
            let is_being_written = match &next {
                // A file that changed during the reload may have been read only in part.
                Ok((_, tables)) => {
                    let now = tables.files.now();
                    now != tables.files || now.are_being_written(WRITING_PAUSE)
                }
                Err(_) => self.in_force().seen.now().are_being_written(WRITING_PAUSE),
            };
            if !is_being_written || Instant::now() >= patience_ends {
                break next;
            }
            std::thread::sleep(WRITING_CHECK_PERIOD);
        };
        let (mut next, tables) = match next {
            Ok(next) => next,
            Err(errors) => {
                self.log
                    .error(name::RELOAD_FAILED, "not reloaded, the configuration is invalid:")
                    .list("errors", errors.0);
                return;
            }
        };
        let mut in_force = self.in_force();
        if next.keep_started(&in_force.configuration) {
            self.log
                .warning(name::RESTART_NEEDED, "[engine] and [queue] stay as they are until the next start");
        }
        if next.keep_delivery(&in_force.configuration) {
            let message = "the parameters of delivery stay as they are until the next start";
            self.log.warning(name::RESTART_NEEDED, message);
        }
        in_force.configuration = next;
        in_force.put_tables(tables, &self.log);
        self.apply(&in_force);
        self.log.info(name::RELOADED, "reloaded");
    }

    fn load(&self) -> Result<(Configuration, Tables), ConfigErrors> {
        let next = Configuration::load(&self.sources)?;
        let previous = self.in_force().tables.clone();
        let tables = next.open_tables(&self.lookups, &previous)?;
        Ok((next, tables))
    }

    /// Reloads settings on request, and checks once per period whether they have changed. This thread does nothing else,
    /// because the file system may not answer.
    pub(super) fn keep_fresh(&self, reloads: &Receiver<()>, period: Duration) {
        loop {
            match reloads.recv_timeout(period) {
                Ok(()) => self.reload(),
                Err(RecvTimeoutError::Timeout) => self.refresh(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Checks whether table files or the time zone have changed, and applies the changes. If a table is invalid, all tables
    /// stay as they are, and the error is reported once per change.
    fn refresh(&self) {
        let mut in_force = self.in_force();
        if in_force.have_settled() {
            match in_force.configuration.open_tables(&self.lookups, &in_force.tables) {
                Ok(tables) => {
                    in_force.put_tables(tables, &self.log);
                    self.apply(&in_force);
                    self.log.info(name::TABLES_RELOADED, "lookup tables reloaded");
                }
                Err(errors) => {
                    in_force.seen = in_force.seen.now();
                    let message = "lookup tables not reloaded; the old ones remain in use:";
                    self.log.error(name::TABLES_NOT_RELOADED, message).list("errors", errors.0);
                }
            }
        }
        let zone = zone_now();
        if in_force.zone != zone {
            in_force.zone = zone;
            self.apply(&in_force);
        }
    }

    /// Reports queue trouble once when it begins, and once when it ends.
    pub(super) fn say_trouble(&self) {
        let now = self.spool.trouble();
        let mut said = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &now {
            _ if *said == now => {}
            Some(trouble) => {
                let message = format_args!("the queue does not accept mail: {trouble}");
                self.log.error(name::QUEUE_UNAVAILABLE, message).text("reason", trouble);
            }
            None => drop(self.log.info(name::QUEUE_AVAILABLE, "the queue accepts mail again")),
        }
        *said = now;
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, in_force: &InForce) {
        let workers = u16::try_from(self.workers.count()).unwrap_or(u16::MAX);
        let settings = Arc::new(in_force.configuration.worker_settings(workers, &in_force.tables));
        if let Some(routing) = &self.routing {
            routing.replace(&in_force.configuration, &settings.smtp, &in_force.tables);
        }
        self.workers.tell(|| Control::Reload(Arc::clone(&settings)));
    }
}

impl InForce {
    pub(super) fn new(configuration: Configuration, tables: Tables) -> Self {
        Self { configuration, seen: tables.files.clone(), changing: None, tables, zone: zone_now() }
    }

    /// Returns whether table files have changed since they were read and are stable now. A text file whose last line has no
    /// line end must be stable for more periods.
    fn have_settled(&mut self) -> bool {
        let now = self.seen.now();
        if now == self.seen {
            self.changing = None;
            return false;
        }
        let found = match self.changing.take() {
            Some((before, found)) if before == now => found + 1,
            _ => 1,
        };
        let needed = if now.unfinished(&self.seen).is_empty() { 2 } else { UNFINISHED_PERIODS };
        self.changing = Some((now, found));
        found >= needed
    }

    fn put_tables(&mut self, tables: Tables, log: &Log) {
        report_notes(log, &tables.notes);
        self.seen = tables.files.clone();
        self.tables = tables;
    }
}

/// Number of periods for which a text file without a final line end must be stable before it is read.
const UNFINISHED_PERIODS: u32 = 6;
/// Time without a write after which a reload treats a text file without a final line end as complete.
const WRITING_PAUSE: Duration = Duration::from_secs(2);
/// Maximum time that a reload waits for text files that are being written.
const WRITING_PATIENCE: Duration = Duration::from_secs(10);
/// Interval at which a reload checks for writes.
const WRITING_CHECK_PERIOD: Duration = Duration::from_millis(100);
