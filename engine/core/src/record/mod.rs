//! Queue records as pure encode and decode; the layout is described in `docs/queue-format.md`.

pub mod delivery;
pub mod envelope;
pub mod manifest;
pub mod spool;
pub mod submission;

use core::fmt;

/// A value has more bytes than the four of a record's length can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value has 4 GiB or more, which does not fit in a record")
    }
}

impl core::error::Error for TooLong {}

/// Returns the length of a value for a record.
fn length_of(value: &[u8]) -> Result<u32, TooLong> {
    u32::try_from(value.len()).map_err(|_| TooLong)
}
