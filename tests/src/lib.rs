//! Helpers of the black-box tests: they start the real program, speak SMTP to it and read its queue.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails")]
#![expect(clippy::missing_panics_doc, reason = "a test that fails")]

pub mod checks;
mod engine;
mod events;
mod next_hop;
mod obstacle;
pub mod passes;
mod slow;
mod smtp;

pub use engine::{Engine, Finished, load_generator, program, run};
pub use events::JSON_LOG;
pub use next_hop::{NextHop, Sent};
pub use obstacle::{available, has_postfix, skip, skip_on_this_machine};
pub use smtp::Client;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Temporary directory, removed with its content on drop.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Creates a directory below the system's temporary directory.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mailrace-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it.
    #[must_use]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Copies a program into it, where every user may run it.
    ///
    /// Another process writes the copy. If this one did, a child that another thread has just forked would hold the file
    /// open for writing until its exec, and running the copy could fail with ETXTBSY.
    #[must_use]
    pub fn install(&self, program: &Path) -> PathBuf {
        let copy = self.0.join(program.file_name().unwrap());
        let mut install = std::process::Command::new("install");
        let status = install.args(["-m", "755"]).arg(program).arg(&copy).status().unwrap();
        assert!(status.success(), "cannot copy {} to {}", program.display(), copy.display());
        copy
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// While one thread forks continuously, another installs a program and runs it immediately.
    #[test]
    fn an_installed_program_can_be_run_at_once() {
        let directory = Directory::new();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        Command::new("true").status().unwrap();
                    }
                });
            }
            let program = PathBuf::from("/bin/true").canonicalize().unwrap();
            let failures = (0..50)
                .filter(|_| {
                    let copy = directory.install(&program);
                    Command::new(copy).status().is_err()
                })
                .count();
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(failures, 0, "of 50 copies could not be run");
        });
    }
}
