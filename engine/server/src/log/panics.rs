//! Panics as log lines: the hook of the standard library would wait for whatever reads standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use super::{Log, name};

/// From now on each panic of the process is reported in `log`. Where a panic ends the process, the log is written out
/// before that.
pub(crate) fn report_to(log: Log) {
    std::panic::set_hook(Box::new(move |panic| report(&log, panic)));
}

fn report(log: &Log, panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let payload = panic.payload();
    let reason = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given");
    let backtrace = Backtrace::capture();
    let event = log
        .error(name::PANIC, format_args!("thread {thread} panicked at {place}: {reason}"))
        .text("thread", thread)
        .text("place", &place)
        .text("reason", reason);
    if backtrace.status() == BacktraceStatus::Captured {
        drop(event.list("backtrace", [backtrace]));
    } else {
        drop(event);
    }
    // The thread that writes cannot wait for itself.
    if cfg!(panic = "abort") && !log.is_own_thread() {
        log.stop();
    }
}
