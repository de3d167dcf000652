//! The simulated disk: operations on its [`files`](super::files), and what goes wrong with them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Fault;
use super::files::{Content, Files, Landing, Renaming};
use super::world::{State, Step, lock};
use crate::{BLOCK_ALIGNMENT, Disk, FileKind};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

/// The simulated disk; clones are the same.
#[derive(Clone, Debug)]
pub struct SimDisk(pub(super) Arc<Mutex<State>>);

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    pub(super) number: u64,
    /// How it is open: [`FileKind::Direct`] only in worlds that have that.
    pub(super) kind: FileKind,
    /// Held until the file is dropped.
    _lock: Option<Lock>,
}

/// Holds a lock until it is dropped.
#[derive(Debug)]
struct Lock {
    disk: SimDisk,
    path: String,
}

impl Drop for Lock {
    fn drop(&mut self) {
        lock(&self.disk.0).files.locks.remove(&self.path);
    }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Changes names, which a fault may prevent.
    fn rename_with(&self, change: impl FnOnce(&Files) -> io::Result<Renaming>) -> io::Result<()> {
        let mut state = self.state();
        let step = state.step();
        state.require_writable()?;
        let renaming = change(&state.files)?;
        match step {
            Step::Off => return Err(error(EIO)),
            Step::Last => {
                if state.disk_coin() {
                    state.files.change(renaming);
                }
                return Err(error(EIO));
            }
            Step::Go => {}
        }
        if state.disk_fault(Fault::WriteError) {
            return Err(error(EIO));
        }
        state.note("names change", [0; 3]);
        state.files.change(renaming);
        Ok(())
    }
}

impl State {
    pub(super) fn require_writable(&self) -> io::Result<()> {
        if self.orders.is_read_only { Err(error(EROFS)) } else { Ok(()) }
    }
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// What a read of a file that fails says.
pub(super) fn read_error(state: &mut State, number: u64) -> Option<io::Error> {
    let is_hit = state.disk_fault(Fault::ReadError);
    (is_hit || state.files.is_broken(number)).then(|| error(EIO))
}

/// What a write that fails says.
pub(super) fn write_error(state: &mut State) -> Option<io::Error> {
    let faults = [(Fault::WriteError, EIO), (Fault::NoSpace, ENOSPC), (Fault::Quota, EDQUOT)];
    let mut found = None;
    for (fault, number) in faults {
        if state.disk_fault(fault) {
            found = Some(error(number));
        }
    }
    found
}

fn prefix_of(directory: &str) -> String {
    if directory.is_empty() { String::new() } else { format!("{directory}/") }
}

fn is_inside(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|name| !name.contains('/'))
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated files are small")
}

/// The rule for direct files.
fn check_alignment(file: &SimFile, octets: &[u8], offset: u64) {
    if file.kind == FileKind::Direct {
        let memory = octets.as_ptr().align_offset(BLOCK_ALIGNMENT);
        let is_aligned = offset.is_multiple_of(BLOCK_ALIGNMENT as u64)
            && octets.len().is_multiple_of(BLOCK_ALIGNMENT)
            && memory == 0;
        assert!(is_aligned, "a direct read or write is not aligned: {} octets at {offset}", octets.len());
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let prefix = prefix_of(directory);
        let mut state = self.state();
        if state.disk_fault(Fault::ReadError) {
            return Err(error(EIO));
        }
        let mut names: Vec<String> = state
            .files
            .names
            .keys()
            .filter(|path| is_inside(path, &prefix))
            .map(|path| path[prefix.len()..].to_owned())
            .collect();
        // In no order, but by name in a calm world.
        let count = if state.is_calm { 0 } else { names.len() };
        for index in (1..count).rev() {
            let other = state.disk_random.index(index + 1);
            names.swap(index, other);
        }
        Ok(names)
    }

    fn make_directory(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &str, kind: FileKind) -> io::Result<SimFile> {
        let mut state = self.state();
        let number = *state.files.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        if state.disk_fault(Fault::ReadError) {
            return Err(error(EIO));
        }
        Ok(SimFile { number, kind: state.conditions.kind(kind), _lock: None })
    }

    fn create(&self, path: &str, size: u64, kind: FileKind) -> io::Result<SimFile> {
        let mut state = self.state();
        let step = state.step();
        if state.files.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if step != Step::Go {
            return Err(error(EIO));
        }
        state.require_writable()?;
        if let Some(error) = write_error(&mut state) {
            return Err(error);
        }
        if state.files.used() + size > state.conditions.capacity {
            state.failures += 1;
            return Err(error(ENOSPC));
        }
        let number = state.files.next;
        state.files.next += 1;
        state.files.contents.insert(number, Content::zeros(place(size)));
        state.files.change(Renaming::Create(path.to_owned(), number));
        state.note("file {} made: {} octets", [number, size, 0]);
        Ok(SimFile { number, kind: state.conditions.kind(kind), _lock: None })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_with(|files| {
            files.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            Ok(Renaming::Rename(from.to_owned(), to.to_owned()))
        })
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_with(|files| {
            files.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            if files.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(Renaming::Rename(from.to_owned(), to.to_owned()))
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.rename_with(|files| {
            files.names.get(path).ok_or(io::ErrorKind::NotFound)?;
            Ok(Renaming::Remove(path.to_owned()))
        })
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.step() != Step::Go || state.disk_fault(Fault::FlushError) {
            return Err(error(EIO));
        }
        let prefix = prefix_of(directory);
        let Files { journal, durable_names, .. } = &mut state.files;
        journal.retain(|renaming| {
            let is_inside = is_inside(renaming.path(), &prefix);
            if is_inside {
                renaming.apply(durable_names);
            }
            !is_inside
        });
        state.note("names are durable", [0; 3]);
        Ok(())
    }

    fn lock(&self, path: &str) -> io::Result<SimFile> {
        if !self.state().files.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let lock = Some(Lock { disk: self.clone(), path: path.to_owned() });
        Ok(SimFile { number: u64::MAX, kind: FileKind::Buffered, _lock: lock })
    }

    fn is_locked(&self, path: &str) -> io::Result<bool> {
        Ok(self.state().files.locks.contains(path))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.state().disk_random.bits())
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let state = self.state();
        let total = state.conditions.capacity;
        Ok((total.saturating_sub(state.files.used()), total))
    }

    fn is_in_place(&self, _: &str) -> bool {
        !self.state().orders.is_taken_away
    }

    fn size(&self, file: &SimFile) -> io::Result<u64> {
        Ok(self.state().files.size(file.number) as u64)
    }

    fn is_direct(&self, file: &SimFile) -> bool {
        file.kind == FileKind::Direct
    }

    fn read_at(&self, file: &SimFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        check_alignment(file, octets, offset);
        let mut state = self.state();
        match read_error(&mut state, file.number) {
            Some(error) => Err(error),
            None => Ok(state.files.read(file.number, octets, offset)),
        }
    }

    fn write_at(&self, file: &SimFile, octets: &[u8], offset: u64) -> io::Result<()> {
        check_alignment(file, octets, offset);
        let mut state = self.state();
        state.require_writable()?;
        let failure = match state.step() {
            Step::Off => return Err(error(EIO)),
            Step::Last => Some(error(EIO)),
            Step::Go => write_error(&mut state),
        };
        let is_broken = state.files.is_broken(file.number);
        let failure = failure.or_else(|| is_broken.then(|| error(EIO)));
        let landing = if failure.is_some() { Landing::Torn } else { Landing::Whole };
        state.note("file {} written: {} octets at {}", [file.number, octets.len() as u64, offset]);
        let State { files, disk_random, .. } = &mut *state;
        files.put(file.number, octets, place(offset), false, landing, disk_random);
        failure.map_or(Ok(()), Err)
    }

    fn sync(&self, file: &SimFile) -> io::Result<()> {
        let mut state = self.state();
        let step = state.step();
        let is_failing = step == Step::Last || state.disk_fault(Fault::FlushError);
        let State { files, disk_random, .. } = &mut *state;
        if step == Step::Off {
            return Err(error(EIO));
        }
        if is_failing {
            files.fail_flush(file.number, disk_random);
            return Err(error(EIO));
        }
        files.content(file.number).sync();
        state.note("file {} is durable", [file.number, 0, 0]);
        Ok(())
    }
}
