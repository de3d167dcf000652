//! The parts of a message: fields of the header section, dates, trace fields (RFC 5322).

pub mod date;
pub mod header;
pub mod mime;
pub mod quoted_printable;
pub mod received;
