//! Removes what rigs of processes that were killed have left: daemons, mounts, loop devices, directories.
//!
//! Each rig's directory is locked by its process for as long as that lives, so a directory whose lock can be had belongs
//! to a process that is gone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::program::run;

/// How the name of each rig's directory begins.
pub(super) const PREFIX: &str = "mailrace-rig-";
/// The file that says that a directory is kept for a look.
pub(super) const KEPT: &str = "KEPT";
/// A file system in a file in a file system takes two.
const PASSES_MAX: usize = 4;

/// Takes the lock of a rig's directory; `None` if another process has it, or the directory is gone.
pub(super) fn lock(directory: &Path) -> Option<File> {
    let file = File::open(directory).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    directory.is_dir().then_some(file)
}

/// Removes what is left in `parent`; says what could not be removed, which is no reason not to go on.
pub(super) fn remove(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && let Some(lock) = lock(&entry.path())
        {
            remove_one(&entry.path());
            drop(lock);
        }
    }
}

fn remove_one(directory: &Path) {
    daemons(directory).for_each(|daemon| _ = kill_process(daemon, Signal::KILL));
    for _ in 0..PASSES_MAX {
        let (mounts, devices) = (mounts(directory), loop_devices(directory));
        if mounts.is_empty() && devices.is_empty() {
            break;
        }
        // What was mounted last goes first. A lazy unmount also ends one whose daemon is gone.
        for mount in mounts.iter().rev() {
            told(run("umount", [Path::new("-l"), mount]));
        }
        devices.iter().for_each(|device| told(run("losetup", [Path::new("-d"), device])));
    }
    if !directory.join(KEPT).exists()
        && mounts(directory).is_empty()
        && let Err(error) = fs::remove_dir_all(directory)
    {
        eprintln!("mailrace-dev: {}: {error}", directory.display());
    }
}

fn told(result: Result<String, crate::error::ProofError>) {
    if let Err(error) = result {
        eprintln!("mailrace-dev: {error}");
    }
}

/// The mount points below a directory, in the order of their making.
#[must_use]
pub fn mounts(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The kernel writes spaces in octal.
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|it| it.replace("\\040", " "));
    points.map(PathBuf::from).filter(|point| point.starts_with(directory) && point != directory).collect()
}

/// The loop devices over files below a directory.
#[must_use]
pub fn loop_devices(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let is_over = |device: &Path| {
        fs::read_to_string(device.join("loop/backing_file")).is_ok_and(|file| {
            // The name of a deleted file has a suffix.
            Path::new(file.trim_end()).starts_with(directory)
        })
    };
    let devices = entries.flatten().filter(|entry| is_over(&entry.path()));
    devices.map(|entry| Path::new("/dev").join(entry.file_name())).collect()
}

/// The daemons that export files below a directory.
fn daemons(directory: &Path) -> impl Iterator<Item = Pid> {
    let directory = directory.to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(move |process| {
        let pid: i32 = process.file_name().to_str()?.parse().ok()?;
        let arguments = fs::read(process.path().join("cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        let is_ours = arguments.starts_with("qemu-storage-daemon") && arguments.contains(&directory);
        is_ours.then(|| Pid::from_raw(pid)).flatten()
    })
}
