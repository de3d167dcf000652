//! Owns what becomes of a test that cannot run here.

use mailrace_dev::error::ProofError;

/// What was set up; `None`, said loudly, where this machine does not have what it takes.
///
/// In CI that is a failure, as everywhere else in the tests, but for one case: a container may have no loop devices
/// or no FUSE whatever is installed in it.
pub fn available<T>(made: Result<T, ProofError>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(error) if error.is_of_machine() => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) if error.is_absence() => {
            skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Says loudly that a test is skipped; fails in CI.
pub fn skip(obstacle: &str) {
    assert!(std::env::var_os("CI").is_none(), "{obstacle}");
    eprintln!("SKIPPED: {obstacle}");
}
