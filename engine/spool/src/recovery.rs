//! Owns the start: what earlier runs left is read, and spools are made that go on from there.
//!
//! Segments of earlier runs are never written to again. All of them belong to the first worker, whichever wrote
//! them, so that what marks a message done is always kept by the one who also keeps the message.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam::channel;
use mailrace_core::queue_id::QueueIdSource;
use mailrace_core::record::spool::Mark;
use mailrace_core::{QueueId, Timestamp};
use mailrace_io::Disk;

use crate::index::{Entry, Index};
use crate::keeper::SegmentKeeper;
use crate::mover::{Mover, Moves};
use crate::spool::{Parts, Segment};
use crate::survey::survey;
use crate::{OpenError, SEGMENT_SUFFIX, SEGMENTS, SegmentSpool, Settings, Shared};

/// A place in the queue that was whole once and is not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file's path in the queue directory.
    pub path: String,
    /// Octets from its start.
    pub offset: u64,
    /// What is wrong there.
    pub what: &'static str,
}

/// What was found at the start.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Messages in the queue.
    pub messages: u64,
    /// Octets of their content.
    pub octets: u64,
    /// Segments that were read.
    pub segments: usize,
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// Whether writes go past the page cache, as far as is known: with a full disk there is nothing to write to.
    pub is_direct: bool,
}

/// An open queue.
#[derive(Debug)]
pub struct Opened<D: Disk> {
    /// One for each worker.
    pub spools: Vec<SegmentSpool<D>>,
    /// To be run on a thread of its own.
    pub keeper: SegmentKeeper<D>,
    /// To be run on a thread of its own; without it no message is moved.
    pub mover: Mover<D>,
    /// What was found.
    pub report: RecoveryReport,
    /// What workers and keeper tell each other.
    pub shared: Arc<Shared>,
    /// Keeps other engines out for as long as it lives.
    pub lock: D::File,
}

/// The file whose lock an engine holds.
pub(crate) const LOCK: &str = "lock";

/// Takes the queue's lock; it is free again when the file is dropped.
///
/// # Errors
/// [`OpenError::Locked`] while an engine runs on it.
pub fn lock<D: Disk>(disk: &D) -> Result<D::File, OpenError> {
    disk.lock(LOCK).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => OpenError::Locked,
        _ => OpenError::disk("lock", LOCK)(error),
    })
}

/// Opens the queue for `workers` workers; `seed` is random.
///
/// # Errors
/// [`OpenError`].
pub fn open<D: Disk>(disk: &D, settings: &Settings, workers: u16, seed: u64) -> Result<Opened<D>, OpenError> {
    settings.check()?;
    let lock = lock(disk)?;
    let mut last_name = 0;
    for name in disk.list(SEGMENTS).map_err(OpenError::disk("list", SEGMENTS))? {
        if name.ends_with(".new") {
            let path = format!("{SEGMENTS}/{name}");
            disk.remove(&path).map_err(OpenError::disk("remove", &path))?;
        } else if let Some(number) =
            name.strip_suffix(SEGMENT_SUFFIX).and_then(|name| name.parse::<u64>().ok())
        {
            last_name = number.max(last_name);
        }
    }
    // A killed engine may have left names that are not durable: nobody's mail goes into such a file.
    for directory in ["", SEGMENTS] {
        disk.sync_directory(directory).map_err(OpenError::disk("make durable", directory))?;
    }
    let survey = survey(disk, true)?;
    let shared = Arc::new(Shared::default());
    let mut index = Index::default();
    let mut segments = BTreeMap::new();
    let mut moved = HashMap::new();
    for (sequence, found) in &survey.uses {
        let mut marks: Vec<u64> = found
            .marks
            .iter()
            .filter_map(|(id, mark)| Some((survey.messages.get(id)?, mark)))
            // A copy behind a mark that parks or releases says by itself whether it is parked.
            .flat_map(|(message, mark)| {
                let is_about = |copy: &u64| *mark == Mark::Done || *copy <= *sequence;
                message.copies.iter().copied().filter(is_about)
            })
            .collect();
        marks.sort_unstable();
        marks.dedup();
        segments.insert(*sequence, Segment::found(found.path.clone(), found.header, marks, found.messages));
    }
    for (id, message) in survey.messages.iter().filter(|(_, message)| !message.is_done) {
        let (first, last) = message.span();
        for (_, segment) in segments.range_mut(first..=last) {
            segment.parts += 1;
        }
        let offset = message.chain.first().map_or(0, |place| place.offset);
        let octets = message.header.content_size;
        index.insert(*id, Entry { first, last, offset, octets, state: message.state });
        let copies: Vec<u64> = message.copies.iter().copied().filter(|copy| *copy != last).collect();
        if !copies.is_empty() {
            moved.insert(*id, copies);
        }
    }
    let mut report = RecoveryReport {
        messages: index.messages(),
        octets: index.octets(),
        segments: survey.uses.len(),
        damage: survey.damage,
        is_direct: true,
    };
    let last_sequence = survey.uses.keys().next_back().copied().unwrap_or(0);
    let last_batch = survey.uses.values().map(crate::survey::Use::last_batch).max().unwrap_or(0);
    let last_id = survey.last_id.map_or_else(Timestamp::default, QueueId::time);
    let (freed_sender, freed) = channel::unbounded();
    let (ready_sender, ready) = channel::bounded(settings.spare_segments);
    let mut keeper = SegmentKeeper {
        disk: disk.clone(),
        settings: *settings,
        shared: Arc::clone(&shared),
        ready: ready_sender,
        freed,
        free: survey.empty,
        files: survey.uses.len(),
        next_sequence: last_sequence.max(last_name) + 1,
        random: seed,
        retiring: VecDeque::new(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    keeper.files += keeper.free.len();
    let (request_sender, requests) = channel::unbounded();
    let mover = Mover::new(disk.clone(), Arc::clone(&shared), requests);
    let mut spools = Vec::with_capacity(usize::from(workers));
    for worker in 0..workers {
        spools.push(SegmentSpool::new(Parts {
            settings: *settings,
            shared: Arc::clone(&shared),
            ready: ready.clone(),
            freed: freed_sender.clone(),
            worker,
            ids: QueueIdSource::new(worker, last_id),
            index: std::mem::take(&mut index),
            segments: std::mem::take(&mut segments),
            moves: Moves::new(request_sender.clone(), std::mem::take(&mut moved)),
            next_batch: last_batch + 1,
        }));
    }
    // The first message is not to wait for a segment.
    keeper.look_around();
    for _ in 0..usize::from(workers).min(settings.spare_segments) {
        match keeper.prepare() {
            Ok(segment) => {
                report.is_direct = disk.is_direct(&segment.file);
                let _ = keeper.ready.try_send(segment);
            }
            // Mail is refused until there is room, but what is in the queue is there.
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                shared.set_full(true);
            }
            Err(error) => return Err(OpenError::disk("make a segment in", SEGMENTS)(error)),
        }
    }
    Ok(Opened { spools, keeper, mover, report, shared, lock })
}
