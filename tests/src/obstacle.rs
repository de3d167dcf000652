//! What becomes of a test that cannot run here: it is skipped, and a plain `cargo test` shows that and why.

use std::io::Write as _;

use mailrace_dev::error::ProofError;
use mailrace_peers::Postfix;

/// What was set up; `None`, said loudly, where this machine does not have what it takes.
///
/// In CI that is a failure, as everywhere else in the tests, but for one case: a container may have no loop devices
/// or no FUSE whatever is installed in it.
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

/// Whether Postfix can be started here; where it cannot, the test is skipped.
#[must_use]
pub fn has_postfix() -> bool {
    let obstacle = Postfix::obstacle();
    if let Some(obstacle) = obstacle {
        skip(obstacle);
    }
    obstacle.is_none()
}

/// Says that this test is skipped for want of something that can be installed; fails in CI, which has it installed.
pub fn skip(obstacle: &str) {
    assert!(std::env::var_os("CI").is_none(), "{obstacle}");
    skip_on_this_machine(obstacle);
}

/// Says that this test is skipped, also in CI: whatever is installed, this machine cannot run it.
pub fn skip_on_this_machine(obstacle: &str) {
    let thread = std::thread::current();
    // Written to standard error itself: what `eprintln!` writes in a test that passes is captured and dropped.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {}: {obstacle}", thread.name().unwrap_or("a test"));
}
