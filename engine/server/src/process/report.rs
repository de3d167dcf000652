//! Startup reports for the log: notes on the configuration, recovered messages, damage.

use std::io;
use std::os::unix::ffi::OsStrExt;

use mailrace_io::OsDisk;
use mailrace_spool::{Damage, RecoveryReport, Stranger};

use crate::log::{Log, name};
use crate::maildrop::Maildrop;

pub(super) fn report_notes(log: &Log, notes: &[String]) {
    notes.iter().for_each(|note| drop(log.warning(name::CONFIGURATION_NOTE, note)));
}

pub(super) fn report_recovery(log: &Log, report: &RecoveryReport) {
    if report.segments > 0 {
        let message = format_args!(
            "recovered {} messages, {} bytes, from {} segments",
            report.messages, report.octets, report.segments
        );
        log.info(name::RECOVERED, message)
            .number("messages", report.messages)
            .number("octets", report.octets)
            .number("segments", report.segments as u64);
    }
    for damage in &report.damage {
        log.error(name::DAMAGE, damage_text(damage))
            .text("path", &damage.path)
            .number("offset", damage.offset)
            .text("what", damage.what.to_string());
    }
    for stranger in &report.strangers {
        log.warning(name::STRANGER, stranger_text(stranger))
            .text("path", &stranger.path)
            .text("what", stranger.what);
    }
    if !report.is_direct {
        let message = "the queue's file system does not support direct I/O: writes go through the page cache";
        log.warning(name::NO_DIRECT_WRITES, message);
    }
}

/// Returns the message about damage.
pub(crate) fn damage_text(damage: &Damage) -> String {
    let known = if damage.is_known {
        " (reported at an earlier start already; mailrace queue acknowledge ends these reports)"
    } else {
        ""
    };
    format!("{damage}; all intact messages are in the queue{known}")
}

/// Returns the message about a file among the segments that does not belong to the queue.
pub(crate) fn stranger_text(stranger: &Stranger) -> String {
    format!("{}: {}: ignored", stranger.path, stranger.what)
}

/// Reports that local submission is not available.
pub(super) fn report_no_submission(log: &Log, maildrop: &Maildrop, error: &io::Error) {
    let path = maildrop.path();
    let message = format_args!("no local submission: cannot use {}: {error}", path.display());
    log.error(name::SUBMISSION_UNAVAILABLE, message)
        .text("path", path.as_os_str().as_bytes())
        .text("reason", error.to_string());
}

/// Reports that the engine accepts connections.
pub(super) fn report_ready(log: &Log, addresses: &[String], workers: u16, queue: &OsDisk, messages: u64) {
    let message = format_args!(
        "mailrace ready: listening on {}, {workers} worker{}, queue in {} with {messages} message{}",
        addresses.join(" "),
        if workers == 1 { "" } else { "s" },
        queue.root().display(),
        if messages == 1 { "" } else { "s" },
    );
    log.info(name::READY, message)
        .array("listen", addresses)
        .number("workers", u64::from(workers))
        .text("queue", queue.root().as_os_str().as_bytes())
        .number("messages", messages);
}

/// Reports that the process stops after its sessions have ended.
pub(super) fn report_stopping(log: &Log, signal: &'static str) {
    let message = format_args!("stopping after {signal}: sessions end within drain_timeout");
    log.info(name::STOPPING, message).text("signal", signal);
}
