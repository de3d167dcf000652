//! Owns the segment files: makes them, cleans them for the next use, watches the space that is left.
//!
//! All of it blocks, so it runs on a thread of its own and hands workers what is ready.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, SendTimeoutError, Sender};
use mailrace_core::record::spool::{SEGMENT_HEADER_SIZE, SegmentHeader};
use mailrace_io::{Block, Disk, FileKind};

use crate::{SEGMENT_SUFFIX, SEGMENTS, Settings, Shared};

/// A segment that is ready for records.
#[derive(Debug)]
pub(crate) struct Ready<F> {
    pub(crate) file: F,
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
}

/// Makes and recycles segments.
#[derive(Debug)]
pub struct SegmentKeeper<D: Disk> {
    pub(crate) disk: D,
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) ready: Sender<Ready<D::File>>,
    pub(crate) freed: Receiver<String>,
    /// Names of segments without a live message.
    pub(crate) free: Vec<String>,
    /// Number of segment files.
    pub(crate) files: usize,
    /// Greater than those of all segments, and than the numbers in all of their names: a new file must not replace one.
    pub(crate) next_sequence: u64,
    pub(crate) random: u64,
    /// Emptied segments that are still to be made unreadable, in the order in which they were emptied.
    pub(crate) retiring: VecDeque<String>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// What became of an emptied segment.
enum Retired {
    /// It may be used again.
    Erased,
    /// It is gone.
    Removed,
}

/// How long the keeper rests between looks at the disk.
const PERIOD: Duration = Duration::from_millis(500);
/// What an operator is told then.
const GONE: &str = "its directory was removed or replaced: put it back, or restart the engine on a new one";
/// Octets that are zero-filled with one write.
const FILL_SIZE: usize = 1 << 20;

impl<D: Disk> SegmentKeeper<D> {
    /// Ends [`SegmentKeeper::run`] when set, within a second.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// What workers are told.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Works until the stop flag is set or all workers are gone.
    pub fn run(mut self) {
        let mut prepared = None;
        while !self.stop.load(Ordering::Relaxed) {
            self.look_around();
            if self.shared.is_gone() {
                self.shared.set_trouble(Some(GONE.to_owned()));
                std::thread::park_timeout(PERIOD);
                continue;
            }
            if prepared.is_none() {
                let made = self.prepare();
                let trouble = made.as_ref().err().map(|error| format!("no segment can be made: {error}"));
                self.shared.set_trouble(trouble);
                prepared = made.ok();
                // A disk that is full may have room later.
                self.shared.set_full(prepared.is_none());
            } else {
                // The directory is back.
                self.shared.set_trouble(None);
            }
            let Some(segment) = prepared.take() else {
                std::thread::park_timeout(PERIOD);
                continue;
            };
            match self.ready.send_timeout(segment, PERIOD) {
                Ok(()) => self.shared.wake(),
                Err(SendTimeoutError::Timeout(segment)) => prepared = Some(segment),
                Err(SendTimeoutError::Disconnected(_)) => return,
            }
        }
    }

    /// Does what there is to do without waiting: the same as [`SegmentKeeper::run`], one step at a time, for an engine
    /// whose time is simulated.
    pub fn step(&mut self) {
        self.look_around();
        while !self.ready.is_full() {
            let prepared = self.prepare().ok();
            self.shared.set_full(prepared.is_none());
            let Some(segment) = prepared else { return };
            // All workers are gone: nobody wants any.
            if self.ready.try_send(segment).is_err() {
                return;
            }
            self.shared.wake();
        }
    }

    /// Takes note of freed segments and of the space left.
    pub(crate) fn look_around(&mut self) {
        self.retiring.extend(self.freed.try_iter());
        // Those that cannot be made unreadable now, on a disk that fails, hold up those behind them until they can.
        while let Some(name) = self.retiring.pop_front() {
            match self.retire(&name) {
                Ok(Retired::Erased) => self.free.push(name),
                Ok(Retired::Removed) => self.files -= 1,
                Err(_) => {
                    self.retiring.push_front(name);
                    break;
                }
            }
        }
        let is_gone = !self.disk.is_in_place(SEGMENTS);
        self.shared.set_gone(is_gone);
        while self.free.len() > self.settings.kept_segments {
            let Some(name) = self.free.pop() else { break };
            // A segment that cannot be removed is only space lost until the next start.
            let _ = self.disk.remove(&name);
            self.files -= 1;
        }
        self.shared.set_segments(self.files);
        let Ok((free, _)) = self.disk.space() else {
            // A disk that does not even tell takes nothing either.
            self.shared.set_space(0, true);
            return;
        };
        // Emptied segments are room too.
        let free = free + self.free.len() as u64 * self.settings.segment_size;
        let needed = self.settings.queue_minfree.max(self.settings.message_size_limit / 2 * 3);
        self.shared.set_space(free, is_gone || free < needed);
    }

    /// Makes what an emptied segment still holds unreadable, for good, before it may be used again.
    ///
    /// Marks in later segments say that its messages are done. Those segments are emptied after this one, and so
    /// come here after it: when they are overwritten, nothing is left that would need their marks.
    fn retire(&self, name: &str) -> io::Result<Retired> {
        let mut block = Block::new(SEGMENT_HEADER_SIZE);
        block.extend(&[0; SEGMENT_HEADER_SIZE]);
        let erased = self.disk.open(name, FileKind::Direct).and_then(|file| {
            self.disk.write_at(&file, block.filled(), 0)?;
            self.disk.sync(&file)
        });
        if erased.is_ok() {
            return Ok(Retired::Erased);
        }
        match self.disk.remove(name) {
            // An earlier attempt has removed it, and could not make that durable.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.disk.sync_directory(SEGMENTS)?,
        }
        Ok(Retired::Removed)
    }

    /// Makes a segment ready: an emptied one if there is one, else a new file.
    pub(crate) fn prepare(&mut self) -> io::Result<Ready<D::File>> {
        // Of one that fails some may be on the disk: no other has its sequence.
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let header = SegmentHeader { sequence, salt: self.next_random(), size: self.settings.segment_size };
        let (name, file) = match self.free.pop() {
            Some(name) => match self.disk.open(&name, FileKind::Direct) {
                Ok(file) if self.disk.size(&file)? == self.settings.segment_size => (name, file),
                // Of another size, or damaged: it makes room for a new one.
                _ => {
                    let _ = self.disk.remove(&name);
                    self.files -= 1;
                    self.create(sequence)?
                }
            },
            None => self.create(sequence)?,
        };
        let mut block = Block::new(SEGMENT_HEADER_SIZE);
        block.extend(&header.encode());
        let written = self.disk.write_at(&file, block.filled(), 0).and_then(|()| self.disk.sync(&file));
        if let Err(error) = written {
            let _ = self.disk.remove(&name);
            self.files -= 1;
            return Err(error);
        }
        Ok(Ready { file, name, header })
    }

    /// Makes a new file, zero-filled: blocks that were never written cost a journal commit at their first write.
    fn create(&mut self, sequence: u64) -> io::Result<(String, D::File)> {
        let name = format!("{SEGMENTS}/{sequence:010}{SEGMENT_SUFFIX}");
        let temporary = format!("{name}.new");
        let _ = self.disk.remove(&temporary);
        let file = self.disk.create(&temporary, self.settings.segment_size, FileKind::Direct)?;
        let filled = self.fill(&file).and_then(|()| self.disk.rename(&temporary, &name));
        if let Err(error) = filled.and_then(|()| self.disk.sync_directory(SEGMENTS)) {
            let _ = self.disk.remove(&temporary);
            return Err(error);
        }
        self.files += 1;
        Ok((name, file))
    }

    fn fill(&self, file: &D::File) -> io::Result<()> {
        let left = |offset: u64| usize::try_from(self.settings.segment_size - offset).unwrap_or(FILL_SIZE);
        let mut zeros = Block::new(FILL_SIZE.min(left(0)));
        zeros.extend(&vec![0; zeros.capacity()]);
        let mut offset = 0;
        while offset < self.settings.segment_size {
            let count = FILL_SIZE.min(left(offset));
            self.disk.write_at(file, zeros.filled().get(..count).unwrap_or_default(), offset)?;
            offset += count as u64;
        }
        self.disk.sync(file)
    }

    fn next_random(&mut self) -> u64 {
        // splitmix64 over a seed of the operating system's.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}
