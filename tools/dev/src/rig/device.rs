//! Owns loop devices, mounts and directories that go away with their value.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::leftovers;
use crate::error::ProofError;
use crate::program::run;

/// A loop device over a file.
#[derive(Debug)]
pub struct LoopDevice {
    path: String,
}

impl LoopDevice {
    /// Attaches `image`; `is_direct`: past the page cache of the file system that it lies on.
    ///
    /// # Errors
    /// [`ProofError::NoLoopDevices`] when there are none.
    pub fn attach(image: &Path, is_direct: bool) -> Result<Self, ProofError> {
        let direct = if is_direct { "--direct-io=on" } else { "--direct-io=off" };
        let arguments = ["--find", "--show", direct].map(Path::new).into_iter().chain([image]);
        match run("losetup", arguments) {
            Ok(path) => Ok(Self { path }),
            Err(ProofError::Failed { message, .. }) => Err(ProofError::NoLoopDevices(message)),
            Err(error) => Err(error),
        }
    }

    /// Such as `/dev/loop0`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Err(error) = run("losetup", ["-d", &self.path]) {
            eprintln!("mailrace-dev: {error}");
        }
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mount {
    directory: PathBuf,
}

impl Mount {
    /// Mounts a device at `directory`, which is made.
    ///
    /// # Errors
    /// What mount says.
    pub fn new(device: &str, directory: &Path, kind: &str, options: &str) -> Result<Self, ProofError> {
        fs::create_dir_all(directory).map_err(ProofError::on(directory))?;
        let text = directory.to_string_lossy();
        match run("mount", ["-t", kind, "-o", options, device, &text]) {
            Ok(_) => Ok(Self { directory: directory.to_owned() }),
            Err(ProofError::Failed { message, .. }) if message.contains("permission denied") => {
                Err(ProofError::NoLoopDevices(message))
            }
            Err(error) => Err(error),
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // The kernel takes a ring down after its process has ended, and the ring's files are in use until then.
        let end = Instant::now() + BUSY_TIME_MAX;
        while let Err(error) = run("umount", [&self.directory]) {
            let is_busy = matches!(&error, ProofError::Failed { message, .. } if message.contains("busy"));
            if !is_busy || Instant::now() >= end {
                eprintln!("mailrace-dev: {error}");
                // It leaves the tree now, and its device when its last user ends.
                if let Err(error) = run("umount", [Path::new("-l"), &self.directory]) {
                    eprintln!("mailrace-dev: {error}");
                }
                return;
            }
            sleep(BUSY_POLL);
        }
    }
}

const BUSY_TIME_MAX: Duration = Duration::from_secs(20);
const BUSY_POLL: Duration = Duration::from_millis(100);

/// A directory for one rig, removed with all that is in it unless it is to be looked at. What rigs of processes that were
/// killed have left beside it is removed when it is made.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    is_kept: AtomicBool,
    /// Locked as long as the process lives.
    _lock: File,
}

impl Place {
    /// A new directory in `parent`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(parent: &Path) -> Result<Self, ProofError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        leftovers::remove(parent);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{}{}-{number}", leftovers::PREFIX, std::process::id()));
            fs::create_dir_all(&path).map_err(ProofError::on(&path))?;
            // Another process may have taken it for one that was left.
            if let Some(lock) = leftovers::lock(&path) {
                return Ok(Self { path, is_kept: AtomicBool::new(false), _lock: lock });
            }
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps it for inspection.
    pub fn keep(&self) -> &Path {
        self.is_kept.store(true, Ordering::Relaxed);
        // Without the mark the next rig removes it; a failure to set the mark is visible there.
        let _ = File::create(self.join(leftovers::KEPT));
        &self.path
    }

    /// Makes a sparse file of `size` bytes in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn sparse(&self, name: &str, size: u64) -> Result<PathBuf, ProofError> {
        let path = self.join(name);
        File::create(&path).and_then(|file| file.set_len(size)).map_err(ProofError::on(&path))?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_kept.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("mailrace-dev: {}: {error}", self.path.display());
        }
    }
}

/// Makes an ext4 with a journal, all of it written now, nothing later in the background.
///
/// # Errors
/// What mkfs.ext4 says.
pub fn make_ext4(device: &str) -> Result<(), ProofError> {
    let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
    run("mkfs.ext4", ["-q", "-F", "-m", "0", "-J", "size=16", "-E", options, device]).map(drop)
}

/// Only root can make devices and mount them.
///
/// # Errors
/// [`ProofError::NotRoot`].
pub fn require_root() -> Result<(), ProofError> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(ProofError::NotRoot) }
}

/// What every rig mounts its file system with.
pub const EXT4_OPTIONS: &str = "noatime";
