//! Reading the files of tables and of the configuration, whatever is found under their names: a FIFO, a device, a
//! terabyte of nothing, a file system that does not answer.
//!
//! A file is opened without waiting for its other end, its type and size are looked at before a byte is
//! read, and all of it happens on a thread of its own. A thread that hears nothing from the file system for a while is
//! left to itself: the caller goes on without the file, which is not tried again before that thread is back.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

/// How long a file system may say nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const PIECE_SIZE: usize = 1 << 20;
/// Threads that may be left to themselves at once.
const ABANDONED_MAX: usize = 16;

/// The files that threads left to themselves wait for.
static ABANDONED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn abandoned() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // A set of names is whole after any panic.
    ABANDONED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a thread still waits for this file.
pub(crate) fn is_abandoned(path: &Path) -> bool {
    abandoned().contains(path)
}

/// Reads a regular file of at most `size_max` bytes.
///
/// # Errors
/// The system's error, or what was found instead, as a sentence for operators.
pub(crate) fn read(path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
    read_front(path, size_max, usize::MAX)
}

/// The same, but only the first `front` bytes.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_front(path: &Path, size_max: u64, front: usize) -> io::Result<Vec<u8>> {
    let progress = Arc::new(AtomicU64::new(0));
    on_own_thread(path, Arc::clone(&progress), {
        let path = path.to_owned();
        move || read_here(&path, size_max, front, &progress)
    })?
}

fn read_here(path: &Path, size_max: u64, front: usize, progress: &AtomicU64) -> io::Result<Vec<u8>> {
    let (mut file, metadata) = open(path)?;
    let too_large = |size: String| {
        let reason = format!("has {size} bytes, more than the {size_max} that are allowed");
        io::Error::new(io::ErrorKind::FileTooLarge, reason)
    };
    if metadata.len() > size_max {
        return Err(too_large(metadata.len().to_string()));
    }
    let expected = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(front);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(expected)?;
    while bytes.len() < front {
        let piece = PIECE_SIZE.min(front - bytes.len());
        bytes.try_reserve(piece.min(PIECE_SIZE))?;
        if (&mut file).take(piece as u64).read_to_end(&mut bytes)? == 0 {
            break;
        }
        progress.fetch_add(1, Ordering::Relaxed);
        if bytes.len() as u64 > size_max {
            return Err(too_large(format!("at least {}", bytes.len())));
        }
    }
    Ok(bytes)
}

/// Opens a regular file.
///
/// # Errors
/// The system's error, or what was found instead.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // A device may do something when it is opened, and a socket cannot be: the name is looked at first.
    regular(&std::fs::metadata(path)?)?;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    regular(&metadata)?;
    Ok((file, metadata))
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let found = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "not a file"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("is {found}, not a regular file")))
}

/// Does something with a file on a thread of its own, and waits as long as `progress` changes every now and then.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`], or no thread could be started.
pub(crate) fn on_own_thread<T: Send + 'static>(
    path: &Path,
    progress: Arc<AtomicU64>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let timed_out = |reason: String| Err(io::Error::new(io::ErrorKind::TimedOut, reason));
    {
        let abandoned = abandoned();
        if abandoned.contains(path) {
            return timed_out("its file system has not answered an earlier attempt yet".to_owned());
        }
        if abandoned.len() >= ABANDONED_MAX {
            return timed_out(format!("{ABANDONED_MAX} other files are still waited for"));
        }
    }
    let (sender, receiver) = mpsc::channel();
    let is_done = Arc::new(AtomicBool::new(false));
    std::thread::Builder::new().name("files".to_owned()).spawn({
        let (path, is_done) = (path.to_owned(), Arc::clone(&is_done));
        move || {
            let result = work();
            let mut abandoned = abandoned();
            is_done.store(true, Ordering::Relaxed);
            abandoned.remove(&path);
            // Its reader may have given up.
            let _ = sender.send(result);
        }
    })?;
    let mut seen = progress.load(Ordering::Relaxed);
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(result) => return Ok(result),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the thread that read it has failed"));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let now = progress.load(Ordering::Relaxed);
        let mut abandoned = abandoned();
        if now == seen && !is_done.load(Ordering::Relaxed) {
            abandoned.insert(path.to_owned());
            return timed_out(format!("its file system has not answered for {PATIENCE:?}"));
        }
        seen = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, mknodat};

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("mailrace-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn reads_only_regular_files_up_to_the_limit() {
        let directory = scratch("kinds");
        let place = |name: &str| directory.join(name);
        std::fs::write(place("text"), "a b\n").unwrap();
        assert_eq!(read(&place("text"), 4).unwrap(), b"a b\n");
        assert_eq!(read_front(&place("text"), 4, 1).unwrap(), b"a");
        mknodat(CWD, place("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", place("zero")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        File::create(place("huge")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink(place("loop"), place("loop")).unwrap();
        for (name, reason) in [
            ("fifo", "is a FIFO, not a regular file"),
            (".", "is a directory, not a regular file"),
            ("zero", "is a device, not a regular file"),
            ("socket", "is a socket, not a regular file"),
            ("huge", "has 1099511627776 bytes, more than the 1000 that are allowed"),
            ("none", "No such file"),
            ("loop", "symbolic links"),
        ] {
            let error = read(&place(name), 1000).unwrap_err().to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn stops_reading_a_file_that_exceeds_its_stated_size() {
        // Files of /proc have no size until they are read.
        let error = read(Path::new("/proc/self/status"), 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
    }
}
