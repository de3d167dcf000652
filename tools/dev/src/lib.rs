//! The project's own chores, as far as other programs need them.
#![forbid(unsafe_code)]

pub mod journal_fs;
pub mod licences;
pub mod sanitize;
pub mod simulation;
