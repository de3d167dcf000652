//! Reads a queue from outside, whether or not an engine runs on it. Nothing is kept locked or changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};

use mailrace_core::record::delivery::Progress;
use mailrace_core::record::envelope;
use mailrace_core::record::spool::{
    Location, Noted, RECORD_HEADER_SIZE, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader,
    checksum,
};
use mailrace_core::{Envelope, Origin, QueueId};
use mailrace_io::{Disk, FileKind};

use crate::segment::index::{Entry as Known, Index};
use crate::segment::manifest;
use crate::segment::manifest::path_of;
use crate::segment::recovery::LOCK;
use crate::segment::survey::{Survey, View, survey};
use crate::{Damage, OpenError, Place, State, Stranger};

/// Attempts to read a queue as one without an engine, before it is read as one with an engine.
const LOOKS_MAX: u32 = 3;

/// The messages that were in a queue when it was read.
#[derive(Debug)]
pub struct Queue<'a, D: Disk> {
    disk: &'a D,
    /// Path and header of each segment, by sequence.
    segments: BTreeMap<u64, (String, SegmentHeader)>,
    /// Ids of the messages, oldest first.
    ids: Vec<QueueId>,
    index: Index,
    /// The file that was read last, with the sequence of its segment.
    file: RefCell<Option<(u64, D::File)>>,
    damage: Vec<Damage>,
    strangers: Vec<Stranger>,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id.
    pub id: QueueId,
    /// Its state.
    pub state: State,
    /// Bytes of its content as stored, with CRLF line ends.
    pub size: u64,
    /// Its origin.
    pub origin: Origin,
    /// Its envelope after rewriting.
    pub envelope: Envelope,
    /// What became of its recipients.
    pub progress: Progress,
}

/// Why a message could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The file system failed.
    Disk(io::Error),
    /// It is damaged, or an engine has moved it or taken it out of the queue since. Reading the queue again tells which.
    Gone,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disk(error) => write!(formatter, "{error}"),
            Self::Gone => formatter.write_str("it is damaged, or has left the queue in the meantime"),
        }
    }
}

impl std::error::Error for ReadError {}

impl<'a, D: Disk> Queue<'a, D> {
    /// Reads the queue, whether or not an engine runs. An engine may start in the meantime.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn look(disk: &'a D) -> Result<Self, OpenError> {
        let is_locked = || disk.is_locked(LOCK).map_err(OpenError::disk("look at", LOCK));
        let generation =
            |found: &manifest::Found| found.manifest.as_ref().map(|manifest| manifest.generation);
        for _ in 0..LOOKS_MAX {
            if is_locked()? {
                break;
            }
            let found = manifest::read(disk)?;
            let survey = survey(disk, &found, View::Alone)?;
            // If an engine has started in between, apparent damage may be a write in progress.
            if !is_locked()? && generation(&manifest::read(disk)?) == generation(&found) {
                return Ok(Self::of(disk, survey));
            }
        }
        Self::read(disk, false)
    }

    /// Reads the queue.
    ///
    /// `is_alone`: no engine runs; everything read is made durable, as an engine does at its start, and damage is found.
    /// With an engine running, messages whose write is in progress may appear.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn read(disk: &'a D, is_alone: bool) -> Result<Self, OpenError> {
        let view = if is_alone { View::Alone } else { View::Beside };
        Ok(Self::of(disk, survey(disk, &manifest::read(disk)?, view)?))
    }

    fn of(disk: &'a D, survey: Survey) -> Self {
        let Survey { uses, messages, damage, strangers, .. } = survey;
        let segments = uses.into_iter().map(|(sequence, found)| (sequence, (found.path, found.header)));
        let index = messages.into_live();
        let mut ids: Vec<QueueId> = index.iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        Self { disk, segments: segments.collect(), ids, index, file: RefCell::default(), damage, strangers }
    }

    /// Reads only the message at `place`, as told by the running engine.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn at(disk: &'a D, id: QueueId, place: Place) -> Result<Self, ReadError> {
        let Place { end, state, progress } = place;
        let found = manifest::read(disk).map_err(io::Error::other)?;
        let entries = found.manifest.map(|manifest| manifest.entries).unwrap_or_default();
        let segments =
            entries.into_iter().map(|entry| (entry.header.sequence, (path_of(&entry), entry.header)));
        let mut queue = Self {
            disk,
            segments: segments.collect(),
            ids: vec![id],
            index: Index::default(),
            file: RefCell::default(),
            damage: found.damage.into_iter().collect(),
            strangers: Vec::new(),
        };
        let octets = queue.record(id, end, |_| 0)?.0.content_size;
        let first = queue.chain(id, end)?.last().map_or(end.sequence, |place| place.sequence);
        queue.index.insert(id, Known { first, last: end.sequence, offset: end.offset, octets, state });
        if let Some(place) = progress {
            queue.index.set_progress(id, place);
        }
        Ok(queue)
    }

    /// Damaged and unreadable places. While an engine runs: those that its start has reported, and system errors.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Files that do not belong to the queue.
    #[must_use]
    pub fn strangers(&self) -> &[Stranger] {
        &self.strangers
    }

    /// Ids, states and sizes of content, oldest first.
    pub fn ids(&self) -> impl Iterator<Item = (QueueId, State, u64)> + '_ {
        self.ids.iter().filter_map(|id| self.index.get(*id).map(|known| (*id, known.state, known.octets)))
    }

    /// Returns everything about a message but its content; `None` if there is no message with this id.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry(&self, id: QueueId) -> Result<Option<Entry>, ReadError> {
        let Some(known) = self.index.get(id) else { return Ok(None) };
        let (header, front) = self.record(id, known.place(), |header| header.envelope_length)?;
        let front = front.get(..header.envelope_length as usize).ok_or(ReadError::Gone)?;
        let (origin, envelope) = envelope::decode(front).ok_or(ReadError::Gone)?;
        let progress = self.progress(id, envelope.numbered().count())?;
        Ok(Some(Entry { id, state: known.state, size: header.content_size, origin, envelope, progress }))
    }

    /// What became of the message's recipients.
    fn progress(&self, id: QueueId, recipients: usize) -> Result<Progress, ReadError> {
        let Some(place) = self.index.progress(id) else { return Ok(Progress::default()) };
        let (header, payload) = self.record(id, place, |header| header.length)?;
        let progress = match Noted::decode(&payload) {
            Some(Noted::Progress(encoded)) if header.kind == RecordKind::Mark => Progress::decode(encoded),
            _ => None,
        };
        progress.filter(|progress| progress.states(recipients).is_some()).ok_or(ReadError::Gone)
    }

    /// Writes the content of a message, checked against its checksums, with CRLF line ends as stored.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn content(&self, id: QueueId, out: &mut impl Write) -> Result<(), ReadError> {
        let end = self.index.get(id).ok_or(ReadError::Gone)?.place();
        for place in self.chain(id, end)?.into_iter().rev() {
            let (header, payload) = self.record(id, place, |header| header.length)?;
            let envelope =
                if header.kind == RecordKind::Message { header.envelope_length as usize } else { 0 };
            out.write_all(payload.get(envelope..).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Places of all records of the message whose last one is at `end`, the last first.
    fn chain(&self, id: QueueId, end: Location) -> Result<Vec<Location>, ReadError> {
        let mut chain = vec![end];
        let (last, _) = self.record(id, end, |_| 0)?;
        let mut previous = last.previous;
        while let Some(place) = previous {
            // Parts are numbered, so a chain with more records than the last one's number is invalid.
            if chain.len() > last.part as usize {
                return Err(ReadError::Gone);
            }
            chain.push(place);
            previous = self.record(id, place, |_| 0)?.0.previous;
        }
        Ok(chain)
    }

    /// Returns a record's header and the first `wanted` bytes of its payload, which are verified if that is all of it.
    fn record(
        &self,
        id: QueueId,
        place: Location,
        wanted: impl FnOnce(&RecordHeader) -> u32,
    ) -> Result<(RecordHeader, Vec<u8>), ReadError> {
        let (path, segment) = self.segments.get(&place.sequence).ok_or(ReadError::Gone)?;
        let mut last = self.file.borrow_mut();
        let file = match &mut *last {
            Some((sequence, file)) if *sequence == place.sequence => file,
            last => &mut last.insert((place.sequence, self.disk.open(path, FileKind::Read)?)).1,
        };
        // The engine may have reused the file since.
        let mut block = [0; SEGMENT_HEADER_SIZE];
        self.disk.read_at(file, &mut block, 0)?;
        if SegmentHeader::decode(&block) != Ok(*segment) {
            return Err(ReadError::Gone);
        }
        let offset = u64::from(place.offset);
        let mut front = [0; RECORD_HEADER_SIZE + FRONT_SIZE];
        let count = self.disk.read_at(file, &mut front, offset)?;
        let (head, front) = front.get(..count).unwrap_or_default().split_at(count.min(RECORD_HEADER_SIZE));
        let header = RecordHeader::decode(head, segment.salt, offset)
            .filter(|header| header.id == id)
            .ok_or(ReadError::Gone)?;
        let size = wanted(&header).min(header.length) as usize;
        let mut payload = front.get(..size.min(front.len())).unwrap_or_default().to_vec();
        let have = payload.len();
        if have < size {
            payload.resize(size, 0);
            let rest = payload.get_mut(have..).unwrap_or_default();
            let offset = offset + (RECORD_HEADER_SIZE + have) as u64;
            let count = self.disk.read_at(file, rest, offset)?;
            payload.truncate(have + count);
        }
        let is_all = payload.len() == header.length as usize;
        if is_all && checksum(&payload, segment.salt) != header.payload_checksum {
            return Err(ReadError::Gone);
        }
        Ok((header, payload))
    }
}

/// Bytes of the payload read together with the header, enough for most envelopes.
const FRONT_SIZE: usize = 1024;
