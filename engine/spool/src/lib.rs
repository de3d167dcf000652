//! The spool: a cleaned message becomes durable.
//!
//! A worker appends framed, checksummed records to a segment of its own: a file that was preallocated and
//! zero-filled, so that writing it changes no metadata. What gathered while earlier writes were under way goes
//! out as one batch, one direct durable write. A message is answered for when its batch, and every batch that
//! holds a part of it, is durable. `docs/queue-format.md` has the layout, the states and the guarantees.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

mod error;
pub mod segment;
mod settings;
mod shared;

pub use error::{MarkError, OpenError, Refusal, SpoolError};
pub use mailrace_core::record::spool::Mark;
pub use segment::reader;
pub use segment::{
    Damage, DamageKind, Draft, Holding, Mover, Opened, RecoveryReport, SegmentKeeper, SegmentSpool, State,
    Stats, Stranger, TOKEN_SPOOL, Usage, Written, acknowledge, open,
};
pub use settings::Settings;
pub use shared::Shared;
