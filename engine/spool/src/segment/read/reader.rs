//! Reads any number of messages through one [`Io`], each a part at a time.

use std::collections::VecDeque;
use std::io;

use mailrace_core::record::spool::Location;
use mailrace_io::{Disk, Instant, Io, Operation, Token};

use super::files::{Access, Files};
use super::opener::Door;
use super::source::Source;
use super::walk::{Next, Walk, Want};
use crate::{ReadEvent, ReadId, Reader, Reads, TOKEN_SPOOL};

/// Messages being read from the segments of all workers.
#[derive(Debug)]
pub struct SegmentReader<D: Disk> {
    files: Files<D::File>,
    places: Vec<Place>,
    free: Vec<u32>,
    /// Those that are to be read from; each is in this list or the next one once at most.
    wanting: VecDeque<u32>,
    /// Those for which no file could be opened.
    blocked: Vec<u32>,
    /// Those with something for the caller.
    ready: VecDeque<u32>,
    /// Reads under way.
    under_way: usize,
}

/// A place for a read. Its generation tells one read at it from the next one.
#[derive(Debug)]
struct Place {
    generation: u32,
    read: Option<Read>,
}

/// One message being read.
#[derive(Debug)]
struct Read {
    walk: Walk,
    tag: u64,
    state: State,
    /// The caller has forgotten it, while a read was under way or its file was being opened.
    is_forgotten: bool,
}

#[derive(Debug)]
enum State {
    /// It waits for the caller to ask.
    Resting,
    Wanting(Want),
    /// The segment with this sequence is being read.
    UnderWay(u64),
    /// A part is available.
    Part,
    Over(End),
}

/// How a read ended.
#[derive(Debug)]
enum End {
    Whole,
    Gone,
    Damaged(Location),
    Failed(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        // The keeper removes segments that were emptied.
        if error.kind() == io::ErrorKind::NotFound { Self::Gone } else { Self::Failed(error) }
    }
}

impl<D: Disk> SegmentReader<D> {
    pub(super) fn new(door: Door<D::File>) -> Self {
        Self {
            files: Files::new(door),
            places: Vec::new(),
            free: Vec::new(),
            wanting: VecDeque::new(),
            blocked: Vec::new(),
            ready: VecDeque::new(),
            under_way: 0,
        }
    }

    /// Closes all segments that are not being read.
    pub(crate) fn close_unused<I: Io<Disk = D>>(&mut self, io: &mut I) {
        self.files.close_unused(io);
    }

    /// Number of segments that are open or being opened.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Number of messages being read, and of those forgotten for which a read is still under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether no message is being read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&mut self, index: u32) -> Option<&mut Read> {
        self.places.get_mut(index as usize)?.read.as_mut()
    }

    fn read_of(&mut self, id: ReadId) -> Option<&mut Read> {
        let place = self.places.get_mut(id.index as usize)?;
        place.read.as_mut().filter(|read| place.generation == id.generation && !read.is_forgotten)
    }

    fn free(&mut self, index: u32) {
        if let Some(place) = self.places.get_mut(index as usize) {
            place.read = None;
            place.generation = place.generation.wrapping_add(1);
            self.free.push(index);
        }
    }

    /// Lets the walk go on until it needs bytes or has something for the caller.
    fn go_on(&mut self, index: u32) {
        let Some(read) = self.read(index) else { return };
        read.state = match read.walk.next() {
            Next::Read(want) => State::Wanting(want),
            Next::Part => State::Part,
            Next::End => State::Over(End::Whole),
            Next::Gone => State::Over(End::Gone),
            Next::Damaged(place) => State::Over(End::Damaged(place)),
        };
        let list = if matches!(read.state, State::Wanting(_)) { &mut self.wanting } else { &mut self.ready };
        list.push_back(index);
    }

    fn end(&mut self, index: u32, end: End) {
        let Some(read) = self.read(index) else { return };
        if read.is_forgotten {
            return self.free(index);
        }
        read.state = State::Over(end);
        self.ready.push_back(index);
    }

    /// Submits the read that a walk waits for, or waits for the file.
    fn submit<I: Io<Disk = D>>(&mut self, index: u32, io: &mut I) {
        let Some(read) = self.places.get_mut(index as usize).and_then(|place| place.read.as_mut()) else {
            return;
        };
        if read.is_forgotten {
            return self.free(index);
        }
        let State::Wanting(want) = read.state else { return };
        let Some(holder) = read.walk.source().holder(want.sequence) else { return };
        match self.files.access(holder, index, io) {
            Access::Open(file) => {
                let buffer = read.walk.memory(want.size);
                read.state = State::UnderWay(want.sequence);
                self.under_way += 1;
                let token = Token(TOKEN_SPOOL | u64::from(index));
                io.submit(token, Operation::Read { file, buffer, offset: want.offset });
            }
            Access::Opening => {}
            Access::Full => self.blocked.push(index),
            Access::Never => self.end(index, End::Failed(io::Error::other("no thread opens segments"))),
        }
    }
}

impl<D: Disk> Reader for SegmentReader<D> {
    type Source = Source;

    fn begin(&mut self, source: Source, tag: u64) -> ReadId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, read: None });
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 messages are read at once")
        });
        let place = self.places.get_mut(index as usize).expect("a free place is one of the places");
        place.read = Some(Read { walk: Walk::new(source), tag, state: State::Resting, is_forgotten: false });
        let id = ReadId { index, generation: place.generation };
        self.go_on(index);
        id
    }

    fn ask(&mut self, id: ReadId) {
        if self.read_of(id).is_some_and(|read| matches!(read.state, State::Resting)) {
            self.go_on(id.index);
        }
    }

    fn forget(&mut self, id: ReadId) {
        let Some(read) = self.read_of(id) else { return };
        if matches!(read.state, State::Resting) {
            self.free(id.index);
        } else {
            // The list that it is in, or the end of its read, leads to it once more.
            read.is_forgotten = true;
        }
    }

    fn completed(&mut self, token: Token, mut buffer: Vec<u8>, result: io::Result<usize>) {
        let Ok(index) = u32::try_from(token.0 & !TOKEN_SPOOL) else { return };
        let place = self.places.get_mut(index as usize).and_then(|place| place.read.as_mut());
        let read = place.expect("a place is kept while a read is under way");
        let State::UnderWay(sequence) = read.state else {
            panic!("a read that ends is one that was submitted")
        };
        self.under_way -= 1;
        self.files.read_ended(sequence);
        if read.is_forgotten {
            return self.free(index);
        }
        match result {
            Ok(count) => {
                buffer.truncate(count);
                read.walk.filled(buffer);
                self.go_on(index);
            }
            Err(_) if read.walk.failed() => self.go_on(index),
            Err(error) => self.end(index, End::Failed(error)),
        }
    }

    fn next_event(&mut self) -> Option<(u64, ReadEvent<'_>)> {
        let index = loop {
            let index = self.ready.pop_front()?;
            if self.read(index).is_some_and(|read| !read.is_forgotten) {
                break index;
            }
            self.free(index);
        };
        if let Some(Read { state: State::Over(_), .. }) = self.read(index) {
            let read = self.places.get_mut(index as usize)?.read.take()?;
            self.free(index);
            let State::Over(end) = read.state else { return None };
            return Some((read.tag, event_of(end)));
        }
        let read = self.places.get_mut(index as usize)?.read.as_mut()?;
        read.state = State::Resting;
        read.walk.part().map(|part| (read.tag, ReadEvent::Part(part)))
    }

    fn deadline(&self) -> Option<Instant> {
        self.files.deadline()
    }

    fn is_idle(&self) -> bool {
        self.under_way == 0
    }
}

impl<D: Disk, I: Io<Disk = D>> Reads<I> for SegmentReader<D> {
    fn advance(&mut self, io: &mut I) {
        self.files.begin_turn(io);
        while let Some((readers, error)) = self.files.next_opened(io) {
            for index in readers {
                match &error {
                    None => self.wanting.push_back(index),
                    Some(error) => self.end(index, copy_of(error).into()),
                }
            }
        }
        if !self.blocked.is_empty() && self.files.has_room() {
            self.wanting.extend(self.blocked.drain(..));
        }
        for _ in 0..self.wanting.len() {
            let Some(index) = self.wanting.pop_front() else { break };
            self.submit(index, io);
        }
    }
}

fn event_of(end: End) -> ReadEvent<'static> {
    match end {
        End::Whole => ReadEvent::Whole,
        End::Gone => ReadEvent::Gone,
        End::Damaged(place) => ReadEvent::Damaged(place),
        End::Failed(error) => ReadEvent::Failed(error),
    }
}

/// The same error for another message.
fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
