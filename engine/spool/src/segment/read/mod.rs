//! Reads messages of a queue without blocking: their envelope, what became of their recipients, and their content.
//!
//! [`Walk`] decides which bytes of which segment to read, and what they hold; it does no I/O. [`SegmentReader`] lets
//! any number of walks read through an [`mailrace_io::Io`]. Opening a file blocks, so the [`Opener`] does it on a thread of
//! its own.

mod files;
mod opener;
mod reader;
mod source;
mod walk;
mod window;

pub use opener::Opener;
pub use reader::SegmentReader;
pub use source::Source;
pub(crate) use source::{Holder, Target};
#[cfg(test)]
pub(crate) use walk::{Next, READ_SIZE_MAX, Walk, Want};
