//! Owns the table `[queue]`: where messages become durable.

use std::path::PathBuf;

use super::choice::Backend;
use super::document::Section;
use super::reader::settings;
use super::value::Octets;

settings! {
    /// Where messages become durable. None of it changes on reload.
    pub struct QueueSettings in Section::Queue, comes with None;

    /// What keeps them.
    backend: Backend = "\"spool\"";
    /// The queue's directory. Relative to the configuration file, or where the process runs when there is none.
    directory: PathBuf = "\"mailrace-queue\"";
    /// Octets of a segment, the file that batches are written to; a multiple of 4096.
    segment_size: Octets = "\"64MiB\"" in 1_048_576 ..= 1_073_741_824;
    /// Segments that are kept zero-filled and ready, for each worker.
    spare_segments: u32 = "2" in 1 ..= 64;
    /// Emptied segments that are kept for the next use beyond those.
    kept_segments: u32 = "16" in 0 ..= 4096;
    /// Octets of a batch, of which each worker has memory for twice writes_in_flight.
    block_size: Octets = "\"1MiB\"" in 65_536 ..= 16_777_216;
    /// Durable writes under way at once, for each worker.
    writes_in_flight: u32 = "4" in 1 ..= 64;
}
