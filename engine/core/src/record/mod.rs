//! Queue records as pure encode and decode; the layout is described in `docs/queue-format.md`.

pub mod envelope;
pub mod manifest;
pub mod spool;
pub mod submission;
