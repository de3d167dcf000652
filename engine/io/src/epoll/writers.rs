//! Owns the threads that write to files: a durable write blocks, and a worker must not.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, unbounded};
use rustix::io::{Errno, ReadWriteFlags};

use crate::{Block, Completion, OsFile, Token, Waker};

/// A write that is to be done.
pub(super) struct Write {
    pub(super) token: Token,
    pub(super) file: Arc<OsFile>,
    pub(super) block: Block,
    pub(super) offset: u64,
    pub(super) is_durable: bool,
}

/// Threads of which each does one write at a time. Ended, with all writes done, when dropped.
pub(super) struct Writers {
    /// `None` only while it is dropped.
    writes: Option<Sender<Write>>,
    completions: Receiver<Completion>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts `count` threads; `waker` is called after each write. They run where the thread that starts them may:
    /// beside the worker that waits for them, so that handing over wakes no other core.
    pub(super) fn start(count: usize, waker: &Waker) -> io::Result<Self> {
        let (writes, to_do) = unbounded();
        let (done, completions) = unbounded();
        let mut writers = Self { writes: Some(writes), completions, threads: Vec::new() };
        for _ in 0..count {
            let (to_do, done, waker) = (to_do.clone(), done.clone(), waker.clone());
            let thread = std::thread::Builder::new().name("writer".to_owned());
            writers.threads.push(thread.spawn(move || work(&to_do, &done, &waker))?);
        }
        Ok(writers)
    }

    /// Hands a write over. As many wait as the caller has under way.
    pub(super) fn submit(&self, write: Write) {
        let writes = self.writes.as_ref().expect("there until it is dropped");
        assert!(writes.send(write).is_ok(), "the writer threads wait for writes until it is dropped");
    }

    /// The writes that were done since the last time.
    pub(super) fn completions(&self) -> impl Iterator<Item = Completion> + '_ {
        self.completions.try_iter()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.writes = None;
        for thread in self.threads.drain(..) {
            // It says itself why it panicked.
            let _ = thread.join();
        }
    }
}

fn work(to_do: &Receiver<Write>, done: &Sender<Completion>, waker: &Waker) {
    for Write { token, file, block, offset, is_durable } in to_do {
        let flags = if is_durable { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        let result = write_whole(block.filled(), offset, |octets, offset| {
            rustix::io::pwritev2(&file.file, &[IoSlice::new(octets)], offset, flags)
        });
        // Whoever sees the completion may detach the file.
        drop(file);
        // Nobody asks any more when the worker is being dropped.
        let _ = done.send(Completion::Written { token, block, result });
        waker.wake();
    }
}

/// Goes on after a short write: the kernel says only at the next one what stopped it.
fn write_whole(
    octets: &[u8],
    offset: u64,
    mut write: impl FnMut(&[u8], u64) -> Result<usize, Errno>,
) -> io::Result<()> {
    let mut written = 0;
    while written < octets.len() {
        match write(&octets[written..], offset + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_write_goes_on_where_it_stopped_and_says_what_stopped_it() {
        let mut answers = vec![Ok(3), Err(Errno::INTR), Ok(2)].into_iter();
        let mut seen = Vec::new();
        let result = write_whole(b"durable", 4096, |octets, offset| {
            seen.push((octets.to_vec(), offset));
            answers.next().unwrap_or(Err(Errno::NOSPC))
        });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let wanted: [(&[u8], u64); 4] = [(b"durable", 4096), (b"able", 4099), (b"able", 4099), (b"le", 4101)];
        assert!(seen.iter().map(|(octets, offset)| (octets.as_slice(), *offset)).eq(wanted), "{seen:?}");
    }
}
