//! Owns what all segments together say: which messages are whole, which are done, and what is damaged.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;

use mailrace_core::QueueId;
use mailrace_core::record::manifest::{self, EntryState, Manifest};
use mailrace_core::record::spool::{
    BatchHeader, FORMAT_VERSION_1, Location, Mark, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE,
    SegmentError, SegmentHeader, checksum,
};
use mailrace_io::{BLOCK_ALIGNMENT, Disk, FileKind};

use crate::OpenError;
use crate::segment::index::State;
use crate::segment::manifest::{Found as FoundManifest, MANIFEST, name_of, path_of};
use crate::segment::recovery::{Damage, DamageKind, Stranger};
use crate::segment::scan::{Found, Scan};
use crate::segment::{SEGMENT_SUFFIX, SEGMENTS};

/// How a queue is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Nobody else writes to it: what is read is made durable, and damage is found.
    Alone,
    /// An engine may be at work.
    Beside,
}

/// One use of a segment that was found.
#[derive(Debug)]
pub(crate) struct Use {
    /// Its path in the queue directory.
    pub(crate) path: String,
    pub(crate) header: SegmentHeader,
    /// What the manifest says of it.
    entry: Option<manifest::Entry>,
    is_first_version: bool,
    size: u64,
    batches: Vec<(u64, BatchHeader)>,
    /// Where records are whole outside of batches whose header is.
    strays: Vec<u64>,
    /// Its marks.
    pub(crate) marks: Vec<(QueueId, Mark)>,
    /// Last records of messages in it.
    pub(crate) messages: usize,
    /// Records that are whole, of all kinds, and how many of them stand before the end that the manifest knows.
    pub(crate) records: u64,
    records_before: u64,
    /// Nothing is whole from there on.
    pub(crate) end: u64,
    /// Records that were durable once and are not whole, and of which no entry counts the missing ones.
    missing: u64,
    /// Something in it is damaged, or cannot be read.
    pub(crate) is_damaged: bool,
    is_unreadable: bool,
}

/// A message whose last record is whole.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Where its records are, the last one first.
    pub(crate) chain: Vec<Location>,
    pub(crate) header: RecordHeader,
    pub(crate) state: State,
    pub(crate) is_done: bool,
    /// Sequences of all segments with a last record of it: it may have been moved.
    pub(crate) copies: Vec<u64>,
}

impl Message {
    /// Sequences of the first and the last segment that hold a part of it.
    pub(crate) fn span(&self) -> (u64, u64) {
        let first = self.chain.last().map_or(0, |place| place.sequence);
        let last = self.chain.first().map_or(0, |place| place.sequence);
        (first, last)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// By sequence.
    pub(crate) uses: BTreeMap<u64, Use>,
    /// Paths of files that hold nothing any more.
    pub(crate) empty: Vec<String>,
    /// Sequence and path of segments that were being emptied.
    pub(crate) emptied: Vec<(u64, String)>,
    /// What the manifest lists and is not there, and whether it may come back by itself.
    pub(crate) lost: Vec<(manifest::Entry, bool)>,
    pub(crate) messages: BTreeMap<QueueId, Message>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) strangers: Vec<Stranger>,
    /// The newest id that any record has: a clock that went back must not give one again that a mark speaks of.
    pub(crate) last_id: Option<QueueId>,
    /// A segment of the second version with a record was found.
    has_second_version: bool,
    /// Segments have records that the manifest should know.
    is_manifest_older: bool,
}

/// A record that is whole, kept until its message is put together.
#[derive(Clone, Copy, Debug)]
struct Part {
    id: QueueId,
    part: u32,
    previous: Option<Location>,
    content_size: u64,
}

/// Reads all segments.
pub(crate) fn survey<D: Disk>(disk: &D, found: &FoundManifest, view: View) -> Result<Survey, OpenError> {
    let mut survey = Survey::default();
    survey.damage.extend(found.damage.clone());
    let listed = Listed::new(found.manifest.as_ref());
    let mut parts = HashMap::new();
    let mut ends: Vec<(Location, RecordHeader)> = Vec::new();
    let mut marks: Vec<(Location, QueueId, Mark)> = Vec::new();
    // Of what is no segment: what is there instead, by its path.
    let mut instead: BTreeMap<String, DamageKind> = BTreeMap::new();
    // At a start nobody else writes: one list is all.
    let lists_left = if view == View::Alone { 1 } else { LISTS_MAX };
    let mut paths = Paths { lists_left, ..Paths::default() };
    while let Some(path) = paths.next(disk, &listed)? {
        let read = read_header(disk, &path);
        let (file, block) = match read {
            Ok(read) => read,
            // A running engine has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                instead.insert(path, DamageKind::Unreadable(error.to_string()));
                continue;
            }
        };
        let (header, is_first_version) = match SegmentHeader::decode(&block) {
            Ok(header) => (header, version_of(&block) == FORMAT_VERSION_1),
            Err(SegmentError::Version(version)) => return Err(OpenError::Version { path, version }),
            Err(SegmentError::Features(features)) => return Err(OpenError::Features { path, features }),
            Err(SegmentError::NotASegment | SegmentError::Damaged) => {
                let is_blank = block.len() == SEGMENT_HEADER_SIZE && block.iter().all(|octet| *octet == 0);
                instead.insert(path, if is_blank { DamageKind::Emptied } else { DamageKind::SegmentHeader });
                continue;
            }
        };
        let sequence = header.sequence;
        let entry = match listed.standing(&header) {
            Standing::Counts(entry) => entry,
            Standing::Emptied => {
                survey.emptied.push((sequence, path));
                continue;
            }
            Standing::Stale => {
                // Without a record it is what a failed start of a segment left, and of no harm.
                let what = match has_record(disk, &file, header) {
                    Ok(false) => DamageKind::Emptied,
                    Ok(true) => DamageKind::Replaced,
                    Err(error) => DamageKind::Unreadable(error),
                };
                instead.insert(path, what);
                continue;
            }
        };
        if survey.uses.contains_key(&sequence) {
            // Beside a running engine it was given its new use between the look at its header and now.
            if view == View::Alone {
                survey.strangers.push(Stranger { path, what: "a copy of a segment" });
            }
            continue;
        }
        let mut found = Use::new(path, header, entry.cloned(), is_first_version);
        // A killed engine may have left octets that are only in memory: what is taken for queued now has to stay.
        if view == View::Alone
            && let Err(error) = disk.sync(&file)
        {
            found.is_unreadable = true;
            survey.damage.push(found.damage(0, DamageKind::Unsynced(error.to_string())));
        }
        found.size = disk.size(&file).unwrap_or(header.size);
        let mut scan = Scan::new(disk, &file, header);
        let mut records = 0;
        while let Some((offset, next)) = scan.next() {
            let record = match next {
                Found::Batch(batch) => {
                    found.close_batch(records);
                    records = 0;
                    found.note_end(offset + u64::from(batch.length));
                    found.batches.push((offset, batch));
                    continue;
                }
                Found::Record(record) => record,
            };
            found.note_end(offset + record.size() as u64);
            // What a crash tore looks whole but for its payload, for as long as the segment is there.
            let payload = scan.payload(offset, &record);
            let (Ok(place), true) = (
                u32::try_from(offset),
                payload.len() == record.length as usize
                    && checksum(payload, header.salt) == record.payload_checksum,
            ) else {
                continue;
            };
            let mark = match record.kind {
                RecordKind::Mark => payload.first().copied().and_then(Mark::from_octet),
                _ => None,
            };
            if found.is_in_last_batch(offset) {
                records += 1;
            } else {
                found.strays.push(offset);
            }
            found.count_record(offset);
            survey.has_second_version |= !is_first_version;
            survey.last_id = survey.last_id.max(Some(record.id));
            let place = Location { sequence, offset: place };
            match record.kind {
                RecordKind::Chunk => {
                    let RecordHeader { id, part, previous, content_size, .. } = record;
                    parts.insert(place, Part { id, part, previous, content_size });
                }
                RecordKind::Message => {
                    found.messages += 1;
                    ends.push((place, record));
                }
                RecordKind::Mark => {
                    if let Some(mark) = mark {
                        found.marks.push((record.id, mark));
                        marks.push((place, record.id, mark));
                    }
                }
                RecordKind::Other(_) => {}
            }
        }
        found.close_batch(records);
        if let Some((offset, error)) = scan.unreadable() {
            found.is_unreadable = true;
            survey.damage.push(found.damage(*offset, DamageKind::Unreadable(error.to_string())));
        }
        // That a beginning could not be made durable is no loss: there is no record behind it.
        if found.entry.is_none() && found.records == 0 && scan.unreadable().is_none() {
            found.is_unreadable = false;
        }
        found.is_damaged |= found.is_unreadable;
        survey.uses.insert(sequence, found);
    }
    // Of a message that was moved the later place counts, if all of it is there.
    ends.sort_unstable_by_key(|(place, _)| *place);
    for (place, header) in ends {
        let Some(chain) = chain(&parts, place, &header) else { continue };
        let state = if header.is_held { State::Hold } else { State::Incoming };
        let before = survey.messages.remove(&header.id);
        let mut copies = before.map(|message| message.copies).unwrap_or_default();
        copies.push(place.sequence);
        survey.messages.insert(header.id, Message { chain, header, state, is_done: false, copies });
    }
    marks.sort_unstable_by_key(|(place, ..)| *place);
    for (place, id, mark) in marks {
        let Some(message) = survey.messages.get_mut(&id) else { continue };
        let is_behind = message.chain.first().is_some_and(|message| *message < place);
        match mark {
            Mark::Done => message.is_done = true,
            Mark::Hold if is_behind => message.state = State::Hold,
            Mark::Release if is_behind => message.state = State::Incoming,
            Mark::Hold | Mark::Release => {}
        }
    }
    survey.note_known(&listed);
    if view == View::Alone {
        survey.find_damage();
        survey.find_lost(&listed, instead, found.manifest.is_some());
    } else {
        // What an engine has removed or emptied since its manifest was read is not lost.
        for (path, what) in instead {
            if matches!(what, DamageKind::Unreadable(_)) {
                survey.damage.push(Damage { path, offset: 0, what, is_known: false });
            }
        }
    }
    Ok(survey)
}

/// Opens a file and reads its header block, which is shorter in a file that is. Once more if it fails: an error may be of
/// the moment.
fn read_header<D: Disk>(disk: &D, path: &str) -> io::Result<(D::File, Vec<u8>)> {
    let read = || {
        let file = disk.open(path, FileKind::Read)?;
        let mut block = vec![0; SEGMENT_HEADER_SIZE];
        let count = disk.read_at(&file, &mut block, 0)?;
        block.truncate(count);
        Ok((file, block))
    };
    read().or_else(|error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Err(error),
        _ => read(),
    })
}

fn version_of(block: &[u8]) -> u32 {
    block.get(8..12).and_then(|octets| octets.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// Whether a segment has any record that looks whole; or why that cannot be told.
fn has_record<D: Disk>(disk: &D, file: &D::File, header: SegmentHeader) -> Result<bool, String> {
    let mut scan = Scan::new(disk, file, header);
    let has_record = std::iter::from_fn(|| scan.next()).any(|(_, found)| matches!(found, Found::Record(_)));
    match scan.unreadable() {
        Some((_, error)) if !has_record => Err(error.to_string()),
        _ => Ok(has_record),
    }
}

/// What the manifest lists, by sequence.
struct Listed<'a> {
    entries: HashMap<u64, &'a manifest::Entry>,
    /// `None`: there is no manifest.
    next_sequence: Option<u64>,
}

/// What the manifest says of a header that is whole.
enum Standing<'a> {
    Counts(Option<&'a manifest::Entry>),
    /// It was being emptied.
    Emptied,
    /// It was emptied: an old copy.
    Stale,
}

impl<'a> Listed<'a> {
    fn new(manifest: Option<&'a Manifest>) -> Self {
        let entries = manifest.into_iter().flat_map(|manifest| &manifest.entries);
        Self {
            entries: entries.map(|entry| (entry.header.sequence, entry)).collect(),
            next_sequence: manifest.map(|manifest| manifest.next_sequence),
        }
    }

    fn standing(&self, header: &SegmentHeader) -> Standing<'a> {
        match (self.entries.get(&header.sequence), self.next_sequence) {
            (Some(entry), _) if entry.header != *header => Standing::Stale,
            (Some(entry), _) if entry.state == EntryState::Emptied => Standing::Emptied,
            (Some(entry), _) => Standing::Counts(Some(entry)),
            (None, Some(next)) if header.sequence < next => Standing::Stale,
            (None, _) => Standing::Counts(None),
        }
    }

    /// Of several files with one header the least counts.
    fn rank(&self, header: &SegmentHeader, path: &str) -> u8 {
        match self.entries.get(&header.sequence) {
            Some(entry) if entry.header == *header => u8::from(entry.name != name_of(path)),
            _ => 2,
        }
    }
}

/// The number in a name that an engine may have given.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let number = digits.parse().ok().filter(|number| (1..=NUMBER_MAX).contains(number))?;
    (segment_name(number) == name).then_some(number)
}

/// The name of a segment with this number.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:010}{SEGMENT_SUFFIX}")
}

/// The greatest number in a name: no engine comes that far.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// The segments in the order of their sequences, and behind them those that have come meanwhile.
///
/// Beside a running engine messages move, always from a segment to one of a greater sequence, and the copy is durable
/// before the first is emptied. So whoever comes too late for the one still finds the other.
#[derive(Default)]
struct Paths {
    lists_left: u32,
    next: VecDeque<String>,
    seen: BTreeSet<(u64, u8, String)>,
}

impl Paths {
    fn next<D: Disk>(&mut self, disk: &D, listed: &Listed<'_>) -> Result<Option<String>, OpenError> {
        if self.next.is_empty() && self.lists_left > 0 {
            self.lists_left -= 1;
            let mut new = BTreeSet::new();
            for name in disk.list(SEGMENTS).map_err(OpenError::disk("list", SEGMENTS))? {
                if name.ends_with(SEGMENT_SUFFIX) {
                    let path = format!("{SEGMENTS}/{name}");
                    let (sequence, rank) = place_in_order(disk, listed, &path);
                    new.insert((sequence, rank, path));
                }
            }
            self.next = new.difference(&self.seen).map(|(.., path)| path.clone()).collect();
            self.seen.append(&mut new);
        }
        Ok(self.next.pop_front())
    }
}

/// How often the segments are listed: a message that is moved more often while they are read may be missed, but an
/// engine that makes segments as fast as they are read keeps nobody reading for ever.
const LISTS_MAX: u32 = 4;

/// Sequence and rank; 0: none that can be read. Whoever reads all of the file will say why.
fn place_in_order<D: Disk>(disk: &D, listed: &Listed<'_>, path: &str) -> (u64, u8) {
    let header = read_header(disk, path).ok().and_then(|(_, block)| SegmentHeader::decode(&block).ok());
    header.map_or((0, 0), |header| (header.sequence, listed.rank(&header, path)))
}

/// The places of all records of the message that ends at `place`, the last first; `None` if one is missing.
fn chain(parts: &HashMap<Location, Part>, place: Location, end: &RecordHeader) -> Option<Vec<Location>> {
    let mut chain = vec![place];
    let (mut previous, mut number, mut size) = (end.previous, end.part, end.content_size);
    while let Some(place) = previous {
        let part = parts.get(&place)?;
        if part.id != end.id || part.part + 1 != number || part.content_size > size {
            return None;
        }
        chain.push(place);
        (previous, number, size) = (part.previous, part.part, part.content_size);
    }
    (number == 0).then_some(chain)
}

impl Use {
    const fn new(
        path: String,
        header: SegmentHeader,
        entry: Option<manifest::Entry>,
        is_first_version: bool,
    ) -> Self {
        Self {
            path,
            header,
            entry,
            is_first_version,
            size: 0,
            batches: Vec::new(),
            strays: Vec::new(),
            marks: Vec::new(),
            messages: 0,
            records: 0,
            records_before: 0,
            end: SEGMENT_HEADER_SIZE as u64,
            missing: 0,
            is_damaged: false,
            is_unreadable: false,
        }
    }

    fn damage(&self, offset: u64, what: DamageKind) -> Damage {
        Damage { path: self.path.clone(), offset, what, is_known: false }
    }

    /// Notes how many records of the batch that was read last are whole.
    fn close_batch(&mut self, records: u32) {
        if let Some((_, batch)) = self.batches.last_mut() {
            // What is missing is kept in place of what should be there.
            batch.records = batch.records.saturating_sub(records);
        }
    }

    /// Whether what stands at `offset` is of the batch that was read last.
    fn is_in_last_batch(&self, offset: u64) -> bool {
        self.batches.last().is_some_and(|(start, batch)| offset < start + u64::from(batch.length))
    }

    /// Something whole ends there.
    fn note_end(&mut self, end: u64) {
        self.end = self.end.max(end.next_multiple_of(BLOCK_ALIGNMENT as u64));
    }

    fn count_record(&mut self, offset: u64) {
        self.records += 1;
        self.records_before += u64::from(offset < self.end_known());
    }

    /// Up to there the manifest knows what was whole.
    fn end_known(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.end)
    }

    /// Records that were whole at the last start, and are not now.
    fn newly_missing(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.whole.saturating_sub(self.records_before))
    }

    /// Whether an engine was to write no more to it.
    fn is_closed(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.state == EntryState::Closed)
    }

    /// The greatest batch number in it.
    pub(crate) fn last_batch(&self) -> u64 {
        self.batches.iter().map(|(_, batch)| batch.number).max().unwrap_or(0)
    }

    /// Whether more can be written behind what is in it.
    pub(crate) fn can_go_on(&self) -> bool {
        !self.is_first_version
            && !self.is_damaged
            && self.size == self.header.size
            && self.end + 2 * BLOCK_ALIGNMENT as u64 <= self.header.size
    }

    /// What the manifest is to say of it now.
    pub(crate) fn determined(&self) -> manifest::Entry {
        let name = name_of(&self.path);
        let entry = match &self.entry {
            Some(entry) => entry.clone(),
            None => manifest::Entry {
                header: self.header,
                end: SEGMENT_HEADER_SIZE as u64,
                records: 0,
                whole: 0,
                state: EntryState::Open,
                name: String::new(),
            },
        };
        if self.is_unreadable {
            // An error of the moment says nothing of what is there.
            return manifest::Entry { name, ..entry };
        }
        let gone = entry.records.saturating_sub(self.records_before) + self.missing;
        let (end, whole) = if entry.state == EntryState::Closed && self.records == self.records_before {
            (entry.end, self.records_before)
        } else {
            (self.end.max(entry.end), self.records)
        };
        manifest::Entry { end, whole, records: whole + gone, state: EntryState::Closed, name, ..entry }
    }

    /// Where something is that was whole once, as far as it can be told. `is_durable`: a later batch says that this one was.
    fn suspects(&self, durable: &Durable) -> Vec<Suspect> {
        let mut suspects = Vec::new();
        let mut suspect = |offset, what, is_durable, records| {
            suspects.push(Suspect { offset, what, is_durable, records });
        };
        let (mut place, mut before) = (SEGMENT_HEADER_SIZE as u64, 0);
        for (offset, batch) in &self.batches {
            if *offset != place {
                let is_durable = batch.number > before + 1 && durable.has(batch.worker, batch.number - 1);
                let has_record = self.strays.iter().any(|stray| (place..*offset).contains(stray));
                suspect(place, DamageKind::BatchHeader, is_durable, u64::from(!has_record));
            }
            if batch.records > 0 {
                let is_durable = durable.has(batch.worker, batch.number);
                suspect(*offset, DamageKind::Records, is_durable, u64::from(batch.records));
            }
            (place, before) = (offset + u64::from(batch.length), batch.number);
        }
        // The batch of that record had the next number. Only what the same life knew of that number counts: if the
        // batch was torn, a later life may have given the number again.
        let stray = self.strays.iter().copied().find(|stray| *stray >= place);
        match (stray, self.batches.last()) {
            (Some(stray), Some((_, last))) => {
                let is_durable = durable.has_of_life(last.worker, last.durable_from, last.number + 1);
                // What the manifest knew of begins where the whole batches end.
                let from = if place < self.end_known() { place } else { stray };
                suspect(from, DamageKind::BatchHeader, is_durable, 0);
            }
            _ if place < self.end_known() => suspect(place, DamageKind::BatchHeader, false, 0),
            _ => {}
        }
        suspects
    }
}

/// A place where something is missing.
struct Suspect {
    offset: u64,
    what: DamageKind,
    is_durable: bool,
    /// Records that are missing there at least.
    records: u64,
}

/// Which batches were known to be durable, by worker and the number from which on it knows.
struct Durable(BTreeMap<(u32, u64), u64>);

impl Durable {
    fn new<'a>(batches: impl Iterator<Item = &'a BatchHeader>) -> Self {
        let mut durable: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for batch in batches {
            let through = durable.entry((batch.worker, batch.durable_from)).or_default();
            *through = batch.durable_through.max(*through);
        }
        Self(durable)
    }

    fn has(&self, worker: u32, number: u64) -> bool {
        self.0.range((worker, 0)..=(worker, number)).any(|(_, through)| number <= *through)
    }

    fn has_of_life(&self, worker: u32, from: u64, number: u64) -> bool {
        self.0.get(&(worker, from)).is_some_and(|through| number <= *through)
    }
}

impl Survey {
    /// Says again what an earlier start has said.
    fn note_known(&mut self, listed: &Listed<'_>) {
        let is_lost = |entry: &&&manifest::Entry| {
            entry.state == EntryState::Lost && !self.uses.contains_key(&entry.header.sequence)
        };
        let mut lost: Vec<String> =
            listed.entries.values().filter(is_lost).map(|entry| path_of(entry)).collect();
        lost.sort_unstable();
        let known = |path| Damage { path, offset: 0, what: DamageKind::NoSegment, is_known: true };
        self.damage.extend(lost.into_iter().map(known));
        for found in self.uses.values_mut() {
            let Some(entry) = &found.entry else { continue };
            if entry.state != EntryState::Lost && entry.whole < entry.records {
                found.is_damaged = true;
                let what = DamageKind::Missing(entry.records - entry.whole);
                let offset = SEGMENT_HEADER_SIZE as u64;
                self.damage.push(Damage { is_known: true, ..found.damage(offset, what) });
            }
        }
    }

    /// Tells what was damaged from what was never durable: the manifest counts what was whole in segments that are
    /// closed, and of the others a batch that a later one knew to be durable was whole once.
    fn find_damage(&mut self) {
        let batches = self.uses.values().flat_map(|found| &found.batches).map(|(_, batch)| batch);
        let durable = Durable::new(batches);
        let mut is_older = false;
        for found in self.uses.values_mut() {
            let end_known = found.end_known();
            is_older |= found.is_closed() && found.records > found.records_before
                || found.entry.is_none() && found.records > 0 && !found.is_first_version;
            let suspects = found.suspects(&durable);
            let newly_missing = found.newly_missing();
            let (before, behind): (Vec<_>, Vec<_>) =
                suspects.into_iter().partition(|suspect| suspect.offset < end_known);
            // Where the count is right what is torn there was never whole, or nothing of it is lost. The same where what is
            // certainly missing makes up for the difference.
            let certain: u64 =
                before.iter().filter(|suspect| suspect.is_durable).map(|suspect| suspect.records).sum();
            let mut places = Vec::new();
            // Where all is there that was, what is cut off held nothing.
            if found.size < found.header.size && !(found.is_closed() && newly_missing == 0) {
                places.push((found.size, DamageKind::Shortened));
            }
            let missing_before: Vec<(u64, DamageKind)> = before
                .into_iter()
                .filter(|suspect| newly_missing > 0 && (suspect.is_durable || newly_missing > certain))
                .map(|suspect| (suspect.offset, suspect.what))
                .collect();
            if newly_missing > 0 && missing_before.is_empty() && places.is_empty() {
                places.push((SEGMENT_HEADER_SIZE as u64, DamageKind::Missing(newly_missing)));
            }
            places.extend(missing_before);
            for suspect in behind.into_iter().filter(|suspect| suspect.is_durable) {
                found.missing += suspect.records;
                places.push((suspect.offset, suspect.what));
            }
            // Why they are missing is said already.
            if found.is_unreadable {
                continue;
            }
            found.is_damaged |= !places.is_empty();
            for (offset, what) in places {
                self.damage.push(found.damage(offset, what));
            }
        }
        if is_older && self.damage.iter().all(|damage| damage.path != MANIFEST) {
            self.is_manifest_older = true;
        }
    }

    /// Tells which segments are not there, and which files are none of the queue's.
    fn find_lost(
        &mut self,
        listed: &Listed<'_>,
        mut instead: BTreeMap<String, DamageKind>,
        has_manifest: bool,
    ) {
        let manifest_damage = |what| Damage { path: MANIFEST.to_owned(), offset: 0, what, is_known: false };
        if !has_manifest
            && self.has_second_version
            && self.damage.iter().all(|damage| damage.path != MANIFEST)
        {
            self.damage.push(manifest_damage(DamageKind::NoManifest));
        }
        if has_manifest && self.is_manifest_older {
            self.damage.push(manifest_damage(DamageKind::OldManifest));
        }
        let mut missing: Vec<&manifest::Entry> = listed
            .entries
            .values()
            .copied()
            .filter(|entry| {
                let is_there = self.uses.contains_key(&entry.header.sequence);
                // One that never had a record is no loss.
                let had_any = entry.state != EntryState::Closed || entry.records > 0;
                entry.state != EntryState::Emptied && had_any && !is_there
            })
            .collect();
        missing.sort_unstable_by_key(|entry| entry.header.sequence);
        for entry in missing {
            let path = path_of(entry);
            let what = instead.remove(&path).unwrap_or(DamageKind::NoSegment);
            let may_come_back = matches!(what, DamageKind::Unreadable(_));
            if entry.state != EntryState::Lost {
                self.damage.push(Damage { path, offset: 0, what, is_known: false });
            }
            self.lost.push((entry.clone(), may_come_back));
        }
        for (path, what) in instead {
            let is_ours = number_of(&name_of(&path)).is_some();
            match what {
                DamageKind::Emptied if is_ours => self.empty.push(path),
                DamageKind::Unreadable(_) | DamageKind::SegmentHeader if is_ours => {
                    self.damage.push(Damage { path, offset: 0, what, is_known: false });
                }
                DamageKind::Unreadable(error) => {
                    let what = DamageKind::Unreadable(error);
                    self.damage.push(Damage { path, offset: 0, what, is_known: false });
                }
                DamageKind::Replaced => {
                    self.strangers.push(Stranger { path, what: "an old copy of a segment" })
                }
                _ => self.strangers.push(Stranger { path, what: "no segment of this queue" }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mailrace_io::memory::MemoryDisk;

    use super::*;

    fn put(disk: &MemoryDisk, name: &str, sequence: u64) {
        let size = SEGMENT_HEADER_SIZE as u64;
        let file = disk.create(&format!("{SEGMENTS}/{name}"), size, FileKind::Buffered).unwrap();
        disk.write_at(&file, &SegmentHeader { sequence, salt: 1, size }.encode(), 0).unwrap();
    }

    #[test]
    fn segments_come_by_sequence_and_new_ones_behind_them() {
        let disk = MemoryDisk::new();
        // Files that were used again have a sequence that their name does not show.
        put(&disk, "1.seg", 7);
        put(&disk, "2.seg", 3);
        put(&disk, "3.seg.new", 9);
        let mut paths = Paths { lists_left: LISTS_MAX, ..Paths::default() };
        let listed = Listed::new(None);
        let mut next = || paths.next(&disk, &listed).unwrap();
        assert_eq!(next().as_deref(), Some("segments/2.seg"));
        // A message is moved to a segment that was not there, and its first one is used again.
        put(&disk, "4.seg", 8);
        disk.remove("segments/1.seg").unwrap();
        put(&disk, "1.seg", 9);
        assert_eq!(next().as_deref(), Some("segments/1.seg"));
        assert_eq!(next().as_deref(), Some("segments/4.seg"));
        assert_eq!(next().as_deref(), Some("segments/1.seg"));
        assert_eq!(next(), None);
        // It comes to an end beside an engine that makes one after the other.
        let mut count = 0;
        let mut paths = Paths { lists_left: LISTS_MAX, ..Paths::default() };
        while paths.next(&disk, &listed).unwrap().is_some() {
            count += 1;
            put(&disk, &format!("new{count}.seg"), 100 + count);
            assert!(count < 100);
        }
    }
}
