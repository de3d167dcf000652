//! Owns looking at a simulated disk without changing it: what is only in a cache stays only there.

use std::io;

use mailrace_io::sim::{SimDisk, SimFile};
use mailrace_io::{Disk, FileKind};

use crate::queue_reader::Files;

/// A disk that is only looked at.
#[derive(Clone, Debug)]
pub(super) struct Onlooker(SimDisk);

impl Onlooker {
    /// All of a file, if it is there.
    fn all_of(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match self.0.open(path, FileKind::Buffered) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let size = usize::try_from(self.0.size(&file)?).unwrap_or(usize::MAX);
        let mut octets = vec![0; size];
        let count = self.0.read_at(&file, &mut octets, 0)?;
        octets.truncate(count);
        Ok(Some(octets))
    }

    pub(super) fn new(disk: &SimDisk) -> Self {
        Self(disk.clone())
    }
}

impl Disk for Onlooker {
    type File = SimFile;

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.0.list(directory)
    }

    fn make_directory(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &str, kind: FileKind) -> io::Result<SimFile> {
        self.0.open(path, kind)
    }

    fn create(&self, _: &str, _: u64, _: FileKind) -> io::Result<SimFile> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename_new(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_directory(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &str) -> io::Result<SimFile> {
        self.0.lock(path)
    }

    fn is_locked(&self, path: &str) -> io::Result<bool> {
        self.0.is_locked(path)
    }

    fn random(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        self.0.space()
    }

    fn size(&self, file: &SimFile) -> io::Result<u64> {
        self.0.size(file)
    }

    fn is_direct(&self, file: &SimFile) -> bool {
        self.0.is_direct(file)
    }

    fn read_at(&self, file: &SimFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(file, octets, offset)
    }

    fn write_at(&self, _: &SimFile, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self, _: &SimFile) -> io::Result<()> {
        Ok(())
    }
}

impl Files for Onlooker {
    fn manifest(&self) -> io::Result<Option<Vec<u8>>> {
        self.all_of("manifest")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.0.list(SEGMENTS)
    }

    fn read_all(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.all_of(&format!("{SEGMENTS}/{name}"))
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.0.open(&format!("{SEGMENTS}/{name}"), FileKind::Buffered)?;
        let mut octets = vec![0; length];
        if self.0.read_at(&file, &mut octets, offset)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(octets)
    }
}

const SEGMENTS: &str = "segments";
