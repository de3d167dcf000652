//! Temporary directory for measurements, on a journalled file system.

use std::fs;
use std::path::{Path, PathBuf};

use mailrace_dev::journal_fs;

use crate::error::BenchError;

/// A temporary directory, removed on drop together with the file system that was created for it.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    is_own_file_system: bool,
}

impl Place {
    /// Creates a directory in `parent`, on a loop file system if that of `parent` has no journal and creating one is
    /// allowed.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn make(parent: &Path, may_make_file_system: bool) -> Result<Self, BenchError> {
        fs::create_dir_all(parent).map_err(BenchError::on(parent))?;
        let directory = parent.join(format!("mailrace-bench.{}", std::process::id()));
        let found = journal_fs::file_system(parent).map_err(BenchError::FileSystem)?;
        if found.has_journal {
            fs::create_dir(&directory).map_err(BenchError::on(&directory))?;
            println!("file system: {} on {}", found.kind, found.source);
            return Ok(Self { directory, is_own_file_system: false });
        }
        if may_make_file_system {
            match journal_fs::up(&directory, SIZE) {
                Ok(()) => {
                    println!(
                        "file system: ext4 with a journal on a direct loop device over {}",
                        found.source
                    );
                    return Ok(Self { directory, is_own_file_system: true });
                }
                Err(error) => eprintln!("mailrace-bench: cannot create a journalled file system: {error}"),
            }
        }
        eprintln!(
            "mailrace-bench: WARNING: {} is {} without a journal: comparisons on it are misleading",
            parent.display(),
            found.kind
        );
        fs::create_dir_all(&directory).map_err(BenchError::on(&directory))?;
        Ok(Self { directory, is_own_file_system: false })
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let removed = if self.is_own_file_system {
            journal_fs::down(&self.directory).map_err(|error| error.to_string())
        } else {
            fs::remove_dir_all(&self.directory).map_err(|error| error.to_string())
        };
        if let Err(error) = removed {
            eprintln!("mailrace-bench: cannot remove {}: {error}", self.directory.display());
        }
    }
}

/// Size of the sparse image, in bytes.
const SIZE: u64 = 12 << 30;
