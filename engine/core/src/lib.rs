//! Pure logic: bytes in, decisions out.
//!
//! No file, socket, clock, thread, global or randomness: time, ids and tables come in as values, so
//! that a test, a fuzzer or the simulator can drive all of it. `no_std` makes the compiler the guard.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
pub mod case;
pub mod cleanup;
pub mod envelope;
pub mod lookup;
pub mod message;
mod octet_table;
pub mod queue_id;
pub mod record;
mod sharer;
pub mod smtp;
pub mod submission;
pub mod timestamp;

pub use envelope::{
    BodyType, ContentTraits, Envelope, Notify, Origin, Protocol, QueuedEnvelope, QueuedRecipient, Recipient,
    Return, Submitter,
};
pub use queue_id::QueueId;
pub use sharer::Sharer;
pub use timestamp::Timestamp;
