//! Owns what a queue needs of a directory: rare, blocking, never on a worker's hot path.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

/// Whether writes go past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Through the page cache.
    Buffered,
    /// O_DIRECT where the file system has it, else buffered; [`Disk::is_direct`] tells.
    Direct,
}

/// A directory and its files.
pub trait Disk: Clone + Send + 'static {
    /// An open file.
    type File: Send + 'static;

    /// The names in a subdirectory (`""`: the directory itself), in no order. A missing one is made.
    ///
    /// # Errors
    /// What the file system says.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// What the file system says.
    fn open(&self, path: &str, kind: FileKind) -> io::Result<Self::File>;

    /// Makes a new file of `size` octets with its blocks reserved (posix_fallocate), all zero, and opens it.
    ///
    /// # Errors
    /// What the file system says; no file is left behind.
    fn create(&self, path: &str, size: u64, kind: FileKind) -> io::Result<Self::File>;

    /// Renames within the directory, replacing the target.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes creations, renames and removals in a subdirectory durable.
    ///
    /// # Errors
    /// What the file system says.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;

    /// Takes the directory's lock, which ends with the process; an error of kind `WouldBlock` when another has it.
    ///
    /// # Errors
    /// What the file system says.
    fn lock(&self, path: &str) -> io::Result<Self::File>;

    /// Octets free for this process and octets in all.
    ///
    /// # Errors
    /// What the file system says.
    fn space(&self) -> io::Result<(u64, u64)>;

    /// Whether the directory and this subdirectory are still where they were opened: what is written to files of a
    /// directory that was removed is nobody's. Of a disk whose directory cannot be removed it is true.
    fn is_in_place(&self, _directory: &str) -> bool {
        true
    }

    /// Size in octets.
    ///
    /// # Errors
    /// What the file system says.
    fn size(&self, file: &Self::File) -> io::Result<u64>;

    /// Whether writes to the file go past the page cache and so must be aligned.
    fn is_direct(&self, file: &Self::File) -> bool;

    /// Reads at an offset; fewer octets than asked only at the end of the file. For a file that was opened
    /// [`FileKind::Direct`], memory, offset and length must be aligned to [`crate::BLOCK_ALIGNMENT`].
    ///
    /// # Errors
    /// What the file system says.
    fn read_at(&self, file: &Self::File, octets: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all octets at an offset, with the same rule for alignment.
    ///
    /// # Errors
    /// What the file system says.
    fn write_at(&self, file: &Self::File, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a file's content and size durable.
    ///
    /// # Errors
    /// What the file system says.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
}

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct OsDisk {
    root: PathBuf,
    /// Device and inode of the root.
    identity: (u64, u64),
}

/// A file of the operating system.
#[derive(Debug)]
pub struct OsFile {
    pub(crate) file: File,
    is_direct: bool,
}

impl OsDisk {
    /// The directory `root`, made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(root: &Path) -> io::Result<Self> {
        make_directory(root)?;
        let root = root.canonicalize()?;
        let identity = identity(&root)?;
        Ok(Self { root, identity })
    }

    /// The directory, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn open_with(&self, path: &str, kind: FileKind, is_new: bool) -> io::Result<OsFile> {
        let mut options = File::options();
        options.read(true).write(true).create_new(is_new).mode(0o600);
        if kind == FileKind::Direct {
            let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
            match options.clone().custom_flags(flags).open(self.path(path)) {
                Ok(file) => return Ok(OsFile { file, is_direct: true }),
                // tmpfs and some network file systems have no O_DIRECT. A file that was just made by the
                // failed attempt must not stop the second one.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    if is_new {
                        let _ = std::fs::remove_file(self.path(path));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(OsFile { file: options.open(self.path(path))?, is_direct: false })
    }
}

/// Nobody else looks into it.
fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl Disk for OsDisk {
    type File = OsFile;

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let path = self.path(directory);
        make_directory(&path)?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &str, kind: FileKind) -> io::Result<OsFile> {
        self.open_with(path, kind, false)
    }

    fn create(&self, path: &str, size: u64, kind: FileKind) -> io::Result<OsFile> {
        let file = self.open_with(path, kind, true)?;
        let reserved = rustix::fs::fallocate(&file.file, FallocateFlags::empty(), 0, size).or_else(|error| {
            // A file system without fallocate gets a sparse file: space is then found missing at the write.
            if error == rustix::io::Errno::OPNOTSUPP {
                return file.file.set_len(size);
            }
            Err(error.into())
        });
        if let Err(error) = reserved {
            let _ = std::fs::remove_file(self.path(path));
            return Err(error);
        }
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        File::open(self.path(directory))?.sync_all()
    }

    fn lock(&self, path: &str) -> io::Result<OsFile> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path(path))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(OsFile { file, is_direct: false })
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let space = rustix::fs::statvfs(&self.root)?;
        Ok((space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize))
    }

    fn is_in_place(&self, directory: &str) -> bool {
        identity(&self.root).is_ok_and(|found| found == self.identity) && self.path(directory).is_dir()
    }

    fn size(&self, file: &OsFile) -> io::Result<u64> {
        Ok(file.file.metadata()?.len())
    }

    fn is_direct(&self, file: &OsFile) -> bool {
        file.is_direct
    }

    fn read_at(&self, file: &OsFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < octets.len() {
            match file.file.read_at(&mut octets[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
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
    fn a_directory_that_was_removed_or_replaced_is_not_in_place() {
        let root = std::env::temp_dir().join(format!("mailrace-disk-{}", std::process::id()));
        let disk = OsDisk::new(&root).unwrap();
        assert!(disk.list("sub").unwrap().is_empty() && disk.is_in_place("sub"));
        std::fs::remove_dir(root.join("sub")).unwrap();
        assert!(!disk.is_in_place("sub"), "the subdirectory is gone");
        let aside = root.with_extension("aside");
        std::fs::rename(&root, &aside).unwrap();
        assert!(!disk.is_in_place(""), "all is gone");
        std::fs::create_dir(&root).unwrap();
        assert!(!disk.is_in_place(""), "another is in its place");
        std::fs::remove_dir(&root).unwrap();
        std::fs::rename(&aside, &root).unwrap();
        assert!(disk.is_in_place(""), "it is back");
        std::fs::remove_dir(&root).unwrap();
    }
}
