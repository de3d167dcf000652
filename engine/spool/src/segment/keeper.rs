//! The keeper of segment files: creates them, erases them for reuse, and watches the free space.
//!
//! All of this blocks, so the keeper has its own thread and passes ready segments to workers.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, SendTimeoutError, Sender, TryRecvError};
use mailrace_core::record::spool::{SEGMENT_HEADER_SIZE, SegmentHeader};
use mailrace_io::{Block, Disk, FileKind};

use crate::segment::SEGMENTS;
use crate::segment::manifest::ManifestFile;
use crate::segment::recovery::{LOCK, UNFINISHED};
use crate::segment::survey::segment_name;
use crate::{Settings, Shared};

/// A segment that is ready for records.
#[derive(Debug)]
pub(crate) struct Ready<F> {
    pub(crate) file: F,
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
}

/// A worker's report about a segment.
#[derive(Debug)]
pub(crate) enum Note {
    /// No record follows its end.
    Closed { sequence: u64, end: u64, records: u64 },
    /// None of its messages is in the queue, and no message needs its marks.
    Freed { sequence: u64, path: String },
}

/// The files of segments that no worker has.
#[derive(Debug)]
pub(crate) struct Files {
    /// Names of segments without a live message.
    pub(crate) free: Vec<String>,
    /// Number of all segment files, those of workers included.
    pub(crate) count: usize,
    /// Greater than the numbers in the names of all segments.
    pub(crate) next_name: u64,
    /// Sequence and path of emptied segments that are still to be made unreadable, in the order in which they were emptied.
    pub(crate) retiring: VecDeque<(u64, String)>,
}

/// The ends of the channels between keeper and workers that the keeper has.
#[derive(Debug)]
pub(crate) struct Doors<F> {
    pub(crate) ready: Sender<Ready<F>>,
    /// The receiving end, for segments that ended workers left there.
    pub(crate) unclaimed: Receiver<Ready<F>>,
    pub(crate) notes: Receiver<Note>,
}

/// Makes and recycles segments, and keeps the manifest.
#[derive(Debug)]
pub struct SegmentKeeper<D: Disk> {
    disk: D,
    settings: Settings,
    shared: Arc<Shared>,
    pub(crate) manifest: ManifestFile<D>,
    doors: Doors<D::File>,
    /// Segments that are ready, but not yet durably listed in the manifest.
    made: VecDeque<Ready<D::File>>,
    pub(crate) files: Files,
    /// Rounds since notes alone changed the manifest.
    rounds_unsaved: u32,
    /// Paths in the queue directory that must not be replaced.
    places: Vec<String>,
    stop: Arc<AtomicBool>,
}

/// What became of an emptied segment.
enum Retired {
    /// It may be used again.
    Erased,
    /// It is gone.
    Removed,
}

/// Time between two looks at the disk.
const PERIOD: Duration = Duration::from_millis(500);
/// Rounds after which a manifest that only notes have changed is saved. Usually the next segment is created earlier.
const ROUNDS_UNSAVED_MAX: u32 = 2;

/// Message to the operator about a path that was removed or replaced.
fn gone(path: &str) -> String {
    match path {
        "" => "its directory was removed or replaced: put it back, or restart the engine on a new one"
            .to_owned(),
        path => {
            format!("{path} in its directory was removed or replaced: put it back, or restart the engine")
        }
    }
}

impl<D: Disk> SegmentKeeper<D> {
    pub(crate) fn new(
        disk: D,
        settings: Settings,
        shared: Arc<Shared>,
        manifest: ManifestFile<D>,
        files: Files,
        doors: Doors<D::File>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let places = vec![SEGMENTS.to_owned(), LOCK.to_owned()];
        let made = VecDeque::new();
        Self { disk, settings, shared, manifest, doors, made, files, rounds_unsaved: 0, places, stop }
    }

    /// Makes up to `count` segments for the first messages, and hands them over. Returns whether writes to them go past the
    /// page cache, if it made any.
    pub(crate) fn make_first(&mut self, count: usize) -> io::Result<Option<bool>> {
        self.look_around();
        self.prepare(count)?;
        let is_direct = self.made.front().map(|made| self.disk.is_direct(&made.file));
        while let Some(segment) = self.made.pop_front() {
            // The channel has room for them.
            let _ = self.doors.ready.try_send(segment);
        }
        Ok(is_direct)
    }

    /// Ends [`SegmentKeeper::run`] when set, within a second.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// State shared with the workers.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Watches another path in the queue directory for replacement.
    pub fn watch_place(&mut self, path: &str) {
        self.places.push(path.to_owned());
    }

    /// Runs until the stop flag is set or all workers are gone.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let has_workers = self.look_around();
            if !has_workers {
                break;
            }
            if let Some(path) = self.place_gone() {
                self.shared.set_trouble(Some(gone(path)));
                std::thread::park_timeout(PERIOD);
                continue;
            }
            let made = self.prepare(1);
            let trouble = made.as_ref().err().map(|error| format!("cannot create a segment: {error}"));
            self.shared.set_trouble(trouble);
            // A full disk may have room later.
            self.shared.set_full(made.is_err());
            let Some(segment) = self.made.pop_front().filter(|_| made.is_ok()) else {
                std::thread::park_timeout(PERIOD);
                continue;
            };
            match self.doors.ready.send_timeout(segment, PERIOD) {
                Ok(()) => self.shared.wake(),
                Err(SendTimeoutError::Timeout(segment)) => self.made.push_front(segment),
                Err(SendTimeoutError::Disconnected(_)) => return,
            }
        }
        self.finish();
    }

    /// Does one step of [`SegmentKeeper::run`] without waiting, for an engine
    /// whose time is simulated.
    pub fn step(&mut self) {
        if !self.look_around() || self.place_gone().is_some() {
            return;
        }
        while !self.doors.ready.is_full() {
            let made = self.prepare(1);
            self.shared.set_full(made.is_err());
            let Some(segment) = self.made.pop_front().filter(|_| made.is_ok()) else { return };
            if let Err(back) = self.doors.ready.try_send(segment) {
                self.made.push_front(back.into_inner());
                return;
            }
            self.shared.wake();
        }
    }

    /// Records the end of this run in the manifest, after all workers have ended. The next start finds out what this
    /// misses.
    pub fn finish(&mut self) {
        self.look_around();
        if self.place_gone().is_some() {
            return;
        }
        let unused: Vec<u64> = self
            .doors
            .unclaimed
            .try_iter()
            .chain(self.made.drain(..))
            .map(|segment| segment.header.sequence)
            .collect();
        for sequence in unused {
            self.manifest.close(sequence, SEGMENT_HEADER_SIZE as u64, 0);
        }
        if self.manifest.is_changed() {
            let _ = self.manifest.save();
        }
        let _ = self.manifest.save_twice();
    }

    /// The first watched path that was removed or replaced.
    fn place_gone(&self) -> Option<&str> {
        let mut places = self.places.iter().map(String::as_str);
        if !self.disk.is_in_place("") {
            return Some("");
        }
        places.find(|path| !self.disk.is_in_place(path))
    }

    /// Processes notes about segments and checks the free space. Returns false if all workers are gone.
    fn look_around(&mut self) -> bool {
        let has_workers = self.take_notes();
        let is_gone = self.place_gone().is_some();
        self.shared.set_gone(is_gone);
        if is_gone {
            // Do not change a directory that may be another one.
            self.shared.set_space(0, true);
            return has_workers;
        }
        self.save_notes();
        self.retire_all();
        while self.files.free.len() > self.settings.kept_segments {
            let Some(name) = self.files.free.pop() else { break };
            // A segment that cannot be removed only wastes space until the next start.
            let _ = self.disk.remove(&name);
            self.files.count -= 1;
        }
        self.shared.set_segments(self.files.count);
        let Ok((free, _)) = self.disk.space() else {
            // A disk that cannot report its free space accepts nothing either.
            self.shared.set_space(0, true);
            return has_workers;
        };
        // Emptied segments count as free space.
        let free = free + self.files.free.len() as u64 * self.settings.segment_size;
        let needed = self.settings.queue_minfree.max(self.settings.message_size_limit / 2 * 3);
        self.shared.set_space(free, free < needed);
        has_workers
    }

    fn take_notes(&mut self) -> bool {
        loop {
            match self.doors.notes.try_recv() {
                Ok(Note::Closed { sequence, end, records }) => self.manifest.close(sequence, end, records),
                Ok(Note::Freed { sequence, path }) => self.files.retiring.push_back((sequence, path)),
                Err(error) => return error == TryRecvError::Empty,
            }
        }
    }

    /// Saves the manifest if it is due.
    fn save_notes(&mut self) {
        if self.manifest.is_changed() {
            self.rounds_unsaved += 1;
            if self.rounds_unsaved >= ROUNDS_UNSAVED_MAX {
                self.save();
            }
        } else {
            // The next round retries a failure.
            let _ = self.manifest.save_twice();
        }
    }

    fn save(&mut self) -> bool {
        let is_saved = self.manifest.save().is_ok();
        if is_saved {
            self.rounds_unsaved = 0;
        }
        is_saved
    }

    /// Erases emptied segments, after the manifest durably says that nothing in them counts.
    fn retire_all(&mut self) {
        if self.files.retiring.is_empty() {
            return;
        }
        for (sequence, _) in &self.files.retiring {
            self.manifest.empty(*sequence);
        }
        if self.manifest.is_changed() && !self.save() {
            return;
        }
        // One that cannot be erased now, on a failing disk, delays those after it.
        while let Some((sequence, name)) = self.files.retiring.pop_front() {
            match self.retire(&name) {
                Ok(Retired::Erased) => self.files.free.push(name),
                Ok(Retired::Removed) => self.files.count -= 1,
                Err(_) => {
                    self.files.retiring.push_front((sequence, name));
                    break;
                }
            }
            self.manifest.forget(sequence);
        }
    }

    /// Makes the content of an emptied segment unreadable for good, before the segment is reused.
    ///
    /// Marks in later segments say that its messages are done. Those segments are emptied after this one, so they
    /// come here after it: when they are erased, no message is left that would need their marks.
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
            // An earlier attempt removed it, but could not make that durable.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.disk.sync_directory(SEGMENTS)?,
        }
        Ok(Retired::Removed)
    }

    /// Ensures that this number of segments is ready and that the manifest lists them.
    pub(crate) fn prepare(&mut self, count: usize) -> io::Result<()> {
        while self.made.len() < count {
            let segment = self.make()?;
            self.manifest.list(segment.header, &segment.name);
            self.made.push_back(segment);
        }
        if self.manifest.is_changed() {
            self.manifest.save()?;
            self.rounds_unsaved = 0;
        }
        Ok(())
    }

    /// Prepares a segment: an emptied one if there is one, else a new file.
    fn make(&mut self) -> io::Result<Ready<D::File>> {
        // A failed attempt may leave a header on disk, so its sequence is never reused.
        let sequence = self.manifest.next_sequence()?;
        let salt = self.disk.random()?;
        let header = SegmentHeader { sequence, salt, size: self.settings.segment_size };
        let (name, file) = match self.files.free.pop() {
            Some(name) => match self.disk.open(&name, FileKind::Direct) {
                Ok(file) if self.disk.size(&file)? == self.settings.segment_size => (name, file),
                // One of another size, or a damaged one, is replaced by a new file.
                _ => {
                    let _ = self.disk.remove(&name);
                    self.files.count -= 1;
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
            self.files.count -= 1;
            return Err(error);
        }
        Ok(Ready { file, name, header })
    }

    /// Creates a zero-filled file: the first write to a block that was never written costs a journal commit.
    fn create(&mut self, sequence: u64) -> io::Result<(String, D::File)> {
        let number = self.files.next_name.max(sequence);
        self.files.next_name =
            number.checked_add(1).ok_or_else(|| io::Error::other("the file numbers are exhausted"))?;
        let name = format!("{SEGMENTS}/{}", segment_name(number));
        let temporary = format!("{name}{UNFINISHED}");
        let _ = self.disk.remove(&temporary);
        let file = self.disk.create(&temporary, self.settings.segment_size, FileKind::Direct)?;
        // A file that got this name in the meantime is kept.
        let filled = self.fill(&file).and_then(|()| self.disk.rename_new(&temporary, &name));
        if let Err(error) = filled.and_then(|()| self.disk.sync_directory(SEGMENTS)) {
            let _ = self.disk.remove(&temporary);
            return Err(error);
        }
        self.files.count += 1;
        Ok((name, file))
    }

    fn fill(&self, file: &D::File) -> io::Result<()> {
        self.disk.write_zeroes(file, self.settings.segment_size)?;
        self.disk.sync(file)
    }
}
