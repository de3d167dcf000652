//! Operations on a queue's directory: rare, blocking, never on a worker's hot path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, Uid,
};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Read only, through the page cache.
    Read,
    /// Through the page cache.
    Buffered,
    /// O_DIRECT where the file system has it, else buffered; see [`Disk::is_direct`].
    Direct,
}

impl FileKind {
    /// # Panics
    /// When a read operation names a file that was opened to be written.
    pub(crate) fn check_read(self) {
        assert!(self == Self::Read, "a read names a file that was not opened for reading only");
    }
}

/// A directory and its files.
pub trait Disk: Clone + Send + 'static {
    /// An open file.
    type File: Send + 'static;

    /// The names in a subdirectory (`""`: the directory itself), in no order; none in one that is missing.
    ///
    /// # Errors
    /// The file system's error.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Creates a subdirectory if it is missing.
    ///
    /// # Errors
    /// The file system's error.
    fn make_directory(&self, directory: &str) -> io::Result<()>;

    /// Opens a regular file. Never waits for another process, and follows no link.
    ///
    /// # Errors
    /// The file system's error; also if it is not a regular file.
    fn open(&self, path: &str, kind: FileKind) -> io::Result<Self::File>;

    /// Creates a file of `size` bytes with its blocks reserved (posix_fallocate), all zero, and opens it.
    ///
    /// # Errors
    /// The file system's error; no file is left.
    fn create(&self, path: &str, size: u64, kind: FileKind) -> io::Result<Self::File>;

    /// Writes zeros to the first `size` bytes of a file without transferring them, so that later writes there change no
    /// metadata. `false`: this is not supported, and nothing was written.
    ///
    /// # Errors
    /// The file system's error.
    fn write_zeroes(&self, file: &Self::File, size: u64) -> io::Result<bool> {
        let _ = (file, size);
        Ok(false)
    }

    /// Renames within the directory, replacing the target.
    ///
    /// # Errors
    /// The file system's error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Renames within the directory unless the target exists.
    ///
    /// # Errors
    /// The file system's error; `AlreadyExists` when the target is there.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The file system's error.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes creations, renames and removals in a subdirectory durable.
    ///
    /// # Errors
    /// The file system's error.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;

    /// Takes the directory's lock, which ends with the process; an error of kind `WouldBlock` when another has it.
    ///
    /// # Errors
    /// The file system's error.
    fn lock(&self, path: &str) -> io::Result<Self::File>;

    /// Whether a process has the directory's lock. Changes nothing, and prevents no process from taking it.
    ///
    /// # Errors
    /// The file system's error.
    fn is_locked(&self, path: &str) -> io::Result<bool>;

    /// Returns random bits that cannot be guessed.
    ///
    /// # Errors
    /// The system's error.
    fn random(&self) -> io::Result<u64>;

    /// Returns the bytes free for this process and the total size.
    ///
    /// # Errors
    /// The file system's error.
    fn space(&self) -> io::Result<(u64, u64)>;

    /// Whether the directory and what it had under this path are still where they were: a subdirectory since it was made or
    /// first found, the lock since it was taken. What is written to files of a directory that was removed or replaced is
    /// lost. Of a disk whose directory cannot be removed it is true.
    fn is_in_place(&self, _path: &str) -> bool {
        true
    }

    /// Returns the size in bytes.
    ///
    /// # Errors
    /// The file system's error.
    fn size(&self, file: &Self::File) -> io::Result<u64>;

    /// Whether writes to the file go past the page cache and so must be aligned.
    fn is_direct(&self, file: &Self::File) -> bool;

    /// Reads at an offset; fewer bytes than asked only at the end of the file. For a file that was opened
    /// [`FileKind::Direct`], memory, offset and length must be aligned to [`crate::BLOCK_ALIGNMENT`].
    ///
    /// # Errors
    /// The file system's error.
    fn read_at(&self, file: &Self::File, octets: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Announces that the whole file will be read, so that the system may read ahead.
    fn read_ahead(&self, _file: &Self::File) {}

    /// Writes all bytes at an offset, with the same rule for alignment.
    ///
    /// # Errors
    /// The file system's error.
    fn write_at(&self, file: &Self::File, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a file's content and size durable.
    ///
    /// # Errors
    /// The file system's error.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
}

/// A directory of the operating system.
///
/// Everything created in it belongs to the directory's owner, whichever user creates it. The group has at most the
/// directory's permissions; others have none.
#[derive(Clone, Debug)]
pub struct OsDisk {
    root: PathBuf,
    owner: Owner,
    /// Device and inode of the directory (`""`), and of what was made or found in it.
    identities: Arc<Mutex<BTreeMap<String, Identity>>>,
}

/// Device and inode.
type Identity = (u64, u64);

/// The owner of a directory.
#[derive(Clone, Copy, Debug)]
struct Owner {
    user: u32,
    group: u32,
    mode: u32,
}

impl Owner {
    /// Gives a file or directory that was just made to the directory's owner.
    fn settle(self, file: &File, is_directory: bool) -> io::Result<()> {
        let found = file.metadata()?;
        if rustix::process::geteuid().is_root() && (found.uid(), found.gid()) != (self.user, self.group) {
            fchown(file, Some(self.user), Some(self.group))?;
        }
        let mode = if is_directory { self.mode & 0o770 | 0o700 } else { self.mode & 0o660 | 0o600 };
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }
}

/// A file of the operating system.
#[derive(Debug)]
pub struct OsFile {
    pub(crate) file: File,
    /// How it is open: [`FileKind::Direct`] only where the file system has that.
    pub(crate) kind: FileKind,
}

impl OsFile {
    /// A file that is no regular one, such as a device that takes no writes; [`OsDisk`] does not open those.
    #[cfg(test)]
    pub(crate) fn of_any_kind(file: File, kind: FileKind) -> Self {
        Self { file, kind }
    }

    /// Reads at an offset; fewer bytes than asked only at the end of the file.
    pub(crate) fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < octets.len() {
            match self.file.read_at(&mut octets[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// How long to wait for a lock that only readers hold, who keep it briefly.
const READERS_PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two attempts.
const READERS_PERIOD: Duration = Duration::from_millis(5);
/// `FALLOC_FL_WRITE_ZEROES`, since Linux 6.17: the device zeroes the range by itself, and its extents are marked written.
const WRITE_ZEROES: FallocateFlags = FallocateFlags::from_bits_retain(0x80);

impl OsDisk {
    /// The directory `root`, made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// The file system's error.
    pub fn new(root: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root = root.canonicalize()?;
        let metadata = root.metadata()?;
        let owner = Owner { user: metadata.uid(), group: metadata.gid(), mode: metadata.mode() };
        let identities = BTreeMap::from([(String::new(), (metadata.dev(), metadata.ino()))]);
        Ok(Self { root, owner, identities: Arc::new(Mutex::new(identities)) })
    }

    /// The directory, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Notes what is under a path now, for [`Disk::is_in_place`].
    ///
    /// # Errors
    /// The file system's error.
    pub fn note_place(&self, path: &str) -> io::Result<()> {
        let found = identity(&self.path(path))?;
        self.identities.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), found);
        Ok(())
    }

    /// Gives a socket that was just made to the directory's owner, who alone may write to it.
    ///
    /// # Errors
    /// The file system's error; also if it is not a socket.
    pub fn settle_socket(&self, path: &str) -> io::Result<()> {
        let path = self.path(path);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        // The file that this descriptor refers to cannot be exchanged.
        let socket =
            rustix::fs::open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let found = rustix::fs::fstat(&socket)?;
        if !FileType::from_raw_mode(found.st_mode).is_socket() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket"));
        }
        let (user, group) = (Uid::from_raw(self.owner.user), Gid::from_raw(self.owner.group));
        if rustix::process::geteuid().is_root() && found.st_uid != self.owner.user {
            rustix::fs::chownat(&socket, c"", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    }

    /// Returns the user id of the directory's owner.
    #[must_use]
    pub const fn owner(&self) -> u32 {
        self.owner.user
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn open_with(&self, path: &str, kind: FileKind, is_new: bool) -> io::Result<OsFile> {
        let mut options = File::options();
        options.read(true).write(kind != FileKind::Read).create_new(is_new).mode(0o600);
        let open = |flags: OFlags| {
            let flags = i32::try_from((flags | OFlags::NOFOLLOW).bits()).unwrap_or(0);
            options.clone().custom_flags(flags).open(self.path(path))
        };
        let (file, kind) = match kind {
            // Without waiting, should it be a FIFO.
            FileKind::Read => (open(OFlags::NONBLOCK)?, kind),
            FileKind::Buffered => (open(OFlags::empty())?, kind),
            FileKind::Direct => match open(OFlags::DIRECT) {
                Ok(file) => (file, kind),
                // tmpfs and some network file systems have no O_DIRECT. A file that was just made by the
                // failed attempt must not stop the second one.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    if is_new {
                        let _ = std::fs::remove_file(self.path(path));
                    }
                    (open(OFlags::empty())?, FileKind::Buffered)
                }
                Err(error) => return Err(error),
            },
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(OsFile { file, kind })
    }

    /// The file to lock, made if it is missing.
    fn open_lock(&self, path: &str) -> io::Result<File> {
        match self.open_with(path, FileKind::Buffered, true) {
            // Change the owner only of a file that was just created: an existing one may be anything.
            Ok(made) => self.owner.settle(&made.file, false).map(|()| made.file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(self.open_with(path, FileKind::Buffered, false)?.file)
            }
            Err(error) => Err(error),
        }
    }
}

impl Disk for OsDisk {
    type File = OsFile;

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.path(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn make_directory(&self, directory: &str) -> io::Result<()> {
        let path = self.path(directory);
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let flags = i32::try_from(flags.bits()).unwrap_or(0);
                self.owner.settle(&File::options().read(true).custom_flags(flags).open(&path)?, true)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
        self.note_place(directory)
    }

    fn open(&self, path: &str, kind: FileKind) -> io::Result<OsFile> {
        self.open_with(path, kind, false)
    }

    fn write_zeroes(&self, file: &OsFile, size: u64) -> io::Result<bool> {
        match rustix::fs::fallocate(&file.file, WRITE_ZEROES, 0, size) {
            Ok(()) => Ok(true),
            // An older kernel, or a device that would have to be sent the zeros.
            Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, path: &str, size: u64, kind: FileKind) -> io::Result<OsFile> {
        let file = self.open_with(path, kind, true)?;
        let reserved = rustix::fs::fallocate(&file.file, FallocateFlags::empty(), 0, size).or_else(|error| {
            // A file system without fallocate gets a sparse file; a lack of space then shows only at the write.
            if error == Errno::OPNOTSUPP {
                return file.file.set_len(size);
            }
            Err(error.into())
        });
        if let Err(error) = reserved.and_then(|()| self.owner.settle(&file.file, false)) {
            let _ = std::fs::remove_file(self.path(path));
            return Err(error);
        }
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        match rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            // Network file systems without it have links, which replace nothing either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                std::fs::hard_link(&from, &to)?;
                std::fs::remove_file(&from)
            }
            result => Ok(result?),
        }
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        File::open(self.path(directory))?.sync_all()
    }

    fn lock(&self, path: &str) -> io::Result<OsFile> {
        let file = self.open_lock(path)?;
        let mut waits = READERS_PATIENCE.as_nanos() / READERS_PERIOD.as_nanos();
        while let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // If a shared lock is granted, all holders are readers.
            let is_readers = error == Errno::WOULDBLOCK
                && rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok();
            if !is_readers || waits == 0 {
                return Err(error.into());
            }
            rustix::fs::flock(&file, FlockOperation::Unlock)?;
            waits -= 1;
            std::thread::sleep(READERS_PERIOD);
        }
        self.note_place(path)?;
        Ok(OsFile { file, kind: FileKind::Buffered })
    }

    fn is_locked(&self, path: &str) -> io::Result<bool> {
        let file = match self.open_with(path, FileKind::Read, false) {
            Ok(file) => file.file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn random(&self) -> io::Result<u64> {
        let mut bits = [0; 8];
        // The kernel returns this few bytes all at once, or none.
        let count = rustix::rand::getrandom(&mut bits, GetRandomFlags::empty())?;
        if count < bits.len() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(u64::from_ne_bytes(bits))
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let space = rustix::fs::statvfs(&self.root)?;
        Ok((space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize))
    }

    fn is_in_place(&self, path: &str) -> bool {
        let identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        ["", path].into_iter().all(|path| {
            let found = identity(&self.path(path)).ok();
            identities.get(path).map_or_else(|| found.is_some(), |known| found == Some(*known))
        })
    }

    fn size(&self, file: &OsFile) -> io::Result<u64> {
        Ok(file.file.metadata()?.len())
    }

    fn is_direct(&self, file: &OsFile) -> bool {
        file.kind == FileKind::Direct
    }

    fn read_ahead(&self, file: &OsFile) {
        // This is only advice: without it reading is slower.
        let _ = rustix::fs::fadvise(&file.file, 0, None, rustix::fs::Advice::WillNeed);
    }

    fn read_at(&self, file: &OsFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(octets, offset)
    }

    fn write_at(&self, file: &OsFile, octets: &[u8], offset: u64) -> io::Result<()> {
        file.file.write_all_at(octets, offset)
    }

    fn sync(&self, file: &OsFile) -> io::Result<()> {
        file.file.sync_all()
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_or_nothing_is() {
        let disk = disk("zeros");
        let file = disk.create("segment", 1 << 20, FileKind::Buffered).unwrap();
        disk.write_at(&file, &[7; 4096], 8192).unwrap();
        let expected = if disk.write_zeroes(&file, 1 << 20).unwrap() { 0 } else { 7 };
        let mut read = [1; 4096];
        assert_eq!(disk.read_at(&file, &mut read, 8192).unwrap(), 4096);
        assert_eq!((read, disk.size(&file).unwrap()), ([expected; 4096], 1 << 20));
        std::fs::remove_dir_all(disk.root()).unwrap();
    }

    fn disk(name: &str) -> OsDisk {
        let root = std::env::temp_dir().join(format!("mailrace-disk-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        OsDisk::new(&root).unwrap()
    }

    #[test]
    fn a_directory_that_was_removed_or_replaced_is_not_in_place() {
        let disk = disk("place");
        let root = disk.root().to_owned();
        assert!(disk.list("sub").unwrap().is_empty() && !root.join("sub").exists(), "looking makes nothing");
        disk.make_directory("sub").unwrap();
        assert!(disk.is_in_place("sub"));
        std::fs::rename(root.join("sub"), root.join("other")).unwrap();
        assert!(!disk.is_in_place("sub"), "the subdirectory is gone");
        std::fs::create_dir(root.join("sub")).unwrap();
        assert!(!disk.is_in_place("sub"), "another subdirectory is in its place");
        std::fs::remove_dir(root.join("sub")).unwrap();
        std::fs::rename(root.join("other"), root.join("sub")).unwrap();
        assert!(disk.is_in_place("sub"), "the subdirectory is back");
        let aside = root.with_extension("aside");
        std::fs::rename(&root, &aside).unwrap();
        assert!(!disk.is_in_place(""), "all is gone");
        std::fs::create_dir(&root).unwrap();
        assert!(!disk.is_in_place(""), "another is in its place");
        std::fs::remove_dir(&root).unwrap();
        std::fs::rename(&aside, &root).unwrap();
        assert!(disk.is_in_place(""), "it is back");
        drop(disk.lock("lock").unwrap());
        std::fs::remove_file(root.join("lock")).unwrap();
        assert!(!disk.is_in_place("lock"), "the lock is gone");
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_file_is_not_renamed_over_another() {
        let disk = disk("rename");
        for name in ["a", "b"] {
            drop(disk.create(name, 4096, FileKind::Buffered).unwrap());
        }
        assert_eq!(disk.rename_new("a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.rename_new("a", "c").unwrap();
        let mut names = disk.list("").unwrap();
        names.sort();
        assert_eq!(names, ["b", "c"]);
        std::fs::remove_dir_all(disk.root()).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened_and_not_waited_for() {
        let disk = disk("odd");
        let root = disk.root().to_owned();
        std::fs::create_dir(root.join("directory")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", root.join("link")).unwrap();
        rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, 0o600.into(), 0).unwrap();
        for name in ["directory", "link", "fifo"] {
            for kind in [FileKind::Read, FileKind::Buffered, FileKind::Direct] {
                assert!(disk.open(name, kind).is_err(), "{name}");
            }
        }
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_lock_waits_for_readers_and_for_no_engine() {
        let disk = disk("lock");
        assert!(!disk.is_locked("lock").unwrap(), "without a lock file");
        assert!(disk.list("").unwrap().is_empty(), "looking makes nothing");
        let lock = disk.lock("lock").unwrap();
        assert!(disk.is_locked("lock").unwrap());
        assert_eq!(disk.lock("lock").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        assert!(!disk.is_locked("lock").unwrap());
        let reader = File::open(disk.root().join("lock")).unwrap();
        rustix::fs::flock(&reader, FlockOperation::LockShared).unwrap();
        let engine = {
            let disk = disk.clone();
            std::thread::spawn(move || disk.lock("lock").map(drop))
        };
        drop(reader);
        engine.join().unwrap().unwrap();
        std::fs::remove_dir_all(disk.root()).unwrap();
    }

    /// As root: another owner can only be given by it.
    #[test]
    fn what_is_made_belongs_to_the_owner_of_the_directory() {
        let root = std::env::temp_dir().join(format!("mailrace-disk-owner-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&root, Some(6000), Some(6001)).unwrap();
        } else {
            eprintln!("skipped: only root can make files for others");
        }
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
        let disk = OsDisk::new(&root).unwrap();
        disk.make_directory("sub").unwrap();
        drop(disk.create("sub/file", 4096, FileKind::Direct).unwrap());
        drop(disk.lock("lock").unwrap());
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        disk.settle_socket("socket").unwrap();
        assert!(disk.settle_socket("lock").is_err(), "no socket");
        disk.owner.settle(&File::open(root.join("lock")).unwrap(), false).unwrap();
        let expected = root.metadata().unwrap();
        for (path, mode) in [("sub", 0o750), ("sub/file", 0o640), ("lock", 0o640), ("socket", 0o600)] {
            let found = root.join(path).metadata().unwrap();
            assert_eq!((found.uid(), found.gid()), (expected.uid(), expected.gid()), "{path}");
            assert_eq!(found.mode() & 0o7777, mode, "{path}");
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
