//! The start: reads what earlier runs left and makes spools that continue from there.
//!
//! Messages of earlier runs are shared out between the workers ([`super::sharing`]). Only the last segment is written to
//! again, from its end on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use crossbeam::channel::{self, Receiver, Sender};
use mailrace_core::queue_id::QueueIdSource;
use mailrace_core::record::manifest::{Entry as Listing, EntryState, Manifest};
use mailrace_core::record::spool::{Location, Mark};
use mailrace_core::{QueueId, Timestamp};
use mailrace_io::{Disk, FileKind, Waker};

use crate::segment::index::Index;
use crate::segment::keeper::{Doors, Files, Note, Ready, SegmentKeeper};
use crate::segment::manifest::{self, ManifestFile, path_of};
use crate::segment::moves::Moves;
use crate::segment::read::Opener;
use crate::segment::segments::{Segment, Segments};
use crate::segment::sharing::Share;
use crate::segment::spool::Parts;
use crate::segment::survey::{NUMBER_MAX, Survey, View, number_of, survey};
use crate::segment::{SEGMENTS, SegmentSpool};
use crate::{OpenError, Settings, Shared};

/// Damage: a place in the queue that was complete once and is not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file's path in the queue directory.
    pub path: String,
    /// Offset in bytes.
    pub offset: u64,
    /// Kind of damage.
    pub what: DamageKind,
    /// An earlier start has reported it.
    pub is_known: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, offset {}: {}", self.path, self.offset, self.what)
    }
}

/// Kind of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The header of a segment is damaged.
    SegmentHeader,
    /// A segment's header is zeros, and the segment was not emptied.
    Emptied,
    /// Another segment, or an older copy, has replaced it.
    Replaced,
    /// A segment is missing.
    NoSegment,
    /// A segment is shorter than its header says.
    Shortened,
    /// The header of a batch is damaged.
    BatchHeader,
    /// Records of the batch that begins there are damaged.
    Records,
    /// Number of missing records whose place is unknown.
    Missing(u64),
    /// System error on reading.
    Unreadable(String),
    /// System error on flushing.
    Unsynced(String),
    /// The manifest is damaged.
    Manifest,
    /// The manifest is missing.
    NoManifest,
    /// The manifest is older than the segments.
    OldManifest,
}

impl DamageKind {
    /// Whether a system call failed, rather than the data being damaged.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Unsynced(_))
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::SegmentHeader => "the segment's header is damaged",
            Self::Emptied => "the segment's header was overwritten with zeros",
            Self::Replaced => "the segment is gone, and another or an older one is in its place",
            Self::NoSegment => "the segment is missing",
            Self::Shortened => "the file is shorter than its header says",
            Self::BatchHeader => "a batch header is damaged",
            Self::Records => "records of this batch are damaged",
            Self::Missing(records) => {
                return write!(formatter, "records are missing: {records}");
            }
            Self::Unreadable(error) => return write!(formatter, "it cannot be read: {error}"),
            Self::Unsynced(error) => return write!(formatter, "it cannot be made durable: {error}"),
            Self::Manifest => "the manifest is damaged: missing segments cannot be detected",
            Self::NoManifest => "the manifest is missing: missing segments cannot be detected",
            Self::OldManifest => {
                "the manifest is older than the segments: those that seem to be missing may have been emptied"
            }
        })
    }
}

/// A file among the segments that does not belong to the queue. It is not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its path in the queue directory.
    pub path: String,
    /// Its kind.
    pub what: &'static str,
}

/// What a start found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Messages in the queue.
    pub messages: u64,
    /// Bytes of their content.
    pub octets: u64,
    /// Segments that were read.
    pub segments: usize,
    /// Damage that was found.
    pub damage: Vec<Damage>,
    /// Files that do not belong to the queue.
    pub strangers: Vec<Stranger>,
    /// Whether writes bypass the page cache. It is unknown, and true, on a full disk, where no segment is open.
    pub is_direct: bool,
}

/// An open queue.
#[derive(Debug)]
pub struct Opened<D: Disk> {
    /// One for each worker.
    pub spools: Vec<SegmentSpool<D>>,
    /// Runs on its own thread.
    pub keeper: SegmentKeeper<D>,
    /// Runs on its own thread; without it no message is read, nor moved.
    pub opener: Opener<D>,
    /// What the start found.
    pub report: RecoveryReport,
    /// State that workers and keeper share.
    pub shared: Arc<Shared>,
    /// Excludes other engines until it is dropped.
    pub lock: D::File,
}

/// The file whose lock an engine holds.
pub(crate) const LOCK: &str = "lock";

/// Takes the queue's lock, which is released when the file is dropped.
///
/// # Errors
/// [`OpenError::Locked`] while an engine runs on it.
pub(crate) fn lock<D: Disk>(disk: &D) -> Result<D::File, OpenError> {
    disk.lock(LOCK).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => OpenError::Locked,
        _ => OpenError::disk("lock", LOCK)(error),
    })
}

/// What is known of a queue after all of it was read.
struct Known {
    survey: Survey,
    found: manifest::Found,
    manifest: Manifest,
    /// Greater than the numbers in the names of all files that an engine made.
    next_name: u64,
}

/// Reads all of a queue to which no other process writes.
fn read_all<D: Disk>(disk: &D) -> Result<Known, OpenError> {
    let mut next_name = 1;
    for name in disk.list(SEGMENTS).map_err(OpenError::disk("list", SEGMENTS))? {
        let unfinished = name.strip_suffix(UNFINISHED);
        if unfinished.is_some_and(|name| number_of(name).is_some()) {
            // If it stays, a new one replaces it.
            let _ = disk.remove(&format!("{SEGMENTS}/{name}"));
        }
        let number = number_of(unfinished.unwrap_or(&name)).filter(|number| *number < NUMBER_MAX);
        next_name = number.map_or(next_name, |number| next_name.max(number + 1));
    }
    // A killed engine may have left names that are not durable: no mail must be written to such a file.
    for directory in ["", SEGMENTS] {
        disk.sync_directory(directory).map_err(OpenError::disk("make durable", directory))?;
    }
    let found = manifest::read(disk)?;
    let survey = survey(disk, &found, View::Alone)?;
    // A new manifest would not list that segment, and later starts would take it for an old copy. The manifest of an
    // intact queue lists it, so one of the two errors need only pass.
    if let (None, Some((path, error))) = (&found.manifest, &survey.unidentified) {
        return Err(OpenError::Unidentified { path: path.clone(), error: error.clone() });
    }
    let before = found.manifest.clone().unwrap_or_default();
    let last = survey.uses.keys().next_back().copied().unwrap_or(0);
    let next = last.checked_add(1).ok_or(OpenError::Exhausted)?;
    let mut entries: Vec<Listing> =
        survey.uses.values().map(crate::segment::survey::Use::determined).collect();
    for (entry, may_come_back) in &survey.lost {
        let state = if *may_come_back { entry.state } else { EntryState::Lost };
        entries.push(Listing { state, ..entry.clone() });
    }
    for (sequence, _) in &survey.emptied {
        let is_listed = |entry: &&Listing| entry.header.sequence == *sequence;
        entries.extend(before.entries.iter().find(is_listed).cloned());
    }
    // An emptied one that is unreadable now must still be erased.
    let is_unreadable = |entry: &&Listing| {
        let path = path_of(entry);
        let is_read_error = |what: &DamageKind| matches!(what, DamageKind::Unreadable(_));
        survey.damage.iter().any(|damage| damage.path == path && is_read_error(&damage.what))
    };
    let emptied = before.entries.iter().filter(|entry| entry.state == EntryState::Emptied);
    entries.extend(emptied.filter(is_unreadable).cloned());
    let next_sequence = before.next_sequence.max(next);
    let manifest = Manifest { generation: before.generation, next_sequence, entries };
    Ok(Known { survey, found, manifest, next_name })
}

/// Suffix of the name of a segment that is being created.
pub(crate) const UNFINISHED: &str = ".new";

/// Accepts the present state of damaged or missing segments: the manifest no longer says that there was more. Returns the
/// damage.
///
/// # Errors
/// [`OpenError`]; [`OpenError::Locked`] while an engine runs on the queue.
pub fn acknowledge<D: Disk>(disk: &D) -> Result<Vec<Damage>, OpenError> {
    let _lock = lock(disk)?;
    let Known { survey, found, mut manifest, .. } = read_all(disk)?;
    if manifest.entries.is_empty() && found.manifest.is_none() {
        return Ok(survey.damage);
    }
    manifest.entries.retain(|entry| entry.state != EntryState::Lost);
    for entry in &mut manifest.entries {
        entry.records = entry.whole;
    }
    let saved = ManifestFile::new(disk.clone(), &found, manifest).save();
    saved.map_err(OpenError::disk("write", manifest::MANIFEST))?;
    Ok(survey.damage)
}

/// Opens the queue for `workers` workers.
///
/// # Errors
/// [`OpenError`].
pub fn open<D: Disk>(disk: &D, settings: &Settings, workers: u16) -> Result<Opened<D>, OpenError> {
    settings.check()?;
    let lock = lock(disk)?;
    disk.make_directory(SEGMENTS).map_err(OpenError::disk("make", SEGMENTS))?;
    let Known { mut survey, found, manifest, next_name } = read_all(disk)?;
    let shared = Arc::new(Shared::default());
    let mut manifest = ManifestFile::new(disk.clone(), &found, manifest);
    survey.let_go_of_unused();
    let free = std::mem::take(&mut survey.empty);
    let mut segments = segments_of(&survey);
    let moved = survey.messages.moved();
    let index = std::mem::take(&mut survey.messages).into_live();
    count_parts(&index, &mut segments);
    let mut report = RecoveryReport {
        messages: index.messages(),
        octets: index.octets(),
        segments: survey.uses.len(),
        damage: std::mem::take(&mut survey.damage),
        strangers: std::mem::take(&mut survey.strangers),
        is_direct: true,
    };
    let next_batch = next_batch(&survey)?;
    let last_id = survey.last_id.map_or_else(Timestamp::default, QueueId::time);
    let going_on = go_on(disk, &survey, &mut segments, &mut manifest);
    let (note_sender, notes) = channel::unbounded();
    let (ready_sender, ready) = channel::bounded(settings.spare_segments);
    let files = Files {
        count: survey.uses.len() + free.len() + survey.emptied.len(),
        free,
        next_name,
        retiring: survey.emptied.into(),
    };
    let doors = Doors { ready: ready_sender, unclaimed: ready.clone(), notes };
    let mut keeper = SegmentKeeper::new(disk.clone(), *settings, Arc::clone(&shared), manifest, files, doors);
    // The first message must not wait for a segment.
    let count =
        usize::from(workers).min(settings.spare_segments).saturating_sub(usize::from(going_on.is_some()));
    match keeper.make_first(count) {
        Ok(made) => {
            report.is_direct = made.or_else(|| going_on.map(|(_, is_direct)| is_direct)).unwrap_or(true)
        }
        // Mail is refused until there is room, but queued messages are available.
        Err(error) if is_full(&error) => {
            shared.set_full(true);
            if let Some(segment) = going_on.and_then(|(sequence, _)| segments.get_mut(&sequence)) {
                segment.end_here();
            }
        }
        Err(error) => return Err(OpenError::disk("make a segment in", SEGMENTS)(error)),
    }
    let opener = Opener::new(disk.clone());
    let ends = Ends { ready, notes: note_sender, opener: &opener };
    let shares = Share { index, segments, moved }.split(usize::from(workers));
    let spools = spools(settings, &shared, &ends, shares, last_id, next_batch);
    Ok(Opened { spools, keeper, opener, report, shared, lock })
}

/// The workers' ends of what connects them to the keeper and to the opener.
struct Ends<'a, D: Disk> {
    ready: Receiver<Ready<D::File>>,
    notes: Sender<Note>,
    opener: &'a Opener<D>,
}

/// Makes a spool of each worker's share. Their ids are greater than `last_id`, and their batches begin with `next_batch`.
fn spools<D: Disk>(
    settings: &Settings,
    shared: &Arc<Shared>,
    ends: &Ends<'_, D>,
    shares: Vec<Share<D::File>>,
    last_id: Timestamp,
    next_batch: u64,
) -> Vec<SegmentSpool<D>> {
    let waker = Waker::new({
        let shared = Arc::clone(shared);
        move || shared.wake()
    });
    let spool = |(share, worker): (Share<D::File>, u16)| {
        let segments = Segments {
            shared: Arc::clone(shared),
            ready: ends.ready.clone(),
            notes: ends.notes.clone(),
            table: share.segments,
            may_free: true,
        };
        SegmentSpool::new(Parts {
            settings: *settings,
            worker,
            ids: QueueIdSource::new(worker, last_id),
            index: share.index,
            segments,
            moves: Moves::new(share.moved),
            reads: ends.opener.reader(waker.clone()),
            next_batch,
        })
    };
    shares.into_iter().zip(0..=u16::MAX).map(spool).collect()
}

/// Returns the number of the first batch of this start.
fn next_batch(survey: &Survey) -> Result<u64, OpenError> {
    let last = survey.uses.values().map(crate::segment::survey::Use::last_batch).max().unwrap_or(0);
    last.checked_add(1).filter(|next| *next < BATCH_MAX).ok_or(OpenError::Exhausted)
}

/// Reopens the last segment for further batches, if possible. Returns its sequence, and whether writes to it bypass the
/// page cache.
fn go_on<D: Disk>(
    disk: &D,
    survey: &Survey,
    segments: &mut BTreeMap<u64, Segment<D::File>>,
    manifest: &mut ManifestFile<D>,
) -> Option<(u64, bool)> {
    let (sequence, found) = survey.uses.iter().next_back().filter(|(_, found)| found.can_go_on())?;
    let segment = segments.get_mut(sequence)?;
    let file = disk.open(&found.path, FileKind::Direct).ok()?;
    let is_direct = disk.is_direct(&file);
    segment.go_on(file, found.end, found.records.whole);
    manifest.reopen(*sequence, found.end, found.records.whole);
    Some((*sequence, is_direct))
}

/// Batch numbers stay below this; each start adds one.
const BATCH_MAX: u64 = 1 << 62;

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Returns the segments by sequence, including missing ones, because marks may be about their messages
/// if they come back.
fn segments_of<F>(survey: &Survey) -> BTreeMap<u64, Segment<F>> {
    let damaged: BTreeSet<u64> = survey
        .uses
        .iter()
        .filter(|(_, found)| found.is_damaged)
        .map(|(sequence, _)| *sequence)
        .chain(survey.lost.iter().map(|(entry, _)| entry.header.sequence))
        .collect();
    // A mark about the recipients of a damaged message is kept for as long as that message.
    let progress = survey.messages.all_progress();
    let unclaimed: BTreeSet<u64> = progress
        .filter(|(id, _)| !survey.messages.has(*id))
        .map(|(_, Location { sequence, .. })| sequence)
        .collect();
    let mut segments = BTreeMap::new();
    for (sequence, found) in &survey.uses {
        let mut marks: Vec<u64> = Vec::new();
        for (_, id, mark) in &found.marks {
            if survey.messages.has(*id) {
                // A copy that follows a hold or release mark has the state in its own record.
                let is_about = |copy: &u64| *mark == Mark::Done || *copy <= *sequence;
                marks.extend(survey.messages.copies_of(*id).filter(is_about));
            } else {
                // Otherwise it is about a message that is damaged now.
                marks.extend(&damaged);
            }
        }
        if unclaimed.contains(sequence) {
            marks.extend(&damaged);
        }
        marks.sort_unstable();
        marks.dedup();
        let mut segment = Segment::found(found.path.clone(), found.header, marks, found.endings);
        segment.is_damaged = found.is_damaged;
        segments.insert(*sequence, segment);
    }
    for (entry, _) in &survey.lost {
        let mut segment = Segment::found(path_of(entry), entry.header, Vec::new(), 0);
        segment.is_damaged = true;
        segments.insert(entry.header.sequence, segment);
    }
    segments
}

/// Counts the parts of the messages in their segments.
fn count_parts<F>(index: &Index, segments: &mut BTreeMap<u64, Segment<F>>) {
    for (_, entry) in index.iter() {
        for (_, segment) in segments.range_mut(entry.first..=entry.last) {
            segment.uses.parts += 1;
        }
    }
    for (_, Location { sequence, .. }) in index.all_progress() {
        if let Some(segment) = segments.get_mut(&sequence) {
            segment.uses.parts += 1;
        }
    }
}
