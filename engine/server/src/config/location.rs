//! Where a command that names no configuration file finds one.

use std::path::PathBuf;

/// Names the configuration file of all commands that are not given one; empty is as absent.
pub const CONFIG_VARIABLE: &str = "MAILRACE_CONFIG";
/// The configuration of commands that nothing else gives one, if it exists.
pub const SYSTEM_CONFIG: &str = "/etc/mailrace/mailrace.toml";

/// The configuration file to read: `given`, else that of [`CONFIG_VARIABLE`], else [`SYSTEM_CONFIG`] if it exists. `None`: all
/// parameters have their defaults.
///
/// A file that is named and does not exist is an error when it is read; so is a system configuration that cannot be
/// looked at.
#[must_use]
pub fn config_file(given: Option<PathBuf>) -> Option<PathBuf> {
    let of_environment =
        || std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let of_system = || {
        let path = PathBuf::from(SYSTEM_CONFIG);
        (!matches!(path.try_exists(), Ok(false))).then_some(path)
    };
    given.or_else(of_environment).or_else(of_system)
}
