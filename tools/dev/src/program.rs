//! Owns running other programs, and which Debian package has them.

use std::ffi::OsStr;
use std::io;
use std::process::Command;

use crate::error::ProofError;

/// Programs that the rigs need, and where Debian has them.
const PACKAGES: &[(&str, &str)] = &[
    ("cp", "coreutils"),
    ("losetup", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mount", "mount"),
    ("qemu-storage-daemon", "qemu-utils"),
    ("umount", "mount"),
    ("xfs_io", "xfsprogs"),
];

/// A command that finds administrators' programs too.
#[must_use]
pub fn command(program: &'static str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// Runs a program to its end; what it wrote, without the last line end.
///
/// # Errors
/// [`ProofError::Missing`] and [`ProofError::Failed`].
pub fn run<S: AsRef<OsStr>>(
    program: &'static str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String, ProofError> {
    let output = command(program).args(arguments).output().map_err(|error| not_started(program, &error))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ProofError::Failed { program, message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Why a program could not even be started.
#[must_use]
pub fn not_started(program: &'static str, error: &io::Error) -> ProofError {
    if error.kind() == io::ErrorKind::NotFound {
        let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, it)| *it);
        return ProofError::Missing { program, package };
    }
    ProofError::Failed { program, message: error.to_string() }
}

/// Checks that these programs can be run, before anything is set up.
///
/// # Errors
/// [`ProofError::Missing`] for the first that is not there.
pub fn require(programs: &[&'static str]) -> Result<(), ProofError> {
    for program in programs {
        // Each of them knows -V or ends at once without arguments.
        let started = command(program).arg("-V").output();
        started.map_err(|error| not_started(program, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = not_started("xfs_io", &io::ErrorKind::NotFound.into());
        assert_eq!(error.to_string(), "xfs_io is not installed: apt-get install xfsprogs");
    }

    #[test]
    fn reports_the_output_of_a_failing_program() {
        let error = run("cp", ["/nonexistent/a", "/nonexistent/b"]).unwrap_err();
        assert!(error.to_string().starts_with("cp failed: "), "{error}");
        assert!(error.to_string().contains("/nonexistent/a"), "{error}");
    }
}
