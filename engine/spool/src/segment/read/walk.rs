//! One message, read from its segments: which bytes to read next, and what those hold. It does no I/O.
//!
//! The last record of a message has its envelope, the end of its content, and the place of the record before it. So the walk
//! reads the last record, goes back from header to header to the first record, and then gives the content forward. A part is
//! given only after its checksum was compared. Memory: the last record, another one or [`READ_SIZE_MAX`] bytes, and 16 bytes
//! per record.
//!
//! The salt of a segment's use is part of each checksum, so a record that is whole is one of the use that is meant. If
//! one is not whole, the segment's header tells why: if the segment was emptied or is used again, the message has left it.

use mailrace_core::record::spool::{
    Location, Noted, RECORD_HEADER_SIZE, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader,
    checksum, record_size,
};

use super::source::{Source, Target};
use super::window::Window;
use crate::Part;

/// Bytes of a read at most, unless one record is larger: two of the chunks in which the worker hands over a large message.
pub(crate) const READ_SIZE_MAX: usize = 128 << 10;
/// Bytes that the first read has for the envelope: enough for most.
const ENVELOPE_SIZE: usize = 1024;
/// Bytes that a read of a mark has for it.
const PROGRESS_SIZE: usize = 512;
/// Bytes for the headers and the padding between records that follow each other.
const GAPS_SIZE: usize = 4096;
/// The system reads whole pages, so reading to the end of one costs nothing more.
const PAGE_SIZE: u64 = 4096;
/// Records that a read backwards has to reach at least, so that it costs less than reading one header after another.
const STEPS_MIN: u64 = 4;

/// Bytes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
    pub(crate) size: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// These bytes are to be read into [`Walk::memory`] and passed to [`Walk::filled`].
    Read(Want),
    /// [`Walk::part`] has another part.
    Part,
    /// All of it was given.
    End,
    /// A segment was emptied or is used again.
    Gone,
    /// The record at this place is not whole.
    Damaged(Location),
}

/// Why a record is not there yet.
#[derive(Clone, Copy, Debug)]
enum Halt {
    Read(Want),
    /// It is not the record that it must be.
    Doubt(Location),
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Last(Location),
    Progress(Location),
    Back(Step),
    /// The first of the chunks that were not given.
    Chunk,
    /// The content in the last record.
    Tail,
    Over,
}

/// A step back to the record at `place`, and what the record after it says of that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    place: Location,
    part: u32,
    content_size: u64,
    /// Bytes from there to the record after it, if that is in the same segment.
    distance: Option<u64>,
}

/// The part that was given last.
#[derive(Clone, Copy, Debug)]
enum Given {
    Envelope,
    Progress(Location, usize),
    Chunk(Location, usize),
    Tail,
}

/// A record with content, of which the header was read.
#[derive(Clone, Copy, Debug)]
struct Link {
    sequence: u64,
    offset: u32,
    length: u32,
}

impl Link {
    const fn place(self) -> Location {
        Location { sequence: self.sequence, offset: self.offset }
    }

    const fn end(self) -> u64 {
        self.offset as u64 + record_size(self.length as usize) as u64
    }
}

/// A message that is being read.
#[derive(Debug)]
pub(crate) struct Walk {
    source: Source,
    phase: Phase,
    window: Window,
    /// The last record, once it was read.
    last: Option<(RecordHeader, Location, Window)>,
    /// Its other records, the first one last.
    chain: Vec<Link>,
    given: Option<Given>,
    /// What was asked for last, and the record for whose first bytes it was.
    asked: Option<(Want, Location, usize)>,
    /// The record that is not whole; the header of its segment tells why.
    doubt: Option<Location>,
    /// A read failed: bytes that are not needed are left out.
    is_narrow: bool,
}

impl Walk {
    pub(crate) fn new(source: Source) -> Self {
        let phase = match source.target {
            Target::Message { end, .. } => Phase::Last(end),
            Target::Progress(place) => Phase::Progress(place),
        };
        Self {
            source,
            phase,
            window: Window::default(),
            last: None,
            chain: Vec::new(),
            given: None,
            asked: None,
            doubt: None,
            is_narrow: false,
        }
    }

    pub(crate) const fn source(&self) -> &Source {
        &self.source
    }

    /// Goes on. The part that was given before is no longer available.
    pub(crate) fn next(&mut self) -> Next {
        loop {
            if let Some(place) = self.doubt {
                return self.judge(place);
            }
            let given = match self.phase {
                Phase::Last(end) => self.read_last(end),
                Phase::Progress(place) => self.read_progress(place),
                Phase::Back(step) => self.step_back(step),
                Phase::Chunk => self.read_chunk(),
                Phase::Tail => {
                    self.phase = Phase::Over;
                    Ok(Some(Given::Tail))
                }
                Phase::Over => {
                    self.given = None;
                    return Next::End;
                }
            };
            match given {
                Ok(None) => {}
                Ok(given) => {
                    self.given = given;
                    return Next::Part;
                }
                Err(Halt::Read(want)) => return Next::Read(want),
                Err(Halt::Doubt(place)) => self.doubt = Some(place),
            }
        }
    }

    /// The part that is available.
    pub(crate) fn part(&self) -> Option<Part<'_>> {
        let payload = |place, length| self.window.at(payload_of(place)?, length);
        match self.given? {
            Given::Envelope => self.last_payload().map(|(envelope, _)| Part::Envelope(envelope)),
            // The verb precedes it.
            Given::Progress(place, length) => Some(Part::Progress(payload(place, length)?.get(1..)?)),
            Given::Chunk(place, length) => {
                Some(Part::Content { octets: payload(place, length)?, is_last: false })
            }
            Given::Tail => self.last_payload().map(|(_, octets)| Part::Content { octets, is_last: true }),
        }
    }

    /// Memory for the bytes to be read.
    pub(crate) fn memory(&mut self, size: usize) -> Vec<u8> {
        let mut memory = self.window.take_memory();
        memory.resize(size, 0);
        memory
    }

    /// Takes the bytes that were read; fewer than wanted at the end of the file.
    pub(crate) fn filled(&mut self, bytes: Vec<u8>) {
        if let Some((want, ..)) = self.asked {
            self.window = Window::new(want.sequence, want.offset, bytes);
        }
    }

    /// Takes note that a read failed. Returns whether another one is worth trying: bytes around those that are needed may be
    /// what the disk cannot read.
    pub(crate) fn failed(&mut self) -> bool {
        let needed = self.asked.take().is_none_or(|(want, _, needed)| want.size == needed);
        self.is_narrow = true;
        !needed
    }

    /// Reads the last record, and gives the envelope.
    fn read_last(&mut self, end: Location) -> Result<Option<Given>, Halt> {
        let Target::Message { octets, progress, .. } = self.source.target else {
            return Err(Halt::Doubt(end));
        };
        let octets = usize::try_from(octets).unwrap_or(READ_SIZE_MAX).min(READ_SIZE_MAX);
        let header = self.header(end, 0, ENVELOPE_SIZE + octets)?;
        self.payload(end, &header)?;
        if header.kind != RecordKind::Message {
            return Err(Halt::Doubt(end));
        }
        let content = after_last(end, &header)?;
        self.last = Some((header, end, std::mem::take(&mut self.window)));
        self.phase = progress.map_or(content, Phase::Progress);
        Ok(Some(Given::Envelope))
    }

    /// Reads the mark about the recipients, and gives it.
    fn read_progress(&mut self, place: Location) -> Result<Option<Given>, Halt> {
        let header = self.header(place, 0, PROGRESS_SIZE)?;
        let payload = self.payload(place, &header)?;
        if header.kind != RecordKind::Mark || !matches!(Noted::decode(payload), Some(Noted::Progress(_))) {
            return Err(Halt::Doubt(place));
        }
        self.phase = match &self.last {
            None => Phase::Over,
            Some((last, end, _)) => after_last(*end, last)?,
        };
        Ok(Some(Given::Progress(place, header.length as usize)))
    }

    /// Reads the header of a chunk, the one after which is known.
    fn step_back(&mut self, step: Step) -> Result<Option<Given>, Halt> {
        let Step { place, part, content_size, distance } = step;
        let rest = usize::try_from(content_size).unwrap_or(usize::MAX);
        let (before, after) = if rest <= READ_SIZE_MAX / 2 - GAPS_SIZE {
            // With it and those before it, if these are next to each other, all that is left is read.
            (rest + GAPS_SIZE, rest)
        } else if distance.is_some_and(|distance| distance * STEPS_MIN <= READ_SIZE_MAX as u64) {
            (READ_SIZE_MAX - RECORD_HEADER_SIZE, 0)
        } else {
            (0, 0)
        };
        let header = self.header(place, before, after)?;
        let is_expected = header.kind == RecordKind::Chunk
            && header.part == part
            && header.content_size == content_size
            && header.envelope_length == 0;
        let before = content_size.checked_sub(u64::from(header.length)).filter(|_| is_expected);
        let before = before.ok_or(Halt::Doubt(place))?;
        let back = step_to(header.previous, place, part, before)?;
        self.chain.push(Link { sequence: place.sequence, offset: place.offset, length: header.length });
        self.phase = back.map_or(Phase::Chunk, Phase::Back);
        Ok(None)
    }

    /// Reads the next chunk, and gives it.
    fn read_chunk(&mut self) -> Result<Option<Given>, Halt> {
        let Some(link) = self.chain.last().copied() else {
            self.phase = Phase::Tail;
            return Ok(None);
        };
        let place = link.place();
        // Those after it that are near are read with it.
        let most = u64::from(link.offset) + READ_SIZE_MAX as u64;
        let near = self.chain.iter().rev().take_while(|next| next.sequence == link.sequence);
        let end =
            near.map(|next| next.end()).take_while(|end| *end <= most).last().unwrap_or_else(|| link.end());
        let length = usize::try_from(end.saturating_sub(u64::from(link.offset))).unwrap_or(usize::MAX);
        let size = RECORD_HEADER_SIZE + link.length as usize;
        self.bytes(place, size, 0, length.saturating_sub(size))?;
        let header = self.header(place, 0, 0)?;
        let part = self.last.as_ref().map_or(0, |(last, ..)| last.part as usize) - self.chain.len();
        if header.kind != RecordKind::Chunk || header.length != link.length || header.part as usize != part {
            return Err(Halt::Doubt(place));
        }
        self.payload(place, &header)?;
        self.chain.pop();
        Ok(Some(Given::Chunk(place, link.length as usize)))
    }

    /// The header of the message's record at `place`.
    fn header(&mut self, place: Location, before: usize, after: usize) -> Result<RecordHeader, Halt> {
        let salt = self.use_of(place)?.salt;
        let head = self.bytes(place, RECORD_HEADER_SIZE, before, after)?;
        let header = RecordHeader::decode(head, salt, u64::from(place.offset));
        header.filter(|header| header.id == self.source.id).ok_or(Halt::Doubt(place))
    }

    /// The payload of the record at `place`, after its checksum was compared.
    fn payload(&mut self, place: Location, header: &RecordHeader) -> Result<&[u8], Halt> {
        let salt = self.use_of(place)?.salt;
        // The header is read with it, because it is looked at again.
        let record = self.bytes(place, RECORD_HEADER_SIZE + header.length as usize, 0, 0)?;
        let payload = record.get(RECORD_HEADER_SIZE..).ok_or(Halt::Doubt(place))?;
        if checksum(payload, salt) == header.payload_checksum { Ok(payload) } else { Err(Halt::Doubt(place)) }
    }

    /// The use of the segment that holds the record at `place`.
    fn use_of(&self, place: Location) -> Result<SegmentHeader, Halt> {
        self.source.holder(place.sequence).map(|holder| holder.header).ok_or(Halt::Doubt(place))
    }

    /// The first `length` bytes of the record at `place`. To read them, `before` and `after` bytes around them are read, too.
    fn bytes(&mut self, place: Location, length: usize, before: usize, after: usize) -> Result<&[u8], Halt> {
        if self.window.at(place, length).is_none() {
            // What was read for them ends before they do.
            let is_cut_off = self.asked.is_some_and(|(_, at, size)| (at, size) == (place, length));
            let want = self.want(place, length, before, after).filter(|_| !is_cut_off);
            let want = want.ok_or(Halt::Doubt(place))?;
            self.asked = Some((want, place, length));
            return Err(Halt::Read(want));
        }
        self.window.at(place, length).ok_or(Halt::Doubt(place))
    }

    /// Which bytes to read for these; `None` if they are not all in the segment.
    fn want(&self, start: Location, length: usize, before: usize, after: usize) -> Option<Want> {
        let size = self.source.holder(start.sequence)?.header.size;
        let (from, end) = (u64::from(start.offset), u64::from(start.offset) + length as u64);
        if end > size || from < SEGMENT_HEADER_SIZE as u64 {
            return None;
        }
        let (offset, end) = if self.is_narrow {
            (from, end)
        } else {
            let offset = from.saturating_sub(before as u64).max(SEGMENT_HEADER_SIZE as u64);
            let most = offset + READ_SIZE_MAX as u64;
            (offset, (end + after as u64).next_multiple_of(PAGE_SIZE).min(most).min(size).max(end))
        };
        Some(Want { sequence: start.sequence, offset, size: usize::try_from(end - offset).ok()? })
    }

    /// Whether the record at `place` is damaged, or its segment was emptied or is used again.
    fn judge(&mut self, place: Location) -> Next {
        let Some(expected) = self.source.holder(place.sequence).map(|holder| holder.header) else {
            return Next::Damaged(place);
        };
        let start = Location { sequence: place.sequence, offset: 0 };
        let want = Want { sequence: place.sequence, offset: 0, size: SEGMENT_HEADER_SIZE };
        let asked = (want, start, SEGMENT_HEADER_SIZE);
        if self.asked != Some(asked) {
            self.asked = Some(asked);
            return Next::Read(want);
        }
        let block = self.window.bytes();
        match SegmentHeader::decode(block) {
            // A record that was not whole was read before this, and so in this use.
            Ok(found) if found == expected => Next::Damaged(place),
            Ok(_) => Next::Gone,
            Err(_) if !block.is_empty() && block.iter().all(|byte| *byte == 0) => Next::Gone,
            Err(_) => Next::Damaged(place),
        }
    }

    /// Envelope and content in the last record.
    fn last_payload(&self) -> Option<(&[u8], &[u8])> {
        let (header, end, window) = self.last.as_ref()?;
        let payload = window.at(payload_of(*end)?, header.length as usize)?;
        payload.split_at_checked(header.envelope_length as usize)
    }
}

/// Where the payload of a record is.
fn payload_of(place: Location) -> Option<Location> {
    let offset = u64::from(place.offset) + RECORD_HEADER_SIZE as u64;
    Some(Location { sequence: place.sequence, offset: u32::try_from(offset).ok()? })
}

/// What follows after the last record of a message was read, apart from what became of its recipients.
fn after_last(end: Location, last: &RecordHeader) -> Result<Phase, Halt> {
    let content = u64::from(last.length - last.envelope_length);
    let before = last.content_size.checked_sub(content).ok_or(Halt::Doubt(end))?;
    Ok(step_to(last.previous, end, last.part, before)?.map_or(Phase::Tail, Phase::Back))
}

/// The step from the record at `place`, the `part`th, to the one before it, up to which there are `content_size` bytes.
/// `None`: it is the first one.
fn step_to(
    previous: Option<Location>,
    place: Location,
    part: u32,
    content_size: u64,
) -> Result<Option<Step>, Halt> {
    match (previous, part.checked_sub(1)) {
        (None, None) if content_size == 0 => Ok(None),
        (Some(previous), Some(part)) if previous < place => {
            let is_same = previous.sequence == place.sequence;
            let distance = is_same.then(|| u64::from(place.offset - previous.offset));
            Ok(Some(Step { place: previous, part, content_size, distance }))
        }
        _ => Err(Halt::Doubt(place)),
    }
}
