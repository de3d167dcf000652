//! What the pickup logs: a bounded number of lines of each kind and user.

use std::io;
use std::time::Instant;

use crate::log::{EventName, Level, Line, LineLimit, LogWriter, name, now as wall_clock};

/// What is logged, a bounded number of lines of each kind and user.
pub(super) struct Lines {
    pub(super) log: LogWriter,
    pub(super) limit: LineLimit<(EventName, u32)>,
}

/// A kind of line: how much it matters, its name in JSON, and the same for people.
pub(super) type LogEvent = (Level, EventName, &'static str);

pub(super) const REFUSED: LogEvent = (Level::Error, name::SUBMISSION_REFUSED, "submission refused");
pub(super) const DEFERRED: LogEvent = (Level::Info, name::DEFERRED, "deferred");
pub(super) const REMOVED: LogEvent = (Level::Warning, name::MAILDROP_REMOVED, "removed from the maildrop");
const FAILED: LogEvent = (Level::Warning, name::MAILDROP_RETRY, "a file in the maildrop will be retried");
pub(super) const STUCK: LogEvent = (
    Level::Error,
    name::MAILDROP_STUCK,
    "no local mail is accepted: cannot remove the file of a queued message",
);
pub(super) const UNREADABLE: LogEvent = (Level::Error, name::MAILDROP_UNREADABLE, "cannot read the maildrop");
pub(super) const REPLACED: LogEvent = (
    Level::Warning,
    name::MAILDROP_REPLACED,
    "the maildrop was replaced by another directory, which is used now",
);
const LEFT_OUT: LogEvent = (Level::Warning, name::LINES_LEFT_OUT, "log lines were omitted");

impl Lines {
    /// Writes a line about files of a user, unless there were many of this kind.
    pub(super) fn say(&mut self, event: LogEvent, owner: Option<u32>, fill: impl FnOnce(&mut Line<'_>)) {
        if !self.limit.admits(&(event.1, owner.unwrap_or(u32::MAX)), Instant::now()) {
            return;
        }
        let mut line = begin(&mut self.log, event);
        fill(&mut line);
        if let Some(owner) = owner {
            line.number("uid", u64::from(owner));
        }
        drop(line);
        self.log.flush();
    }

    /// Something could not be done with a file.
    pub(super) fn failed(&mut self, operation: &str, name: &str, owner: Option<u32>, error: &io::Error) {
        self.say(FAILED, owner, |line| {
            line.text("file", name.as_bytes()).text("operation", operation.as_bytes());
            line.text("reason", error.to_string().as_bytes());
        });
    }

    /// Logs the number of lines that were left out.
    pub(super) fn end_periods(&mut self, now: Instant) {
        for ((event, owner), count) in self.limit.ended(now) {
            let mut line = begin(&mut self.log, LEFT_OUT);
            line.text("kind", event.text().as_bytes()).number("lines", count);
            if owner != u32::MAX {
                line.number("uid", u64::from(owner));
            }
        }
        self.log.flush();
    }
}

fn begin(log: &mut LogWriter, (level, event, message): LogEvent) -> Line<'_> {
    if level == Level::Info {
        log.line(wall_clock(), None, event)
    } else {
        log.trouble(level, wall_clock(), event, message)
    }
}
