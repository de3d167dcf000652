//! What the log says at the start: notes of the configuration, recovered messages, damage.

use mailrace_spool::{Damage, RecoveryReport, Stranger};

use crate::log::Log;

pub(super) fn report_notes(log: &Log, notes: &[String]) {
    notes.iter().for_each(|note| drop(log.warning("configuration_note", note)));
}

pub(super) fn report_recovery(log: &Log, report: &RecoveryReport) {
    if report.segments > 0 {
        let message = format_args!(
            "recovered {} messages, {} octets, from {} segments",
            report.messages, report.octets, report.segments
        );
        log.info("recovered", message)
            .number("messages", report.messages)
            .number("octets", report.octets)
            .number("segments", report.segments as u64);
    }
    for damage in &report.damage {
        log.error("damage", damage_text(damage))
            .text("path", &damage.path)
            .number("offset", damage.offset)
            .text("what", damage.what.to_string());
    }
    for stranger in &report.strangers {
        log.warning("stranger", stranger_text(stranger))
            .text("path", &stranger.path)
            .text("what", stranger.what);
    }
    if !report.is_direct {
        let message = "the queue's file system has no direct writes: they go through the page cache";
        log.warning("no_direct_writes", message);
    }
}

/// What an operator reads of damage.
pub(crate) fn damage_text(damage: &Damage) -> String {
    let known = if damage.is_known {
        " (an earlier start has said so; mailrace queue acknowledge ends this)"
    } else {
        ""
    };
    format!("{damage}; what is whole there is in the queue{known}")
}

/// What an operator reads of a file among the segments that is none of the queue's.
pub(crate) fn stranger_text(stranger: &Stranger) -> String {
    format!("{}: {}: it is left alone", stranger.path, stranger.what)
}
