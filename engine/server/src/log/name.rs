//! The names of all events, by which programs know them. `docs/operations.md` says what each means.

/// The name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventName(&'static str);

impl EventName {
    /// The event of a header or body check that took this action.
    pub(crate) fn of_action(action: &'static str) -> Self {
        debug_assert!(ACTIONS.contains(&action) || action == REJECT.0, "{action}");
        Self(action)
    }

    /// Its text.
    pub(crate) const fn text(self) -> &'static str {
        self.0
    }
}

/// Declares a constant for each event, and the list of them.
macro_rules! events {
    ($($constant:ident = $name:literal,)*) => {
        $(pub(crate) const $constant: EventName = EventName($name);)*

        #[cfg(test)]
        const NAMES: &[&str] = &[$($name),*];
    };
}

events! {
    // Mail and sessions.
    QUEUED = "queued",
    RECIPIENTS = "recipients",
    REJECT = "reject",
    DEFERRED = "deferred",
    SUBMISSION_REFUSED = "submission_refused",
    CONNECT = "connect",
    DISCONNECT = "disconnect",
    TIMEOUT = "timeout",
    TOO_MANY_CONNECTIONS = "too_many_connections",
    ACCEPT_FAILED = "accept_failed",
    WRITE_FAILED = "write_failed",
    // Deliveries.
    ACTIVE = "active",
    DELIVERY = "delivery",
    SERVER_SKIPPED = "server_skipped",
    EXPIRED = "expired",
    REPORTED = "reported",
    REMOVED = "removed",
    // Start and end.
    READY = "ready",
    START_FAILED = "start_failed",
    STOPPING = "stopping",
    STOPPED = "stopped",
    METRICS = "metrics",
    METRICS_UNAVAILABLE = "metrics_unavailable",
    CONTROL_UNAVAILABLE = "control_unavailable",
    SUBMISSION_UNAVAILABLE = "submission_unavailable",
    REGISTRATION_FAILED = "registration_failed",
    CONFIGURATION_NOTE = "configuration_note",
    EPOLL = "epoll",
    FILE_SYSTEM = "file_system",
    NO_DIRECT_WRITES = "no_direct_writes",
    RECOVERED = "recovered",
    DAMAGE = "damage",
    STRANGER = "stranger",
    // Settings and tables.
    RELOADED = "reloaded",
    RESTART_NEEDED = "restart_needed",
    RELOAD_FAILED = "reload_failed",
    TABLES_RELOADED = "tables_reloaded",
    TABLES_NOT_RELOADED = "tables_not_reloaded",
    TABLE_UNAVAILABLE = "table_unavailable",
    TABLE_AVAILABLE = "table_available",
    PATTERN_GIVEN_UP = "pattern_given_up",
    // The queue and the maildrop.
    QUEUE_ACTION = "queue_action",
    QUEUE_UNAVAILABLE = "queue_unavailable",
    QUEUE_AVAILABLE = "queue_available",
    MAILDROP_UNREADABLE = "maildrop_unreadable",
    MAILDROP_REPLACED = "maildrop_replaced",
    MAILDROP_REMOVED = "maildrop_removed",
    MAILDROP_RETRY = "maildrop_retry",
    MAILDROP_STUCK = "maildrop_stuck",
    // The log itself, and bugs.
    LINES_LEFT_OUT = "lines_left_out",
    LOG_LINES_LOST = "log_lines_lost",
    WORKER_FAILED = "worker_failed",
    PANIC = "panic",
}

/// What checks do, as `core::cleanup` names it.
const ACTIONS: &[&str] = &[
    "warning",
    "info",
    "hold",
    "filter",
    "pass",
    "discard",
    "prepend",
    "replace",
    "redirect",
    "bcc",
    "strip",
    "unusable action",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_manual_lists_exactly_the_events() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let (_, table) = manual.split_once("| event | further keys | when |\n|---|---|---|\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let listed: Vec<&str> =
            rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect();
        let documented: BTreeSet<&str> = listed.iter().copied().collect();
        assert_eq!(listed.len(), documented.len(), "an event has two rows: {listed:?}");
        let known: BTreeSet<&str> = NAMES.iter().chain(ACTIONS).copied().collect();
        assert_eq!(known.len(), NAMES.len() + ACTIONS.len(), "two events have one name");
        assert_eq!(documented, known);
    }
}
