//! Properties for arbitrary input: one check per fuzz target. `fuzz/targets` calls the checks, and
//! `tests/tests/regressions.rs` calls them with the seeds and regression inputs of the tree.

pub mod address;
pub mod configuration;
pub mod header;
pub mod mime;
pub mod record;
pub mod recovery;
pub mod replies;
pub mod session;
pub mod tables;

use std::path::PathBuf;

use crate::{Directory, passes};

/// Name of a fuzz target, and its check, which panics if a property does not hold.
pub type Target = (&'static str, fn(&[u8]));

/// All fuzz targets.
pub const TARGETS: &[Target] = &[
    ("address", address::check),
    ("configuration", configuration::check),
    ("header", header::check),
    ("mime", mime::check),
    ("passes", |octets| passes::check(&passes::Given::of(octets))),
    ("record", record::check),
    ("recovery", recovery::check),
    ("replies", replies::check),
    ("session", session::check),
    ("tables", tables::check),
];

/// Splits off the first bytes of an input, which select how to check the rest; padded with zeros.
fn front<const SIZE: usize>(octets: &[u8]) -> ([u8; SIZE], &[u8]) {
    match octets.split_first_chunk() {
        Some((front, rest)) => (*front, rest),
        None => ([0; SIZE], octets),
    }
}

/// Writes a file in the temporary directory that only this thread uses.
fn file(name: &str, content: &[u8]) -> PathBuf {
    thread_local! {
        static DIRECTORY: Directory = Directory::new();
    }
    let path = DIRECTORY.with(|directory| directory.path().join(name));
    std::fs::write(&path, content).expect("there is room in the temporary directory");
    path
}
