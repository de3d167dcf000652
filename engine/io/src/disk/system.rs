//! A directory of the operating system as a [`Disk`].

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

use super::{Disk, FileKind, transfer_zeros};

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

    fn write_zeroes(&self, file: &OsFile, size: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&file.file, WRITE_ZEROES, 0, size) {
            Ok(()) => Ok(()),
            // An older kernel, or a device that has to be sent the zeros.
            Err(Errno::OPNOTSUPP | Errno::INVAL) => transfer_zeros(self, file, size),
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
mod tests;
