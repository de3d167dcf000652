//! What holds for whatever octets come in: one check for each fuzz target, called by `fuzz/targets` and, with the
//! seeds and regression inputs of the tree, by `tests/tests/regressions.rs`.

pub mod address;
pub mod configuration;
pub mod header;
pub mod mime;
pub mod record;
pub mod recovery;
pub mod session;
pub mod tables;

use std::path::PathBuf;

use crate::{Directory, passes};

/// The name of a fuzz target, and its check: it panics if something does not hold.
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
    ("session", session::check),
    ("tables", tables::check),
];

/// The first octets of an input, which say how the rest is looked at; zeros where it is shorter.
fn front<const SIZE: usize>(octets: &[u8]) -> ([u8; SIZE], &[u8]) {
    match octets.split_first_chunk() {
        Some((front, rest)) => (*front, rest),
        None => ([0; SIZE], octets),
    }
}

/// A file of this thread's own in the temporary directory, with this content.
fn file(name: &str, content: &[u8]) -> PathBuf {
    thread_local! {
        static DIRECTORY: Directory = Directory::new();
    }
    let path = DIRECTORY.with(|directory| directory.path().join(name));
    std::fs::write(&path, content).expect("there is room in the temporary directory");
    path
}
