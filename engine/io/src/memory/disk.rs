//! A directory in memory that loses unsynced bytes in a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Disk, FileKind};

/// A directory in memory; clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile {
    number: u64,
    pub(super) kind: FileKind,
    lock: Option<Lock>,
}

/// Holds a lock until it is dropped.
#[derive(Debug)]
struct Lock {
    disk: MemoryDisk,
    path: String,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

#[derive(Debug, Default)]
struct State {
    /// Path to file number, now and as a power cut would leave it.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Content>,
    locks: BTreeSet<String>,
    next: u64,
    capacity: Option<u64>,
    failing_writes: u32,
    is_read_only: bool,
    is_taken_away: bool,
    /// Reads of these files fail.
    unreadable: BTreeSet<u64>,
    /// Random numbers given so far.
    randoms: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    octets: Vec<u8>,
    durable: Vec<u8>,
}

impl MemoryDisk {
    /// An empty directory without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the bytes of all files.
    pub fn set_capacity(&self, octets: Option<u64>) {
        self.state().capacity = octets;
    }

    /// Lets the next `count` writes of operations fail with EIO, half of their bytes written.
    pub fn fail_writes(&self, count: u32) {
        self.state().failing_writes = count;
    }

    /// Lets all that would change a file or a name fail, until it is taken back.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.state().is_read_only = is_read_only;
    }

    /// Lets the directory be gone from its place; its files can still be written.
    pub fn set_taken_away(&self, is_taken_away: bool) {
        self.state().is_taken_away = is_taken_away;
    }

    /// Lets all reads of a file fail with EIO, or none.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn set_unreadable(&self, path: &str, is_unreadable: bool) {
        let mut state = self.state();
        let number = *state.names.get(path).expect("a file that exists");
        if is_unreadable {
            state.unreadable.insert(number);
        } else {
            state.unreadable.remove(&number);
        }
    }

    /// Cuts the power: data that was not durable is gone. Open files must not be used afterwards.
    pub fn cut_power(&self) {
        let mut state = self.state();
        let names = state.durable_names.clone();
        state.names = names;
        for content in state.files.values_mut() {
            content.octets.clone_from(&content.durable);
        }
        state.locks.clear();
    }

    /// Changes bytes of a file without any operation.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let number = *state.names.get(path).expect("damage names a file that exists");
        let content = state.files.get_mut(&number).expect("a name leads to a file");
        change(&mut content.octets);
        content.durable.clone_from(&content.octets);
    }

    pub(super) fn write(
        &self,
        file: &MemoryFile,
        octets: &[u8],
        offset: u64,
        is_durable: bool,
    ) -> io::Result<()> {
        let is_failing = {
            let mut state = self.state();
            let is_failing = state.failing_writes > 0;
            state.failing_writes = state.failing_writes.saturating_sub(1);
            is_failing
        };
        if is_failing {
            self.put(file, &octets[..octets.len() / 2], offset, false)?;
            return Err(io::Error::other("the disk failed, as the test asked"));
        }
        self.put(file, octets, offset, is_durable)
    }

    fn put(&self, file: &MemoryFile, octets: &[u8], offset: u64, is_durable: bool) -> io::Result<()> {
        let mut state = self.state();
        state.require_writable()?;
        let content = state.files.get_mut(&file.number).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = start + octets.len();
        for copy in
            [Some(&mut content.octets), is_durable.then_some(&mut content.durable)].into_iter().flatten()
        {
            if copy.len() < end {
                copy.resize(end, 0);
            }
            copy[start..end].copy_from_slice(octets);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn require_writable(&self) -> io::Result<()> {
        if self.is_read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let state = self.state();
        let names = state.names.keys().filter_map(|path| path.strip_prefix(&prefix));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn make_directory(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &str, kind: FileKind) -> io::Result<MemoryFile> {
        let number = *self.state().names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { number, kind, lock: None })
    }

    fn create(&self, path: &str, size: u64, kind: FileKind) -> io::Result<MemoryFile> {
        let mut state = self.state();
        state.require_writable()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let used: u64 = state
            .names
            .values()
            .filter_map(|number| state.files.get(number))
            .map(|file| file.octets.len() as u64)
            .sum();
        if state.capacity.is_some_and(|capacity| used + size > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let length = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
        let number = state.next;
        state.next += 1;
        state.files.insert(number, Content { octets: vec![0; length], durable: Vec::new() });
        state.names.insert(path.to_owned(), number);
        Ok(MemoryFile { number, kind, lock: None })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.require_writable()?;
        let number = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        if self.state().names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.require_writable()?;
        state.names.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let is_inside = |path: &str| path.strip_prefix(&prefix).is_some_and(|name| !name.contains('/'));
        let mut state = self.state();
        let now: Vec<(String, u64)> = state
            .names
            .iter()
            .filter(|(path, _)| is_inside(path))
            .map(|(path, number)| (path.clone(), *number))
            .collect();
        state.durable_names.retain(|path, _| !is_inside(path));
        state.durable_names.extend(now);
        Ok(())
    }

    fn lock(&self, path: &str) -> io::Result<MemoryFile> {
        if !self.state().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let lock = Some(Lock { disk: self.clone(), path: path.to_owned() });
        Ok(MemoryFile { number: u64::MAX, kind: FileKind::Buffered, lock })
    }

    fn is_locked(&self, path: &str) -> io::Result<bool> {
        Ok(self.state().locks.contains(path))
    }

    fn random(&self) -> io::Result<u64> {
        // splitmix64 over the number of times that this was asked.
        let mut state = self.state();
        state.randoms += 1;
        let mut bits = state.randoms.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(bits ^ (bits >> 31))
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let state = self.state();
        let used: u64 = state
            .names
            .values()
            .filter_map(|number| state.files.get(number))
            .map(|file| file.octets.len() as u64)
            .sum();
        let total = state.capacity.unwrap_or(1 << 40);
        Ok((total.saturating_sub(used), total))
    }

    fn is_in_place(&self, _: &str) -> bool {
        !self.state().is_taken_away
    }

    fn size(&self, file: &MemoryFile) -> io::Result<u64> {
        self.state()
            .files
            .get(&file.number)
            .map(|file| file.octets.len() as u64)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_direct(&self, file: &MemoryFile) -> bool {
        file.kind == FileKind::Direct && file.lock.is_none()
    }

    fn read_at(&self, file: &MemoryFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state();
        if state.unreadable.contains(&file.number) {
            return Err(io::Error::other("the disk cannot read it, as the test asked"));
        }
        let content = state.files.get(&file.number).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.octets.len());
        let count = octets.len().min(content.octets.len() - start);
        octets[..count].copy_from_slice(&content.octets[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, file: &MemoryFile, octets: &[u8], offset: u64) -> io::Result<()> {
        self.put(file, octets, offset, false)
    }

    fn sync(&self, file: &MemoryFile) -> io::Result<()> {
        let mut state = self.state();
        let content = state.files.get_mut(&file.number).ok_or(io::ErrorKind::NotFound)?;
        content.durable.clone_from(&content.octets);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_takes_what_was_not_synced() {
        let disk = MemoryDisk::new();
        let file = disk.create("q/a", 8, FileKind::Buffered).unwrap();
        disk.sync(&file).unwrap();
        disk.sync_directory("q").unwrap();
        disk.write_at(&file, b"lost", 0).unwrap();
        disk.create("q/b", 8, FileKind::Buffered).unwrap();
        disk.cut_power();
        assert_eq!(disk.list("q").unwrap(), ["a"]);
        let mut octets = [1; 4];
        disk.read_at(&file, &mut octets, 0).unwrap();
        assert_eq!(octets, [0; 4]);
    }

    #[test]
    fn a_lock_is_held_once() {
        let disk = MemoryDisk::new();
        let lock = disk.lock("lock").unwrap();
        assert!(disk.lock("lock").is_err());
        drop(lock);
        assert!(disk.lock("lock").is_ok());
    }
}
