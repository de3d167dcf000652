//! The threads that write to files and read from them: both block, and a worker must not.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::io::{Errno, ReadWriteFlags};

use crate::{Block, Completion, FileId, OsFile, Token, Waker};

/// A write or read that is to be done.
pub(super) struct Task {
    pub(super) token: Token,
    pub(super) id: FileId,
    pub(super) file: Arc<OsFile>,
    pub(super) offset: u64,
    pub(super) memory: Memory,
}

/// What is written, or read into.
pub(super) enum Memory {
    Write { block: Block, is_durable: bool },
    Read(Vec<u8>),
}

/// Threads of which each does one task at a time. Ended, with all tasks done, when dropped.
pub(super) struct Writers {
    queue: Arc<Queue>,
    completions: Receiver<(FileId, Completion)>,
    threads: Vec<JoinHandle<()>>,
}

/// Tasks for whichever thread is free. A channel's receivers would spin before they sleep, on the core that the worker
/// needs.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    has_changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    is_ended: bool,
}

impl Writers {
    /// Starts `count` threads; `waker` is called after each task. They run where the thread that starts them may:
    /// beside the worker that waits for them, so that handing over wakes no other core.
    pub(super) fn start(count: usize, waker: &Waker) -> io::Result<Self> {
        let (done, completions) = channel();
        let mut writers = Self { queue: Arc::default(), completions, threads: Vec::new() };
        for _ in 0..count {
            let (queue, done, waker) = (Arc::clone(&writers.queue), done.clone(), waker.clone());
            let thread = std::thread::Builder::new().name("writer".to_owned());
            writers.threads.push(thread.spawn(move || work(&queue, &done, &waker))?);
        }
        Ok(writers)
    }

    /// Hands a task over. As many wait as the caller has under way.
    pub(super) fn submit(&self, task: Task) {
        self.queue.lock().tasks.push_back(task);
        self.queue.has_changed.notify_one();
    }

    /// The tasks that were done since the last time, and their files.
    pub(super) fn completions(&self) -> impl Iterator<Item = (FileId, Completion)> + '_ {
        self.completions.try_iter()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.queue.lock().is_ended = true;
        self.queue.has_changed.notify_all();
        for thread in self.threads.drain(..) {
            // It says itself why it panicked.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next task; `None` when there will be none.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            if state.is_ended {
                return None;
            }
            state = self.has_changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(queue: &Queue, done: &Sender<(FileId, Completion)>, waker: &Waker) {
    while let Some(Task { token, id, file, offset, memory }) = queue.next() {
        let completion = match memory {
            Memory::Write { block, is_durable } => {
                let flags = if is_durable { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
                let result = write_whole(block.filled(), offset, |octets, offset| {
                    rustix::io::pwritev2(&file.file, &[IoSlice::new(octets)], offset, flags)
                });
                Completion::Written { token, block, result }
            }
            Memory::Read(mut buffer) => {
                let result = file.read_at(&mut buffer, offset);
                Completion::Read { token, buffer, result }
            }
        };
        // The thread that sees the completion may detach the file.
        drop(file);
        // No thread asks any more when the worker is being dropped.
        let _ = done.send((id, completion));
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
    use crate::{Disk, FileKind, OsDisk};

    use super::*;

    #[test]
    fn what_was_handed_over_is_written_before_the_threads_end() {
        let root = std::env::temp_dir().join(format!("mailrace-io-writers-{}", std::process::id()));
        let disk = OsDisk::new(&root).unwrap();
        let mut files = crate::files::Files::default();
        let file = Arc::new(disk.create("segment", 65_536, FileKind::Buffered).unwrap());
        let id = files.attach(Arc::clone(&file));
        let writers = Writers::start(2, &Waker::new(|| {})).unwrap();
        for number in 0..16 {
            let mut block = Block::new(4096);
            block.extend(&[b'x'; 4096]);
            let (file, offset) = (Arc::clone(&file), number * 4096);
            let memory = Memory::Write { block, is_durable: true };
            writers.submit(Task { token: Token(number), id, file, offset, memory });
        }
        drop(writers);
        assert!(std::fs::read(root.join("segment")).unwrap() == [b'x'; 65_536]);
        std::fs::remove_dir_all(root).unwrap();
    }

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
