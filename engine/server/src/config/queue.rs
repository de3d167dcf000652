//! The queue: directory, segments, batches.

use std::path::PathBuf;

use mailrace_spool as spool;

use super::Configuration;
use super::reader::{Reader, parameters};
use super::value::{Backend, Octets, Refusal};

parameters! {
    /// Directory, segments and batches of the queue.
    pub struct QueueParameters titled "Queue";

    /// Minimum free space on the queue's file system that is needed to accept mail; 0: 1.5 times `message_size_limit`.
    queue_minfree: Octets = 0;
    /// Storage backend.
    [queue] backend: Backend = "spool";
    /// Directory of the queue. A relative path is resolved in the directory of the configuration file, or in the working
    /// directory if there is no file.
    [queue] directory: PathBuf = "mailrace-queue";
    /// Size of a segment, the file that batches are written to; a multiple of 4096.
    [queue] segment_size: Octets = "64MiB" in 1_048_576 ..= 1_073_741_824;
    /// Number of zero-filled segments that are kept ready per worker.
    [queue] spare_segments: u32 = 2 in 1 ..= 64;
    /// Number of emptied segments that are kept for reuse, in addition to the spare ones.
    [queue] kept_segments: u32 = 16 in 0 ..= 4096;
    /// Maximum size of a batch, the data that one write makes durable. Each worker has memory for twice `writes_in_flight`
    /// batches.
    [queue] block_size: Octets = "1MiB" in 65_536 ..= 16_777_216;
    /// Maximum number of durable writes in progress per worker.
    [queue] writes_in_flight: u32 = 4 in 1 ..= 64;
}

impl QueueParameters {
    /// Checks that the sizes fit together.
    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        if !self.segment_size.0.is_multiple_of(4096) {
            let refusal = Refusal::new("is not a multiple of 4096", "write for example \"64MiB\"");
            reader.refuse("segment_size", refusal);
        }
        if self.block_size.0 > self.segment_size.0 / 2 {
            let remedy = "lower it, or raise segment_size";
            reader.refuse("block_size", Refusal::new("is more than half of segment_size", remedy));
        }
    }

    /// Returns the number of blocks per worker: half of them are filled while the other half is written.
    pub(super) const fn blocks(&self) -> usize {
        2 * self.writes_in_flight as usize
    }
}

impl Configuration {
    /// Returns the settings of the spool.
    #[must_use]
    pub fn spool_settings(&self, workers: u16) -> spool::Settings {
        let queue = &self.queue;
        spool::Settings {
            segment_size: queue.segment_size.0,
            spare_segments: queue.spare_segments as usize * usize::from(workers).max(1),
            kept_segments: queue.kept_segments as usize,
            block_size: queue.block_size.in_memory(),
            blocks: queue.blocks(),
            writes_in_flight: queue.writes_in_flight as usize,
            queue_minfree: queue.queue_minfree.0,
            message_size_limit: self.session.message_size_limit.0,
        }
    }
}
