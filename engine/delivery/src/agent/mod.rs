//! What hands a message over: one file for each protocol.

pub mod smtp;
