//! The spool: a cleaned message becomes durable.
//!
//! A worker appends framed, checksummed records to a segment of its own: a file that was preallocated and
//! zero-filled, so that writing it changes no metadata. What gathered while earlier writes were under way goes
//! out as one batch, one direct durable write. A message is answered for when its batch, and every batch that
//! holds a part of it, is durable. `docs/queue-format.md` has the layout, the states and the guarantees.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

mod error;
mod index;
mod keeper;
mod manifest;
mod mover;
pub mod reader;
mod recovery;
mod scan;
mod settings;
mod shared;
mod spool;
mod survey;

pub use error::{MarkError, OpenError, Refusal, SpoolError};
pub use index::State;
pub use keeper::SegmentKeeper;
pub use mailrace_core::record::spool::Mark;
pub use mover::Mover;
pub use recovery::{Damage, DamageKind, Opened, RecoveryReport, Stranger, acknowledge, open};
pub use settings::Settings;
pub use shared::Shared;
pub use spool::{Draft, Holding, SegmentSpool, Stats, TOKEN_SPOOL, Usage, Written};

/// The directory of segments inside a queue directory.
pub(crate) const SEGMENTS: &str = "segments";
/// What a segment's file name ends with.
pub(crate) const SEGMENT_SUFFIX: &str = ".seg";

#[cfg(test)]
mod tests;
