//! Operations on a queue's directory: rare, blocking, never on a worker's hot path.

mod system;

use std::io;

use crate::uring;

pub use system::{OsDisk, OsFile};

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

    /// Writes zeros to the first `size` bytes of a file, a multiple of [`crate::BLOCK_ALIGNMENT`], so that later writes there
    /// change no metadata.
    ///
    /// # Errors
    /// The file system's error.
    fn write_zeroes(&self, file: &Self::File, size: u64) -> io::Result<()> {
        transfer_zeros(self, file, size)
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

/// Writes zeros that the caller transfers, unlike those that a device writes by itself.
fn transfer_zeros<D: Disk>(disk: &D, file: &D::File, size: u64) -> io::Result<()> {
    let zeros = uring::zeros();
    let mut offset = 0;
    while offset < size {
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX);
        let piece = zeros.get(..left).unwrap_or(zeros);
        disk.write_at(file, piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}
