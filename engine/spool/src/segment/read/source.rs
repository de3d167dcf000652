//! Where a message is, for those who read it.

use mailrace_core::QueueId;
use mailrace_core::record::spool::{Location, SegmentHeader};

/// Where a message was when its store was asked: its records, and the segments that hold them.
///
/// It may be kept for long. When the message has left these places, a read of it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub(crate) id: QueueId,
    pub(crate) target: Target,
    /// The segments with its records, and those between them.
    pub(crate) segments: Vec<Holder>,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A message.
    Message {
        /// Its last record.
        end: Location,
        /// Bytes of its content: how much to read at first.
        octets: u64,
        /// The mark that says what became of its recipients.
        progress: Option<Location>,
    },
    /// Only that mark.
    Progress(Location),
}

/// A segment, and the use of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) path: String,
    pub(crate) header: SegmentHeader,
}

impl Source {
    /// The message's id.
    #[must_use]
    pub const fn id(&self) -> QueueId {
        self.id
    }

    /// Bytes of the message's content.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        match self.target {
            Target::Message { octets, .. } => octets,
            Target::Progress(_) => 0,
        }
    }

    /// The segment with this sequence.
    pub(crate) fn holder(&self, sequence: u64) -> Option<&Holder> {
        self.segments.iter().find(|holder| holder.header.sequence == sequence)
    }
}
