//! Locations of the configuration file for a command that names none.

use std::path::PathBuf;

/// Environment variable that names the configuration file for commands without `--config`. Ignored if empty.
pub const CONFIG_VARIABLE: &str = "MAILRACE_CONFIG";
/// Configuration file that is used if no other is named and it exists.
pub const SYSTEM_CONFIG: &str = "/etc/mailrace/mailrace.toml";

/// Returns the configuration file to read: `given`, else that of [`CONFIG_VARIABLE`], else [`SYSTEM_CONFIG`] if it exists.
/// `None` means that all parameters have their defaults.
///
/// Reading fails later if a named file does not exist, or if it cannot be determined whether the system configuration
/// exists.
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
