//! Owns a journalled ext4 on a loop device, for benchmarks on machines whose own file systems mislead.
//!
//! Without a journal, ext4 skips the very work that a durable create or append costs elsewhere, and it
//! punishes deleting files. The image is on direct I/O, so that a flush reaches the disk below and no page is
//! cached twice.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What kind of file system a path is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Such as `ext4`.
    pub kind: String,
    /// The device or other source.
    pub source: String,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Whether it journals its metadata, as far as is known.
    pub has_journal: bool,
}

/// Why it could not be made or removed.
#[derive(Debug)]
pub enum JournalFsError {
    /// Only root can.
    NotRoot,
    /// A file could not be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be run.
    Start {
        /// Which.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    Failed {
        /// Which.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// There is none at this path.
    Absent(PathBuf),
}

/// Makes a file system of `size` bytes and mounts it at `directory`; its image is beside it.
///
/// # Errors
/// [`JournalFsError`]; nothing is left.
pub fn up(directory: &Path, size: u64) -> Result<(), JournalFsError> {
    require_root()?;
    fs::create_dir_all(directory).map_err(failed_on(directory))?;
    let image = image(directory);
    let made = File::options().write(true).create_new(true).open(&image).and_then(|file| file.set_len(size));
    made.map_err(failed_on(&image))?;
    let result = attach(&image).and_then(|device| {
        let mounted = make_and_mount(&device, directory);
        if mounted.is_err() {
            // The first error is the one to tell.
            let _ = run("losetup", &["-d", &device]);
        }
        mounted
    });
    if result.is_err() {
        let _ = fs::remove_file(&image);
    }
    result
}

/// Unmounts the file system at `directory` and removes its image.
///
/// # Errors
/// [`JournalFsError`].
pub fn down(directory: &Path) -> Result<(), JournalFsError> {
    require_root()?;
    let image = image(directory);
    if !image.exists() {
        return Err(JournalFsError::Absent(directory.to_owned()));
    }
    let mounted = file_system(directory)?;
    let directory = directory.canonicalize().map_err(failed_on(directory))?;
    if mounted.mount_point == directory {
        run("umount", &[&path_text(&directory)])?;
        run("losetup", &["-d", &mounted.source])?;
    }
    fs::remove_file(&image).map_err(failed_on(&image))?;
    fs::remove_dir(&directory).map_err(failed_on(&directory))
}

/// The file system that `path` is on.
///
/// # Errors
/// When the path or the table of mounts cannot be read.
pub fn file_system(path: &Path) -> Result<FileSystem, JournalFsError> {
    let path = path.canonicalize().map_err(failed_on(path))?;
    let mounts = Path::new("/proc/self/mountinfo");
    let table = fs::read_to_string(mounts).map_err(failed_on(mounts))?;
    let found = find_mount(&table, &path).ok_or_else(|| JournalFsError::Absent(path.clone()))?;
    let has_journal = match found.kind.as_str() {
        "ext3" | "ext4" => has_jbd2(&found.source),
        "xfs" | "btrfs" | "f2fs" | "zfs" | "bcachefs" => true,
        _ => false,
    };
    Ok(FileSystem { has_journal, ..found })
}

/// The deepest mount above `path`; of several on one place the last, which hides the others.
fn find_mount(table: &str, path: &Path) -> Option<FileSystem> {
    let mut found: Option<FileSystem> = None;
    for line in table.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount_point) = before.split(' ').nth(4).map(unescape) else { continue };
        let mut rest = after.split(' ');
        let (Some(kind), Some(source)) = (rest.next(), rest.next()) else { continue };
        let is_deeper = found
            .as_ref()
            .is_none_or(|it| mount_point.components().count() >= it.mount_point.components().count());
        if path.starts_with(&mount_point) && is_deeper {
            found = Some(FileSystem {
                kind: kind.to_owned(),
                source: source.to_owned(),
                mount_point,
                has_journal: false,
            });
        }
    }
    found
}

/// Spaces and the like stand as octal numbers in the table of mounts.
fn unescape(text: &str) -> PathBuf {
    let mut path = text.to_owned();
    for (escape, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        path = path.replace(escape, character);
    }
    PathBuf::from(path)
}

/// The kernel lists each journal of ext4 by its device.
fn has_jbd2(source: &str) -> bool {
    let source = fs::canonicalize(source).unwrap_or_else(|_| PathBuf::from(source));
    let Some(device) = source.file_name().and_then(|name| name.to_str()) else { return false };
    let Ok(journals) = fs::read_dir("/proc/fs/jbd2") else { return false };
    journals.flatten().any(|entry| {
        let name = entry.file_name();
        // DEVICE-8: the journal's inode; another number for an external one.
        name.to_str().and_then(|name| name.rsplit_once('-')).is_some_and(|(of, _)| of == device)
    })
}

fn attach(image: &Path) -> Result<String, JournalFsError> {
    run("losetup", &["--find", "--show", "--direct-io=on", &path_text(image)])
}

fn make_and_mount(device: &str, directory: &Path) -> Result<(), JournalFsError> {
    let options = "lazy_itable_init=0,lazy_journal_init=0";
    run("mkfs.ext4", &["-q", "-F", "-J", "size=64", "-E", options, device])?;
    run("mount", &["-t", "ext4", "-o", "noatime", device, &path_text(directory)])?;
    Ok(())
}

fn run(program: &'static str, arguments: &[&str]) -> Result<String, JournalFsError> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|source| JournalFsError::Start { program, source })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(JournalFsError::Failed { program, message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn require_root() -> Result<(), JournalFsError> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(JournalFsError::NotRoot) }
}

fn image(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".img");
    PathBuf::from(name)
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn failed_on(path: &Path) -> impl FnOnce(io::Error) -> JournalFsError + use<> {
    let path = path.to_owned();
    |source| JournalFsError::File { path, source }
}

impl fmt::Display for JournalFsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => out.write_str("only root can create loop devices and mount file systems"),
            Self::File { path, source } => write!(out, "{}: {source}", path.display()),
            Self::Start { program, source } => write!(out, "{program} cannot be run: {source}"),
            Self::Failed { program, message } => write!(out, "{program} failed: {message}"),
            Self::Absent(path) => write!(out, "{}: no such file system", path.display()),
        }
    }
}

impl std::error::Error for JournalFsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } | Self::Start { source, .. } => Some(source),
            Self::NotRoot | Self::Failed { .. } | Self::Absent(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_last_mount_wins() {
        let table = "\
            21 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            30 21 7:0 / /mnt/a\\040b rw - ext4 /dev/loop0 rw\n\
            31 21 0:5 / /mnt rw shared:1 - tmpfs none rw\n\
            32 21 7:1 / /mnt rw - xfs /dev/loop1 rw\n";
        let find = |path: &str| {
            find_mount(table, Path::new(path)).map(|it| (it.source, it.mount_point.display().to_string()))
        };
        assert_eq!(find("/etc"), Some(("/dev/vda".into(), "/".into())));
        assert_eq!(find("/mnt/a b/c"), Some(("/dev/loop0".into(), "/mnt/a b".into())));
        assert_eq!(find("/mnt/a"), Some(("/dev/loop1".into(), "/mnt".into())));
        assert_eq!(find("/mntx"), Some(("/dev/vda".into(), "/".into())));
    }

    #[test]
    fn this_directory_is_on_some_file_system() {
        let found = file_system(Path::new(".")).unwrap();
        assert!(!found.kind.is_empty());
    }
}
