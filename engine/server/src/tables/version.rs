//! When the files of tables have changed.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::files;

/// A file that a table comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) is_text: bool,
}

/// A file as it was at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    source: Source,
    /// Modification time, size and inode; `None`: it was not there.
    stamp: Option<(SystemTime, u64, u64)>,
    /// Whether the last line of a text has no end: the file may still be being written.
    is_unfinished: bool,
}

impl Version {
    /// The file now; `known`: as it was before.
    fn now(source: Source, known: Option<&Self>) -> Self {
        let stamp = std::fs::metadata(&source.path).and_then(|metadata| {
            let modified = metadata.modified()?;
            Ok((modified, metadata.len(), metadata.ino()))
        });
        let stamp = stamp.ok();
        let is_unfinished = match known {
            Some(known) if known.stamp == stamp => known.is_unfinished,
            _ => source.is_text && stamp.is_some() && is_unfinished(&source.path),
        };
        Self { source, stamp, is_unfinished }
    }

    /// A file from the future, by a clock that was wrong, is of no age.
    fn is_younger_than(&self, age: Duration) -> bool {
        let modified = self.stamp.map(|(modified, ..)| modified);
        modified.and_then(|modified| modified.elapsed().ok()).is_some_and(|elapsed| elapsed < age)
    }
}

fn is_unfinished(path: &Path) -> bool {
    let last = files::open(path).and_then(|(file, metadata)| {
        let mut last = [b'\n'];
        if let Some(place) = metadata.len().checked_sub(1) {
            file.read_exact_at(&mut last, place)?;
        }
        Ok(last)
    });
    last.is_ok_and(|last| last != *b"\n")
}

/// The files that tables came from, as they were when the tables were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Vec<Version>);

impl Files {
    /// These files as they are now.
    pub(super) fn of(sources: Vec<Source>) -> Self {
        Self(versions(sources.into_iter().map(|source| (source, None)).collect()))
    }

    /// All files of several tables.
    pub(super) fn all<'f>(files: impl Iterator<Item = &'f Self>) -> Self {
        Self(files.flat_map(|files| files.0.iter().cloned()).collect())
    }

    /// The same files as they are now. One whose file system does not answer is taken for unchanged.
    #[must_use]
    pub fn now(&self) -> Self {
        Self(versions(self.0.iter().map(|known| (known.source.clone(), Some(known.clone()))).collect()))
    }

    /// The texts that differ from `old` and whose last line has no end.
    #[must_use]
    pub fn unfinished<'f>(&'f self, old: &Self) -> Vec<&'f Path> {
        let changed = self.0.iter().filter(|version| version.is_unfinished && !old.0.contains(version));
        changed.map(|version| version.source.path.as_path()).collect()
    }

    /// Whether the last line of any of these texts has no end and it was written to at most so long ago: the rest is
    /// probably on its way.
    #[must_use]
    pub fn are_being_written(&self, within: Duration) -> bool {
        self.0.iter().any(|version| version.is_unfinished && version.is_younger_than(within))
    }
}

/// Looks at files one after another, each at most for a while.
fn versions(sources: Vec<(Source, Option<Version>)>) -> Vec<Version> {
    let unseen = |(source, known): &(Source, Option<Version>)| {
        known.clone().unwrap_or_else(|| Version { source: source.clone(), stamp: None, is_unfinished: false })
    };
    let mut all = Vec::with_capacity(sources.len());
    while let Some(first) = sources.get(all.len()) {
        if files::is_abandoned(&first.0.path) {
            all.push(unseen(first));
            continue;
        }
        let rest = sources.get(all.len()..).unwrap_or_default().to_vec();
        let (found, progress) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        // Under the name of the first: only if that one hangs it is the one to avoid, and the others are tried again.
        let seen = files::on_own_thread(&first.0.path, Arc::clone(&progress), {
            let found = Arc::clone(&found);
            move || {
                for (source, known) in rest {
                    let version = Version::now(source, known.as_ref());
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(version);
                    progress.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        let is_first_seen = !found.is_empty();
        all.extend(found);
        if seen.is_err() && !is_first_seen {
            all.push(unseen(first));
        }
    }
    all
}
