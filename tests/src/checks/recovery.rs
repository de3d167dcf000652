//! Properties of a damaged queue: every message shown was put, undamaged messages are present, losses are reported, and a
//! second recovery shows the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::record::envelope::encode;
use mailrace_core::record::spool::{
    BatchHeader, RECORD_ALIGNMENT, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE, SegmentHeader,
};
use mailrace_core::{Envelope, Origin, QueueId, QueuedEnvelope, Recipient, Timestamp};
use mailrace_io::sim::{SimDisk, SimIo, World};
use mailrace_io::{Completion, Disk, FileKind, Instant, Io};
use mailrace_spool::reader::Queue;
use mailrace_spool::{
    Damage, Mark, OpenError, Opened, Refusal, SegmentKeeper, SegmentSpool, Settings, Spool, State, Store,
    Writes, open,
};

use super::front;

/// Settings small enough that a few messages fill a segment.
const SETTINGS: Settings = Settings {
    segment_size: SEGMENT_SIZE as u64,
    spare_segments: 2,
    kept_segments: 2,
    block_size: 16 << 10,
    blocks: 4,
    writes_in_flight: 2,
    queue_minfree: 0,
    message_size_limit: 1 << 20,
};
const SEGMENT_SIZE: usize = 64 << 10;
const SECTOR_SIZE: usize = 512;
/// Maximum size of content per record, in bytes, which leaves space for an envelope.
const PIECE_SIZE_MAX: usize = 7000;
/// Number of input bytes that describe a change: kind, file, offset, extent.
const CHANGE_SIZE: usize = 6;
const CHANGES_MAX: usize = 24;

/// Checks a queue. The first byte selects the queue, the rest its damage.
///
/// # Panics
/// A property does not hold.
pub fn check(octets: &[u8]) {
    let ([which], changes) = front(octets);
    let original = &ORIGINALS[usize::from(which) % ORIGINALS.len()];
    let (mut files, mut manifest) = (original.files.clone(), original.manifest.clone());
    for change in changes.chunks_exact(CHANGE_SIZE).take(CHANGES_MAX) {
        damage(&mut files, &mut manifest, original, change);
    }
    let has_manifest = manifest == original.manifest;
    let mut headers: Vec<&[u8]> = files.values().filter_map(|content| content.get(..HEADER_SIZE)).collect();
    headers.retain(|header| SegmentHeader::decode(header).is_ok());
    let count = headers.len();
    headers.sort_unstable();
    headers.dedup();
    // The manifest decides which copy counts.
    let is_copied = headers.len() < count && !has_manifest;
    let disk = disk_of(&files, &manifest);
    let shown = match recovered(&disk) {
        Ok(shown) => shown,
        Err(OpenError::Version { .. }) => panic!("damage is no other version of the format"),
        Err(error) => panic!("a queue in memory can be opened: {error}"),
    };
    original.check_shown(&files, &shown, is_copied, has_manifest);
    let again = recovered(&disk).unwrap_or_else(|error| panic!("a second time: {error}"));
    // If a segment exists twice, only one is emptied, and then the other one counts.
    if !is_copied {
        assert!(again.messages == shown.messages, "a second look shows the same");
        let is_new = |damage: &&Damage| !damage.is_known && !shown.damage.contains(damage);
        assert_eq!(again.damage.iter().find(is_new), None, "a second look finds nothing else wrong");
    }
}

/// Content of a queue after recovery.
struct Shown {
    messages: BTreeMap<QueueId, (State, Vec<u8>)>,
    damage: Vec<Damage>,
}

/// Reads the queue from outside and opens it as an engine does. Checks that both see the same.
fn recovered(disk: &SimDisk) -> Result<Shown, OpenError> {
    let messages = contents(disk)?;
    let Opened { spools, report, .. } = open(disk, &SETTINGS, 1)?;
    let spool = spools.first().expect("a spool for the worker");
    assert_eq!((spool.stats().messages, spool.stats().octets), (report.messages, report.octets));
    assert_eq!(report.octets, messages.values().map(|(_, content)| content.len() as u64).sum::<u64>());
    let held: BTreeMap<QueueId, State> = spool.ids().collect();
    assert_eq!(held, messages.iter().map(|(id, (state, _))| (*id, *state)).collect());
    Ok(Shown { messages, damage: report.damage })
}

fn contents(disk: &SimDisk) -> Result<BTreeMap<QueueId, (State, Vec<u8>)>, OpenError> {
    let queue = Queue::read(disk, true)?;
    let ids: Vec<_> = queue.ids().collect();
    let mut contents = BTreeMap::new();
    for (id, state, size) in ids {
        let entry = queue.entry(id).expect("what is shown can be read").expect("what is shown is there");
        assert_eq!(entry.envelope, envelope_of(id));
        let mut content = Vec::new();
        queue.content(id, &mut content).expect("what is shown can be read");
        assert_eq!((content.len() as u64, entry.size), (size, size));
        contents.insert(id, (state, content));
    }
    Ok(contents)
}

type Files = BTreeMap<String, Vec<u8>>;

fn files_of(disk: &SimDisk) -> Files {
    let mut files = Files::new();
    for name in disk.list("segments").expect("it is in memory") {
        disk.damage(&format!("segments/{name}"), |octets| drop(files.insert(name, octets.clone())));
    }
    files
}

/// Changes files as the input describes.
fn damage(files: &mut Files, manifest: &mut Vec<u8>, original: &Original, change: &[u8]) {
    let &[kind, which, low, high, by, more] = change else { return };
    let place = usize::from(u16::from_le_bytes([low, high]));
    if kind % KINDS == 9 {
        // Mostly within the used part.
        let size = manifest.len().clamp(1, 4096);
        match by % 3 {
            0 => manifest.clear(),
            1 => manifest.iter_mut().skip(place % size).take(1).for_each(|byte| *byte ^= more),
            _ => manifest.fill(more),
        }
        return;
    }
    let names: Vec<String> = files.keys().cloned().collect();
    let Some(name) = names.get(usize::from(which) % names.len().max(1)) else { return };
    let other = names[usize::from(more) % names.len()].clone();
    let content = files.get_mut(name).expect("a name of a file");
    let at = place.min(content.len().saturating_sub(1));
    let end = (at + usize::from(by) * 16 + 1).min(content.len());
    match kind % KINDS {
        0 => content[at..end.min(at + 1)].iter_mut().for_each(|octet| *octet ^= more),
        1 => content[at..end].fill(0),
        2 => content[at..end].fill(more),
        3 => content.truncate(at),
        4 => content.resize(content.len() + usize::from(by) * 16, more),
        5 => {
            // A sector was written to another place, in the same file or in another.
            let start = at / SECTOR_SIZE * SECTOR_SIZE;
            let sector = content.get(start..start + SECTOR_SIZE).unwrap_or_default().to_vec();
            let target = files.get_mut(&other).expect("a name of a file");
            let start = usize::from(by) * SECTOR_SIZE % SEGMENT_SIZE;
            if let Some(place) = target.get_mut(start..start + sector.len()) {
                place.copy_from_slice(&sector);
            }
        }
        6 => {
            let content = content.clone();
            files.insert(format!("{:010}.seg", 1000 + usize::from(more)), content);
        }
        7 => {
            // File names have no meaning.
            let content = files.remove(name).expect("a name of a file");
            files.insert(format!("{:010}.seg", 2000 + usize::from(more)), content);
        }
        10 => drop(files.remove(name)),
        11 => content.iter_mut().take(4096).for_each(|byte| *byte = 0),
        12 => {
            // An older copy returns.
            if let Some(older) = original.older.get(name) {
                content.clone_from(older);
            }
        }
        13 => {
            // A file that no engine created.
            let names = ["junk.seg", "0000000000.seg", "-1.seg", "18446744073709551615.seg"];
            let junk = content.get(..at).unwrap_or_default().to_vec();
            files.insert(names[usize::from(more) % names.len()].to_owned(), junk);
        }
        _ => {
            // Two files are swapped.
            let content = std::mem::take(content);
            let before = files.insert(other, content).expect("a name of a file");
            files.insert(name.clone(), before);
        }
    }
}

/// Number of kinds of changes.
const KINDS: u8 = 14;
/// Number of meaningful bytes in a segment's header.
const HEADER_SIZE: usize = 64;

fn disk_of(files: &Files, manifest: &[u8]) -> SimDisk {
    let disk = World::calm().disk();
    if !manifest.is_empty() {
        disk.create("manifest", 0, FileKind::Buffered).expect("a new file");
        disk.damage("manifest", |bytes| *bytes = manifest.to_vec());
    }
    for (name, content) in files {
        let path = format!("segments/{name}");
        disk.create(&path, 0, FileKind::Buffered).expect("a new file");
        disk.damage(&path, |octets| octets.clone_from(content));
    }
    disk
}

/// Range of a file that an item needs.
#[derive(Clone, Debug)]
struct Span {
    file: String,
    start: usize,
    end: usize,
}

/// An undamaged queue, and the places of its items.
struct Original {
    files: Files,
    manifest: Vec<u8>,
    /// Files at the end of the previous run.
    older: Files,
    messages: BTreeMap<QueueId, (State, Vec<u8>)>,
    /// All messages that were put, including those that are done.
    put: BTreeMap<QueueId, Vec<u8>>,
    records: BTreeMap<QueueId, Vec<Span>>,
    marks: BTreeMap<QueueId, Vec<Span>>,
    batches: Vec<(Span, BatchHeader)>,
    /// The last run ended properly.
    is_closed: bool,
}

static ORIGINALS: LazyLock<Vec<Original>> = LazyLock::new(|| (0..6).map(Original::new).collect());

impl Original {
    /// Creates a queue by one or two runs of an engine, as `plan` selects.
    fn new(plan: u8) -> Self {
        let disk = World::calm().disk();
        let mut put = BTreeMap::new();
        let mut older = Files::new();
        for run in 0..=u64::from(plan % 2) {
            let mut life = Life::begin(&disk, 100 * u64::from(plan) + run);
            for number in 0..6 + usize::from(plan) {
                let size = 1 + number * (700 + 900 * usize::from(plan));
                let mut content = format!("Subject: {plan} {run} {number}\r\n\r\n").into_bytes();
                content.extend((0..size).map(|at| b'a' + u8::try_from((at * 7 + number) % 26).unwrap_or(0)));
                let pieces = if (number + usize::from(plan)) % 3 == 2 { 4 } else { 1 };
                let id = life.put(
                    &content.chunks(content.len().div_ceil(pieces).min(PIECE_SIZE_MAX)).collect::<Vec<_>>(),
                );
                put.insert(id, content);
                if number % 3 == 1 {
                    life.mark(id, Mark::Hold);
                }
                if number % 4 == 1 && plan > 0 {
                    life.mark(id, Mark::Release);
                }
                if number % 4 == 3 {
                    life.mark(id, Mark::Done);
                }
            }
            // The next run finds the end by itself or in the manifest.
            if !plan.is_multiple_of(3) {
                life.end();
            }
            if run == 0 {
                older = files_of(&disk);
            }
        }
        let files = files_of(&disk);
        let mut manifest = Vec::new();
        disk.damage("manifest", |bytes| manifest.clone_from(bytes));
        let messages = contents(&disk).expect("it is whole");
        assert!(messages.len() >= 4, "there is something to lose");
        let mut original = Self {
            files: BTreeMap::new(),
            manifest,
            older,
            messages,
            put,
            records: BTreeMap::new(),
            marks: BTreeMap::new(),
            batches: Vec::new(),
            is_closed: !plan.is_multiple_of(3),
        };
        files.iter().for_each(|(name, content)| original.note_places(name, content));
        Self { files, ..original }
    }

    /// Records the places of the items in a segment.
    fn note_places(&mut self, name: &str, content: &[u8]) {
        let Ok(SegmentHeader { salt, .. }) = SegmentHeader::decode(content) else { return };
        for start in (SEGMENT_HEADER_SIZE..content.len()).step_by(RECORD_ALIGNMENT) {
            let span = |size| Span { file: name.to_owned(), start, end: start + size };
            let octets = &content[start..];
            if let Some(batch) = BatchHeader::decode(octets, salt, start as u64) {
                self.batches.push((span(64), batch));
            }
            if let Some(record) = RecordHeader::decode(octets, salt, start as u64) {
                let of_kind =
                    if record.kind == RecordKind::Mark { &mut self.marks } else { &mut self.records };
                of_kind.entry(record.id).or_default().push(span(64 + record.length as usize));
            }
        }
    }

    fn check_shown(&self, files: &Files, shown: &Shown, is_copied: bool, has_manifest: bool) {
        // Names say nothing: a file is known by its header.
        let intact: Vec<(&[u8], &Vec<u8>, &String)> = files
            .iter()
            .filter_map(|(name, content)| Some((content.get(..HEADER_SIZE)?, content, name)))
            .collect();
        // If a segment exists twice, one copy is read, so all copies must be unchanged.
        let is_intact = |span: &Span| {
            let before = &self.files[&span.file];
            let mut same = intact.iter().filter(|(header, ..)| **header == before[..HEADER_SIZE]).peekable();
            same.peek().is_some()
                && same.all(|(_, content, _)| {
                    content.get(span.start..span.end) == before.get(span.start..span.end)
                })
        };
        for (id, (_, content)) in &shown.messages {
            let put = self.put.get(id).unwrap_or_else(|| panic!("{id} was never put"));
            assert!(put == content, "{id} is not what was put");
        }
        let mut lost = BTreeSet::new();
        for (id, (state, _)) in &self.messages {
            let is_whole = self.records[id].iter().all(is_intact);
            let now = shown.messages.get(id);
            assert!(!is_whole || now.is_some(), "{id} was not touched, and is gone");
            let has_marks = self.marks.get(id).is_none_or(|marks| marks.iter().all(is_intact));
            if let (Some((now, _)), true) = (now, is_whole && has_marks) {
                assert_eq!(now, state, "the state of {id}");
            }
            if now.is_none() {
                lost.insert(*id);
            }
        }
        for (id, content) in self.put.iter().filter(|(id, _)| !self.messages.contains_key(id)) {
            let is_done = self.marks.get(id).map_or(has_manifest, |marks| marks.iter().all(is_intact));
            assert!(!is_done || !shown.messages.contains_key(id), "{id} of {} octets is back", content.len());
        }
        if has_manifest && self.is_closed {
            self.check_all_reported(shown);
        }
        for id in lost.into_iter().filter(|_| !is_copied) {
            self.check_reported(id, &is_intact, &intact, shown);
        }
    }

    /// Checks that with an intact manifest every lost, returned or changed message is reported.
    fn check_all_reported(&self, shown: &Shown) {
        let states = |messages: &BTreeMap<QueueId, (State, Vec<u8>)>| -> BTreeMap<QueueId, State> {
            messages.iter().map(|(id, (state, _))| (*id, *state)).collect()
        };
        let (before, now) = (states(&self.messages), states(&shown.messages));
        if before != now {
            assert!(!shown.damage.is_empty(), "nothing is said, and {before:?} are now {now:?}");
        }
    }

    /// Checks that a loss is reported for its file, if the file shows that the message was durable.
    fn check_reported(
        &self,
        id: QueueId,
        is_intact: &impl Fn(&Span) -> bool,
        files: &[(&[u8], &Vec<u8>, &String)],
        shown: &Shown,
    ) {
        for span in self.records[&id].iter().filter(|span| !is_intact(span)) {
            let before = &self.files[&span.file];
            let Some((_, content, name)) =
                files.iter().find(|(header, ..)| **header == before[..HEADER_SIZE])
            else {
                continue;
            };
            let of_file = |(batch, _): &&(Span, BatchHeader)| batch.file == span.file;
            let Some((place, batch)) =
                self.batches.iter().filter(of_file).rfind(|(batch, _)| batch.start < span.start)
            else {
                continue;
            };
            // Only its own header, or that of a later batch in the same file, shows that the batch was durable.
            let later = |(other, header): &&(Span, BatchHeader)| {
                is_intact(other) && header.worker == batch.worker && header.number > batch.number
            };
            let is_claimed =
                self.batches.iter().filter(later).any(|(_, header)| {
                    (header.durable_from..=header.durable_through).contains(&batch.number)
                });
            let is_seen = is_intact(place) || self.batches.iter().filter(of_file).filter(later).count() > 0;
            let is_short = content.len() < SEGMENT_SIZE;
            if is_claimed && is_seen || is_short {
                let path = format!("segments/{name}");
                let is_reported = shown.damage.iter().any(|damage| damage.path == path);
                assert!(
                    is_reported,
                    "{id} was lost at {span:?}, now {path}, and nothing is said: {:?}",
                    shown.damage
                );
            }
        }
    }
}

/// A run of one worker on a disk.
struct Life {
    io: SimIo,
    spool: SegmentSpool<SimDisk>,
    keeper: SegmentKeeper<SimDisk>,
    time: u64,
    _lock: <SimDisk as Disk>::File,
}

impl Life {
    fn begin(disk: &SimDisk, seed: u64) -> Self {
        let opened = open(disk, &SETTINGS, 1).expect("it is in memory");
        let mut spools = opened.spools;
        Self {
            io: disk.world().boot(1).remove(0),
            spool: spools.pop().expect("a spool for the worker"),
            keeper: opened.keeper,
            time: 1_700_000_000_000_000 + seed * 1000,
            _lock: opened.lock,
        }
    }

    /// Ends the engine gracefully.
    fn end(self) {
        let Self { spool, mut keeper, .. } = self;
        drop(spool);
        keeper.finish();
    }

    /// Puts a message with these pieces of content, and waits until it is durable.
    fn put(&mut self, pieces: &[&[u8]]) -> QueueId {
        self.time += 1;
        let id = self.spool.next_id(Timestamp::from_unix_microseconds(self.time));
        let mut draft = self.spool.begin(id);
        let (last, chunks) = pieces.split_last().expect("content is not empty");
        for chunk in chunks {
            while let Err(refusal) = self.spool.append(&mut draft, &[chunk]) {
                self.wait(refusal);
            }
        }
        let envelope = encoded(&envelope_of(id));
        while let Err((back, refusal)) = self.spool.commit(draft, State::Incoming, &envelope, &[last], 1) {
            draft = back;
            self.wait(refusal);
        }
        self.settle(1);
        id
    }

    fn mark(&mut self, id: QueueId, mark: Mark) {
        self.spool.mark(id, mark, 2).expect("there is room for a mark");
        self.settle(2);
    }

    fn wait(&mut self, refusal: Refusal) {
        assert_eq!(refusal, Refusal::Busy);
        self.step();
    }

    fn settle(&mut self, tag: u64) {
        loop {
            self.step();
            if let Some((settled, result)) = self.spool.next_settled() {
                assert_eq!((settled, result), (tag, Ok(())));
                return;
            }
        }
    }

    /// Submits pending writes, handles completions, and does the work of the other threads.
    fn step(&mut self) {
        self.spool.advance(&mut self.io);
        let mut completions = Vec::new();
        self.io.wait(Some(Instant::default()), &mut completions).expect("it is in memory");
        for completion in completions {
            if let Completion::Written { token, block, result } = completion {
                self.spool.completed(token, block, result);
            }
        }
        self.spool.detach_sealed(&mut self.io);
        self.keeper.step();
    }
}

fn envelope_of(id: QueueId) -> Envelope {
    let address = format!("user{}@example.com", id.number() % 97).into_bytes();
    Envelope {
        arrival: id.time(),
        sender: b"sender@example.net".to_vec(),
        recipients: vec![Recipient { address, ..Recipient::default() }],
        ..Envelope::default()
    }
}

fn encoded(envelope: &Envelope) -> Vec<u8> {
    let arena = Bump::new();
    let mut out = ArenaVec::new_in(&arena);
    encode(&Origin::default(), &QueuedEnvelope::unchanged(&arena, envelope), &mut out).unwrap();
    out.to_vec()
}
