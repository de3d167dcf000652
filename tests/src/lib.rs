//! Helpers of the black-box tests: they start the real program, speak SMTP to it and read its queue.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails")]
#![expect(clippy::missing_panics_doc, reason = "a test that fails")]

pub mod checks;
mod engine;
mod obstacle;
pub mod passes;
mod smtp;

pub use engine::{Engine, Finished, load_generator, program, run};
pub use obstacle::{available, skip};
pub use smtp::Client;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is removed with its content when the value is dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// A new one, in the temporary directory.
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
