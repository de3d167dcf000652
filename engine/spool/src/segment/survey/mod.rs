//! What all segments together say: which messages are whole, which are done, and what is damaged.

mod batches;
mod damage;
mod found;
mod listing;
mod messages;

use std::collections::BTreeMap;
use std::io;

use mailrace_core::QueueId;
use mailrace_core::record::manifest;
use mailrace_core::record::spool::{
    FORMAT_VERSION_1, Location, Noted, RecordHeader, RecordKind, SEGMENT_HEADER_SIZE, SegmentError,
    SegmentHeader, checksum,
};
use mailrace_io::{Disk, FileKind};

use crate::OpenError;
use crate::segment::manifest::Found as FoundManifest;
use crate::segment::recovery::{Damage, DamageKind, Stranger};
use crate::segment::scan::{Found, Scan};
use damage::Durable;
use listing::{LISTS_MAX, Listed, Paths, Standing};

pub(crate) use found::Use;
pub(crate) use listing::{NUMBER_MAX, number_of, segment_name};
pub(crate) use messages::Messages;

/// How a queue is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// No other process writes to it: everything read is made durable, and damage is found.
    Alone,
    /// An engine may be running.
    Beside,
}

/// What the start found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// By sequence.
    pub(crate) uses: BTreeMap<u64, Use>,
    /// Paths of files that are empty.
    pub(crate) empty: Vec<String>,
    /// Sequence and path of segments that were being emptied.
    pub(crate) emptied: Vec<(u64, String)>,
    /// Listed segments that are missing, and whether each may come back by itself.
    pub(crate) lost: Vec<(manifest::Entry, bool)>,
    pub(crate) messages: Messages,
    pub(crate) damage: Vec<Damage>,
    pub(crate) strangers: Vec<Stranger>,
    /// Path of a segment whose header cannot be read and that the manifest does not list, with the system error.
    pub(crate) unidentified: Option<(String, String)>,
    /// The newest id of any record: after the clock was set back, no id that a mark is about may be given out again.
    pub(crate) last_id: Option<QueueId>,
    /// Batches that later ones knew to be durable.
    durable: Durable,
    /// A segment of the second version with a record was found.
    has_second_version: bool,
    /// Segments have records that the manifest does not know.
    is_manifest_older: bool,
}

/// A file among the segments.
enum Inspected<'a, F> {
    /// A running engine has removed it.
    Gone,
    /// It is no segment that counts.
    Instead(DamageKind),
    /// A segment, with this sequence, that was being emptied.
    Emptied(u64),
    /// A segment in use.
    InUse { file: F, header: SegmentHeader, entry: Option<&'a manifest::Entry>, is_first_version: bool },
}

/// Reads all segments.
pub(crate) fn survey<D: Disk>(disk: &D, found: &FoundManifest, view: View) -> Result<Survey, OpenError> {
    let mut survey = Survey::default();
    survey.damage.extend(found.damage.clone());
    let listed = Listed::new(found.manifest.as_ref());
    // Damage of files that are no segments, by path.
    let mut instead: BTreeMap<String, DamageKind> = BTreeMap::new();
    // At a start no other process writes, so one listing is complete.
    let mut paths = Paths::new(if view == View::Alone { 1 } else { LISTS_MAX });
    while let Some(path) = paths.next(disk, &listed)? {
        match inspect(disk, &listed, &path, view)? {
            Inspected::Gone => {}
            Inspected::Instead(what) => drop(instead.insert(path, what)),
            Inspected::Emptied(sequence) => survey.emptied.push((sequence, path)),
            Inspected::InUse { header, .. } if survey.uses.contains_key(&header.sequence) => {
                // A running engine has reused it since its header was read.
                if view == View::Alone {
                    survey.strangers.push(Stranger { path, what: "a copy of a segment" });
                }
            }
            Inspected::InUse { file, header, entry, is_first_version } => {
                let found = Use::new(path, header, entry.cloned(), is_first_version);
                survey.read_use(disk, &file, found, view);
            }
        }
    }
    survey.messages.join();
    for (sequence, found) in &survey.uses {
        for (offset, id, mark) in &found.marks {
            survey.messages.apply(Location { sequence: *sequence, offset: *offset }, *id, *mark);
        }
    }
    survey.note_known(&listed);
    if view == View::Alone {
        survey.find_damage();
        survey.find_lost(&listed, instead, found.manifest.is_some());
    } else {
        // Segments that the engine has removed or emptied since its manifest was read are not lost.
        for (path, what) in instead {
            if matches!(what, DamageKind::Unreadable(_)) {
                survey.damage.push(Damage { path, offset: 0, what, is_known: false });
            }
        }
    }
    Ok(survey)
}

/// Classifies the file at `path` by its header.
fn inspect<'a, D: Disk>(
    disk: &D,
    listed: &Listed<'a>,
    path: &str,
    view: View,
) -> Result<Inspected<'a, D::File>, OpenError> {
    let (file, block) = match read_header(disk, path) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Inspected::Gone),
        Err(error) => return Ok(Inspected::Instead(DamageKind::Unreadable(error.to_string()))),
    };
    let path = path.to_owned();
    let (header, is_first_version) = match SegmentHeader::decode(&block) {
        Ok(header) => (header, version_of(&block) == FORMAT_VERSION_1),
        Err(SegmentError::Version(version)) => return Err(OpenError::Version { path, version }),
        Err(SegmentError::Features(features)) => return Err(OpenError::Features { path, features }),
        Err(SegmentError::NotASegment | SegmentError::Damaged) => {
            let is_blank = block.len() == SEGMENT_HEADER_SIZE && block.iter().all(|byte| *byte == 0);
            if !is_blank {
                return Ok(Inspected::Instead(DamageKind::SegmentHeader));
            }
            // A killed engine may have left the zeros in the page cache only: without them the old header would come back.
            let synced = if view == View::Alone { disk.sync(&file) } else { Ok(()) };
            return Ok(Inspected::Instead(match synced {
                Ok(()) => DamageKind::Emptied,
                Err(error) => DamageKind::Unreadable(error.to_string()),
            }));
        }
    };
    Ok(match listed.standing(&header) {
        Standing::Counts(entry) => Inspected::InUse { file, header, entry, is_first_version },
        Standing::Emptied => Inspected::Emptied(header.sequence),
        // Without a record it is a leftover of a failed creation, and harmless.
        Standing::Stale => Inspected::Instead(match has_record(disk, &file, header) {
            Ok(false) => DamageKind::Emptied,
            Ok(true) => DamageKind::Replaced,
            Err(error) => DamageKind::Unreadable(error),
        }),
    })
}

impl Survey {
    /// Takes segments without a record for emptied ones: nothing needs them.
    pub(crate) fn let_go_of_unused(&mut self) {
        let is_unused = |found: &Use| found.records.whole == 0 && !found.is_damaged;
        let unused = self.uses.iter().filter(|(_, found)| is_unused(found));
        let unused: Vec<u64> = unused.map(|(sequence, _)| *sequence).collect();
        for sequence in unused {
            self.emptied.extend(self.uses.remove(&sequence).map(|found| (sequence, found.path)));
        }
    }

    /// Reads all of a segment.
    fn read_use<D: Disk>(&mut self, disk: &D, file: &D::File, mut found: Use, view: View) {
        // A killed engine may have left data in the page cache only: a message that counts as queued now must stay.
        if view == View::Alone
            && let Err(error) = disk.sync(file)
        {
            found.is_unreadable = true;
            self.damage.push(found.damage(0, DamageKind::Unsynced(error.to_string())));
        }
        found.size = disk.size(file).unwrap_or(found.header.size);
        disk.read_ahead(file);
        let mut scan = Scan::new(disk, file, found.header);
        while let Some((offset, next)) = scan.next() {
            match next {
                Found::Batch(batch) => {
                    self.durable.note(&batch);
                    found.add_batch(offset, batch);
                }
                Found::Record(record) => {
                    found.note_end(offset + record.size() as u64);
                    let payload = scan.payload(offset, &record);
                    self.add_record(&mut found, offset, &record, payload);
                }
            }
        }
        found.batches.close();
        if let Some((offset, error)) = scan.unreadable() {
            found.is_unreadable = true;
            self.damage.push(found.damage(*offset, DamageKind::Unreadable(error.to_string())));
        }
        // A header that could not be made durable is no loss, because no record follows it.
        if found.entry.is_none() && found.records.whole == 0 && scan.unreadable().is_none() {
            found.is_unreadable = false;
        }
        found.is_damaged |= found.is_unreadable;
        self.uses.insert(found.header.sequence, found);
    }

    /// Takes a record if it is complete.
    fn add_record(&mut self, found: &mut Use, offset: u64, record: &RecordHeader, payload: &[u8]) {
        // A record torn by a crash has a valid header and an invalid payload for as long as the segment exists.
        let is_whole = payload.len() == record.length as usize
            && checksum(payload, found.header.salt) == record.payload_checksum;
        let (Ok(place), true) = (u32::try_from(offset), is_whole) else { return };
        found.batches.add_record(offset);
        found.count_record(offset);
        self.has_second_version |= !found.is_first_version;
        self.last_id = self.last_id.max(Some(record.id));
        match record.kind {
            RecordKind::Message => found.endings += 1,
            RecordKind::Mark => match Noted::decode(payload) {
                Some(Noted::Mark(mark)) => found.marks.push((place, record.id, mark)),
                Some(Noted::Progress(_)) => {
                    found.endings += 1;
                    let place = Location { sequence: found.header.sequence, offset: place };
                    self.messages.add_progress(record.id, place);
                }
                None => {}
            },
            RecordKind::Chunk | RecordKind::Other(_) => {}
        }
        self.messages.add(Location { sequence: found.header.sequence, offset: place }, record);
    }
}

/// Opens a file and reads its header block, which is shorter in a short file. Retries once, because an error may
/// be transient.
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

/// Whether a segment has a record with a valid header, or the error that prevents an answer.
fn has_record<D: Disk>(disk: &D, file: &D::File, header: SegmentHeader) -> Result<bool, String> {
    let mut scan = Scan::new(disk, file, header);
    let has_record = std::iter::from_fn(|| scan.next()).any(|(_, found)| matches!(found, Found::Record(_)));
    match scan.unreadable() {
        Some((_, error)) if !has_record => Err(error.to_string()),
        _ => Ok(has_record),
    }
}
