//! Distinguishes damage from data that was never durable, and missing segments from emptied ones.

use std::collections::BTreeMap;

use mailrace_core::record::manifest::{self, EntryState};
use mailrace_core::record::spool::{BatchHeader, SEGMENT_HEADER_SIZE};

use super::Survey;
use super::listing::{Listed, number_of};
use crate::segment::manifest::{MANIFEST, name_of, path_of};
use crate::segment::recovery::{Damage, DamageKind, Stranger};

/// Batches known to be durable, by worker and first number of the run.
#[derive(Debug, Default)]
pub(super) struct Durable(BTreeMap<(u32, u64), u64>);

impl Durable {
    /// Notes what was known when `batch` was started.
    pub(super) fn note(&mut self, batch: &BatchHeader) {
        let through = self.0.entry((batch.worker, batch.durable_from)).or_default();
        *through = batch.durable_through.max(*through);
    }

    /// Whether a batch was known to be durable in any run.
    pub(super) fn has(&self, worker: u32, number: u64) -> bool {
        self.0.range((worker, 0)..=(worker, number)).any(|(_, through)| number <= *through)
    }

    /// Whether a batch was known to be durable in the run whose numbers begin at `from`.
    pub(super) fn has_of_life(&self, worker: u32, from: u64, number: u64) -> bool {
        self.0.get(&(worker, from)).is_some_and(|through| number <= *through)
    }
}

impl Survey {
    /// Repeats the reports of an earlier start.
    pub(super) fn note_known(&mut self, listed: &Listed<'_>) {
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

    /// Distinguishes damage from data that was never durable: the manifest counts the complete records of closed
    /// segments, and in others, a batch that a later one knew to be durable was complete once.
    pub(super) fn find_damage(&mut self) {
        let durable = std::mem::take(&mut self.durable);
        let mut is_older = false;
        for found in self.uses.values_mut() {
            let end_known = found.end_known();
            is_older |= found.is_closed() && found.records.whole > found.records.before_end
                || found.entry.is_none() && found.records.whole > 0 && !found.is_first_version;
            let suspects = found.suspects(&durable);
            let newly_missing = found.newly_missing();
            let (before, after): (Vec<_>, Vec<_>) =
                suspects.into_iter().partition(|suspect| suspect.offset < end_known);
            // If the count is right, torn data there was never complete, or nothing of it is lost. The same holds if the
            // records certainly missing explain the difference.
            let certain: u64 =
                before.iter().filter(|suspect| suspect.is_durable).map(|suspect| suspect.records).sum();
            let mut places = Vec::new();
            // If all records are there, the missing end of the file held none.
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
            for suspect in after.into_iter().filter(|suspect| suspect.is_durable) {
                found.records.missing += suspect.records;
                places.push((suspect.offset, suspect.what));
            }
            // The reason is reported already.
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

    /// Finds missing segments, and files that do not belong to the queue.
    pub(super) fn find_lost(
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
                // A segment that never had a record is no loss.
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
                DamageKind::SegmentHeader if is_ours => {
                    self.damage.push(Damage { path, offset: 0, what, is_known: false });
                }
                DamageKind::Unreadable(error) => {
                    if is_ours && self.unidentified.is_none() {
                        self.unidentified = Some((path.clone(), error.clone()));
                    }
                    let what = DamageKind::Unreadable(error);
                    self.damage.push(Damage { path, offset: 0, what, is_known: false });
                }
                DamageKind::Replaced => {
                    self.strangers.push(Stranger { path, what: "an old copy of a segment" })
                }
                _ => self.strangers.push(Stranger { path, what: "not a segment of this queue" }),
            }
        }
    }
}
