//! Laws that hold for any input, through the crate's interface.

mod addresses;
mod cleaning;
mod lookups;
mod messages;
mod records;
mod sides;
mod structure;
mod trace;
mod wire;
