//! Submission on this machine, by `mailrace sendmail`.

use super::Configuration;
use super::reader::parameters;
use crate::services::PickupSettings;

parameters! {
    /// How messages are taken that `mailrace sendmail` submits on this machine.
    pub struct SubmissionParameters titled "Local submission";

    /// Recipients that `sendmail -t` takes from a header section.
    extract_recipient_limit: u32 = 10240 in 1 ..= 1_000_000;
    /// Submitted messages that are processed at once; each takes 256 KiB of memory, beside `memory_limit`.
    [engine] submissions_in_flight: u32 = 64 in 1 ..= 1000;
}

impl Configuration {
    /// The settings of the thread that takes submitted messages.
    #[must_use]
    pub(crate) fn pickup_settings(&self) -> PickupSettings {
        PickupSettings {
            in_flight: self.submission.submissions_in_flight as usize,
            // An envelope takes at least as much in the queue as in a drop file.
            envelope_size_max: u32::try_from(self.queue.block_size.0).unwrap_or(u32::MAX),
        }
    }
}
