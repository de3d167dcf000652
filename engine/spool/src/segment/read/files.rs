//! The segments that a reader has open, and those that are being opened for it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use mailrace_io::{Disk, FileId, Instant, Io};

use super::opener::{Door, Request};
use super::source::Holder;

/// Segments that are open at most. A queue of 4 GiB has as many.
pub(super) const FILES_MAX: usize = 64;
/// How long a segment stays open that is not read. A removed file takes space for as long as it is open.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(10);

/// The files of one reader, by sequence.
#[derive(Debug)]
pub(super) struct Files<F> {
    door: Door<F>,
    answer: Sender<(u64, io::Result<F>)>,
    answers: Receiver<(u64, io::Result<F>)>,
    table: BTreeMap<u64, Slot>,
    /// Number of those that are being opened.
    opening: usize,
    /// When the reader last went on.
    now: Instant,
}

/// One file.
#[derive(Debug)]
struct Slot {
    state: State,
    /// Reads under way.
    reads: usize,
    used_at: Instant,
}

#[derive(Debug)]
enum State {
    /// These readers wait for it.
    Opening(Vec<u32>),
    Open(FileId),
}

impl Slot {
    const fn is_unused(&self) -> bool {
        self.reads == 0 && matches!(self.state, State::Open(_))
    }
}

/// Whether a file can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Open(FileId),
    /// It is being opened; the reader is named when it is.
    Opening,
    /// As many as possible are in use.
    Full,
    /// No thread opens files.
    Never,
}

impl<F> Files<F> {
    pub(super) fn new(door: Door<F>) -> Self {
        let (answer, answers) = channel::unbounded();
        Self { door, answer, answers, table: BTreeMap::new(), opening: 0, now: Instant::default() }
    }

    /// The file of a segment, which `reader` is about to read.
    pub(super) fn access<I: Io>(&mut self, holder: &Holder, reader: u32, io: &mut I) -> Access
    where
        I::Disk: Disk<File = F>,
    {
        let sequence = holder.header.sequence;
        if let Some(slot) = self.table.get_mut(&sequence) {
            return match &mut slot.state {
                State::Open(file) => {
                    slot.reads += 1;
                    Access::Open(*file)
                }
                State::Opening(readers) => {
                    readers.push(reader);
                    Access::Opening
                }
            };
        }
        if self.table.len() >= FILES_MAX && !self.close_oldest(io) {
            return Access::Full;
        }
        let request = Request::Open {
            sequence,
            path: holder.path.clone(),
            door: self.answer.clone(),
            waker: self.door.waker.clone(),
        };
        if self.door.requests.send(request).is_err() {
            return Access::Never;
        }
        self.opening += 1;
        let state = State::Opening(vec![reader]);
        self.table.insert(sequence, Slot { state, reads: 0, used_at: self.now });
        Access::Opening
    }

    /// The next file that was opened, or could not be: the readers that wait for it, and the error.
    pub(super) fn next_opened<I: Io>(&mut self, io: &mut I) -> Option<(Vec<u32>, Option<io::Error>)>
    where
        I::Disk: Disk<File = F>,
    {
        if self.opening == 0 {
            return None;
        }
        let (sequence, result) = self.answers.try_recv().ok()?;
        self.opening -= 1;
        let Some(State::Opening(readers)) = self.table.remove(&sequence).map(|slot| slot.state) else {
            panic!("a file that is being opened has its place");
        };
        match result {
            Ok(file) => {
                let state = State::Open(io.attach(file));
                self.table.insert(sequence, Slot { state, reads: 0, used_at: self.now });
                Some((readers, None))
            }
            Err(error) => Some((readers, Some(error))),
        }
    }

    /// Begins a turn: closes files that were not read for long.
    pub(super) fn begin_turn<I: Io>(&mut self, io: &mut I)
    where
        I::Disk: Disk<File = F>,
    {
        if !self.table.is_empty() {
            self.now = io.now();
            let now = self.now;
            self.close_all(io, |slot| now.since(slot.used_at) >= IDLE_TIME);
        }
    }

    /// When the next file is to be closed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.table.values().filter(|slot| slot.is_unused()).map(|slot| slot.used_at.after(IDLE_TIME)).min()
    }

    /// Closes all files that are not being read.
    pub(super) fn close_unused<I: Io>(&mut self, io: &mut I)
    where
        I::Disk: Disk<File = F>,
    {
        self.close_all(io, |_| true);
    }

    /// Whether a file can be opened, for which another one may have to be closed.
    pub(super) fn has_room(&self) -> bool {
        self.table.len() < FILES_MAX || self.table.values().any(Slot::is_unused)
    }

    /// Number of files that are open or being opened.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn close_all<I: Io>(&mut self, io: &mut I, is_due: impl Fn(&Slot) -> bool)
    where
        I::Disk: Disk<File = F>,
    {
        let requests = &self.door.requests;
        self.table.retain(|_, slot| match slot.state {
            State::Open(file) if slot.reads == 0 && is_due(slot) => {
                // Without the thread that opens files, the file is closed here.
                let _ = requests.send(Request::Close(io.detach(file)));
                false
            }
            _ => true,
        });
    }

    /// Closes the file that was unused for longest. Returns false if all are in use.
    fn close_oldest<I: Io>(&mut self, io: &mut I) -> bool
    where
        I::Disk: Disk<File = F>,
    {
        let unused = self.table.iter().filter(|(_, slot)| slot.is_unused());
        let Some((sequence, _)) = unused.min_by_key(|(_, slot)| slot.used_at) else { return false };
        let sequence = *sequence;
        if let Some(Slot { state: State::Open(file), .. }) = self.table.remove(&sequence) {
            let _ = self.door.requests.send(Request::Close(io.detach(file)));
        }
        true
    }

    /// Takes note that a read of a file has ended.
    pub(super) fn read_ended(&mut self, sequence: u64) {
        if let Some(slot) = self.table.get_mut(&sequence) {
            slot.reads -= 1;
            slot.used_at = self.now;
        }
    }
}
