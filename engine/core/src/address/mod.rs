//! Addresses: their two spellings and their parts (RFC 5321 §4.1.2).

mod path;
mod quote;

pub use path::{Path, PathError, literal_address, split_path};
pub use quote::{quote_local_part, split_domain};
