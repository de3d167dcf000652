//! The queue as segments: preallocated files into which each worker appends batches of checksummed records.
//!
//! `docs/queue-format.md` has the layout, the states and the guarantees.

mod batch;
mod index;
mod keeper;
mod manifest;
mod moves;
mod moving;
mod read;
pub mod reader;
mod recovery;
mod scan;
mod segments;
mod settling;
mod sharing;
mod spool;
mod survey;
mod usage;
mod writer;

pub use index::State;
pub use keeper::SegmentKeeper;
pub use read::{Opener, SegmentReader, Source};
pub use recovery::{Damage, DamageKind, Opened, RecoveryReport, Stranger, acknowledge, open};
pub use spool::{Draft, SegmentSpool, Stats, Written};
pub use usage::Holding;

/// The directory of segments inside a queue directory.
pub(crate) const SEGMENTS: &str = "segments";
/// Suffix of a segment's file name.
pub(crate) const SEGMENT_SUFFIX: &str = ".seg";

#[cfg(test)]
mod tests;
