//! Local submission by `mailrace sendmail`.

use super::Configuration;
use super::reader::parameters;
use crate::services::PickupSettings;

parameters! {
    /// Limits on messages that `mailrace sendmail` submits on this machine.
    pub struct SubmissionParameters titled "Local submission";

    /// Maximum number of recipients that `sendmail -t` extracts from a header section.
    extract_recipient_limit: u32 = 10240 in 1 ..= 1_000_000;
    /// Maximum number of submitted messages in progress. Each takes 256 KiB of memory in addition to `memory_limit`.
    [engine] submissions_in_flight: u32 = 64 in 1 ..= 1000;
}

impl Configuration {
    /// Returns the settings of the thread that picks up submitted messages.
    #[must_use]
    pub(crate) fn pickup_settings(&self) -> PickupSettings {
        PickupSettings {
            in_flight: self.submission.submissions_in_flight as usize,
            // An envelope is at least as large in the queue as in a drop file.
            envelope_size_max: u32::try_from(self.queue.block_size.0).unwrap_or(u32::MAX),
        }
    }
}
