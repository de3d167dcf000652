//! Owns runs of the tests under tools that watch memory.
//!
//! AddressSanitizer comes with the stable toolchain and sees what the program itself does: use after free, overflow,
//! leaks. What the kernel writes through the ring it does not see; Valgrind knows the ring's system calls, and
//! checks their arguments. ThreadSanitizer would need a standard library built for it, so that races are left to the
//! models in `engine/server/src/worker/threads.rs` and `engine/server/src/log/threads.rs`. Miri interprets what needs no kernel.

use std::fmt;
use std::io;
use std::process::{Command, Stdio};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was found.
    Clean,
    /// Something was found, or the tests failed.
    Found,
    /// What it needs is not there.
    Skipped(&'static str),
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => formatter.write_str("clean"),
            Self::Found => formatter.write_str("FOUND"),
            Self::Skipped(reason) => write!(formatter, "SKIPPED: {reason}"),
        }
    }
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What watches.
    pub tool: Tool,
    /// The package, and which of its tests.
    pub tests: &'static [&'static str],
}

/// What watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// AddressSanitizer, with its search for leaks.
    Address,
    /// The same without that search: the ring gives memory up that the kernel may still look at.
    AddressNotLeaks,
    /// Valgrind's memcheck.
    Memcheck,
    /// Miri, on a nightly toolchain.
    Miri,
}

impl fmt::Display for Tool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Address => "AddressSanitizer",
            Self::AddressNotLeaks => "AddressSanitizer without leaks",
            Self::Memcheck => "memcheck",
            Self::Miri => "Miri",
        })
    }
}

/// The runs of `mailrace-dev sanitize`.
pub const SANITIZE: &[Run] = &[
    Run { tool: Tool::AddressNotLeaks, tests: &["mailrace-io"] },
    // While a thread waits in the ring, Valgrind lets no other thread run, so none could wake it.
    Run {
        tool: Tool::Memcheck,
        tests: &["mailrace-io", "--", "--test-threads=1", "--skip", "another_thread_wakes_a_wait"],
    },
    Run { tool: Tool::Address, tests: &["mailrace-spool", "--lib"] },
    Run { tool: Tool::Address, tests: &["mailrace-core", "--lib"] },
    Run { tool: Tool::Address, tests: &["mailrace-tests", "--test", "regressions"] },
];

/// The runs of `mailrace-dev miri`: what has pools and pointers and needs no kernel.
pub const MIRI: &[Run] = &[
    Run { tool: Tool::Miri, tests: &["mailrace-io", "--lib", "--", "block", "slab", "calm", "entry"] },
    Run { tool: Tool::Miri, tests: &["mailrace-core", "--lib"] },
    Run { tool: Tool::Miri, tests: &["mailrace-spool", "--lib"] },
];

/// Cases of each property test: all of them would take hours under a tool.
const PROPERTY_CASES: &str = "16";

impl Run {
    /// Runs it; what cargo and the tests say is shown.
    ///
    /// # Errors
    /// A program could not be started.
    pub fn run(&self) -> io::Result<Outcome> {
        let mut command = match self.tool {
            Tool::Miri => {
                if !succeeds(Command::new("rustup").args(["run", "nightly", "cargo", "miri", "--version"])) {
                    return Ok(Outcome::Skipped("no nightly toolchain has the component miri"));
                }
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "miri", "test", "--locked"]);
                command.env("MIRIFLAGS", "-Zmiri-disable-isolation");
                command
            }
            Tool::Memcheck if !succeeds(Command::new("valgrind").arg("--version")) => {
                return Ok(Outcome::Skipped("valgrind is not installed"));
            }
            _ => self.under_sanitizer(&host()?),
        };
        let status = command
            .arg("--package")
            .args(self.tests)
            .env("PROPTEST_CASES", PROPERTY_CASES)
            .env_remove("RUSTUP_TOOLCHAIN")
            .status()?;
        Ok(if status.success() { Outcome::Clean } else { Outcome::Found })
    }

    fn under_sanitizer(&self, host: &str) -> Command {
        let mut command = Command::new("cargo");
        // With a target named, build scripts and macros are built as always.
        command.args(["test", "--locked", "--target", host, "--target-dir"]);
        match self.tool {
            Tool::Memcheck => {
                let runner = format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_"));
                command.arg("target/memcheck");
                command.env(runner, "valgrind --quiet --leak-check=no --error-exitcode=9");
                // Calls through the vDSO are none that it knows.
                command.env("RUSTFLAGS", "--cfg rustix_use_libc");
            }
            _ => {
                let leaks = u8::from(self.tool == Tool::Address);
                command.arg("target/asan");
                command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
                command.env("ASAN_OPTIONS", format!("detect_leaks={leaks}"));
            }
        }
        command
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The target of this machine's toolchain.
fn host() -> io::Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| io::Error::other("rustc does not say for what it compiles"))
}
