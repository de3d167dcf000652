//! Owns what all segments together say: which messages are whole, which are done, and what is damaged.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;

use mailrace_core::QueueId;
use mailrace_core::record::spool::{
    BatchHeader, Location, Mark, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE, SegmentError, SegmentHeader,
    checksum,
};
use mailrace_io::{Disk, FileKind};

use crate::index::State;
use crate::recovery::Damage;
use crate::scan::{Found, Scan};
use crate::{OpenError, SEGMENT_SUFFIX, SEGMENTS};

/// One use of a segment that was found.
#[derive(Debug)]
pub(crate) struct Use {
    /// Its path in the queue directory.
    pub(crate) path: String,
    pub(crate) header: SegmentHeader,
    batches: Vec<(u64, BatchHeader)>,
    /// Where a record is whole behind the last batch whose header is.
    stray: Option<u64>,
    /// Its marks.
    pub(crate) marks: Vec<(QueueId, Mark)>,
    /// Last records of messages in it.
    pub(crate) messages: usize,
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
    /// Paths of files that are no segments, or hold nothing any more.
    pub(crate) empty: Vec<String>,
    pub(crate) messages: BTreeMap<QueueId, Message>,
    pub(crate) damage: Vec<Damage>,
    /// The newest id that any record has: a clock that went back must not give one again that a mark speaks of.
    pub(crate) last_id: Option<QueueId>,
}

/// A record that is whole, kept until its message is put together.
#[derive(Clone, Copy, Debug)]
struct Part {
    id: QueueId,
    part: u32,
    previous: Option<Location>,
    content_size: u64,
}

/// Reads all segments. `is_checked`: also makes durable what is read, and finds damage.
pub(crate) fn survey<D: Disk>(disk: &D, is_checked: bool) -> Result<Survey, OpenError> {
    let mut survey = Survey::default();
    let mut parts = HashMap::new();
    let mut ends: Vec<(Location, RecordHeader)> = Vec::new();
    let mut marks: Vec<(Location, QueueId, Mark)> = Vec::new();
    // At a start nobody else writes: one list is all.
    let mut paths = Paths { lists_left: if is_checked { 1 } else { LISTS_MAX }, ..Paths::default() };
    while let Some(path) = paths.next(disk)? {
        let file = match disk.open(&path, FileKind::Buffered) {
            Ok(file) => file,
            // A running engine has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(OpenError::disk("open", &path)(error)),
        };
        if is_checked {
            // A killed engine may have left octets that are only in memory: what is taken for queued now has to stay.
            disk.sync(&file).map_err(OpenError::disk("make durable", &path))?;
        }
        let failed = || OpenError::disk("read", &path);
        let mut block = vec![0; SEGMENT_HEADER_SIZE];
        disk.read_at(&file, &mut block, 0).map_err(failed())?;
        let header = match SegmentHeader::decode(&block) {
            Ok(header) => header,
            Err(SegmentError::Version(version)) => return Err(OpenError::Version { path, version }),
            Err(SegmentError::NotASegment) if block.iter().all(|octet| *octet == 0) => {
                survey.empty.push(path);
                continue;
            }
            // Without its header nothing in it can be told from an earlier use.
            Err(SegmentError::NotASegment | SegmentError::Damaged) => {
                survey.damage.push(Damage { path, offset: 0, what: "the segment's header is damaged" });
                continue;
            }
        };
        let sequence = header.sequence;
        if survey.uses.contains_key(&sequence) {
            // Beside a running engine it was given its new use between the look at its header and now. At a start only one
            // of them could be emptied when its messages are done.
            if is_checked {
                survey.damage.push(Damage { path, offset: 0, what: "another segment has the same sequence" });
            }
            continue;
        }
        let size = disk.size(&file).map_err(failed())?;
        if is_checked && size < header.size {
            let what = "the file is shorter than its header says";
            survey.damage.push(Damage { path: path.clone(), offset: size, what });
        }
        let mut found = Use {
            path: path.clone(),
            header,
            batches: Vec::new(),
            stray: None,
            marks: Vec::new(),
            messages: 0,
        };
        let mut scan = Scan::new(disk, &file, header);
        let mut records = 0;
        while let Some((offset, next)) = scan.next().map_err(failed())? {
            let record = match next {
                Found::Batch(batch) => {
                    found.close_batch(records);
                    found.stray = None;
                    records = 0;
                    found.batches.push((offset, batch));
                    continue;
                }
                Found::Record(record) => record,
            };
            // What a crash tore looks whole but for its payload, for as long as the segment is there.
            let payload = scan.payload(offset, &record).map_err(failed())?;
            if payload.len() != record.length as usize
                || checksum(payload, header.salt) != record.payload_checksum
            {
                continue;
            }
            let mark = match record.kind {
                RecordKind::Mark => payload.first().copied().and_then(Mark::from_octet),
                RecordKind::Chunk | RecordKind::Message => None,
            };
            if found.is_in_last_batch(offset) {
                records += 1;
            } else {
                found.stray.get_or_insert(offset);
            }
            survey.last_id = survey.last_id.max(Some(record.id));
            let place = Location { sequence, offset: u32::try_from(offset).unwrap_or(u32::MAX) };
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
            }
        }
        found.close_batch(records);
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
    if is_checked {
        survey.find_damage();
    }
    Ok(survey)
}

/// The segments in the order of their sequences, and behind them those that have come meanwhile.
///
/// Beside a running engine messages move, always from a segment to one of a greater sequence, and the copy is durable
/// before the first is emptied. So whoever comes too late for the one still finds the other.
#[derive(Default)]
struct Paths {
    lists_left: u32,
    next: VecDeque<String>,
    seen: BTreeSet<(u64, String)>,
}

impl Paths {
    fn next<D: Disk>(&mut self, disk: &D) -> Result<Option<String>, OpenError> {
        if self.next.is_empty() && self.lists_left > 0 {
            self.lists_left -= 1;
            let mut new = BTreeSet::new();
            for name in disk.list(SEGMENTS).map_err(OpenError::disk("list", SEGMENTS))? {
                if name.ends_with(SEGMENT_SUFFIX) {
                    let path = format!("{SEGMENTS}/{name}");
                    new.insert((sequence(disk, &path), path));
                }
            }
            self.next = new.difference(&self.seen).map(|(_, path)| path.clone()).collect();
            self.seen.append(&mut new);
        }
        Ok(self.next.pop_front())
    }
}

/// How often the segments are listed: a message that is moved more often while they are read may be missed, but an
/// engine that makes segments as fast as they are read keeps nobody reading for ever.
const LISTS_MAX: u32 = 4;

/// 0: none that can be read; whoever reads all of the file will say why.
fn sequence<D: Disk>(disk: &D, path: &str) -> u64 {
    let mut block = vec![0; SEGMENT_HEADER_SIZE];
    let read = disk.open(path, FileKind::Buffered).and_then(|file| disk.read_at(&file, &mut block, 0));
    read.ok().and_then(|_| SegmentHeader::decode(&block).ok()).map_or(0, |header| header.sequence)
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

    /// The greatest batch number in it.
    pub(crate) fn last_batch(&self) -> u64 {
        self.batches.iter().map(|(_, batch)| batch.number).max().unwrap_or(0)
    }
}

impl Survey {
    /// Tells what was damaged from what was never durable: a batch that a later one knew to be durable was whole once.
    fn find_damage(&mut self) {
        // By worker, and the number from which on it knows.
        let mut durable: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for (_, batch) in self.uses.values().flat_map(|found| &found.batches) {
            let through = durable.entry((batch.worker, batch.durable_from)).or_default();
            *through = batch.durable_through.max(*through);
        }
        let was_durable = |worker: u32, number: u64| {
            durable.range((worker, 0)..=(worker, number)).any(|(_, through)| number <= *through)
        };
        for found in self.uses.values() {
            let mut damage =
                |offset, what| self.damage.push(Damage { path: found.path.clone(), offset, what });
            let (mut place, mut before) = (SEGMENT_HEADER_SIZE as u64, 0);
            for (offset, batch) in &found.batches {
                if *offset != place
                    && batch.number > before + 1
                    && was_durable(batch.worker, batch.number - 1)
                {
                    damage(place, "a batch header is damaged");
                }
                if batch.records > 0 && was_durable(batch.worker, batch.number) {
                    damage(*offset, "records of this batch are damaged");
                }
                (place, before) = (offset + u64::from(batch.length), batch.number);
            }
            // The batch of that record had the next number. Only what the same life knew of that number counts: if the
            // batch was torn, a later life may have given the number again.
            if let (Some(place), Some((_, last))) = (found.stray, found.batches.last())
                && durable
                    .get(&(last.worker, last.durable_from))
                    .is_some_and(|through| last.number < *through)
            {
                damage(place, "a batch header is damaged");
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
        let mut next = || paths.next(&disk).unwrap();
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
        while paths.next(&disk).unwrap().is_some() {
            count += 1;
            put(&disk, &format!("new{count}.seg"), 100 + count);
            assert!(count < 100);
        }
    }
}
