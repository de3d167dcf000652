//! A second reader of queues, written from `docs/queue-format.md` alone.
//!
//! It shares no code with the engine: not its record types, not its checksums' call, not its order of doing things. What
//! both read alike is what the page says; where they differ, one of the three is mistaken. The simulator takes its account
//! with it, and `mailrace-dev read-queue` offers it to operators of the proof tools.
//!
//! [`read`] goes through all segments once and keeps where records are; [`Reading::message`] then reads one message, and
//! checks all of its sums again.

mod command;
mod counted;
mod envelope;
mod manifest;
mod marks;
mod progress;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;

pub use command::command;
pub use counted::{Counted, Gone};
pub use envelope::{Envelope, Recipient};
use manifest::Manifest;
pub use manifest::is_manifest;
pub use marks::Marked;
pub use segment::{FRONT as HEADER_SIZE, Files, record_headers};
use segment::{Kind, Record, Segment};

/// A place that was whole once and is not now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// File name in the directory of segments.
    pub name: String,
    /// Bytes from its start.
    pub offset: u64,
    /// What is damaged.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}: {}", self.name, self.offset, self.what)
    }
}

/// What a queue holds.
#[derive(Debug, Default)]
pub struct Reading {
    manifest: Option<Manifest>,
    segments: BTreeMap<u64, Segment>,
    /// Messages in the queue, by the number of their id.
    pub messages: BTreeMap<u64, Found>,
    /// Places that were whole once.
    pub damage: Vec<Damage>,
    /// Messages of which more than one whole copy is there, because they were moved.
    pub moved: usize,
}

/// A message in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether it is parked.
    pub is_held: bool,
    /// Bytes of its content.
    pub size: u64,
    /// Sequence and offset of each of its records, the first one first.
    chain: Vec<Place>,
    /// The mark that says what became of its recipients.
    progress: Option<Place>,
}

/// Sequence of a segment, and offset in it.
type Place = (u64, u32);

/// All of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What the first bytes of its last record say.
    pub envelope: Envelope,
    /// Its content.
    pub content: Vec<u8>,
    /// What became of each recipient, in the order of the envelope, and then of each that was expanded: `D`, `W`, `R`, or 0 if
    /// it was not tried.
    pub outcomes: Vec<u8>,
}

/// Why a queue or a message cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// The system did not let it.
    System(io::Error),
    /// A segment is of a version of the format that this reader does not know.
    Version(String, u32),
    /// What is there is not what the format says.
    Format(&'static str),
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => write!(formatter, "{error}"),
            Self::Version(name, version) => {
                write!(formatter, "{name}: this reader does not support version {version} of the format")
            }
            Self::Format(what) => formatter.write_str(what),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Reads what all segments together say.
///
/// # Errors
/// [`ReadError`].
pub fn read(files: &impl Files) -> Result<Reading, ReadError> {
    let mut reading = Reading::default();
    let manifest = match files.manifest()? {
        Some(octets) => Manifest::read(&octets)?,
        None => None,
    };
    let mut names = files.names()?;
    names.retain(|name| name.ends_with(".seg"));
    names.sort();
    for name in names {
        let Some(octets) = files.read_all(&name)? else { continue };
        let Some(segment) = segment::scan(&name, &octets, &mut reading.damage)? else { continue };
        reading.place(segment, manifest.as_ref());
    }
    reading.join();
    reading.find_damage();
    match &manifest {
        Some(manifest) => reading.compare_manifest(manifest),
        None if reading
            .segments
            .values()
            .any(|segment| segment.version >= 2 && !segment.records.is_empty()) =>
        {
            let what = "no valid manifest";
            reading.damage.push(Damage { name: MANIFEST.to_owned(), offset: 0, what });
        }
        None => {}
    }
    reading.manifest = manifest;
    Ok(reading)
}

const MANIFEST: &str = "manifest";

impl Reading {
    /// Keeps a segment if it counts.
    fn place(&mut self, segment: Segment, manifest: Option<&Manifest>) {
        let entry = manifest.and_then(|manifest| manifest.entry(segment.sequence));
        let is_new = manifest.is_none_or(|manifest| segment.sequence >= manifest.next_sequence);
        let is_listed = entry.is_some_and(|entry| entry.salt == segment.salt && entry.state != b'E');
        if !(is_new || is_listed) {
            return;
        }
        let is_named = entry.is_some_and(|entry| entry.name == segment.name);
        let known = self.segments.get(&segment.sequence).map(|known| known.name.clone());
        let other = match known {
            Some(known) if is_named => known,
            Some(_) => segment.name.clone(),
            None => String::new(),
        };
        if !other.is_empty() {
            let what = "another segment has the same sequence";
            self.damage.push(Damage { name: other.clone(), offset: 0, what });
        }
        if other != segment.name {
            self.segments.insert(segment.sequence, segment);
        }
    }

    /// What the manifest says must be there.
    fn compare_manifest(&mut self, manifest: &Manifest) {
        for entry in &manifest.entries {
            let must_be = entry.state == b'O' || (entry.state == b'C' && entry.whole > 0);
            let segment = self.segments.get(&entry.sequence).filter(|segment| segment.salt == entry.salt);
            let Some(segment) = segment else {
                if must_be {
                    let what = "the segment is missing, was emptied, or another is in its place";
                    self.damage.push(Damage { name: entry.name.clone(), offset: 0, what });
                }
                continue;
            };
            let is_before = |offset: &&u32| u64::from(**offset) < entry.end;
            let before = segment.records.keys().filter(is_before).count() as u64;
            if matches!(entry.state, b'O' | b'C') && before < entry.whole {
                let what = "records are missing";
                self.damage.push(Damage { name: segment.name.clone(), offset: 0, what });
            }
            if entry.state == b'C' && segment.records.len() as u64 > before {
                let what = "the manifest is older than a segment";
                self.damage.push(Damage { name: MANIFEST.to_owned(), offset: 0, what });
            }
        }
        let is_unlisted = |segment: &Segment| {
            segment.version >= 2 && !segment.records.is_empty() && manifest.entry(segment.sequence).is_none()
        };
        if self.segments.values().any(is_unlisted) {
            let what = "a segment with records is not listed";
            self.damage.push(Damage { name: MANIFEST.to_owned(), offset: 0, what });
        }
    }

    /// Puts messages together from their records, and marks onto them.
    fn join(&mut self) {
        let mut done = BTreeSet::new();
        for record in self.records() {
            if record.1.kind == Kind::Done {
                done.insert(record.1.id);
            }
        }
        let mut found = BTreeMap::new();
        let mut states: BTreeMap<u64, Place> = BTreeMap::new();
        let mut progress: BTreeMap<u64, Place> = BTreeMap::new();
        let mut moved = 0;
        for (place, record) in self.records() {
            match record.kind {
                Kind::Message if !done.contains(&record.id) => {
                    let Some(chain) = self.chain(place, record) else { continue };
                    let message =
                        Found { is_held: record.is_held, size: record.content_size, chain, progress: None };
                    moved += usize::from(found.insert(record.id, message).is_some());
                    states.insert(record.id, place);
                }
                Kind::Hold | Kind::Release if states.contains_key(&record.id) => {
                    if let Some(message) = found.get_mut(&record.id) {
                        message.is_held = record.kind == Kind::Hold;
                    }
                }
                Kind::Progress => drop(progress.insert(record.id, place)),
                _ => {}
            }
        }
        for (id, message) in &mut found {
            message.progress = progress.get(id).copied();
        }
        (self.messages, self.moved) = (found, moved);
    }

    /// All whole records, in the order of segments' sequences and of offsets.
    fn records(&self) -> impl Iterator<Item = (Place, &Record)> {
        self.segments.values().flat_map(|segment| {
            segment.records.iter().map(|(offset, record)| ((segment.sequence, *offset), record))
        })
    }

    fn record(&self, (sequence, offset): Place) -> Option<&Record> {
        self.segments.get(&sequence)?.records.get(&offset)
    }

    /// Follows a message's records from its last one to its first; none if one is missing.
    fn chain(&self, end: Place, last: &Record) -> Option<Vec<Place>> {
        let mut chain = vec![end];
        let mut record = last;
        while record.previous.0 != 0 {
            let before = self.record(record.previous)?;
            let fits = before.kind == Kind::Chunk
                && before.id == record.id
                && before.part.checked_add(1) == Some(record.part)
                && before.content_size <= record.content_size;
            if !fits {
                return None;
            }
            chain.push(record.previous);
            record = before;
        }
        chain.reverse();
        (record.part == 0).then_some(chain)
    }

    /// A batch that another batch of its worker knew to be durable was whole once.
    fn find_damage(&mut self) {
        let ranges: Vec<(u32, u64, u64)> = self
            .segments
            .values()
            .flat_map(|segment| &segment.batches)
            .map(|batch| (batch.worker, batch.from, batch.through))
            .collect();
        let was_durable = |worker: u32, number: u64| {
            ranges.iter().any(|(of, from, through)| *of == worker && (*from..=*through).contains(&number))
        };
        for segment in self.segments.values() {
            // In a segment one batch follows the other, with the next number.
            let mut before = (segment::FRONT as u64, 0);
            for batch in &segment.batches {
                let (end, number) = before;
                before = (u64::from(batch.offset + batch.length), batch.number);
                let mut between = segment
                    .records
                    .keys()
                    .filter(|offset| (end..u64::from(batch.offset)).contains(&u64::from(**offset)));
                if u64::from(batch.offset) > end
                    && between.next().is_none()
                    && batch.number > number + 1
                    && was_durable(batch.worker, batch.number - 1)
                {
                    let what = "a durable batch is missing";
                    self.damage.push(Damage { name: segment.name.clone(), offset: end, what });
                }
            }
            for batch in &segment.batches {
                let end = batch.offset + batch.length;
                let whole =
                    segment.records.keys().filter(|offset| (batch.offset..end).contains(*offset)).count();
                if whole < batch.records as usize && was_durable(batch.worker, batch.number) {
                    self.damage.push(Damage {
                        name: segment.name.clone(),
                        offset: u64::from(batch.offset),
                        what: "records of a durable batch are missing",
                    });
                }
            }
        }
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn message(&self, files: &impl Files, id: u64) -> Result<Message, ReadError> {
        let found = self.messages.get(&id).ok_or(ReadError::Format("there is no such message"))?;
        let mut content = Vec::new();
        let mut envelope = Vec::new();
        for place in &found.chain {
            let (record, payload) = self.payload(files, *place)?;
            let (front, rest) = payload
                .split_at_checked(record.envelope_length as usize)
                .ok_or(ReadError::Format("an envelope is longer than its record"))?;
            if record.kind == Kind::Message {
                envelope.extend_from_slice(front);
            }
            content.extend_from_slice(rest);
            if content.len() as u64 != record.content_size {
                return Err(ReadError::Format("a record has a wrong size of content"));
            }
        }
        let envelope = Envelope::read(&envelope).ok_or(ReadError::Format("an envelope is invalid"))?;
        let recipients = envelope.recipients.len() + envelope.expanded.len();
        let outcomes = match found.progress {
            Some(place) => {
                let (_, payload) = self.payload(files, place)?;
                let outcomes = progress::outcomes(payload.get(1..).unwrap_or_default(), recipients);
                outcomes.ok_or(ReadError::Format("the progress of a message is invalid"))?
            }
            None => vec![0; recipients],
        };
        Ok(Message { envelope, content, outcomes })
    }

    /// A record and its payload.
    fn payload(&self, files: &impl Files, place: Place) -> Result<(&Record, Vec<u8>), ReadError> {
        let (Some(segment), Some(record)) = (self.segments.get(&place.0), self.record(place)) else {
            return Err(ReadError::Format("a record has disappeared"));
        };
        let start = u64::from(place.1) + segment::HEADER as u64;
        let payload = files.read(&segment.name, start, record.length as usize)?;
        if segment::sum(&payload, segment.salt) != record.payload_sum {
            return Err(ReadError::Format("a record has changed since it was read"));
        }
        Ok((record, payload))
    }
}

/// Digits of a queue id's text.
const DIGITS: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

/// The text of a queue id's number.
#[must_use]
pub fn id_text(number: u64) -> String {
    let mut text = [b'0'; 12];
    let mut rest = number;
    for place in text.iter_mut().rev() {
        *place = DIGITS[usize::try_from(rest % 52).unwrap_or(0)];
        rest /= 52;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The number of a queue id's text.
#[must_use]
pub fn id_number(text: &str) -> Option<u64> {
    if text.len() != 12 {
        return None;
    }
    text.bytes().try_fold(0u64, |number, octet| {
        let digit = DIGITS.iter().position(|digit| *digit == octet)?;
        number.checked_mul(52)?.checked_add(digit as u64)
    })
}

/// The segments of a queue directory.
#[derive(Debug)]
pub struct Directory<'a>(pub &'a Path);

impl Files for Directory<'_> {
    fn manifest(&self) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join(MANIFEST)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(self.0.join("segments"))?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn read_all(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join("segments").join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        }
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt as _;
        let mut octets = vec![0; length];
        std::fs::File::open(self.0.join("segments").join(name))?.read_exact_at(&mut octets, offset)?;
        Ok(octets)
    }
}

#[cfg(test)]
mod tests;
