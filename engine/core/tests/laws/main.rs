//! Laws that hold for any input, through the crate's interface.

mod addresses;
mod cleaning;
mod messages;
mod records;
mod wire;
