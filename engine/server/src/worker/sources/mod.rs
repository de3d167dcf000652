//! What is special to each source of messages; the intake does what is common to them.

pub(super) mod report;
pub(super) mod smtp;
pub(super) mod submission;
