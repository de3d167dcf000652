//! The project's own chores, as far as other programs need them.
#![forbid(unsafe_code)]

pub mod error;
pub mod journal_fs;
pub mod licences;
pub mod mutation;
pub mod program;
pub mod proof;
pub mod queue_reader;
pub mod rig;
pub mod sanitize;
pub mod simulation;
