//! Skips tests that cannot run on this machine. A plain `cargo test` shows each skipped test and the reason.

use std::io::Write as _;

use mailrace_dev::error::ProofError;
use mailrace_peers::Postfix;

/// Returns the value, or `None` with a report if this machine lacks a requirement.
///
/// In CI a missing requirement is a failure, except loop devices and FUSE, which a container may lack whatever is installed
/// in it.
pub fn available<T>(made: Result<T, ProofError>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(error) if error.is_of_machine() => {
            skip_on_this_machine(&error.to_string());
            None
        }
        Err(error) if error.is_absence() => {
            skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Returns whether Postfix can be started on this machine. If not, reports that the test is skipped.
#[must_use]
pub fn has_postfix() -> bool {
    let obstacle = Postfix::obstacle();
    if let Some(obstacle) = obstacle {
        skip(obstacle);
    }
    obstacle.is_none()
}

/// Reports that this test is skipped because something is not installed. Fails in CI, which has everything installed.
pub fn skip(obstacle: &str) {
    assert!(std::env::var_os("CI").is_none(), "{obstacle}");
    skip_on_this_machine(obstacle);
}

/// Reports that this test is skipped, also in CI, because this machine cannot run it whatever is installed.
pub fn skip_on_this_machine(obstacle: &str) {
    let thread = std::thread::current();
    // Write to standard error directly, because the test harness captures the output of `eprintln!` and drops it if the test
    // passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {}: {obstacle}", thread.name().unwrap_or("a test"));
}
