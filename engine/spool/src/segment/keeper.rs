//! Owns the segment files: makes them, cleans them for the next use, watches the space that is left.
//!
//! All of it blocks, so it runs on a thread of its own and hands workers what is ready.

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

/// What a worker says of a segment.
#[derive(Debug)]
pub(crate) enum Note {
    /// No record follows its end.
    Closed { sequence: u64, end: u64, records: u64 },
    /// None of its messages is in the queue, and nothing needs its marks.
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
    /// The other end: what workers that end leave there.
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
    /// Ready for records, but for the manifest, which does not list them durably yet.
    made: VecDeque<Ready<D::File>>,
    pub(crate) files: Files,
    /// Looks around since the manifest was changed by notes alone.
    rounds_unsaved: u32,
    /// Paths in the queue directory that must stay what they are.
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

/// How long the keeper rests between looks at the disk.
const PERIOD: Duration = Duration::from_millis(500);
/// Looks around after which the manifest is saved that only notes have changed: mostly the next segment comes before.
const ROUNDS_UNSAVED_MAX: u32 = 2;
/// Octets that are zero-filled with one write.
const FILL_SIZE: usize = 1 << 20;

/// What an operator is told of a path that is not what it was.
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
            // There is room for as many.
            let _ = self.doors.ready.try_send(segment);
        }
        Ok(is_direct)
    }

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

    /// Also looks whether this path in the queue directory stays what it is.
    pub fn watch_place(&mut self, path: &str) {
        self.places.push(path.to_owned());
    }

    /// Works until the stop flag is set or all workers are gone.
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
            let trouble = made.as_ref().err().map(|error| format!("no segment can be made: {error}"));
            self.shared.set_trouble(trouble);
            // A disk that is full may have room later.
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

    /// Does what there is to do without waiting: the same as [`SegmentKeeper::run`], one step at a time, for an engine
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

    /// Notes the end of this life, when all workers are gone. What cannot be noted the next start finds out.
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

    /// What is not where it was.
    fn place_gone(&self) -> Option<&str> {
        let mut places = self.places.iter().map(String::as_str);
        if !self.disk.is_in_place("") {
            return Some("");
        }
        places.find(|path| !self.disk.is_in_place(path))
    }

    /// Takes note of freed segments and of the space left. False: all workers are gone.
    fn look_around(&mut self) -> bool {
        let has_workers = self.take_notes();
        let is_gone = self.place_gone().is_some();
        self.shared.set_gone(is_gone);
        if is_gone {
            // Nothing is changed in a directory that may be another one.
            self.shared.set_space(0, true);
            return has_workers;
        }
        self.save_notes();
        self.retire_all();
        while self.files.free.len() > self.settings.kept_segments {
            let Some(name) = self.files.free.pop() else { break };
            // A segment that cannot be removed is only space lost until the next start.
            let _ = self.disk.remove(&name);
            self.files.count -= 1;
        }
        self.shared.set_segments(self.files.count);
        let Ok((free, _)) = self.disk.space() else {
            // A disk that does not even tell takes nothing either.
            self.shared.set_space(0, true);
            return has_workers;
        };
        // Emptied segments are room too.
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

    /// Saves the manifest if it is time for it.
    fn save_notes(&mut self) {
        if self.manifest.is_changed() {
            self.rounds_unsaved += 1;
            if self.rounds_unsaved >= ROUNDS_UNSAVED_MAX {
                self.save();
            }
        } else {
            // What fails is tried again in the next round.
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

    /// Erases emptied segments: first the manifest says, durably, that nothing in them counts.
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
        // Those that cannot be made unreadable now, on a disk that fails, hold up those behind them until they can.
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

    /// Sees to it that this number of segments is made, and that the manifest lists all that are.
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

    /// Makes a segment ready: an emptied one if there is one, else a new file.
    fn make(&mut self) -> io::Result<Ready<D::File>> {
        // Of one that fails some may be on the disk: no other has its sequence.
        let sequence = self.manifest.next_sequence()?;
        let salt = self.disk.random()?;
        let header = SegmentHeader { sequence, salt, size: self.settings.segment_size };
        let (name, file) = match self.files.free.pop() {
            Some(name) => match self.disk.open(&name, FileKind::Direct) {
                Ok(file) if self.disk.size(&file)? == self.settings.segment_size => (name, file),
                // Of another size, or damaged: it makes room for a new one.
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

    /// Makes a new file, zero-filled: blocks that were never written cost a journal commit at their first write.
    fn create(&mut self, sequence: u64) -> io::Result<(String, D::File)> {
        let number = self.files.next_name.max(sequence);
        self.files.next_name =
            number.checked_add(1).ok_or_else(|| io::Error::other("the numbers of files are used up"))?;
        let name = format!("{SEGMENTS}/{}", segment_name(number));
        let temporary = format!("{name}{UNFINISHED}");
        let _ = self.disk.remove(&temporary);
        let file = self.disk.create(&temporary, self.settings.segment_size, FileKind::Direct)?;
        // Should one of this name have come meanwhile, it stays.
        let filled = self.fill(&file).and_then(|()| self.disk.rename_new(&temporary, &name));
        if let Err(error) = filled.and_then(|()| self.disk.sync_directory(SEGMENTS)) {
            let _ = self.disk.remove(&temporary);
            return Err(error);
        }
        self.files.count += 1;
        Ok((name, file))
    }

    fn fill(&self, file: &D::File) -> io::Result<()> {
        if self.disk.write_zeroes(file, self.settings.segment_size)? {
            return self.disk.sync(file);
        }
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
}
