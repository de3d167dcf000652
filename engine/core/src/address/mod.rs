//! Addresses: their two spellings and their parts (RFC 5321 §4.1.2).

mod quote;

pub use quote::{quote_local_part, split_domain};
